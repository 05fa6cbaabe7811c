// The TypeScript SDK's client. Arguments: the packages' folder, the era, then a URL and a token, or
// the command of a stdio server.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { join } from "node:path";

const [folder, era, first, ...rest] = process.argv.slice(2);
const require = createRequire(join(folder, "package.json"));
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { Client, StreamableHTTPClientTransport } = await load("@modelcontextprotocol/client");
const { StdioClientTransport } = await load("@modelcontextprotocol/client/stdio");

const transport = first.startsWith("http")
  ? new StreamableHTTPClientTransport(new URL(first), {
      requestInit: { headers: { Authorization: `Bearer ${rest[0]}` } },
    })
  : new StdioClientTransport({ command: first, args: rest, env: process.env });
const client = new Client(
  { name: "walk", version: "1" },
  { versionNegotiation: { mode: era === "modern" ? "auto" : "legacy" } },
);
await client.connect(transport);

let progress = 0;
const call = async (name, args) => {
  const result = await client.callTool({ name, arguments: args }, { onprogress: () => progress++ });
  if (result.isError) throw new Error(result.content[0].text);
  return result;
};
const follow = async (start, args, check) => {
  let job = (await call(start, args)).structuredContent;
  while (["queued", "running"].includes(job.status)) {
    job = (await call(check, { job_id: job.job_id })).structuredContent;
  }
  return job;
};
const sample = (name) => `https://samples.sandbox.test/${name}.jpg`;

const { tools } = await client.listTools();
const { prompts } = await client.listPrompts();
const tryon = { model_image_url: sample("model-1"), garment_image_url: sample("garment-1") };
const jobs = await Promise.all([
  follow("zupertry_start_tryon", tryon, "zupertry_check_tryon"),
  follow("zsky_start_image", { prompt: "A lighthouse at dusk" }, "zsky_check_job"),
  follow("zsky_start_video", { prompt: "Waves" }, "zsky_check_job"),
]);
const wrong = await client.callTool({ name: "zsky_start_image", arguments: { sead: 1 } });
const shown = await call("show_results", { job_ids: jobs.map((job) => job.job_id) });
console.log(
  JSON.stringify({
    protocol: client.getNegotiatedProtocolVersion(),
    tools: tools.map((tool) => tool.name),
    prompts: prompts.map((prompt) => prompt.name),
    jobs,
    progress,
    wrong: wrong.content[0].text,
    pictures: shown.content.filter((block) => block.type === "image").length,
  }),
);
await client.close();

// Runs the scenarios and prints one JSON line for each: {"name": ..., "error": null | text}.
// node check.mjs BUILD_FOLDER PYTHON WORK_FOLDER CHROMIUM [SCREENSHOT]
import assert from "node:assert/strict";
import { readFileSync, existsSync, readdirSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";

const [build, python, work, chromiumPath, screenshot] = process.argv.slice(2);
const require = createRequire(join(build, "package.json"));
const { chromium } = require("playwright-core");
const { Client } = await import(require.resolve("@modelcontextprotocol/client").replace(/\.cjs$/, ".mjs"));
const { StdioClientTransport } = await import(require.resolve("@modelcontextprotocol/client/stdio").replace(/\.cjs$/, ".mjs"));
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

async function connect(name, timeScale) {
  const client = new Client({ name: "host", version: "1" });
  const folder = join(work, name);
  const args = ["-m", "tests.tools.gallery.server", folder, String(timeScale)];
  await client.connect(new StdioClientTransport({ command: python, args, env: process.env, stderr: "inherit" }));
  const call = (tool, given) => client.callTool({ name: tool, arguments: given });
  const start = async (tool, given) => (await call(tool, given)).structuredContent.job_id;
  const done = async (tool, id) => {
    for (;;) {
      const { structuredContent: job } = await call(tool, { job_id: id, wait_seconds: 20 });
      if (["completed", "failed", "cancelled"].includes(job.status)) return job;
    }
  };
  return { client, folder, call, start, done };
}

const quick = await connect("quick", 0.05);
const slow = await connect("slow", 30);
const html = (await quick.client.readResource({ uri: (await galleryUri()) })).contents[0].text;

async function galleryUri() {
  const { tools } = await quick.client.listTools();
  const meta = tools.find((tool) => tool.name === "show_results")._meta;
  assert.equal(meta.ui.resourceUri, meta["ui/resourceUri"]);
  return meta.ui.resourceUri;
}

const bundle = readFileSync(join(build, "host.js"), "utf8");
const page404 = "<!doctype html><html lang=en><title>host</title><style>body{margin:0}iframe{border:0;width:100%;height:100vh;display:block}</style><body><script src=/host.js></script>";
const web = createServer((request, response) => {
  const script = request.url === "/host.js";
  response.setHeader("content-type", script ? "text/javascript" : "text/html");
  response.end(script ? bundle : page404);
});
await new Promise((ready) => web.listen(0, "127.0.0.1", ready));
const origin = `http://127.0.0.1:${web.address().port}`;

const browser = await chromium.launch({
  executablePath: chromiumPath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--autoplay-policy=no-user-gesture-required"],
});

// What the specification's default policy lets a page do, and less than that.
const POLICIES = {
  standard: "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; media-src data:",
  narrow: "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'",
};
const under = (policy) => html.replace("<head>", `<head><meta http-equiv="Content-Security-Policy" content="${policy}">`);

async function show(server, options = {}, size = { width: 900, height: 800 }) {
  const context = await browser.newContext({ viewport: size, colorScheme: "light" });
  const page = await context.newPage();
  page.outside = [];
  page.errors = [];
  page.on("request", (request) => {
    if (!/^(data|about|blob):/.test(request.url()) && !request.url().startsWith(origin)) page.outside.push(request.url());
  });
  page.on("pageerror", (error) => page.errors.push(String(error)));
  await page.exposeFunction("serverCall", (params) => server.client.callTool(params));
  await page.exposeFunction("serverRead", (params) => server.client.readResource(params));
  await page.goto(origin);
  await page.evaluate((given) => window.openGallery(given), { html: under(POLICIES.standard), ...options });
  const frame = page.frameLocator("iframe");
  return { page, frame, context };
}
const completed = (frame, number) => frame.locator("li .state.completed").nth(number - 1).waitFor();
const painted = (frame) => frame.locator("li .picture img").evaluateAll((images) => images.filter((image) => image.naturalWidth > 0).length);
async function eventually(what, test) {
  for (let tries = 0; tries < 200; tries += 1) {
    if (await test()) return;
    await new Promise((next) => setTimeout(next, 50));
  }
  assert.fail(`never: ${what}`);
}
async function serious(frame, page) {
  const inside = page.frames().find((each) => each.parentFrame());
  await inside.evaluate(axe);
  const found = await inside.evaluate(() => axe.run(document));
  return found.violations.filter((each) => ["serious", "critical"].includes(each.impact)).map((each) => `${each.id}: ${each.nodes[0].html}`);
}

const nasty = '<img src=x onerror="parent.hacked=1"> a lighthouse';
const prompts = ["A lighthouse at dusk", "A wooden table with a coffee cup", "Mountains over a quiet forest"];
const images = await Promise.all([...prompts, nasty].map((prompt) => quick.start("zsky_start_image", { prompt, width: 512, height: 512 })));
for (const id of images) await quick.done("zsky_check_job", id);
const film = await quick.start("zsky_start_video", { prompt: "A sailing boat at sea by night", length: 24 });
await quick.done("zsky_check_job", film);

const scenarios = {
  async "it initialises and says how tall it is"() {
    const { page } = await show(quick, { input: { job_ids: images.slice(0, 1) } });
    await eventually("initialized", () => page.evaluate(() => window.seen.initialized));
    await eventually("a height", () => page.evaluate(() => window.seen.sizes.some((height) => height > 50)));
    assert.deepEqual(page.errors, []);
    return page;
  },
  async "results arrive while it is open"() {
    const id = await quick.start("zsky_start_image", { prompt: "A harbour in fog", width: 512, height: 512 });
    const { page, frame } = await show(quick, { input: { job_ids: [id, images[0]] } });
    await completed(frame, 2);
    await eventually("both pictures", async () => (await painted(frame)) === 2);
    assert.equal(await frame.locator("#count").textContent(), "2 of 2 completed");
    return page;
  },
  async "a prompt is text, whatever it looks like"() {
    const { page, frame } = await show(quick, { input: { job_ids: [images[3]] } });
    await completed(frame, 1);
    assert.equal(await frame.locator(".prompt").textContent(), nasty);
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    return page;
  },
  async "a result is saved where it is wanted"() {
    const { page, frame } = await show(quick, { input: { job_ids: images.slice(0, 2) } });
    await completed(frame, 2);
    await frame.locator("#folder").fill("assets/");
    await frame.getByRole("button", { name: "Save: A lighthouse at dusk" }).click();
    await frame.getByText("Saved as").waitFor();
    assert.ok(existsSync(join(quick.folder, "project/assets/zsky-lighthouse-at-dusk-1.webp")));
    await frame.getByRole("button", { name: "Save: A lighthouse at dusk" }).click();
    await frame.getByText("[conflict]").waitFor();
    await frame.locator("#folder").fill("all/");
    await frame.getByRole("button", { name: "Save all" }).click();
    await frame.getByText("2 files saved").waitFor();
    assert.equal(readdirSync(join(quick.folder, "project/all")).length, 2);
    return page;
  },
  async "a job is cancelled when it is asked twice"() {
    const photo = "https://samples.sandbox.test";
    const id = await slow.start("zupertry_start_tryon", { model_image_url: `${photo}/model-1.jpg`, garment_image_url: `${photo}/garment-1.jpg` });
    const { page, frame } = await show(slow, { input: { job_ids: [id] } });
    await frame.getByRole("button", { name: /^Cancel/ }).click();
    assert.deepEqual(await page.evaluate(() => window.seen.calls), []);
    await frame.getByRole("button", { name: /^Really cancel/ }).click();
    await frame.locator(".state.cancelled").waitFor();
    assert.deepEqual(await page.evaluate(() => window.seen.calls), ["zupertry_cancel_tryon"]);
    return page;
  },
  async "it follows the theme of the host"() {
    const { page, frame } = await show(quick, { input: { job_ids: images.slice(0, 1) } });
    await completed(frame, 1);
    const ground = () => frame.locator("body").evaluate((body) => getComputedStyle(body).backgroundColor);
    const light = await ground();
    await page.evaluate(() => window.bridge.setHostContext({ theme: "dark" }));
    await eventually("dark", async () => (await ground()) === "rgb(23, 17, 15)");
    await page.evaluate(() => window.bridge.setHostContext({ theme: "light" }));
    await eventually("light", async () => (await ground()) === light);
    return page;
  },
  async "it works in a host that ignores the content policy"() {
    const { page, frame } = await show(quick, { html, input: { job_ids: images } });
    await completed(frame, 4);
    await eventually("all pictures", async () => (await painted(frame)) === 4);
    assert.deepEqual(page.outside, []);
    return page;
  },
  async "it says where the file is in a host that forbids even data addresses"() {
    const { page, frame } = await show(quick, { html: under(POLICIES.narrow), input: { job_ids: images.slice(0, 1) } });
    await frame.getByText("No preview here. The file is").waitFor();
    return page;
  },
  async "it shows what came with the result where no resource can be read"() {
    const result = await quick.call("show_results", { job_ids: images.slice(0, 2) });
    const { page, frame } = await show(quick, { capabilities: { serverTools: {} }, input: { job_ids: images.slice(0, 2) }, result });
    await eventually("two pictures", async () => (await painted(frame)) === 2);
    assert.match(await frame.locator("#note").textContent(), /zsky-lighthouse-at-dusk-1\.webp/);
    return page;
  },
  async "in a host without Apps it says what it is"() {
    const page = await (await browser.newContext()).newPage();
    await page.setContent(html);
    await page.getByText("inside a host with MCP Apps").waitFor();
    return page;
  },
  async "a picture opens large by keyboard, and the focus comes back"() {
    const { page, frame } = await show(quick, { input: { job_ids: images.slice(0, 3) } });
    await completed(frame, 3);
    const first = frame.locator("li .picture").first();
    await first.focus();
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("Enter");
    const dialog = frame.locator("dialog[open]");
    await dialog.locator("img").waitFor();
    const title = await frame.locator("#large-title").textContent();
    await page.keyboard.press("ArrowRight");
    await eventually("the next one", async () => (await frame.locator("#large-title").textContent()) !== title);
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "hidden" });
    assert.ok(await frame.locator("li .picture").nth(1).evaluate((button) => button === document.activeElement));
    return page;
  },
  async "a film plays"() {
    const { page, frame } = await show(quick, { input: { job_ids: [film] } });
    await completed(frame, 1);
    await eventually("its still", async () => (await painted(frame)) === 1);
    await frame.getByRole("button", { name: /^Play/ }).click();
    const playing = () => frame.locator("dialog video").evaluate((video) => video.currentTime > 0);
    await frame.locator("dialog video").waitFor();
    await eventually("the film moves", playing);
    return page;
  },
  async "an address is copied or shown"() {
    const { page, frame } = await show(quick, { input: { job_ids: images.slice(0, 1) } });
    await completed(frame, 1);
    await frame.getByRole("button", { name: /^Copy address/ }).click();
    await frame.getByText(/^(Copied|https:\/\/)/).waitFor();
    return page;
  },
  async "it fits 320 pixels"() {
    const { page, frame } = await show(quick, { input: { job_ids: images } }, { width: 320, height: 640 });
    await completed(frame, 4);
    const [inner, outer] = await frame.locator("html").evaluate((root) => [root.scrollWidth, root.clientWidth]);
    assert.ok(inner <= outer, `${inner} > ${outer}`);
    return page;
  },
  async "axe finds nothing serious, by day and by night"() {
    const waiting = await slow.start("zsky_start_image", { prompt: "Still developing" });
    for (const theme of ["light", "dark"]) {
      for (const [server, ids] of [[quick, [...images, film]], [slow, [waiting]]]) {
        const { page, frame, context } = await show(server, { theme, input: { job_ids: ids } });
        await frame.locator("li").nth(ids.length - 1).waitFor();
        assert.deepEqual(await serious(frame, page), []);
        if (server === quick) {
          await completed(frame, ids.length);
          await frame.locator("li .picture").first().click();
          await frame.locator("dialog[open] img").waitFor();
          assert.deepEqual(await serious(frame, page), []);
        }
        await context.close();
      }
    }
  },
};

for (const [name, run] of Object.entries(scenarios)) {
  let error = null;
  try {
    const page = await run();
    if (page) await page.context().close();
  } catch (failure) { error = String(failure.stack || failure); }
  console.log(JSON.stringify({ name, error }));
}
if (screenshot) {
  const more = await Promise.all(["Neon alley in the rain", "Desert hills, early morning"].map((prompt) => quick.start("zsky_start_image", { prompt, width: 768, height: 768 })));
  const { page, frame } = await show(quick, { theme: "dark", input: { job_ids: [...images.slice(0, 3), ...more, film] } }, { width: 1000, height: 1240 });
  await completed(frame, 6);
  await eventually("all painted", async () => (await painted(frame)) === 6);
  await page.screenshot({ path: screenshot });
}
await browser.close();
await Promise.all([quick.client.close(), slow.client.close()]);
web.close();

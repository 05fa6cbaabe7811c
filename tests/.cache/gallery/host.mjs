// A host of MCP Apps in a page: the official AppBridge around one sandboxed frame.
// The page's test exposes serverCall and serverRead, which reach a real server.
import { AppBridge, PostMessageTransport } from "@modelcontextprotocol/ext-apps/app-bridge";

const ALL = { serverTools: {}, serverResources: {}, openLinks: {} };

window.openGallery = async ({ html, capabilities = ALL, theme = "light", input, result }) => {
  document.querySelector("iframe")?.remove();
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-scripts allow-forms";
  frame.title = "gallery";
  document.body.append(frame);
  const bridge = new AppBridge(null, { name: "host", version: "1" }, capabilities, {
    hostContext: { theme, displayMode: "inline" },
  });
  window.seen = { initialized: false, sizes: [], calls: [] };
  window.bridge = bridge;
  if (capabilities.serverTools) {
    bridge.oncalltool = async (params) => {
      window.seen.calls.push(params.name);
      return window.serverCall(params);
    };
  }
  if (capabilities.serverResources) bridge.onreadresource = (params) => window.serverRead(params);
  bridge.onsizechange = (size) => window.seen.sizes.push(size.height);
  bridge.oninitialized = async () => {
    window.seen.initialized = true;
    if (input) await bridge.sendToolInput({ arguments: input });
    if (result) await bridge.sendToolResult(result);
  };
  await bridge.connect(new PostMessageTransport(frame.contentWindow, frame.contentWindow));
  frame.srcdoc = html;
};

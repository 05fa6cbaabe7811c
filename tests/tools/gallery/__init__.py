"""The gallery in a real browser, under the official host of MCP Apps."""

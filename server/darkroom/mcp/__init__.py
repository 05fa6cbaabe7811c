"""The MCP server: tools, resources, prompts and tasks over stdio and HTTP."""

"""MCP over HTTP, as a process with a socket and in process."""

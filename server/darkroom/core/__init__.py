"""Errors, URLs, media types, scheduler and tasks, without providers, jobs or MCP."""

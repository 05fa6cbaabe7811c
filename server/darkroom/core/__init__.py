"""What knows nothing of providers, jobs or MCP: errors, URLs, media types, scheduler, tasks."""

"""MCP: the only place that knows the SDK."""

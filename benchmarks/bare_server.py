"""A server of the SDK with one tool, as its tutorial writes it: what ours is compared with.

Run as a script, by its path. With a file as its argument, the tool is ``check`` and answers with
what the file holds: ``as dict`` lets the SDK make text and structure of it, ``as result`` hands it
over ready. With a port as a further argument it serves HTTP there, and logs as little as ours.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult

server = MCPServer("bare", log_level="WARNING" if len(sys.argv) > 3 else "INFO")


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def tool_of(payload: dict[str, Any], kind: str) -> Any:
    """Return the tool that answers with a payload, in one of the ways that the SDK offers."""
    if kind == "dict":
        structured = payload["structuredContent"]

        def check(job_id: str, wait_seconds: int = 25) -> dict[str, Any]:  # noqa: ARG001 -- as ours takes
            """Return the state of a job."""
            return dict(structured)

        return check

    def check_result(job_id: str, wait_seconds: int = 25) -> CallToolResult:  # noqa: ARG001 -- as ours takes
        """Return the state of a job."""
        return CallToolResult.model_validate(payload)

    return check_result


if len(sys.argv) == 1:
    server.add_tool(add)
else:
    server.add_tool(
        tool_of(json.loads(Path(sys.argv[1]).read_text("utf-8")), sys.argv[2]), name="check"
    )
if len(sys.argv) > 3:
    server.run("streamable-http", port=int(sys.argv[3]))
else:
    server.run("stdio")

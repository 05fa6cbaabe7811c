"""fastmcp's client, or with ``tasks`` its Tasks client.

Arguments: what to be, the era, then a URL and a token, or the command of a stdio server.
"""

# fastmcp lives in another environment, so that nothing is known of it here:
# pyright: reportMissingImports=false, reportUnknownVariableType=false
# pyright: reportAttributeAccessIssue=false, reportPossiblyUnboundVariable=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from fastmcp import Client
from fastmcp.client.transports import (
    StdioTransport,
    StreamableHttpTransport,
)

KIND, ERA, FIRST, *REST = sys.argv[1:]
SAMPLES = "https://samples.sandbox.test"
if KIND == "tasks":
    from fastmcp_tasks import call_tool_task  # the import makes every client declare tasks

TRYON = {
    "model_image_url": f"{SAMPLES}/model-1.jpg",
    "garment_image_url": f"{SAMPLES}/garment-1.jpg",
}
WALK = (
    ("zupertry_start_tryon", TRYON, "zupertry_check_tryon"),
    ("zsky_start_image", {"prompt": "A lighthouse at dusk"}, "zsky_check_job"),
    ("zsky_start_video", {"prompt": "Waves"}, "zsky_check_job"),
)


def transport() -> Any:
    if FIRST.startswith("http"):
        return StreamableHttpTransport(FIRST, headers={"Authorization": f"Bearer {REST[0]}"})
    return StdioTransport(FIRST, REST, env=dict(os.environ))


async def main() -> None:
    told: list[float] = []
    calls: list[str] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        del total, message
        told.append(done)

    async def call(client: Any, name: str, **arguments: Any) -> Any:
        calls.append(name)
        return await client.call_tool(name, arguments)

    async def follow(client: Any, start: str, arguments: Any, check: str) -> dict[str, Any]:
        job = (await call(client, start, **arguments)).structured_content
        while job["status"] in {"queued", "running"}:
            job = (await call(client, check, job_id=job["job_id"])).structured_content
        return job

    era = "auto" if ERA == "modern" else "legacy"
    async with Client(transport(), mode=era, progress_handler=progress) as client:
        tools = await client.list_tools()
        prompts = await client.list_prompts()
        handled: list[str] = []
        if KIND == "tasks":
            task = await call_tool_task(
                client, "zupertry_start_tryon", {**TRYON, "idempotency_key": "c"}
            )
            await task.cancel()
            handled.append((await task.wait()).status)
        jobs = await asyncio.gather(*(follow(client, *each) for each in WALK))
        wrong = await client.call_tool("zsky_start_image", {"sead": 1}, raise_on_error=False)
        shown = await call(client, "show_results", job_ids=[job["job_id"] for job in jobs])
    seen = {
        "tools": [tool.name for tool in tools],
        "prompts": [prompt.name for prompt in prompts],
        "jobs": jobs,
        "progress": len(told),
        "calls": calls,
        "handled": handled,
        "wrong": wrong.content[0].text,
        "pictures": sum(block.type == "image" for block in shown.content),
    }
    sys.stdout.write(json.dumps(seen) + "\n")


asyncio.run(main())

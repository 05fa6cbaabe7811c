"""What a whole conversation costs a model in tokens: by one batch, and by single calls."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import anyio
import trio
import trio.testing
from mcp_types import TextContent

from benchmarks.batches import server_for
from benchmarks.courses import COURSES
from benchmarks.measure import Number
from darkroom.cli.token_count import count
from mcp import Client

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.measure import Options
    from darkroom.core.json_types import JsonObject, JsonValue

SIZES = (1, 40, 1_000)
QUICK_SIZES = (1, 3)
WAIT_SECONDS = 40
SHOWN_AT_ONCE = 100
"""As many jobs as one call of ``show_results`` takes."""


@dataclass(slots=True)
class Chat:
    """A conversation: what the model writes and reads is counted; pictures are not."""

    client: Client
    tokens: int = 0
    calls: int = 0

    async def call(self, tool: str, /, **arguments: JsonValue) -> JsonObject:
        """Call a tool as a model would, and read what hosts show it: the object, else the text."""
        result = await self.client.call_tool(tool, cast("Any", arguments))
        if result.is_error:
            raise RuntimeError(result.content)
        self.calls += 1
        read = result.structured_content
        text = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
        written = json.dumps({"name": tool, "arguments": arguments}, ensure_ascii=False)
        shown = text if read is None else json.dumps(read, ensure_ascii=False)
        self.tokens += count(written)[0] + count(shown)[0]
        return cast("JsonObject", read or {})


async def by_batch(chat: Chat, prompts: list[JsonValue]) -> None:
    """Start everything at once, look when news are due, show."""
    report = await chat.call("start_batch", tool="zsky_start_image", for_each={"prompt": prompts})
    while report["status"] == "running":
        await anyio.sleep(cast("float", report.get("poll_after_seconds", 0)))
        report = await chat.call(
            "check_batch", batch_id=report["batch_id"], wait_seconds=WAIT_SECONDS
        )
    await chat.call("show_results", batch_id=report["batch_id"])


async def by_single_calls(chat: Chat, prompts: list[JsonValue]) -> None:
    """Start one after the other, then check one after the other, then show."""
    jobs: list[JsonValue] = [
        (await chat.call("zsky_start_image", prompt=prompt))["job_id"] for prompt in prompts
    ]
    for job_id in jobs:
        while True:
            job = await chat.call("zsky_check_job", job_id=job_id, wait_seconds=WAIT_SECONDS)
            if job["status"] not in {"queued", "running"}:
                break
    for start in range(0, len(jobs), SHOWN_AT_ONCE):
        await chat.call("show_results", job_ids=jobs[start : start + SHOWN_AT_ONCE])


def conversation(options: Options) -> list[Number]:
    """Count what conversations about ever more jobs cost."""
    return [_number(size) for size in (QUICK_SIZES if options.quick else SIZES)]


def _number(size: int) -> Number:
    batch, single = (
        trio.run(partial(_held, way, size), clock=trio.testing.MockClock(autojump_threshold=0))
        for way in (by_batch, by_single_calls)
    )
    about = f"{size:,} picture{'s' if size > 1 else ''}"
    return Number(
        what=f"tokens of a conversation about {about}, by one batch",
        value=batch.tokens,
        at_most=single.tokens if size > 1 else None,
        digits=0,
        label=about,
        details={
            "pictures": float(size),
            "calls": float(batch.calls),
            "by single calls": float(single.tokens),
            "single calls": float(single.calls),
        },
    )


async def _held(way: Callable[[Chat, list[JsonValue]], Awaitable[None]], size: int) -> Chat:
    with TemporaryDirectory() as folder:
        server, _ = server_for(COURSES["zsky"], Path(folder), download="always")
        async with Client(server) as client:
            chat = Chat(client)
            await way(chat, [f"A harbour at dusk, seen from pier {n}" for n in range(size)])
            return chat

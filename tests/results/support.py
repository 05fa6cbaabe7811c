"""What the tests of results share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mcp_types import CallToolResult, ImageContent

from tests.harness import call

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp import Client
    from tests.harness import Fields, Rig

HOUR, DAY = 3_600.0, 86_400.0


async def image(
    client: Client, prompt: str = "A lighthouse at dusk", **arguments: object
) -> Fields:
    """Make a picture at ZSky; return the job as its check shows it."""
    small = {"width": 256, "height": 256, **arguments}
    started = await call(client, "zsky_start_image", prompt=prompt, **small)
    ended = started
    while ended["status"] in {"queued", "running"}:
        ended = await call(client, "zsky_check_job", job_id=started["job_id"], wait_seconds=40)
    return ended


async def video(client: Client, prompt: str = "A paper boat", **arguments: object) -> Fields:
    """Make a film at ZSky."""
    started = await call(client, "zsky_start_video", prompt=prompt, length=5, **arguments)
    ended = started
    while ended["status"] != "completed":
        ended = await call(client, "zsky_check_job", job_id=started["job_id"], wait_seconds=40)
    return ended


async def tryon(client: Client, rig: Rig) -> Fields:
    """Try a garment on at Zupertry."""
    started = await call(
        client,
        "zupertry_start_tryon",
        model_image_url=rig.sandbox.sample("model", 1),
        garment_image_url=rig.sandbox.sample("garment", 1),
    )
    return await call(client, "zupertry_check_tryon", job_id=started["job_id"], wait_seconds=40)


def file_of(job: Fields) -> Path:
    """Return where the first output of a job is kept."""
    return Path(job["outputs"][0]["file"])


async def shown(client: Client, **arguments: object) -> CallToolResult:
    """Call ``show_results``, which must succeed."""
    result = await client.call_tool("show_results", dict(arguments))
    assert isinstance(result, CallToolResult)
    assert not result.is_error, result.content
    return result


def pictures(result: CallToolResult) -> list[ImageContent]:
    """Return the pictures of a result."""
    return [block for block in result.content if isinstance(block, ImageContent)]


async def read_json(client: Client, uri: str) -> Fields:
    """Read a resource that is JSON."""
    (content,) = (await client.read_resource(uri)).contents
    return cast("Fields", json.loads(cast("Any", content).text))


def asked(rig: Rig, provider: str, operation: str) -> int:
    """Count the requests that an emulator has seen of an operation."""
    return sum(each.operation == operation for each in rig.sandbox.emulators[provider].requests)


def later(clock: Callable[[], float], seconds: float) -> Callable[[], float]:
    """Return a clock that is ahead."""
    return lambda: clock() + seconds


def files_in(folder: Path) -> list[str]:
    """Return the names of all files below a folder."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())

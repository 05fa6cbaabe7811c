"""Runs the plan: one task for each shot, all with one client of one server process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import anyio
from mcp.client.stdio import StdioServerParameters
from mcp_types import TextContent

from darkroom_tools.demo.plan import CONFIGURATION, ENDED, JsonObject, Shot, cost_in_words, shots
from mcp import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from darkroom_tools.demo.plan import State

LOOK_SECONDS = 4
"""The wait of each check, so that progress is shown; it does not cause earlier polls."""

FILES_SECONDS = 20
SHOT_SECONDS = 45.0
PASSED_ON = ("PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "TMPDIR", "TEMP")
"""Environment variables that this Python may need to find its libraries."""


class RefusedError(Exception):
    """A tool returned an error; the text is the one that a model reads."""


def server_parameters(workshop: Path, *, zyng: bool) -> StdioServerParameters:
    """Return how to start the server: with this Python, the sandbox, and folders of its own."""
    environment = {
        "DARKROOM_JOBS__STATE_DIR": str(workshop / "state"),
        "DARKROOM_RESULTS__FOLDER": str(workshop / "results"),
        "PYTHONPATH": os.pathsep.join(
            str(Path(entry).resolve())
            for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)
            if entry
        ),
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
    }
    if zyng:
        configuration = workshop / "config.toml"
        configuration.write_text(CONFIGURATION, "utf-8")
        environment["DARKROOM_CONFIG"] = str(configuration)
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "darkroom", "serve", "--sandbox"],
        env=environment,
        cwd=str(workshop),
    )


async def run_plan(
    parameters: StdioServerParameters,
    show: Callable[[Sequence[str], Sequence[Shot]], None],
    changed: Callable[[Shot], None],
) -> list[Shot]:
    """Start the server, run all shots concurrently, and return them.

    ``show`` is called once with the names of the tools and with the shots; ``changed`` is called
    whenever the state of a shot changes.
    """
    async with Client(parameters) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        plan = shots(names)
        show(names, plan)
        done = {shot: anyio.Event() for shot in plan}
        async with anyio.create_task_group() as tasks:
            for shot in plan:
                tasks.start_soon(_run, client, shot, done, changed)
        await _count_polls(client, plan)
    return plan


async def _run(
    client: Client,
    shot: Shot,
    done: dict[Shot, anyio.Event],
    changed: Callable[[Shot], None],
) -> None:
    try:
        if shot.source is not None:
            await done[shot.source].wait()
        shot.started = anyio.current_time()
        with anyio.fail_after(SHOT_SECONDS):
            await _take(client, shot, changed)
    except RefusedError as error:
        shot.state, shot.note = "failed", str(error)
    except TimeoutError:
        shot.state, shot.note = "failed", f"not over after {SHOT_SECONDS:g} s"
    finally:
        shot.ended = anyio.current_time()
        done[shot].set()
        changed(shot)


async def _take(client: Client, shot: Shot, changed: Callable[[Shot], None]) -> None:
    address = ""
    if shot.source is not None:
        address = shot.source.address
        if not address:
            raise RefusedError("there is no result to work on")
    fields = await _call(client, shot.tool, shot.arguments(address))
    if shot.check is None:
        shot.state = "allowed" if fields.get("allowed") else "blocked"
        shot.note = str(fields.get("decision", ""))
        return
    shot.job_id = str(fields["job_id"])
    _read(shot, fields)
    asked: JsonObject = {"job_id": shot.job_id, "include_url": True}
    while shot.state not in ENDED:
        changed(shot)
        _read(shot, await _call(client, shot.check, {**asked, "wait_seconds": LOOK_SECONDS}))
    # Files may still be downloading: a check waits for them.
    if shot.state == "completed" and len(shot.files) < max(1, shot.outputs):
        _read(shot, await _call(client, shot.check, {**asked, "wait_seconds": FILES_SECONDS}))
    if shot.state == "completed" and len(shot.files) < max(1, shot.outputs):
        raise RefusedError(shot.note or "no file came")


def _read(shot: Shot, fields: JsonObject) -> None:
    """Apply a job's object to its shot."""
    status = str(fields["status"])
    known = {"queued": "queued", "running": "running", "completed": "completed"}
    shot.state = cast("State", known.get(status, "failed"))
    shot.cost = cost_in_words(fields)
    progress = cast("dict[str, int] | None", fields.get("progress"))
    shot.progress = f"{progress['done']} of {progress['total']}" if progress else ""
    outputs = cast("list[JsonObject]", fields.get("outputs") or [])
    shot.outputs = len(outputs)
    shot.files = [Path(str(output["file"])) for output in outputs if "file" in output]
    shot.address = str(outputs[0].get("url", "")) if outputs else ""
    shot.note = "; ".join(cast("list[str]", fields.get("warnings") or []))
    if shot.state == "failed":
        error = cast("JsonObject", fields.get("error") or {})
        shot.note = str(error.get("message") or status)


async def _call(client: Client, tool: str, arguments: JsonObject) -> JsonObject:
    result = await client.call_tool(tool, arguments)
    if result.is_error:
        said = (block.text for block in result.content if isinstance(block, TextContent))
        raise RefusedError(" ".join(said))
    return cast("JsonObject", result.structured_content or {})


async def _count_polls(client: Client, plan: Sequence[Shot]) -> None:
    """Read the number of polls of each job from ``list_jobs``."""
    try:
        listing = await _call(client, "list_jobs", {"limit": 100})
    except RefusedError:
        return  # the table shows that the number is unknown
    jobs = {str(job["job_id"]): job for job in cast("list[JsonObject]", listing["jobs"])}
    for shot in plan:
        if shot.job_id in jobs:
            shot.polls = cast("int", jobs[shot.job_id].get("polls", 0))

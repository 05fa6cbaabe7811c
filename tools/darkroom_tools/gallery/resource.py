"""Jobs and their pictures as resources, and the gallery that shows them in hosts with Apps."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING

from darkroom.catalogue import (
    Content,
    NotKeptError,
    Query,
    Resource,
    call_error,
    job_view,
    unknown_job,
)
from darkroom.providers import CallOperation, JobOperation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from darkroom.catalogue import Engine, Job, JsonObject, JsonValue, LiveJob

GALLERY_VERSION = 1
"""A part of the address that changes with the page, because hosts cache pages by address."""

GALLERY_URI = f"ui://darkroom/gallery-{GALLERY_VERSION}.html"
APP_TYPE = "text/html;profile=mcp-app"
JOBS_KEY = "darkroom/job_ids"
"""The ``_meta`` key with which a result of ``show_results`` names its jobs for the gallery."""

TOOL_META: JsonObject = {"ui": {"resourceUri": GALLERY_URI}, "ui/resourceUri": GALLERY_URI}
"""Nested as in the specification, and flat for older hosts."""

PAGE_META: JsonObject = {
    "ui": {"csp": {}, "permissions": {"clipboardWrite": {}}, "prefersBorder": False}
}
RECENT_JOBS = 20
MOST_WHOLE_BYTES = 16 * 1024 * 1024
"""Maximum size of a file that is returned through the protocol."""

SIDES = (16, 2048)
"""Shortest and longest side of a scaled copy."""

SCALED_BYTES = 600_000


def label(engine: Engine, job: Job) -> str:
    """Return the title of a job: its prompt, if it has one."""
    provider = engine.providers.get(job.provider)
    found = (
        next((o for o in provider.operations if o.name == job.operation), None)
        if provider
        else None
    )
    if isinstance(found, JobOperation) and found.label is not None:
        return found.label(job.arguments)
    return ""


def cancel_tool(engine: Engine, job: Job) -> str | None:
    """Return the tool that cancels a job of this provider, if there is one."""
    provider = engine.providers.get(job.provider)
    calls = [o for o in provider.operations if isinstance(o, CallOperation)] if provider else []
    return next((call.name for call in calls if call.withdraws), None)


async def _live(engine: Engine, variables: Mapping[str, str]) -> LiveJob:
    live = await engine.job(variables["job_id"])
    if live is None:
        raise unknown_job(variables["job_id"][:100])
    return live


def _json(fields: JsonObject) -> Content:
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return Content(data=text, media_type="application/json")


async def read_jobs(engine: Engine, variables: Mapping[str, str]) -> Content:
    """Return the newest jobs, as ``list_jobs`` does."""
    del variables
    rows = await engine.jobs(Query(owner=engine.owner, limit=RECENT_JOBS))
    jobs: list[JsonValue] = [job_view(engine.shown(job), addresses=False) for job in rows]
    return _json({"jobs": jobs})


async def read_job(engine: Engine, variables: Mapping[str, str]) -> Content:
    """Return a job as its check tool does, with its prompt and the names of its tools."""
    live = await _live(engine, variables)
    job = live.job
    fields = job_view(engine.shown(job), poll_after=engine.poll_after(live), include_url=True)
    tools: JsonObject = {"check": engine.check_tool(job)}
    if not job.ended and (cancel := cancel_tool(engine, job)) is not None:
        tools["cancel"] = cancel
    fields["tools"] = tools
    if name := label(engine, job):
        fields["label"] = name
    if live.fetching:
        fields["fetching"] = True
    return _json(fields)


async def read_output(engine: Engine, variables: Mapping[str, str]) -> Content:
    """Return an output's file, or with ``width`` a scaled copy of its picture."""
    live = await _live(engine, variables)
    outputs = await engine.outputs()
    index = variables["index"]
    item = next(
        (item for item in await outputs.items([live]) if str(item.output.index) == index), None
    )
    if item is None:
        raise call_error(
            "not_found",
            f"{live.job.job_id} has no output {index[:20]}; it is {live.job.shown_status}",
            f"read darkroom://jobs/{live.job.job_id}",
        )
    try:
        if "width" not in variables:
            data = await outputs.bytes(item, MOST_WHOLE_BYTES)
            return Content(data=data, media_type=item.output.media_type or "")
        from darkroom.catalogue import preview  # noqa: PLC0415 -- Pillow loads at the first picture

        side = _side(variables["width"])
        async with outputs.decoding() as session:
            picture = await outputs.thumbnail(item, side, session)
        data = await outputs.make(lambda: preview.encode(picture, SCALED_BYTES))
        return Content(data=data, media_type=preview.PREVIEW_TYPE)
    except NotKeptError as error:
        raise call_error(
            "not_found", f"output {index} of {live.job.job_id}: {error}", "show_results says more"
        ) from None


def _side(width: str) -> int:
    low, high = SIDES
    if not width.isascii() or not width.isdigit() or not low <= int(width[:9]) <= high:
        raise call_error(
            "invalid_argument", f"width: expected {low} to {high}", "correct the address"
        )
    return int(width)


async def complete_job_id(engine: Engine, typed: str) -> Sequence[str]:
    """Return ids of recent jobs that begin with what was typed."""
    rows = await engine.jobs(Query(owner=engine.owner, limit=100))
    return [job.job_id for job in rows if job.job_id.startswith(typed)]


async def read_gallery(engine: Engine, variables: Mapping[str, str]) -> Content:
    """Return the page."""
    del engine, variables
    page = files("darkroom_tools.gallery").joinpath("gallery.html").read_text("utf-8")
    return Content(data=page, media_type=APP_TYPE)


RESOURCES = (
    Resource(
        uri="darkroom://jobs",
        name="jobs",
        title="Recent jobs",
        description="The newest jobs of all providers; list_jobs does the same.",
        media_type="application/json",
        read=read_jobs,
    ),
    Resource(
        uri="darkroom://jobs/{job_id}",
        name="job",
        title="A job",
        description="A job's state, outputs and cost; its check tool does the same.",
        media_type="application/json",
        read=read_job,
        complete={"job_id": complete_job_id},
    ),
    Resource(
        uri="darkroom://jobs/{job_id}/outputs/{index}{?width}",
        name="output",
        title="An output",
        description="A result's file, or a copy at most width pixels long; show_results and "
        "save_results do the same.",
        media_type="application/octet-stream",
        read=read_output,
        complete={"job_id": complete_job_id},
    ),
    Resource(
        uri=GALLERY_URI,
        name="gallery",
        title="Gallery",
        description="Shows the results of jobs in hosts with Apps; show_results opens it.",
        media_type=APP_TYPE,
        read=read_gallery,
        meta=PAGE_META,
    ),
)

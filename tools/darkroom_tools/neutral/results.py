"""The neutral tools that show and copy results."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from darkroom.catalogue import (
    NotKeptError,
    Picture,
    Result,
    Tool,
    call_error,
    iso,
    printable,
    target,
    unknown_job,
)
from darkroom.providers import READS, Hints, Params
from darkroom_tools.gallery import resource as gallery

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from darkroom.catalogue import (
        Engine,
        JsonObject,
        JsonValue,
        LiveJob,
        Outputs,
        Person,
        ResultItem,
        Session,
    )

MOST_JOBS = 100
MOST_SINGLE = 4
"""For more outputs, one numbered contact sheet is shown instead of single pictures."""

MOST_ON_SHEET = 64
MOST_NAMED = 5
"""Files that a question names."""

SAVE = "save_results"
MOST_BASE64 = 200 * 1024
"""Maximum length of all pictures of a result together, as base64."""

TEXT_CHARACTERS = 8_000
PROMPT_CHARACTERS = 120
ADDRESS_CHARACTERS = 1_500
"""A longer address is left out of the text; the text then says how to get it."""

WRITES = Hints(read_only=False, destructive=True, idempotent=True, open_world=False)


class Results(Params):
    """Which results: jobs or a batch, not both."""

    job_ids: Annotated[list[str], Field(max_length=MOST_JOBS)] | None = None
    batch_id: str | None = None


class SaveResults(Results):
    """Arguments of ``save_results``."""

    to: Annotated[
        str,
        Field(description="A folder ending in '/', or a file for a single output."),
    ]
    overwrite: bool = False


async def _jobs(engine: Engine, params: Results) -> list[LiveJob]:
    """Return the jobs that the arguments name, each once."""
    if bool(params.job_ids) == bool(params.batch_id):
        raise call_error(
            "invalid_argument", "expected either job_ids or batch_id", "give one of the two"
        )
    if params.batch_id:
        found = await (await engine.outputs()).batch(engine.owner, params.batch_id)
        if not found:
            raise _unknown("batch", params.batch_id)
        return found
    lives: list[LiveJob] = []
    for job_id in dict.fromkeys(params.job_ids or ()):
        live = await engine.job(job_id)
        if live is None:
            raise unknown_job(job_id)
        lives.append(live)
    return lives


def _unknown(kind: str, name: str) -> Exception:
    return call_error(
        "not_found", f"there is no {kind} {name}", "list_jobs shows the jobs known here"
    )


# --- showing -----------------------------------------------------------------------------------


async def show_results(engine: Engine, params: Results, person: Person) -> Result:
    """Show pictures to the person and the model; see the module's limits."""
    del person
    lives = await _jobs(engine, params)
    outputs = await engine.outputs()
    items = await outputs.items(lives)
    wanted = engine.settings.results.previews == "on"
    async with outputs.decoding() as session:
        pictures = await _pictures(outputs, items, session) if wanted else ()
    meta: JsonObject = {gallery.JOBS_KEY: [live.job.job_id for live in lives[:MOST_JOBS]]}
    return Result(structured=None, text=text_of(engine, lives, items), pictures=pictures, meta=meta)


async def _pictures(
    outputs: Outputs, items: Sequence[ResultItem], session: Session
) -> tuple[Picture, ...]:
    """Return one preview each, or one numbered contact sheet of many."""
    if not items:
        return ()
    from darkroom.catalogue import preview  # noqa: PLC0415 -- Pillow loads at the first picture

    shown = items[:MOST_ON_SHEET]
    single = len(items) <= MOST_SINGLE
    side = preview.LONG_SIDE if single else preview.cell_side(len(shown))
    room = MOST_BASE64 * 3 // 4
    pictures: list[Picture] = []
    tiles: list[preview.Tile] = []
    for item in shown:
        try:
            made = await outputs.thumbnail(item, side, session)
        except (NotKeptError, preview.NoPictureError) as error:
            made = await outputs.make(
                lambda item=item, error=error: preview.title_card(
                    f"{item.number}. {item.job.provider}", str(error), side
                )
            )
        if single:
            share = room // len(items)
            data = await outputs.make(lambda made=made, share=share: preview.encode(made, share))
            pictures.append(Picture(data=data, media_type=preview.PREVIEW_TYPE))
        else:
            tiles.append(preview.Tile(item.number, made))
    if tiles:
        sheet = await outputs.make(lambda: preview.contact_sheet(tiles))
        data = await outputs.make(lambda: preview.encode(sheet, room))
        pictures.append(Picture(data=data, media_type=preview.PREVIEW_TYPE))
    return tuple(pictures)


def text_of(engine: Engine, lives: Sequence[LiveJob], items: Sequence[ResultItem]) -> str:
    """Return text about each output with file, address and expiry, for hosts without pictures."""
    lines: list[str] = []
    by_job: dict[str, list[ResultItem]] = {}
    for item in items:
        by_job.setdefault(item.job.job_id, []).append(item)
    addresses = len(items) <= MOST_SINGLE
    for live in lives:
        job = live.job
        name = gallery.label(engine, job)[:PROMPT_CHARACTERS]
        about = f"{job.operation} {job.job_id}" + (f" “{name}”" if name else "")
        lines.extend(
            f"{item.number}. {about}: {_where(engine, item, addresses=addresses)}"
            for item in by_job.get(job.job_id, ())
        )
        if job.job_id not in by_job:
            ended = "" if job.ended else f"; call {engine.check_tool(job)}"
            lines.append(f"- {about}: {job.shown_status}{ended}")
    if len(items) > MOST_ON_SHEET:
        lines.insert(0, f"The sheet shows the first {MOST_ON_SHEET} of {len(items)} outputs.")
    return _fitting(lines)


def _where(engine: Engine, item: ResultItem, *, addresses: bool) -> str:
    output = engine.shown_output(item.job.job_id, item.output)
    size = f"{output.width}x{output.height} " if output.width and output.height else ""
    parts = [f"{size}{output.media_type or 'output'}"]
    if output.file is not None:
        parts.append(f"file {output.file}")
    elif item.problem is not None:
        parts.append(item.problem)
    if output.url is not None and (addresses or output.file is None):
        known = len(output.url) <= ADDRESS_CHARACTERS
        address = output.url if known else "too long to show (include_url of the check tool)"
        until = f" until {iso(output.expires_at)}" if output.expires_at is not None else ""
        parts.append(f"address{until}: {address}")
    return ", ".join(parts)


def _fitting(lines: Sequence[str]) -> str:
    """Join as many lines as fit into a result, and count the others."""
    text = ""
    for index, line in enumerate(lines):
        more = f"… and {len(lines) - index} more: list_jobs shows them"
        if len(text) + len(line) + len(more) + 2 > TEXT_CHARACTERS:
            return text + more
        text += line + "\n"
    return text.rstrip("\n") or "no outputs"


# --- copying -----------------------------------------------------------------------------------


async def save_results(engine: Engine, params: SaveResults, person: Person) -> Result:
    """Copy outputs to where they are wanted; the person is asked before a file is replaced."""
    from darkroom.catalogue import unsaved  # noqa: PLC0415 -- needed with the first result

    where = target(params.to, engine.settings.file_roots)
    lives = await _jobs(engine, params)
    outputs = await engine.outputs()
    items = await outputs.items(lives)
    if not items:
        states = ", ".join(f"{live.job.job_id} is {live.job.shown_status}" for live in lives[:5])
        raise call_error(
            "conflict", f"there is nothing to save: {states}", "check the jobs until they complete"
        )
    if where.name is not None and len(items) > 1:
        raise call_error(
            "invalid_argument",
            f"to: one file was named, but there are {len(items)} outputs",
            "name a folder, ending in '/'",
        )

    there = [item for item in items if item.problem is None]
    if not there:
        raise unsaved(items[0])

    async def may_replace(paths: Sequence[Path]) -> None:
        if SAVE in engine.settings.approval.never_ask:
            return
        more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
        named = ", ".join(json.dumps(str(path), ensure_ascii=False) for path in paths[:MOST_NAMED])
        said = f"Replace {len(paths)} of your files by results of jobs: {printable(named)}{more}?"
        binding = json.dumps([*map(str, paths), *(item.job.job_id for item in there)])
        await person.approve(SAVE, said, binding)

    saved = await outputs.save(there, where, may_replace if params.overwrite else None)
    entries: list[JsonValue] = [
        {
            "job_id": copy.item.job.job_id,
            "index": copy.item.output.index,
            "file": str(copy.path),
            "bytes": copy.bytes,
        }
        for copy in saved
    ]
    lines = [f"saved {copy.path} ({copy.bytes} bytes)" for copy in saved]
    fields: JsonObject = {"saved": entries}
    if missing := [unsaved(item).text for item in items if item.problem is not None]:
        fields["warnings"] = [*missing[:MOST_NAMED], *_more(len(missing) - MOST_NAMED)]
        lines = [*missing[:MOST_NAMED], *_more(len(missing) - MOST_NAMED), *lines]
    return Result(structured=fields, text=_fitting(lines))


def _more(count: int) -> list[str]:
    return [f"{count} more outputs were not saved"] if count > 0 else []


TOOLS = (
    Tool(
        name="show_results",
        title="Show results",
        description="Show the pictures of jobs, with their files and addresses. "
        "save_results copies them.",
        params=Results,
        hints=READS,
        meta=gallery.TOOL_META,
        run=show_results,
    ),
    Tool(
        name=SAVE,
        title="Save results",
        description="Copy the outputs of jobs into the person's project, converted as the "
        "extension says.",
        params=SaveResults,
        hints=WRITES,
        local=True,
        run=save_results,
    ),
)

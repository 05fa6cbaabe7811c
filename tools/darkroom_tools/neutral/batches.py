"""The neutral tools for batches: many start calls as one job."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field

from darkroom.catalogue import LongRunning, Result, Tool, grammar, job_view, manifest
from darkroom.providers import (
    DESTROYS,
    MAX_WAIT_SECONDS,
    READS,
    STARTS,
    Params,
    StartParams,
)

if TYPE_CHECKING:
    from darkroom.catalogue import Batches, Engine, Job, JsonObject, JsonValue, Person, Plan, Report

PAGE = 20
LONGEST_PAUSE_SECONDS = 600
"""The next check is due after a tenth of the remaining time, at most after this time."""

MOST_LEFT_OUT = 10
"""Maximum number of files of a folder that a result names as left out."""

MOST_FAILURES = 8
"""Maximum number of kinds of failures in a result; the manifest has all."""


class BatchItem(Params):
    """One start call."""

    tool: str
    arguments: dict[str, object]
    id: Annotated[str, Field(pattern=r"^[\w.-]+$", max_length=64)] | None = None


class Then(Params):
    """The second stage."""

    tool: str
    arguments: dict[str, object]
    input: Annotated[str, Field(description="Argument that takes the output.")]


def _one_or_many(value: object) -> object:
    """Accept one text for a list of one: a folder or a pattern."""
    return [value] if isinstance(value, str) else value


class StartBatch(StartParams):
    """Arguments of ``start_batch``."""

    items: list[BatchItem] | None = None
    tool: str | None = None
    arguments: dict[str, object] | None = None
    args: Annotated[dict[str, object], Field(description="The same as arguments.")] | None = None
    """Some frameworks keep the name ``arguments`` for themselves."""

    for_each: (
        Annotated[
            dict[str, Annotated[list[object], BeforeValidator(_one_or_many)]],
            Field(description="Argument name -> values; several lists are crossed."),
        ]
        | None
    ) = None
    copies: Annotated[int, Field(ge=1, le=16)] = 1
    then: Then | None = None
    name: Annotated[str, Field(max_length=80)] | None = None
    dry_run: bool = False


class BatchId(Params):
    """Arguments of a tool that acts on one batch."""

    batch_id: Annotated[str, Field(max_length=100)]


class CheckBatch(BatchId):
    """Arguments of ``check_batch``."""

    wait_seconds: Annotated[int, Field(ge=0, le=MAX_WAIT_SECONDS)] | None = None
    show: Literal["summary", "failed", "all"] = "summary"
    cursor: Annotated[str, Field(pattern=r"^[0-9]{1,6}$")] | None = None


async def start_batch(engine: Engine, params: StartBatch, person: Person) -> Result:
    """Start many jobs as one, or return their estimated cost and duration."""
    mistakes: list[str] = []
    arguments = params.arguments or params.args
    if params.arguments and params.args:
        mistakes.append("arguments and args are the same: give one of them")
    if (params.items is None) == (params.tool is None):
        mistakes.append("give either items, or tool with arguments and for_each")
    items = None
    if params.items is not None:
        items = [
            grammar.BatchItem(item.id or str(position), item.tool, _json(item.arguments))
            for position, item in enumerate(params.items)
        ]
        if arguments or params.for_each:
            mistakes.append("arguments and for_each go with tool, not with items")
    template = grammar.BatchItem("0", params.tool, _json(arguments or {})) if params.tool else None
    then = (
        grammar.Stage(params.then.tool, _json(params.then.arguments), params.then.input)
        if params.then is not None
        else None
    )
    lists: dict[str, list[JsonValue]] = {
        name: [*_list(values)] for name, values in (params.for_each or {}).items()
    }
    from darkroom.catalogue import Asked  # noqa: PLC0415 -- needed with the first batch

    batches = await engine.batches()
    left_out: list[str] = []
    if lists and params.tool:
        lists, wrong, left_out = await batches.spread(params.tool, lists)
        mistakes.extend(wrong)
    everything, more = grammar.expand(items, template, lists, params.copies, then)
    asked = Asked(
        items=everything,
        mistakes=[*mistakes, *more],
        name=params.name,
        then=then,
        key=params.idempotency_key,
        dry_run=params.dry_run,
    )
    opened = await batches.start(asked, person)
    if left_out:
        names = ", ".join(left_out[:MOST_LEFT_OUT])
        opened.plan.warnings.append(f"no pictures or videos, so left out: {names}")
    if params.dry_run:
        return _estimate(opened.plan)
    report = await batches.report(opened.batch.job_id)
    warnings = list(opened.plan.warnings)
    if not opened.made:
        warnings.append("an identical batch was started just now: this is it, nothing new was sent")
    return _result(engine, batches, report, warnings)


def _estimate(plan: Plan) -> Result:
    fields: JsonObject = {
        "dry_run": True,
        "total": len(plan.planned),
        "cost": _costs(plan),
        "seconds_left": math.ceil(plan.seconds),
    }
    if plan.warnings:
        fields["warnings"] = [*plan.warnings]
    said = ", ".join(f"{amount:g} {unit}" for (_, unit), amount in plan.costs.items())
    text = f"{len(plan.planned)} jobs would cost {said or 'nothing known'} and take about "
    return Result(
        structured=fields, text=f"{text}{math.ceil(plan.seconds)} s. Nothing was started."
    )


def _costs(plan: Plan) -> list[JsonValue]:
    return [
        {"provider": provider, "amount": amount, "unit": unit, "basis": "estimate"}
        for (provider, unit), amount in plan.costs.items()
    ]


async def check_batch(engine: Engine, params: CheckBatch, person: Person) -> Result:
    """Return counts, failures by kind and the folder, at the next relevant change."""
    batches = await engine.batches()
    report = await batches.wait(params.batch_id, engine.wait_seconds(params.wait_seconds), person)
    result = _result(engine, batches, report, [])
    if params.show == "summary" or result.structured is None:
        return result
    shown = [
        job
        for job in report.jobs
        if params.show == "all" or job.status in {"failed", "blocked", "cancelled", "unknown"}
    ]
    start = int(params.cursor or 0)
    page = shown[start : start + PAGE]
    fields: JsonObject = {**result.structured, "jobs": [_line(engine.shown(job)) for job in page]}
    if start + PAGE < len(shown):
        fields["next_cursor"] = str(start + PAGE)
    return Result(structured=fields, text=result.text)


def _line(job: Job) -> JsonObject:
    view = job_view(job, addresses=False)
    kept = ("job_id", "status", "outputs", "error", "queued_for", "warnings")
    line: JsonObject = {name: view[name] for name in kept if name in view}
    return {"item": job.item, **line} if job.item is not None else line


async def cancel_batch(engine: Engine, params: BatchId, person: Person) -> Result:
    """Cancel the jobs that were not sent, and those that the provider allows to cancel."""
    del person
    batches = await engine.batches()
    report = await batches.cancel(params.batch_id, await engine.caller())
    return _result(engine, batches, report, [])


async def retry_batch(engine: Engine, params: BatchId, person: Person) -> Result:
    """Run the failed jobs again that may succeed now."""
    batches = await engine.batches()
    report, retried = await batches.retry(params.batch_id, person)
    result = _result(engine, batches, report, [])
    fields: JsonObject = {**(result.structured or {}), "retried": retried}
    return Result(structured=fields, text=f"{retried} retried. {result.text}")


def _result(engine: Engine, batches: Batches, report: Report, warnings: list[str]) -> Result:
    batch, counts = report.batch, report.counts
    folder = batches.folder(batch)
    left = math.ceil(batches.seconds_left(report))
    costs: defaultdict[tuple[str, str], float] = defaultdict(float)
    for job in report.jobs:
        if job.cost is not None and (job.provider_job_id is not None or not job.ended):
            costs[job.provider, job.cost.unit] += job.cost.amount
    fields: JsonObject = {
        "batch_id": batch.job_id,
        "status": report.status,
        "total": len(report.jobs),
        "counts": {name: count for name, count in counts.items() if count},
        "cost": [
            {"provider": provider, "amount": amount, "unit": unit}
            for (provider, unit), amount in costs.items()
        ],
    }
    if engine.local:
        fields["folder"] = str(folder)
        fields["manifest"] = str(folder / manifest.JSON_NAME)
    if isinstance(name := batch.arguments.get("name"), str):
        fields["name"] = name
    if report.status == "running":
        fields["seconds_left"] = left
        fields["poll_after_seconds"] = max(1, min(LONGEST_PAUSE_SECONDS, left // 10))
    if failures := _failures(report):
        fields["failures"] = failures
    warned = sum(bool(job.warnings) for job in report.jobs)
    said = [
        *warnings,
        *batch.warnings,
        *([f"{counts['unknown']} of unknown fate"] if counts["unknown"] else []),
        *([f"{warned} with warnings: show = 'all' has them"] if warned else []),
    ]
    if said:
        fields["warnings"] = [*said]
    if batch.sandbox:
        fields["sandbox"] = True
    done = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    text = f"batch {batch.job_id}: {report.status}; {done} of {len(report.jobs)}"
    if engine.local:
        text += f"; {folder}"
    return Result(structured=fields, text=". ".join([text, *said]))


def _failures(report: Report) -> list[JsonValue]:
    """Group the failures by code: how many, the message, and one job of each kind."""
    groups: defaultdict[str, list[Job]] = defaultdict(list)
    for job in report.jobs:
        if job.error is not None and job.status != "queued":
            groups[job.error.code].append(job)
    largest = sorted(groups.items(), key=lambda pair: -len(pair[1]))
    return [
        {
            "code": code,
            "count": len(jobs),
            "message": jobs[0].error.message if jobs[0].error is not None else "",
            "job_id": jobs[0].job_id,
        }
        for code, jobs in largest[:MOST_FAILURES]
    ]


def _json(value: dict[str, object]) -> JsonObject:
    return value  # pyright: ignore[reportReturnType] -- it came as JSON


def _list(values: list[object]) -> list[JsonValue]:
    return values  # pyright: ignore[reportReturnType] -- it came as JSON


TOOLS = (
    Tool(
        name="start_batch",
        title="Start a batch",
        description="Start many jobs as one: items, or a tool with for_each; then is a second stage, "
        "dry_run only estimates. Addresses may be item:<id>#0 or job:<id>; next: check_batch.",
        params=StartBatch,
        hints=STARTS,
        run=start_batch,
        long_running=LongRunning(argument="batch_id", check="check_batch", cancel="cancel_batch"),
    ),
    Tool(
        name="check_batch",
        title="Check a batch",
        description="Wait for a batch's next change; return counts, failures and the folder. "
        "Next: show_results.",
        params=CheckBatch,
        hints=READS,
        run=check_batch,
    ),
    Tool(
        name="cancel_batch",
        title="Cancel a batch",
        description="Cancel what has not started and what the provider lets us cancel.",
        params=BatchId,
        hints=DESTROYS,
        run=cancel_batch,
    ),
    Tool(
        name="retry_batch",
        title="Retry a batch",
        description="Run again what failed and may work now. Then call check_batch.",
        params=BatchId,
        hints=STARTS,
        run=retry_batch,
    ),
)

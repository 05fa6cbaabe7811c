"""A job as the model sees it: an object without empty fields, and a line of text."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from darkroom.core.errors import clean
from darkroom.core.times import iso

if TYPE_CHECKING:
    from darkroom.core.json_types import JsonObject, JsonValue
    from darkroom.jobs.model import Job
    from darkroom.providers.values import Cost, Output

WARNING_CHARACTERS = 200
MOST_OUTPUTS = 4
FIRST_OUTPUTS = 2
"""Outputs shown of a job that has more than `MOST_OUTPUTS`."""

IN_THE_FILE = frozenset({"width", "height", "bytes", "uri"})
"""Fields that are left out if there are several outputs, because the files contain them."""

MOST_WARNINGS = 5


def job_uri(job_id: str) -> str:
    """Return the address of a job's resource."""
    return f"darkroom://jobs/{job_id}"


def job_view(
    job: Job,
    *,
    poll_after: int | None = None,
    include_url: bool = False,
    addresses: bool = True,
    warnings: tuple[str, ...] = (),
) -> JsonObject:
    """Return the job as an object; absent values are left out.

    ``url`` is left out if there is a local ``file``, unless ``include_url`` is set. Without
    ``addresses`` (in lists) it is always left out, and the number of polls is included.
    """
    status = job.shown_status
    fields: dict[str, JsonValue] = {
        "job_id": job.job_id,
        "provider": job.provider,
        "operation": job.operation,
        "status": status,
        "queued_for": job.queued_for if status == "queued" else None,
        "starts_at": iso(job.starts_at) if job.starts_at and status == "queued" else None,
        "provider_job_id": job.provider_job_id,
        "provider_status": job.provider_status,
        "created_at": iso(job.created_at),
        "updated_at": iso(job.updated_at),
        "poll_after_seconds": None if job.ended else poll_after,
        "progress": {"done": job.progress.done, "total": job.progress.total}
        if job.progress is not None
        else None,
        "details": job.details if addresses else None,
        **_outputs(job, include_url=include_url, addresses=addresses),
        "cost": cost_view(job.cost),
        "error": job.error.to_json() if job.error is not None else None,
        "evidence": job.evidence,
        "polls": None if addresses else job.polls or None,
        "batch_id": job.batch_id,
        "warnings": [
            text[:WARNING_CHARACTERS]
            for text in (*_asking(job), *warnings, *job.warnings)[:MOST_WARNINGS]
        ]
        or None,
        "sandbox": job.sandbox or None,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _asking(job: Job) -> tuple[str, ...]:
    if not job.asks or job.approval is None:
        return ()
    until = iso(job.approval.until)
    waits = f"nothing is sent before the person's yes; no answer by {until} is a no"
    return (f"{waits}. Asked: {job.approval.question}",)


def _outputs(job: Job, *, include_url: bool, addresses: bool) -> dict[str, JsonValue]:
    """Return as many outputs as fit into a small result.

    A single output has all fields; several lack those that their files contain. Of many, the first
    are shown, with the number of the others and their folder.
    """
    shown = job.outputs if len(job.outputs) <= MOST_OUTPUTS else job.outputs[:FIRST_OUTPUTS]
    entries: list[JsonValue] = []
    for output in shown:
        entry = _output(job.job_id, output, include_url=include_url, addresses=addresses)
        if len(job.outputs) > 1:
            entry = {name: value for name, value in entry.items() if name not in IN_THE_FILE}
        entries.append(entry)
    fields: dict[str, JsonValue] = {"outputs": entries or None}
    if len(shown) < len(job.outputs):
        fields["more_outputs"] = len(job.outputs) - len(shown)
        file = next((o.file for o in job.outputs if o.file is not None), None)
        fields["folder"] = str(PurePath(file).parent) if file is not None else None
    return fields


def _output(job_id: str, output: Output, *, include_url: bool, addresses: bool) -> JsonObject:
    show = addresses and output.url is not None and (output.file is None or include_url)
    fields: dict[str, JsonValue] = {
        "index": output.index,
        "url": output.url if show else None,
        "expires_at": iso(output.expires_at) if show and output.expires_at is not None else None,
        "media_type": output.media_type,
        "width": output.width,
        "height": output.height,
        "bytes": output.bytes,
        "name": clean(output.name) or None,
        "file": output.file,
        "uri": f"{job_uri(job_id)}/outputs/{output.index}" if output.sha256 is not None else None,
    }
    return {key: value for key, value in fields.items() if value is not None}


def cost_view(cost: Cost | None) -> JsonObject | None:
    """Return a cost as results show it."""
    if cost is None:
        return None
    amount = int(cost.amount) if cost.amount == int(cost.amount) else cost.amount
    return {"amount": amount, "unit": cost.unit, "basis": cost.basis}


def job_text(view: JsonObject, next_tool: str) -> str:
    """Return the object's content as one or two lines of text."""
    parts = [f"{view['operation']} {view['job_id']}: {view['status']}"]
    if "queued_for" in view:
        starts = f", starts at {view['starts_at']}" if "starts_at" in view else ""
        parts.append(f"waits for {view['queued_for']}{starts}")
    if isinstance(progress := view.get("progress"), dict):
        parts.append(f"{progress['done']} of {progress['total']}")
    outputs = view.get("outputs")
    if isinstance(outputs, list):
        parts.extend(
            str(where)
            for output in outputs
            if isinstance(output, dict) and (where := output.get("file") or output.get("url"))
        )
    error = view.get("error")
    if isinstance(error, dict):
        parts.append(f"[{error['code']}] {error['message']}; next: {error['next_step']}")
    if "poll_after_seconds" in view:
        parts.append(f"call {next_tool} after {view['poll_after_seconds']} s")
    warnings = view.get("warnings")
    if isinstance(warnings, list):
        parts.extend(str(warning) for warning in warnings)
    return ". ".join(parts)

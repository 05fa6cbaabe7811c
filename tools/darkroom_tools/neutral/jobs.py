"""The neutral tools that list and cancel jobs of all providers."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from darkroom.catalogue import (
    Query,
    Result,
    Tool,
    call_error,
    job_result,
    job_view,
    statuses_shown_as,
)
from darkroom.providers import DESTROYS, LOCAL_READS, JobParams, Params, ShownStatus

if TYPE_CHECKING:
    from darkroom.catalogue import Engine, Job, JsonObject, Person


class ListJobs(Params):
    """Arguments of ``list_jobs``."""

    provider: Annotated[str, Field(max_length=40)] | None = None
    status: ShownStatus | None = None
    batch_id: Annotated[str, Field(max_length=100)] | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str, Field(max_length=200)] | None = None


async def list_jobs(engine: Engine, params: ListJobs, person: Person) -> Result:
    """List the owner's jobs, newest first, without addresses."""
    del person
    query = Query(
        owner=engine.owner,
        provider=params.provider,
        statuses=None if params.status is None else statuses_shown_as(params.status),
        batch_id=params.batch_id,
        limit=params.limit + 1,
        before=_before(params.cursor),
    )
    found = await engine.jobs(query)
    page = found[: params.limit]
    fields: JsonObject = {"jobs": [job_view(engine.shown(job), addresses=False) for job in page]}
    if len(found) > params.limit:
        fields["next_cursor"] = _cursor(page[-1])
    lines = [f"{job.job_id} {job.operation} {job.shown_status}" for job in page]
    return Result(structured=fields, text="\n".join(lines) or "no jobs")


def _cursor(job: Job) -> str:
    return base64.urlsafe_b64encode(json.dumps([job.created_at, job.job_id]).encode()).decode()


def _before(cursor: str | None) -> tuple[float, str] | None:
    if cursor is None:
        return None
    try:
        created_at, job_id = json.loads(base64.urlsafe_b64decode(cursor))
        return float(created_at), str(job_id)
    except (ValueError, TypeError, binascii.Error):
        raise call_error(
            "invalid_argument",
            "cursor: expected next_cursor of an earlier result",
            "leave it out to begin with the newest job",
        ) from None


# --- cancelling --------------------------------------------------------------------------------


async def cancel_job(engine: Engine, params: JobParams, person: Person) -> Result:
    """Cancel one job: here while it waits, at the provider where that has a way to."""
    from darkroom.catalogue import cancel  # noqa: PLC0415 -- needed with a job

    del person
    live = await engine.job(params.job_id)
    for provider in engine.providers.values():
        live = live or await engine.find(provider, params.job_id)
    if live is None:
        raise call_error(
            "not_found", f"there is no job {params.job_id}", "list_jobs shows the jobs known here"
        )
    warnings = await cancel(await engine.runtime(), live)
    return job_result(engine, live, engine.check_tool(live.job), warnings)


TOOLS = (
    Tool(
        name="list_jobs",
        title="List jobs",
        description="List jobs of all providers, newest first, with their states and files.",
        params=ListJobs,
        hints=LOCAL_READS,
        run=list_jobs,
    ),
    Tool(
        name="cancel_job",
        title="Cancel a job",
        description="Cancel a job: here while it waits, at the provider where that can cancel it.",
        params=JobParams,
        hints=DESTROYS,
        run=cancel_job,
    ),
)

"""The neutral tool that lists jobs of all providers."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from darkroom.catalogue import Query, Result, Tool, call_error, job_view, statuses_shown_as
from darkroom.providers import LOCAL_READS, Params, ShownStatus

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


TOOLS = (
    Tool(
        name="list_jobs",
        title="List jobs",
        description="List jobs of all providers, newest first, with their states and files.",
        params=ListJobs,
        hints=LOCAL_READS,
        run=list_jobs,
    ),
)

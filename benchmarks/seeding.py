"""A journal that has something in it: jobs that ended, with their attempts."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.wire import KEY
from darkroom.core.digests import digest
from darkroom.jobs.model import LOCAL_OWNER, Attempt, Job, row_to_json
from darkroom.jobs.storage import schema as tables
from darkroom.jobs.storage.journal import connect, transaction
from darkroom.providers.credentials import fingerprint
from darkroom.providers.values import Cost, Output

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from darkroom.core.json_types import JsonObject

SECONDS_BETWEEN = 20.0
"""100,000 jobs reach back 23 days, so that none is old enough to be forgotten."""

IMAGE_SECONDS = 6.0


def job_id(number: int) -> str:
    """Return the id of one of the jobs."""
    return f"zsky_{digest('benchmark', str(number))[:22]}"


def finished(number: int, results: Path) -> tuple[Job, Attempt]:
    """Return a job that has its picture, and its attempt."""
    began = time.time() - (number + 1) * SECONDS_BETWEEN
    ended = began + IMAGE_SECONDS
    arguments: JsonObject = {"prompt": f"A lighthouse at dusk, number {number}", "seed": number}
    job = Job(
        job_id=job_id(number),
        owner=LOCAL_OWNER,
        provider="zsky",
        operation="zsky_start_image",
        status="completed",
        arguments=arguments,
        intent=digest(LOCAL_OWNER, str(number)),
        fingerprint=fingerprint(KEY),
        created_at=began,
        updated_at=ended,
        submitted_at=began,
        ended_at=ended,
        version=4,
        provider_job_id=f"zj-{number:08}",
        provider_status="completed",
        outputs=(
            Output(
                index=0,
                url=f"https://cdn.zsky.ai/results/{number:08}.webp?signature={'0' * 64}",
                expires_at=ended + 86_400,
                media_type="image/webp",
                width=1024,
                height=1024,
                bytes=181_234,
                file=str(results / f"zsky-a-lighthouse-at-dusk-number-{number}-1.webp"),
                sha256="0" * 64,
            ),
        ),
        cost=Cost(1, "images"),
    )
    attempt = Attempt(
        attempt_id=digest("attempt", str(number)),
        owner=LOCAL_OWNER,
        operation=job.operation,
        request_hash=job.intent,
        state="accepted",
        job_id=job.job_id,
        provider_id=job.provider_job_id,
        created_at=began,
        sent_at=began,
        answered_at=began,
        version=3,
    )
    return job, attempt


def running(number: int, age: float) -> tuple[Job, Attempt]:
    """Return a job that its provider works on, and its attempt, as a server left them behind."""
    job, attempt = finished(number, Path())
    began = time.time() - age
    job = replace(
        job,
        created_at=began,
        updated_at=began,
        operation="zsky_start_video",
        status="running",
        provider_status="processing",
        submitted_at=began,
        ended_at=None,
        outputs=(),
        cost=Cost(1, "videos"),
    )
    return job, replace(attempt, operation=job.operation, created_at=began)


def fill(state: Path, results: Path, count: int) -> None:
    """Write a journal with so many finished jobs, in one transaction."""
    write(state, (finished(number, results) for number in range(count)))


def write(state: Path, rows: Iterable[tuple[Job, Attempt]]) -> None:
    """Write jobs with their attempts into a journal, in one transaction."""
    database = connect(state / "journal.sqlite")
    with transaction(database):
        for job, attempt in rows:
            database.execute(tables.INSERT_JOB, _values(job, tables.JOB_COLUMNS))
            database.execute(
                tables.INSERT_ATTEMPT,
                {**_values(attempt, tables.ATTEMPT_COLUMNS), "holder": "gone"},
            )
    database.close()


def _values(row: Job | Attempt, columns: tuple[str, ...]) -> Mapping[str, Any]:
    text = json.dumps(row_to_json(row), separators=(",", ":"))
    return {**{name: getattr(row, name) for name in columns}, "row": text}

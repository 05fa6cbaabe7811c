"""Reads and writes rows of the journal over an open connection, within a transaction or not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from darkroom.core.errors import Stale
from darkroom.jobs.model import attempt_from_json, job_from_json, row_to_json
from darkroom.jobs.storage.schema import (
    ACCEPTED_SINCE,
    ATTEMPT_COLUMNS,
    COUNTED_AT,
    INSERT_ATTEMPT,
    INSERT_JOB,
    JOB_COLUMNS,
    SELECT_IDENTICAL,
    SELECT_UNKNOWN,
    UPDATE_ATTEMPT,
    UPDATE_JOB,
    WAITING,
)
from darkroom.jobs.store import MOST_UNKNOWN, Usage
from darkroom.providers.messages import read_row

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence

    from darkroom.jobs.model import Attempt, Intent, Job, Row
    from darkroom.jobs.store import Intended, Sent
    from darkroom.providers.values import Status


def insert_job(database: sqlite3.Connection, job: Job) -> None:
    """Insert a job; `Stale` if there is one with its id."""
    _put(database, INSERT_JOB, JOB_COLUMNS, job)


def update_job(database: sqlite3.Connection, job: Job) -> None:
    """Replace a job by its next version, or raise `Stale`."""
    _put(database, UPDATE_JOB, JOB_COLUMNS, job)


def put_attempts(
    database: sqlite3.Connection, attempts: Iterable[Attempt], holder: str | None
) -> None:
    """Insert new attempts and replace known ones by their next versions, or raise `Stale`."""
    for attempt in attempts:
        statement = INSERT_ATTEMPT if attempt.version == 1 else UPDATE_ATTEMPT
        _put(database, statement, ATTEMPT_COLUMNS, attempt, holder=holder)


def whoever(statement: str, owner: str | None) -> str:
    """Return a statement with ``owner = ?`` that, for None, is about everybody's rows."""
    return statement if owner is not None else statement.replace("owner = ?", "? IS NULL")


def count(database: sqlite3.Connection, owner: str | None, operation: str, since: float) -> int:
    """Count the jobs of an operation that were or may have been accepted since a time.

    ``owner`` None: everybody's.
    """
    found = database.execute(whoever(ACCEPTED_SINCE, owner), (owner, operation, since))
    return found.fetchone()[0]


def usage(
    database: sqlite3.Connection,
    owner: str | None,
    operation: str,
    since: Sequence[float],
    sent: Sent | None = None,
) -> Usage:
    """Count the jobs of an operation, and read the outcomes of what was sent; see `Usage`.

    ``owner`` None: everybody's.
    """
    (waiting,) = database.execute(whoever(WAITING, owner), (owner, operation)).fetchone()
    accepted = tuple(count(database, owner, operation, at) for at in since)
    return Usage(waiting, accepted, _outcomes(database, owner, sent) if sent is not None else ())


def _outcomes(database: sqlite3.Connection, owner: str | None, sent: Sent) -> tuple[Status, ...]:
    statement = (
        "SELECT status FROM jobs WHERE owner = ? "  # noqa: S608 -- our names
        f"AND {among('operation', sent.operations)} AND {COUNTED_AT} >= ? "
        "AND submitted_at IS NOT NULL ORDER BY submitted_at DESC"
    )
    found = database.execute(whoever(statement, owner), (owner, *sent.operations, sent.since))
    return tuple(status for (status,) in found)


def same_intent(
    database: sqlite3.Connection,
    job: Intended,
    identical_since: float | None,
    *,
    by_key_only: bool = False,
) -> Job | None:
    """Return the job that `Store.create` would return instead of a new one."""
    if job.idempotency_key is not None:
        found = database.execute(
            "SELECT row FROM jobs WHERE owner = ? AND idempotency_key = ?",
            (job.owner, job.idempotency_key),
        )
        if (row := found.fetchone()) is not None:
            return read_job(row)
        if by_key_only:
            return None
    if job.batch_id is not None:
        return None
    identical = {"owner": job.owner, "intent": job.intent, "since": identical_since}
    row = database.execute(SELECT_IDENTICAL, identical).fetchone()
    return None if row is None else read_job(row)


def unknown(database: sqlite3.Connection, intended: Intent) -> list[Job]:
    """Return the newest unknown jobs of the same owner and operation."""
    values = (intended.owner, intended.operation, MOST_UNKNOWN)
    return [read_job(row) for row in database.execute(SELECT_UNKNOWN, values)]


def holders(database: sqlite3.Connection, table: str, condition: str) -> set[str]:
    """Return the holders of the rows that meet a condition."""
    statement = f"SELECT DISTINCT holder FROM {table} WHERE {condition} AND holder IS NOT NULL"  # noqa: S608 -- our names
    return {holder for (holder,) in database.execute(statement)}


def of_the_dead(
    database: sqlite3.Connection, table: str, condition: str, is_dead: Callable[[str], bool]
) -> tuple[str, list[str]]:
    """Restrict the condition to rows of dead or missing holders; return it with its values."""
    dead = [holder for holder in holders(database, table, condition) if is_dead(holder)]
    return f"{condition} AND (holder IS NULL OR {among('holder', dead)})", dead


def attempts(database: sqlite3.Connection, condition: str, values: Sequence[str]) -> list[Attempt]:
    """Return the attempts that meet a condition, oldest first."""
    found = database.execute(
        f"SELECT row FROM attempts WHERE {condition} ORDER BY created_at, rowid",  # noqa: S608 -- our names
        values,
    )
    return [attempt_from_json(read_row(text)) for (text,) in found]


def _put(
    database: sqlite3.Connection,
    statement: str,
    columns: tuple[str, ...],
    row: Row,
    **more: str | None,
) -> None:
    """Write one row, or raise `Stale` if the stored row does not have the previous version."""
    values = {name: getattr(row, name) for name in columns}
    text = json.dumps(row_to_json(row), separators=(",", ":"))
    if database.execute(statement, {**values, **more, "row": text}).rowcount != 1:
        raise Stale(f"{values[columns[0]]}, version {row.version}")


def read_job(row: tuple[str]) -> Job:
    """Return the job of a result row whose only column is ``row``."""
    return job_from_json(read_row(row[0]))


def among(column: str, values: Iterable[str]) -> str:
    """Return the condition that a column has one of these values, which are passed apart."""
    return f"{column} IN ({', '.join('?' for _ in values)})"

"""The tables of the journal, and the SQL that writes them.

Each row is stored as JSON; the fields that are searched are also stored in columns.
"""

from __future__ import annotations

from darkroom.jobs.storage import ledger
from darkroom.jobs.store import ACCEPTED, NEVER_RETURNED, NO_VERDICT, UNDER_WAY
from darkroom.providers.values import ENDED


def _names(values: frozenset[str]) -> str:
    return ", ".join(f"'{value}'" for value in sorted(values))


OPEN = f"status NOT IN ({_names(frozenset(ENDED))})"
"""Condition of jobs that have not ended, as the partial index has it."""

COUNTED = f"(status IN ({_names(frozenset(ACCEPTED))}) OR provider_job_id IS NOT NULL)"
COUNTED_AT = "coalesce(submitted_at, created_at)"
UNSETTLED = "job_id IS NULL AND state IN ('prepared', 'sent')"
LOST_CALLS = "job_id IS NULL AND state = 'unknown'"


def _of_unknown_fate(table: str) -> str:
    """Return the condition for jobs with a request whose outcome is unknown."""
    return (
        f"({table}.status = 'unknown' OR"  # noqa: S608 -- our names
        f" {table}.status NOT IN ({_names(frozenset(NEVER_RETURNED))}) AND EXISTS"
        f" (SELECT 1 FROM attempts WHERE attempts.job_id = {table}.job_id"
        f" AND attempts.state IN ({_names(frozenset(NO_VERDICT))})))"
    )


SELECT_IDENTICAL = (
    "SELECT row FROM jobs WHERE owner = :owner AND intent = :intent"  # noqa: S608 -- our names
    f" AND status NOT IN ({_names(frozenset(NEVER_RETURNED))}) AND ("
    f"(:since IS NOT NULL AND (status IN ({_names(frozenset(UNDER_WAY))}) OR ended_at >= :since))"
    f" OR {_of_unknown_fate('jobs')}"
    " OR EXISTS (SELECT 1 FROM jobs AS item WHERE item.owner = jobs.owner"
    f" AND item.batch_id = jobs.job_id AND {_of_unknown_fate('item')}))"
    " ORDER BY created_at DESC, job_id DESC LIMIT 1"
)
"""The job that an identical call gets instead of a new one, the newest; see `Store.create`."""

UNAPPROVED = (
    "(json_extract(row, '$.approval') IS NOT NULL"
    " AND json_extract(row, '$.approval.given_at') IS NULL)"
)
"""Condition for jobs that were not approved, the same as `Job.unapproved`."""

WAITING = (
    "SELECT count(*) FROM jobs INDEXED BY jobs_open WHERE owner = ? AND operation = ?"  # noqa: S608 -- our names
    f" AND status = 'queued' AND {OPEN} AND NOT {UNAPPROVED}"
)
ACCEPTED_SINCE = (
    "SELECT count(*) FROM jobs WHERE owner = ? AND operation = ?"  # noqa: S608 -- our names
    f" AND {COUNTED_AT} >= ? AND {COUNTED}"
)
SELECT_UNKNOWN = (
    "SELECT row FROM jobs INDEXED BY jobs_open WHERE owner = ? AND operation = ?"  # noqa: S608 -- our names
    f" AND status = 'unknown' AND {OPEN} ORDER BY created_at DESC, job_id DESC LIMIT ?"
)
"""The newest unknown jobs of an operation, among the open ones: most rows of a journal ended."""

SENT_ITEMS = (
    "SELECT DISTINCT json_extract(attempts.row, '$.item') AS item FROM jobs JOIN attempts"
    " ON attempts.job_id = jobs.job_id WHERE jobs.owner = ? AND jobs.provider = ?"
    " AND jobs.provider_job_id = ? AND attempts.state != 'refused' AND item IS NOT NULL"
)

_EACH_OWNER = (
    "WITH RECURSIVE owners(owner) AS (SELECT min(owner) FROM jobs UNION ALL"
    " SELECT (SELECT min(jobs.owner) FROM jobs WHERE jobs.owner > owners.owner)"
    " FROM owners WHERE owners.owner IS NOT NULL)"
    " SELECT owner FROM owners WHERE owner IS NOT NULL"
)
"""One step in an index for each owner, however many jobs there are."""

OWNERS = _EACH_OWNER
TAKEN = (
    f"{_EACH_OWNER} AND owner != ? AND EXISTS"  # noqa: S608 -- our names
    " (SELECT 1 FROM jobs WHERE jobs.owner = owners.owner"
    " AND provider = ? AND provider_job_id = ?)"
)

STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE jobs (
            job_id TEXT NOT NULL PRIMARY KEY,
            owner TEXT NOT NULL,
            provider TEXT NOT NULL,
            operation TEXT NOT NULL,
            status TEXT NOT NULL,
            intent TEXT NOT NULL,
            idempotency_key TEXT,
            provider_job_id TEXT,
            batch_id TEXT,
            holder TEXT,
            created_at REAL NOT NULL,
            submitted_at REAL,
            ended_at REAL,
            version INTEGER NOT NULL,
            row TEXT NOT NULL
        )""",
        f"CREATE INDEX jobs_open ON jobs (holder) WHERE {OPEN}",
        "CREATE UNIQUE INDEX jobs_key ON jobs (owner, idempotency_key)",
        "CREATE INDEX jobs_intent ON jobs (owner, intent, created_at, job_id)",
        """CREATE INDEX jobs_provider ON jobs
            (owner, provider, provider_job_id, created_at, job_id)
            WHERE provider_job_id IS NOT NULL""",
        "CREATE INDEX jobs_newest ON jobs (owner, created_at, job_id, provider, status)",
        """CREATE INDEX jobs_batch ON jobs (owner, batch_id, created_at, job_id)
            WHERE batch_id IS NOT NULL""",
        f"CREATE INDEX jobs_counted ON jobs (owner, operation, {COUNTED_AT})",
        "CREATE INDEX jobs_ended ON jobs (ended_at) WHERE ended_at IS NOT NULL",
        """CREATE TABLE attempts (
            attempt_id TEXT NOT NULL PRIMARY KEY,
            job_id TEXT,
            state TEXT NOT NULL,
            holder TEXT,
            created_at REAL NOT NULL,
            version INTEGER NOT NULL,
            row TEXT NOT NULL
        )""",
        "CREATE INDEX attempts_job ON attempts (job_id, created_at) WHERE job_id IS NOT NULL",
        f"CREATE INDEX attempts_unsettled ON attempts (holder) WHERE {UNSETTLED}",
        *ledger.TABLE,
    ),
    ledger.FORGOTTEN,
    ledger.ASKED,
)
"""The steps from each schema version to the next; the first one creates the tables.

A released step must not change. If `OPEN` or `UNSETTLED` changes, a new step must create their
indexes again.
"""

JOB_COLUMNS = (
    "job_id",
    "owner",
    "provider",
    "operation",
    "status",
    "intent",
    "idempotency_key",
    "provider_job_id",
    "batch_id",
    "holder",
    "created_at",
    "submitted_at",
    "ended_at",
    "version",
)
ATTEMPT_COLUMNS = ("attempt_id", "job_id", "state", "created_at", "version")


def _insert(table: str, columns: tuple[str, ...]) -> str:
    """Return an INSERT that does nothing if a row has the same key (the first column)."""
    values = ", ".join(f":{name}" for name in columns)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values}) "  # noqa: S608 -- our names
        f"ON CONFLICT ({columns[0]}) DO NOTHING"
    )


def _update(table: str, columns: tuple[str, ...]) -> str:
    """Return a compare-and-set UPDATE: it changes only a row with the previous version."""
    changes = ", ".join(f"{name} = :{name}" for name in columns[1:])
    return (
        f"UPDATE {table} SET {changes} "  # noqa: S608 -- our names
        f"WHERE {columns[0]} = :{columns[0]} AND version = :version - 1"
    )


INSERT_JOB = _insert("jobs", (*JOB_COLUMNS, "row"))
UPDATE_JOB = _update("jobs", (*JOB_COLUMNS, "row"))
INSERT_ATTEMPT = _insert("attempts", (*ATTEMPT_COLUMNS, "holder", "row"))
UPDATE_ATTEMPT = _update("attempts", (*ATTEMPT_COLUMNS, "holder", "row"))

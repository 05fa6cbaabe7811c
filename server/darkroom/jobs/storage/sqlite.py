"""The journal: jobs and attempts in SQLite, durable and shared by the processes of one computer.

Every call of SQLite runs in the `Executor`, so that a commit does not block the event loop. Only
`SqliteStore.changed`, which never waits, runs on the event loop.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from darkroom.core.executor import worker_thread
from darkroom.jobs.storage import ledger, rows, schema
from darkroom.jobs.storage.journal import (
    BUSY_TIMEOUT_SECONDS,
    SameFile,
    connect,
    transaction,
    translated,
)
from darkroom.jobs.store import Created, Forecast, NoShareError, Usage
from darkroom.providers.values import ENDED

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from darkroom.core.executor import Executor
    from darkroom.jobs.model import Attempt, Intent, Job
    from darkroom.jobs.spending import Cap, Entry, Sum
    from darkroom.jobs.store import Child, Horizon, Intended, Query, Sent, Share

T = TypeVar("T")

PRUNED_AT_ONCE = 500
"""Jobs deleted in one transaction, so that others can write in between."""


class SqliteStore:
    """A `Store` in one SQLite file. Every method may also raise `JournalError`."""

    def __init__(
        self,
        database: sqlite3.Connection,
        path: Path,
        run: Executor,
        holder: str | None,
        shared: bool,  # noqa: FBT001 -- only `open` calls it
    ) -> None:
        self._database = database
        self._path = path
        self._run = run
        self._holder = holder
        self._shared = shared
        self._file = SameFile(path)
        self._data_version = 0
        self._under_way = 0
        """Number of calls in the executor, which are using the connection."""

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        run: Executor | None = None,
        holder: str | None = None,
        shared: bool = False,
    ) -> SqliteStore:
        """Open or create the journal. ``holder`` is the holder that writes (see `Store.unsettled`).

        ``shared``: all owners use the same accounts, so that what a provider counts is counted for
        all of them together.

        Raises `ConfigurationError` if the file cannot be used; the file is then not changed.
        """
        run = run or worker_thread()
        store = cls(await run(lambda: connect(path)), path, run, holder, shared)
        store._data_version = await store._read(_data_version)
        return store

    def _payer(self, owner: str) -> str | None:
        """Return whose jobs count against an account; None for everybody's."""
        return None if self._shared else owner

    async def create(
        self,
        job: Job,
        attempts: Sequence[Attempt],
        *,
        identical_since: float | None,
        by_key_only: bool = False,
        entry: Entry | None = None,
        caps: Sequence[Cap] = (),
    ) -> Created:
        """Insert a job with its first attempts, unless its intent is here already."""

        def insert(database: sqlite3.Connection) -> Created:
            known = rows.same_intent(database, job, identical_since, by_key_only=by_key_only)
            if known is not None:
                return Created(known, made=False)
            if entry is not None:
                ledger.check_all(database, entry, caps)
                ledger.put(database, entry)
            rows.insert_job(database, job)
            rows.put_attempts(database, attempts, self._holder)
            return Created(job, made=True)

        return await self._change(insert, "so nothing was sent")

    async def create_all(
        self,
        parent: Job,
        children: Sequence[Child],
        *,
        identical_since: float | None,
        by_key_only: bool = False,
        totals: Sequence[tuple[Entry, Sequence[Cap]]],
    ) -> Created:
        """Insert a batch with all its jobs at once, unless its intent is here already."""

        def insert(database: sqlite3.Connection) -> Created:
            known = rows.same_intent(database, parent, identical_since, by_key_only=by_key_only)
            if known is not None:
                return Created(known, made=False)
            for total, caps in totals:
                ledger.check_all(database, total, caps)
            rows.insert_job(database, parent)
            for child in children:
                rows.insert_job(database, child.job)
                rows.put_attempts(database, child.attempts, self._holder)
                if child.entry is not None:
                    ledger.put(database, child.entry)
            return Created(parent, made=True)

        return await self._change(insert, "so nothing was sent")

    async def foresee(
        self,
        intended: Intent,
        *,
        identical_since: float | None,
        by_key_only: bool = False,
        entry: Entry | None,
        caps: Sequence[Cap],
        used_since: Sequence[float],
    ) -> Forecast:
        """Look up everything that decides about a start; nothing is written."""

        def look(database: sqlite3.Connection) -> Forecast:
            doubtful, usage, reached, asks = None, Usage(0, ()), None, False
            if intended.idempotency_key is not None:
                keyless = replace(intended, idempotency_key=None)
                doubtful = rows.same_intent(database, keyless, None)
            if entry is not None:
                reached, asks = ledger.look_ahead(
                    entry, caps, lambda cap: ledger.used(database, intended.owner, cap)
                )
            if used_since:
                usage = rows.usage(
                    database, self._payer(intended.owner), intended.operation, used_since
                )
            known = rows.same_intent(database, intended, identical_since, by_key_only=by_key_only)
            unknown = [] if known is not None else rows.unknown(database, intended)
            return Forecast(known, doubtful, reached, usage, asks, unknown)

        return await self._read(look)

    async def identical(
        self, intended: Intended, *, since: float | None, by_key_only: bool = False
    ) -> Job | None:
        """Return the job that `create` would return instead of a new one."""
        return await self._read(
            lambda database: rows.same_intent(database, intended, since, by_key_only=by_key_only)
        )

    async def reserve(self, entry: Entry, caps: Sequence[Cap]) -> None:
        """Insert an entry of the ledger that belongs to no job, unless it passes a cap."""

        def insert(database: sqlite3.Connection) -> None:
            ledger.check_all(database, entry, caps)
            ledger.put(database, entry)

        await self._change(insert, "so nothing was sent")

    async def spent(self, owner: str, since: float) -> list[Sum]:
        """Add up what is reserved and spent since a time, by provider, unit and UTC day."""
        return await self._read(lambda database: ledger.sums(database, owner, since))

    async def used(self, owner: str, cap: Cap) -> float:
        """Return how much of a cap is used."""
        return await self._read(lambda database: ledger.used(database, owner, cap))

    async def write(
        self,
        job: Job | None,
        attempts: Sequence[Attempt] = (),
        *,
        entry: Entry | None = None,
        caps: Sequence[Cap] = (),
        shares: Sequence[Share] = (),
    ) -> None:
        """Replace rows by their next versions, all or none."""

        def replace(database: sqlite3.Connection) -> None:
            if entry is not None:
                ledger.check_all(database, entry, caps)
            if job is not None:
                for share in shares:
                    payer = self._payer(job.owner)
                    if rows.count(database, payer, share.operation, share.since) >= share.most:
                        raise NoShareError(share.operation)
                rows.update_job(database, job)
            rows.put_attempts(database, attempts, self._holder)
            if entry is not None:
                ledger.put(database, entry)

        unsent = attempts and all(attempt.state == "prepared" for attempt in attempts)
        await self._change(
            replace, "so nothing was sent" if unsent else "so this change is not recorded"
        )

    async def job(self, owner: str, job_id: str) -> Job | None:
        """Return the owner's job with this id of ours."""
        return _first(await self._jobs("job_id = ? AND owner = ?", job_id, owner))

    async def attempts(self, owner: str, job_id: str) -> list[Attempt]:
        """Return the attempts of the owner's job, oldest first."""
        return await self._attempts(owner, "job_id = ?", job_id)

    async def attempt(self, owner: str, attempt_id: str) -> Attempt | None:
        """Return the owner's attempt with this id."""
        return _first(await self._attempts(owner, "attempt_id = ?", attempt_id))

    async def owners(self) -> list[str]:
        """Return everybody who owns a job, in order."""
        return await self._read(
            lambda database: [owner for (owner,) in database.execute(schema.OWNERS)]
        )

    async def find(self, owner: str, provider: str, provider_job_id: str) -> Job | None:
        """Return the owner's job with this id at the provider, the newest if there are several."""
        return _first(
            await self._jobs(
                "owner = ? AND provider = ? AND provider_job_id = ?",
                *(owner, provider, provider_job_id),
                limit=1,
            )
        )

    async def taken(self, owner: str, provider: str, provider_job_id: str) -> bool:
        """Tell whether somebody else than the owner has a job with this id at the provider."""
        wanted = (owner, provider, provider_job_id)
        return await self._read(
            lambda database: database.execute(schema.TAKEN, wanted).fetchone() is not None
        )

    async def list(self, query: Query) -> list[Job]:
        """Return the jobs that match, newest first."""
        conditions: list[str] = ["owner = ?"]
        values: list[str | float] = [query.owner]
        if query.provider is not None:
            conditions.append("provider = ?")
            values.append(query.provider)
        if query.batch_id is not None:
            conditions.append("batch_id = ?")
            values.append(query.batch_id)
        if query.provider_job_id is not None:
            conditions.append("provider_job_id = ?")
            values.append(query.provider_job_id)
        if query.statuses is not None:
            conditions.append(rows.among("status", query.statuses))
            values.extend(query.statuses)
        if query.before is not None:
            conditions.append("(created_at, job_id) < (?, ?)")
            values.extend(query.before)
        return await self._jobs(" AND ".join(conditions), *values, limit=query.limit)

    async def claim(self, holder: str, is_dead: Callable[[str], bool]) -> list[Job]:
        """Take over every job that has not ended and whose holder is dead or nobody."""

        def take(database: sqlite3.Connection) -> list[Job]:
            condition, dead = rows.of_the_dead(database, "jobs", schema.OPEN, is_dead)
            found = database.execute(
                f"SELECT row FROM jobs WHERE {condition} ORDER BY created_at, job_id",  # noqa: S608 -- our names
                dead,
            )
            taken = [rows.read_job(row).next(holder=holder) for row in found.fetchall()]
            for job in taken:
                rows.update_job(database, job)
            return taken

        return await self._change(take, "so no job was taken over")

    async def holders(self) -> set[str]:
        """Return who holds jobs that have not ended."""
        return await self._read(lambda database: rows.holders(database, "jobs", schema.OPEN))

    async def unsettled(self, is_dead: Callable[[str], bool]) -> list[Attempt]:
        """Return the attempts without a job whose fate a dead holder left open, oldest first."""

        def look(database: sqlite3.Connection) -> list[Attempt]:
            condition, dead = rows.of_the_dead(database, "attempts", schema.UNSETTLED, is_dead)
            return rows.attempts(database, condition, dead)

        return await self._read(look)

    async def lost_calls(self) -> list[Attempt]:
        """Return the attempts without a job of which nobody knows what became, oldest first."""
        return await self._read(lambda database: rows.attempts(database, schema.LOST_CALLS, ()))

    async def usage(
        self, owner: str, operation: str, since: Sequence[float], *, sent: Sent | None = None
    ) -> Usage:
        """Count the jobs of an operation, and read the outcomes of what was sent; see `Usage`."""
        payer = self._payer(owner)
        return await self._read(
            lambda database: rows.usage(database, payer, operation, since, sent)
        )

    async def sent_items(self, owner: str, provider: str, provider_job_id: str) -> set[str]:
        """Return the names of items that were or may be sent to what the provider gave this id."""
        wanted = (owner, provider, provider_job_id)
        return await self._read(
            lambda database: {item for (item,) in database.execute(schema.SENT_ITEMS, wanted)}
        )

    async def changed(self) -> bool:
        """Tell whether another process wrote since this was last called."""
        before = self._data_version
        version = None if self._under_way else self._glance()
        self._data_version = await self._read(_data_version) if version is None else version
        return self._data_version != before

    def _glance(self) -> int | None:
        """Return the data version without the executor; None if it is not available at once.

        Every check of a job reads it. It is in memory that the processes share, so that reading it
        takes microseconds, while a call in a thread takes a hundred of them.
        """
        import sqlite3  # noqa: PLC0415 -- a start without a journal does not pay for it

        try:
            self._database.execute("PRAGMA busy_timeout = 0")
            try:
                return _data_version(self._database)
            finally:
                self._database.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_SECONDS * 1000:.0f}")
        except sqlite3.DatabaseError:
            return None  # the executor waits, or says what is wrong

    async def prune(self, horizon: Horizon) -> int:
        """Delete what is older than the horizon; return how many jobs."""
        counts = f"{schema.COUNTED} AND {schema.COUNTED_AT} >= ?"
        statement = (
            "SELECT job_id FROM jobs WHERE ended_at < ? "  # noqa: S608 -- our names
            f"AND {rows.among('status', ENDED)} "
            f"AND NOT ({rows.among('operation', horizon.counted)} AND {counts}) LIMIT {PRUNED_AT_ONCE}"
        )
        values = (horizon.ended, *ENDED, *horizon.counted, horizon.window)

        def delete(database: sqlite3.Connection) -> int:
            old = database.execute(statement, values).fetchall()
            database.executemany("DELETE FROM attempts WHERE job_id = ?", old)
            database.executemany("DELETE FROM jobs WHERE job_id = ?", old)
            return len(old)

        def forget(database: sqlite3.Connection) -> int:
            return ledger.prune(database, horizon, PRUNED_AT_ONCE)

        pruned = 0
        while deleted := await self._change(delete, "so nothing was deleted"):
            pruned += deleted
        while await self._change(forget, "so nothing was deleted"):
            pass
        return pruned

    async def forgotten(self) -> float | None:
        """Return the time before which the ledger is incomplete; None: it is complete."""
        return await self._read(ledger.forgotten)

    async def close(self) -> None:
        """Close the file; nothing can be read or written after that."""
        await self._execute(self._database.close)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def reading() -> T:
            with translated(self._path, "so it could not be read"):
                return work(self._database)

        return await self._execute(reading)

    async def _change(self, work: Callable[[sqlite3.Connection], T], otherwise: str) -> T:
        """Run a function in one transaction that holds the write lock from its beginning."""

        def changing() -> T:
            self._file.need(otherwise)
            with translated(self._path, otherwise), transaction(self._database):
                return work(self._database)

        return await self._execute(changing)

    async def _execute(self, work: Callable[[], T]) -> T:
        self._under_way += 1
        try:
            return await self._run(work)
        finally:
            self._under_way -= 1

    async def _jobs(self, condition: str, *values: str | float, limit: int = -1) -> list[Job]:
        statement = (
            f"SELECT row FROM jobs WHERE {condition} "  # noqa: S608 -- our names
            f"ORDER BY created_at DESC, job_id DESC LIMIT {limit:d}"
        )
        return await self._read(
            lambda database: [rows.read_job(row) for row in database.execute(statement, values)]
        )

    async def _attempts(self, owner: str, condition: str, *values: str) -> list[Attempt]:
        found = await self._read(lambda database: rows.attempts(database, condition, values))
        return [attempt for attempt in found if attempt.owner == owner]


def _data_version(database: sqlite3.Connection) -> int:
    return database.execute("PRAGMA data_version").fetchone()[0]


def _first(rows: Sequence[T]) -> T | None:
    return rows[0] if rows else None

"""What only a journal on disk promises: it survives, it is private, it is shared, it says why not."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import pytest

from darkroom.core.errors import ConfigurationError, JournalError
from darkroom.jobs.model import LOCAL_OWNER
from darkroom.jobs.storage.schema import STEPS
from darkroom.jobs.storage.sqlite import PRUNED_AT_ONCE, SqliteStore
from darkroom.jobs.store import Query
from tests.jobs.rows import (
    NOON,
    a_job,
    an_attempt,
    everyone_is_alive,
    everyone_is_dead,
    finish,
    inline,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from darkroom.jobs.store import Store

pytestmark = pytest.mark.anyio

T = TypeVar("T")

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes and users")


@pytest.fixture
def another_user() -> Iterator[Path]:
    """Be nobody rather than root, to whom no folder is read-only; return a folder of theirs."""
    folder = Path(tempfile.mkdtemp())
    was_root = os.geteuid() == 0
    if was_root:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    yield folder
    if was_root:
        os.seteuid(0)
    folder.chmod(0o700)
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    folder.rmdir()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- files ---------------------------------------------------------------------------------------


@posix_only
def test_the_journal_is_for_the_person_only(path: Path) -> None:
    before = os.umask(0)
    try:
        store = finish(SqliteStore.open(path, run=inline))
        finish(store.create(a_job(), [], identical_since=None))
    finally:
        os.umask(before)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == [f"journal.sqlite{end}" for end in ("", "-shm", "-wal")]
    assert {mode(file) for file in files} == {0o600}
    assert mode(path.parent) == 0o700
    finish(store.close())


@posix_only
def test_a_journal_that_others_could_read_is_closed_to_them(store: Store, path: Path) -> None:
    finish(store.create(a_job(), [], identical_since=None))
    for file in path.parent.iterdir():
        file.chmod(0o644)
    second = finish(SqliteStore.open(path, run=inline))
    assert {mode(file) for file in path.parent.iterdir()} == {0o600}
    finish(second.close())


def test_every_commit_reaches_the_disk(store: Store, connections: list[sqlite3.Connection]) -> None:
    assert finish(store.job(LOCAL_OWNER, "job-1")) is None
    (database,) = connections
    full = 2
    assert database.execute("PRAGMA synchronous").fetchone() == (full,)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_rows_survive_the_process(store: Store, path: Path) -> None:
    finish(store.create(a_job(), [an_attempt()], identical_since=None))
    # What the first one wrote is read from what is on disk now: it is not closed, as after a crash.
    second = finish(SqliteStore.open(path, run=inline))
    assert finish(second.job(LOCAL_OWNER, "job-1")) == a_job()
    assert finish(second.attempts(LOCAL_OWNER, "job-1")) == [an_attempt()]
    finish(second.close())


def test_a_change_that_breaks_off_leaves_nothing_behind(
    store: Store, path: Path, connections: list[sqlite3.Connection]
) -> None:
    finish(store.create(a_job(), [], identical_since=None))

    class PowerCutError(Exception):
        pass

    def cut(statement: str) -> int:
        raise PowerCutError(statement)

    connections[0].create_function("cut", 1, cut)
    connections[0].execute(
        "CREATE TEMP TRIGGER power_cut BEFORE INSERT ON attempts BEGIN SELECT cut('now'); END"
    )
    with pytest.raises(sqlite3.OperationalError):
        finish(store.write(a_job().next(status="submitting"), [an_attempt()]))
    second = finish(SqliteStore.open(path, run=inline))
    assert finish(second.job(LOCAL_OWNER, "job-1")) == a_job()
    finish(second.write(a_job().next(status="running")))  # and the lock is free
    finish(second.close())


# --- files that cannot be used -------------------------------------------------------------------


def refused(path: Path) -> str:
    """Open the journal, which must fail and leave the file as it is; return the message."""
    before = path.read_bytes()
    with pytest.raises(ConfigurationError) as caught:
        finish(SqliteStore.open(path, run=inline))
    assert path.read_bytes() == before
    assert str(path) in str(caught.value)
    assert "[jobs] state_dir" in str(caught.value)
    return str(caught.value)


def test_a_newer_journal_is_refused(path: Path) -> None:
    finish(finish(SqliteStore.open(path, run=inline)).close())
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    database.close()
    assert "written by a newer version" in refused(path)


@pytest.mark.parametrize("damage", ["text", "first page", "cut off"])
def test_a_damaged_journal_is_refused_and_not_overwritten(path: Path, damage: str) -> None:
    finish(finish(SqliteStore.open(path, run=inline)).close())
    content = path.read_bytes()
    page = 4096
    path.write_bytes(
        {
            "text": b"these are notes, not a journal\n" * 200,
            "first page": content[:100] + b"\xff" * (page - 100) + content[page:],
            "cut off": content[: page + 10],
        }[damage]
    )
    assert "damaged" in refused(path)


def test_a_database_of_another_program_is_refused(path: Path) -> None:
    path.parent.mkdir()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE photographs (name TEXT)")
    database.close()
    assert "not a journal of Darkroom" in refused(path)


def test_a_disk_without_shared_memory_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def over_the_network(path: Path, timeout: float, **options: Any) -> sqlite3.Connection:
        assert timeout > 1
        return connect(f"file:{path}?vfs=unix-dotfile", uri=True, **options)

    monkeypatch.setattr(sqlite3, "connect", over_the_network)
    with pytest.raises(ConfigurationError, match=r"network folder.*\[jobs\] state_dir.*store"):
        finish(SqliteStore.open(path, run=inline))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"file.*\[jobs\] state_dir"):
        finish(SqliteStore.open(tmp_path / "file" / "journal.sqlite", run=inline))


@posix_only
def test_a_folder_without_the_right_to_write_is_named(another_user: Path) -> None:
    another_user.chmod(0o500)
    with pytest.raises(ConfigurationError, match="cannot be made or opened"):
        finish(SqliteStore.open(another_user / "journal.sqlite", run=inline))


@posix_only
def test_a_journal_in_a_read_only_folder_is_refused(another_user: Path) -> None:
    path = another_user / "journal.sqlite"
    finish(finish(SqliteStore.open(path, run=inline)).close())
    another_user.chmod(0o500)
    assert "cannot be" in refused(path)


# --- trouble while it runs -----------------------------------------------------------------------


def test_a_full_disk_stops_the_start_before_anything_is_sent(
    store: Store, connections: list[sqlite3.Connection]
) -> None:
    connections[0].execute("PRAGMA max_page_count = 1")
    long = a_job(arguments={"prompt": "x" * 20_000})
    with pytest.raises(JournalError, match=r"disk is full, so nothing was sent"):
        finish(store.create(long, [an_attempt()], identical_since=None))
    assert finish(store.job(LOCAL_OWNER, "job-1")) is None
    connections[0].execute("PRAGMA max_page_count = 1000000")
    assert finish(store.create(long, [an_attempt()], identical_since=None)).made


def test_a_message_promises_no_more_than_is_known(
    store: Store, connections: list[sqlite3.Connection]
) -> None:
    finish(store.create(a_job(), [an_attempt()], identical_since=None))
    connections[0].execute("PRAGMA query_only = ON")
    with pytest.raises(JournalError, match=r"cannot be written to, so nothing was sent"):
        finish(store.write(a_job().next(), [an_attempt("attempt-2")]))
    for attempts in ([], [an_attempt().next(state="accepted")]):
        with pytest.raises(JournalError, match=r"so this change is not recorded"):
            finish(store.write(a_job().next(), attempts))
    with pytest.raises(JournalError, match=r"no job was taken over"):
        finish(store.claim("me", everyone_is_dead))
    assert finish(store.job(LOCAL_OWNER, "job-1")) == a_job()


def test_damage_found_later_is_a_journal_error(
    store: SqliteStore, path: Path, connections: list[sqlite3.Connection]
) -> None:
    finish(store.create(a_job(), [], identical_since=None))
    connections[0].execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    second = finish(SqliteStore.open(path, run=inline))
    with pytest.raises(JournalError, match="damaged, so it could not be read"):
        finish(second.job(LOCAL_OWNER, "job-1"))
    finish(second.close())


def test_a_journal_that_stays_locked_is_a_journal_error(
    store: Store, path: Path, connections: list[sqlite3.Connection]
) -> None:
    connections[0].execute("PRAGMA busy_timeout = 0")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError, match="another process keeps it locked, so nothing was sent"):
        finish(store.create(a_job(), [], identical_since=None))
    other.close()
    assert finish(store.create(a_job(), [], identical_since=None)).made


def test_a_mistake_of_ours_is_not_called_trouble_of_the_disk(path: Path) -> None:
    store = finish(SqliteStore.open(path, run=inline))
    finish(store.close())
    with pytest.raises(sqlite3.ProgrammingError):
        finish(store.job(LOCAL_OWNER, "job-1"))


# --- the executor, and how much is read ----------------------------------------------------------


async def use_everything(store: Store) -> None:
    await store.create(a_job(intent="every"), [an_attempt()], identical_since=0)
    await store.write(a_job(intent="every").next(), [an_attempt().next()])
    await store.job(LOCAL_OWNER, "job-1")
    await store.attempts(LOCAL_OWNER, "job-1")
    await store.attempt(LOCAL_OWNER, "attempt-1")
    await store.find("local", "zsky", "p")
    await store.list(Query(owner="local"))
    await store.claim("me", everyone_is_alive)
    await store.unsettled(everyone_is_dead)
    await store.usage("local", "zsky_start_image", (NOON,))
    await store.prune(until(NOON))
    await store.close()


async def test_sqlite_is_called_by_the_executor_only(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def bound_to_its_thread(path: Path, **options: Any) -> sqlite3.Connection:
        # Any call from another thread than the one that opens it is a ProgrammingError now.
        options["check_same_thread"] = True
        return connect(path, **options)

    monkeypatch.setattr(sqlite3, "connect", bound_to_its_thread)
    with ThreadPoolExecutor(1) as thread:

        async def run(work: Callable[[], T], /) -> T:
            return thread.submit(work).result()

        await use_everything(await SqliteStore.open(path, run=run))


class _Executor:
    """Counts the calls, and may be held up."""

    def __init__(self) -> None:
        self.calls = 0
        self.free = anyio.Event()
        self.free.set()

    async def __call__(self, work: Callable[[], T], /) -> T:
        self.calls += 1
        await self.free.wait()
        return work()


async def test_a_look_at_what_others_wrote_needs_no_turn_of_the_executor(path: Path) -> None:
    executor = _Executor()
    store = await SqliteStore.open(path, run=executor)
    other = await SqliteStore.open(path, run=inline)
    before = executor.calls
    assert not await store.changed()
    await other.create(a_job(), [], identical_since=0)
    assert await store.changed()
    assert not await store.changed()
    assert executor.calls == before


async def test_a_look_waits_while_the_executor_has_the_connection(path: Path) -> None:
    executor = _Executor()
    store = await SqliteStore.open(path, run=executor)
    executor.free = anyio.Event()
    looked = anyio.Event()

    async def look() -> None:
        await store.changed()
        looked.set()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.job, LOCAL_OWNER, "job-1")
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(look)
            await anyio.wait_all_tasks_blocked()
            assert not looked.is_set()
            executor.free.set()
    assert looked.is_set()


async def test_a_look_that_would_have_to_wait_for_a_lock_waits_in_the_executor(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Locked(sqlite3.Connection):
        """Is locked for a moment, at the first look after it was opened."""

        looks = 0

        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if sql == "PRAGMA data_version":
                self.looks += 1
                if self.looks == 2:  # the first is of the opening
                    raise sqlite3.OperationalError("database is locked")
            return super().execute(sql, parameters)

    connect = sqlite3.connect

    def locked(path: Path, **options: Any) -> sqlite3.Connection:
        return connect(path, factory=Locked, **options)

    monkeypatch.setattr(sqlite3, "connect", locked)
    executor = _Executor()
    store = await SqliteStore.open(path, run=executor)
    before = executor.calls
    assert not await store.changed()
    assert executor.calls == before + 1


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_the_usual_executor_runs_one_call_at_a_time(
    path: Path, anyio_backend: str, connections: list[sqlite3.Connection]
) -> None:
    assert anyio_backend
    store = await SqliteStore.open(path)
    numbers = range(20, 40)
    for number in numbers:
        await store.create(a_job(f"job-{number}", batch_id="b"), [], identical_since=None)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for number in numbers:
                tasks.start_soon(store.write, a_job(f"job-{number}", batch_id="b").next())
    jobs = await store.list(Query(owner="local", limit=100))
    assert [job.version for job in jobs] == [2] * len(numbers)
    await use_everything(store)
    assert len(connections) == 1


async def test_ended_jobs_cost_a_start_nothing(
    store: Store, connections: list[sqlite3.Connection]
) -> None:
    ended, waiting = 100_000, 3
    (database,) = connections
    database.execute("PRAGMA synchronous = OFF")
    database.execute(
        """WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
        INSERT INTO jobs (job_id, owner, provider, operation, status, intent, holder,
            created_at, ended_at, version, row)
        SELECT n, 'local', 'zsky', 'zsky_start_image', 'completed', n, 'gone', n, n, 1, 'not JSON'
        FROM numbers""",
        (ended,),
    )
    for number in range(waiting):
        new = a_job(f"waiting {number}", status="running", holder="gone", batch_id="b")
        await store.create(new, [], identical_since=None)
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    database.set_progress_handler(count, 1)
    assert len(await store.claim("me", everyone_is_dead)) == waiting
    assert await store.unsettled(everyone_is_dead) == []
    assert await store.job(LOCAL_OWNER, "waiting 0") is not None
    assert await store.find("local", "zsky", "p") is None
    query = Query(owner="local", batch_id="b")
    assert len(await store.list(query)) == waiting
    assert await store.list(Query(owner="local", before=(0, ""))) == []
    assert (await store.create(a_job("last", intent="new"), [], identical_since=0)).made
    assert await store.prune(until(0)) == 0
    assert (await store.usage("local", "zsky_start_image", (NOON,))).accepted == (waiting,)
    # Steps of SQLite's own machine; reading the ended jobs takes several for each.
    assert 0 < steps < ended / 10


async def test_much_is_pruned_in_several_changes(
    store: Store, connections: list[sqlite3.Connection]
) -> None:
    connections[0].execute("PRAGMA synchronous = OFF")
    old = PRUNED_AT_ONCE + 1
    for number in range(old):
        job = a_job(f"job-{number}", status="completed", ended_at=NOON, batch_id="b")
        await store.create(job, [], identical_since=None)
    begun: list[str] = []
    connections[0].set_trace_callback(begun.append)
    assert await store.prune(until(NOON + 1)) == old
    assert begun.count("BEGIN IMMEDIATE") == 4, "the last one finds nothing in the ledger"


@pytest.mark.slow
def test_a_start_without_a_journal_does_not_pay_for_sqlite() -> None:
    code = "import darkroom.jobs.storage.sqlite, darkroom.jobs.storage.memory, sys; sys.exit('sqlite3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0

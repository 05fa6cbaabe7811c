"""One journal under several processes, and under processes that end in the middle."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from darkroom.core.errors import ConfigurationError, Stale
from darkroom.jobs.model import LOCAL_OWNER
from darkroom.jobs.storage.journal import WAL_TRIES
from darkroom.jobs.storage.sqlite import SqliteStore
from tests.jobs.rows import a_job, an_attempt, everyone_is_dead, finish, inline

if TYPE_CHECKING:
    from darkroom.jobs.store import Store


def test_two_connections_lose_no_update(store: Store, path: Path) -> None:
    other = finish(SqliteStore.open(path, run=inline))
    finish(store.create(a_job(), [], identical_since=None))
    assert finish(other.changed())
    assert not finish(other.changed())
    finish(other.write(a_job().next(status="running")))
    with pytest.raises(Stale):
        finish(store.write(a_job().next(status="failed")))
    assert finish(store.changed())
    assert finish(store.job(LOCAL_OWNER, "job-1")) == a_job().next(status="running")
    created = finish(other.create(a_job("job-2"), [], identical_since=0))
    assert created.job.job_id == "job-1"
    finish(other.close())


def test_an_attempt_without_a_job_belongs_to_its_last_writer(store: Store, path: Path) -> None:
    other = finish(SqliteStore.open(path, run=inline, holder="other"))
    nobody = finish(SqliteStore.open(path, run=inline))
    mine, theirs, no_ones = (
        an_attempt(name, job_id=None) for name in ("mine", "theirs", "no one's")
    )
    finish(store.write(None, [mine]))
    finish(other.write(None, [theirs]))
    finish(nobody.write(None, [no_ones]))
    asked: list[str] = []
    found = finish(store.unsettled(lambda holder: bool(asked.append(holder)) or holder == "other"))
    assert {attempt.attempt_id for attempt in found} == {"theirs", "no one's"}
    assert sorted(asked) == ["me", "other"]
    finish(store.write(None, [theirs.next(state="sent")]))
    assert len(finish(other.unsettled(lambda holder: holder == "me"))) == 3
    finish(other.close())
    finish(nobody.close())


@pytest.mark.parametrize("interruptions", [1, WAL_TRIES])
def test_two_processes_that_make_the_journal_together_both_get_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, interruptions: int
) -> None:
    connect = sqlite3.connect
    seen: list[str] = []

    class Other(sqlite3.Connection):
        """Interrupts what it is told: a second process that begins a change at the worst moment."""

        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            seen.append(sql)
            if sql.startswith("PRAGMA journal_mode") and seen.count(sql) <= interruptions:
                other.execute("BEGIN IMMEDIATE")
            elif sql.startswith("BEGIN IMMEDIATE") and other.in_transaction:
                other.execute("COMMIT")
            return super().execute(sql, parameters)

    path.parent.mkdir()
    other = connect(path, isolation_level=None)

    def interrupted(path: Path, **options: Any) -> sqlite3.Connection:
        return connect(path, factory=Other, **options)

    monkeypatch.setattr(sqlite3, "connect", interrupted)
    if interruptions < WAL_TRIES:
        store = finish(SqliteStore.open(path, run=inline))
        assert sum(sql.startswith("PRAGMA journal_mode") for sql in seen) == interruptions + 1
        finish(store.close())
    else:
        with pytest.raises(ConfigurationError, match="another process keeps it locked"):
            finish(SqliteStore.open(path, run=inline))
    other.close()


COUNT_UP = """
import sys
from pathlib import Path
import anyio
from darkroom.core.errors import ConfigurationError, Stale
from darkroom.jobs.model import LOCAL_OWNER
from darkroom.jobs.storage.sqlite import SqliteStore

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    done = 0
    print("ready", flush=True)
    input()
    while done < 50:
        job = await store.job(LOCAL_OWNER, "job-1")
        try:
            await store.write(job.next(polls=job.polls + 1))
            done += 1
        except Stale:
            pass
    await store.close()

anyio.run(main)
"""


@pytest.mark.slow
def test_two_processes_lose_no_update(store: Store, path: Path) -> None:
    finish(store.create(a_job(), [], identical_since=None))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COUNT_UP, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    job = finish(store.job(LOCAL_OWNER, "job-1"))
    assert job is not None
    assert (job.polls, job.version) == (100, 101)


KILLED_WHILE_WRITING = """
import os, sqlite3, sys
from pathlib import Path
import anyio
from darkroom.jobs.storage.sqlite import SqliteStore
sys.path.insert(0, sys.argv[2])
from jobs.rows import a_job, an_attempt, inline

class Killed(sqlite3.Connection):
    def execute(self, sql, parameters=(), /):
        if sql.startswith("COMMIT") and self.execute("SELECT count(*) FROM jobs").fetchone() == (2,):
            os.kill(os.getpid(), 9)
        return super().execute(sql, parameters)

connect = sqlite3.connect
sqlite3.connect = lambda path, **options: connect(path, factory=Killed, **options)

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]), run=inline)
    await store.create(a_job("kept"), [an_attempt()], identical_since=None)
    await store.create(a_job("cut off"), [an_attempt("attempt-2")], identical_since=None)

anyio.run(main)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
@pytest.mark.slow
def test_a_process_killed_before_its_commit_leaves_all_or_nothing(path: Path) -> None:
    tests = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, str(path), str(tests)],
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert ended.returncode == -9, ended.stderr
    store = finish(SqliteStore.open(path, run=inline))
    assert finish(store.job(LOCAL_OWNER, "kept")) == a_job("kept")
    assert finish(store.job(LOCAL_OWNER, "cut off")) is None
    assert finish(store.attempt(LOCAL_OWNER, "attempt-2")) is None
    assert len(finish(store.claim("me", everyone_is_dead))) == 1
    finish(store.close())

"""A storage that is passed in: who is alive, and what is used of the limits, come with it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom.jobs.model import LOCAL_OWNER
from darkroom.jobs.storage.sqlite import SqliteStore
from darkroom.jobs.store import Storage
from darkroom.providers.client.local_limits import LocalLimits
from darkroom_tools.emulators.sandbox import Sandbox
from tests.engine.servers import asked_of, wait_until
from tests.engine.support import HOUR, TRYON
from tests.faults.process import Process, process

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from darkroom.providers.client.rate_limiter import LimitsState
    from darkroom.providers.provider import Limits

pytestmark = pytest.mark.anyio

BEAT_SECONDS = 10.0
FORGOTTEN_SECONDS = 30.0


class CommonLimits(LocalLimits):
    """Limits that several servers take from."""

    shared = True


@dataclass
class Board:
    """What servers share that are not on one machine: a table of who said last that he lives."""

    folder: Path
    seen: dict[str, float] = field(default_factory=dict[str, float])
    limits: dict[tuple[str, str], LocalLimits] = field(
        default_factory=dict[tuple[str, str], LocalLimits]
    )

    async def open(self, process: Process) -> Storage:
        """Open a server's storage."""
        liveness = Heartbeat(self, f"holder-{process.seed}")
        await liveness.beat()
        path = self.folder / "shared.sqlite"
        store = await SqliteStore.open(path, run=process.run, holder=liveness.holder)
        return Storage(store, liveness, self.common)

    def common(self, provider: str, fingerprint: str, limits: Limits) -> LimitsState:
        """Return the limits of a credential, the same for all servers."""
        return self.limits.setdefault((provider, fingerprint), CommonLimits(limits))


class Heartbeat:
    """Alive is who has said so lately."""

    shared = True
    beat_seconds = BEAT_SECONDS

    def __init__(self, board: Board, holder: str) -> None:
        self.holder = holder
        self._board = board

    def dead(self, holder: str) -> bool:
        """Tell whether nothing was heard of it for a time."""
        last = self._board.seen.get(holder)
        return last is None or anyio.current_time() - last > FORGOTTEN_SECONDS

    async def beat(self) -> None:
        """Say that this server lives."""
        self._board.seen[self.holder] = anyio.current_time()

    async def release(self) -> None:
        """End."""
        self._board.seen.pop(self.holder, None)


@asynccontextmanager
async def two_servers(
    clock: Callable[[], float], folder: Path, *, time_scale: float = 1.0
) -> AsyncGenerator[tuple[Process, Callable[[], Process], Sandbox]]:
    """Run a server on a storage that is passed in, and give what begins a second one."""
    sandbox = Sandbox(clock=clock, time_scale=time_scale)
    board = Board(folder)

    def made(seed: int) -> Process:
        plain = process(sandbox, folder, clock, {"DARKROOM_JOBS__NEW_KEY": "new"}, seed=seed)
        return Process(
            plain.settings, plain.environment, clock, plain.way, seed, open_storage=board.open
        )

    first, begun = made(1), list[Process]()
    with anyio.fail_after(HOUR):
        async with anyio.create_task_group() as tasks:

            def second() -> Process:
                begun.append(made(2))
                begun[-1].begin(tasks)
                return begun[-1]

            first.begin(tasks)
            try:
                yield first, second, sandbox
            finally:
                with anyio.CancelScope(shield=True):
                    for one in (first, *begun):
                        await one.stop()


async def test_a_second_server_leaves_the_jobs_of_a_live_one_alone(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with two_servers(clock, tmp_path, time_scale=25.0) as (first, second, sandbox):
        job = await first.call(TRYON.start, **TRYON.arguments)
        job_id = str(job["job_id"])
        other = second()
        store = await other.store()
        row = await store.job(LOCAL_OWNER, job_id)
        assert row is not None
        assert row.holder == "holder-1"
        await anyio.sleep(2 * FORGOTTEN_SECONDS)  # it has gone on saying that it lives
        found = await other.call(TRYON.check, job_id=job_id, wait_seconds=0)
        assert found["status"] == "running"
        row = await store.job(LOCAL_OWNER, job_id)
        assert row is not None
        assert row.holder == "holder-1"
        await wait_until(other, TRYON.check, "completed", job_id=job_id)
        row = await store.job(LOCAL_OWNER, job_id)
        assert row is not None
        assert row.holder == "holder-1"
        assert len(asked_of(sandbox, "submit")) == 1


async def test_a_second_server_takes_over_once_the_first_is_heard_of_no_more(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with two_servers(clock, tmp_path, time_scale=25.0) as (first, second, sandbox):
        job = await first.call(TRYON.start, **TRYON.arguments)
        job_id = str(job["job_id"])
        other = second()
        store = await other.store()
        await first.kill()
        await other.call(TRYON.check, job_id=job_id, wait_seconds=0)
        row = await store.job(LOCAL_OWNER, job_id)
        assert row is not None
        assert row.holder == "holder-1"  # nobody knows yet
        await anyio.sleep(FORGOTTEN_SECONDS + 1)
        await wait_until(other, TRYON.check, "completed", job_id=job_id)
        row = await store.job(LOCAL_OWNER, job_id)
        assert row is not None
        assert row.holder == "holder-2"
        assert len(asked_of(sandbox, "submit")) == 1


async def test_servers_on_a_passed_in_storage_share_the_limits_of_a_credential(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with two_servers(clock, tmp_path) as (first, second, sandbox):
        other = second()
        async with anyio.create_task_group() as calls:
            for number in range(50):
                for one in (first, other):
                    key = f"{one.seed}-{number}"
                    arguments = {**TRYON.arguments, "idempotency_key": key}
                    calls.start_soon(lambda one=one, a=arguments: one.said(TRYON.start, **a))
        await anyio.sleep(HOUR / 4)
        statuses = [asked.status for asked in asked_of(sandbox, "submit")]
        assert len(statuses) == 100
        assert 429 not in statuses

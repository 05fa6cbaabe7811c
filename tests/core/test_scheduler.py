"""The schedule against a sorted list, and ten thousand live jobs that nothing is due for."""

from __future__ import annotations

import gc
import math
import tracemalloc
from typing import TYPE_CHECKING

import anyio
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from darkroom.core.digests import digest
from darkroom.core.scheduler import HeapScheduler
from darkroom.jobs.model import LOCAL_OWNER, Attempt, Job
from darkroom.jobs.storage.memory import MemoryStore
from darkroom.providers.values import Cost
from tests.engine.support import asked
from tests.harness import call, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from darkroom.config.settings import Settings

KEYS = st.integers(0, 6)
TIMES = st.integers(0, 20)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("at"), KEYS, TIMES),
        st.tuples(st.just("cancel"), KEYS, st.just(0)),
        st.tuples(st.just("fire"), st.just(0), TIMES),
    ),
    max_size=200,
)


@given(steps=STEPS)
def test_entries_fire_when_due_in_order_and_once(steps: list[tuple[str, int, int]]) -> None:
    heap = HeapScheduler()
    model: dict[int, tuple[int, int]] = {}
    fired: list[int] = []
    for serial, (step, key, at) in enumerate(steps):
        if step == "at":
            heap.at(key, at, lambda serial=serial: fired.append(serial))
            model[key] = (at, serial)
        elif step == "cancel":
            heap.cancel(key)
            model.pop(key, None)
        else:
            due = sorted((when, made) for when, made in model.values() if when <= at)
            fired.clear()
            next_due = heap.fire(at)
            assert fired == [made for _, made in due]
            model = {k: entry for k, entry in model.items() if entry[0] > at}
            assert next_due == min((when for when, _ in model.values()), default=math.inf)
        assert len(heap) == len(model)
        assert heap.due(key) == (model[key][0] if key in model else None)


@given(keys=st.lists(KEYS, min_size=300, max_size=600))
def test_entries_that_are_replaced_for_ever_do_not_pile_up(keys: list[int]) -> None:
    heap = HeapScheduler()
    for serial, key in enumerate(keys):
        heap.at(key, 1000 + serial, lambda: None)
    assert len(heap._scheduler) <= 64 + 2 * 7 + 1  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] -- what is bounded


def test_an_entry_made_by_an_entry_that_fires_is_due_in_the_same_pass() -> None:
    heap = HeapScheduler()
    fired: list[str] = []

    def first() -> None:
        fired.append("first")
        heap.at("second", 1, lambda: fired.append("second"))
        heap.at("third", 9, lambda: fired.append("third"))

    heap.at("first", 1, first)
    assert heap.fire(1) == 9
    assert fired == ["first", "second"]


@pytest.mark.anyio
async def test_an_entry_that_comes_before_the_one_waited_for_wakes_the_schedule() -> None:
    heap = HeapScheduler()
    fired: list[float] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(heap.run)
        heap.at("late", anyio.current_time() + 100, lambda: fired.append(anyio.current_time()))
        await anyio.sleep(1)
        heap.at("soon", anyio.current_time() + 1, lambda: fired.append(anyio.current_time()))
        await anyio.sleep(200)
        tasks.cancel_scope.cancel()
    assert fired[1] - fired[0] == pytest.approx(98)


class Crowd(MemoryStore):
    """A journal in which ``size`` videos run, read anew each time as from a disk."""

    def __init__(self, size: int, now: float) -> None:
        super().__init__()
        self._size, self._now = size, now

    async def opened(self, settings: Settings) -> Crowd:
        del settings
        return self

    async def claim(self, holder: str, is_dead: Callable[[str], bool]) -> list[Job]:
        """Hand over every job as a row just read."""
        del is_dead
        return [self._row(number, holder) for number in range(self._size)]

    async def attempts(self, owner: str, job_id: str) -> list[Attempt]:
        """Return the attempt that started a job, as a row just read."""
        del owner
        return [
            Attempt(
                attempt_id=f"attempt-{job_id}",
                owner=LOCAL_OWNER,
                operation="zsky_start_video",
                request_hash=digest(job_id),
                state="accepted",
                job_id=job_id,
                created_at=self._now,
                sent_at=self._now,
                answered_at=self._now,
                version=3,
            )
        ]

    def _row(self, number: int, holder: str) -> Job:
        return Job(
            job_id=f"zsky_{number:022}",
            owner="".join(LOCAL_OWNER),
            provider="zsky",
            operation="zsky_start_video",
            status="running",
            arguments={"prompt": f"Waves against the lighthouse of island number {number}"},
            intent=digest(str(number)),
            fingerprint="0123456789ab",
            created_at=self._now + number / 1e9,
            updated_at=self._now + number / 1e9,
            submitted_at=self._now + number / 1e9,
            holder=holder,
            version=3,
            provider_job_id=f"{number:032x}",
            cost=Cost(1, "videos"),
        )


class Steps(trio.abc.Instrument):
    """Counts how often any task runs."""

    count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count one step."""
        del task
        self.count += 1


@pytest.mark.anyio
async def test_nothing_runs_for_ten_thousand_jobs_that_nothing_is_due_for(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path, open_store=Crowd(10_000, clock()).opened)
    async with dependencies.client() as client:
        seen = await call(client, "zsky_check_job", job_id=f"zsky_{7:022}", wait_seconds=0)
        assert seen["status"] == "running"
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        await anyio.sleep(40)  # a video takes a minute
        trio.lowlevel.remove_instrument(steps)
    assert steps.count <= 3
    assert asked(dependencies, "zsky") == []


@pytest.mark.anyio
async def test_a_live_job_takes_at_most_4_kib(clock: Callable[[], float], tmp_path: Path) -> None:
    held: list[int] = []
    for size in (0, 10_000):
        dependencies = rig(clock, tmp_path / str(size), open_store=Crowd(size, clock()).opened)
        gc.collect()
        tracemalloc.start()
        try:
            async with dependencies.client() as client:
                await call(client, "list_jobs", limit=1)
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    assert (held[1] - held[0]) / 10_000 <= 4096


@pytest.mark.anyio
async def test_ten_thousand_jobs_that_are_all_due_keep_to_the_rate(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path, open_store=Crowd(10_000, clock()).opened)
    async with dependencies.client() as client:
        await call(client, "list_jobs", limit=1)
        await anyio.sleep(49 + 185)  # four windows; within one, looks are some seconds apart
        began = clock()
        seen = await call(client, "zsky_check_job", job_id=f"zsky_{9:022}", wait_seconds=1)
        assert clock() - began <= 1.01
        assert seen["status"] in {"running", "failed"}
    assert len(asked(dependencies, "zsky")) == 20 * 4

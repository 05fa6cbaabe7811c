"""A job that asks, on a journal that several servers share: one answer counts, and it is sent once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom.core.errors import CallError
from darkroom.jobs.model import LOCAL_OWNER
from darkroom_tools.emulators.kit import Fault
from tests.engine.servers import asked_of, servers, wait_until, yields_at_every_access
from tests.engine.support import DAY, HOUR, TRYON
from tests.faults.process import LaterYes, Process

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

ABOVE = '{"zupertry_credits": 0}'


async def asks(one: Process, **more: object) -> str:
    """Start a job that asks; return its id."""
    job = await one.call_for(LaterYes(), TRYON.start, {**TRYON.arguments, **more})
    assert (job["status"], job["queued_for"]) == ("queued", "approval")
    return job["job_id"]


async def answer(one: Process, job_id: str, *, yes: bool) -> None:
    """Take the person's answer at one server."""
    live = await one.engine.job(job_id)
    assert live is not None
    assert live.job.approval is not None
    await one.engine.answer(live, live.job.approval, yes=yes)


async def cancel(one: Process, job_id: str) -> None:
    """Cancel it at one server; a yes may have been faster."""
    live = await one.engine.job(job_id)
    assert live is not None
    try:
        await (await one.engine.caller()).withdraw(live)
    except CallError as error:
        if error.failure.code != "conflict":
            raise


async def states(one: Process, job_id: str) -> list[str]:
    return [attempt.state for attempt in await (await one.store()).attempts(LOCAL_OWNER, job_id)]


async def test_servers_that_get_the_same_yes_together_send_it_once(
    clock: Callable[[], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yields_at_every_access(monkeypatch)
    async with servers(clock, tmp_path, 3, DARKROOM_APPROVAL__ABOVE=ABOVE) as (found, sandbox, _):
        job_id = await asks(found[0])
        assert await states(found[0], job_id) == []
        async with anyio.create_task_group() as answers:
            for one in (*found, *found):
                answers.start_soon(lambda one=one: answer(one, job_id, yes=True))
        for one in found:
            done = await wait_until(one, TRYON.check, "completed", job_id=job_id)
            assert done["job_id"] == job_id
        assert await states(found[0], job_id) == ["accepted"]
        assert len(asked_of(sandbox, "submit")) == 1


@pytest.mark.parametrize("first", ["yes", "no", "cancel"])
@pytest.mark.parametrize("second", ["yes", "no", "cancel"])
async def test_of_answers_that_come_together_one_counts_everywhere(
    clock: Callable[[], float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
    second: str,
) -> None:
    yields_at_every_access(monkeypatch)

    async def give(one: Process, job_id: str, what: str) -> None:
        if what == "cancel":
            await cancel(one, job_id)
        else:
            await answer(one, job_id, yes=what == "yes")

    async with servers(clock, tmp_path, DARKROOM_APPROVAL__ABOVE=ABOVE) as (found, sandbox, _):
        job_id = await asks(found[0])
        async with anyio.create_task_group() as answers:
            for one, what in zip(found, (first, second), strict=True):
                answers.start_soon(give, one, job_id, what)
        await anyio.sleep(HOUR)
        seen = {(await one.call(TRYON.check, job_id=job_id))["status"] for one in found}
        assert len(seen) == 1
        arrived = len(asked_of(sandbox, "submit"))
        assert (arrived, seen) in [(1, {"completed"}), (0, {"cancelled"})]
        assert await states(found[0], job_id) in (["accepted"] if arrived else [], ["refused"])
        spent = (await found[0].call("get_spending"))["providers"]
        assert sum(each["spent"] for each in spent if each["provider"] == "zupertry") == arrived


async def test_a_cancellation_that_saw_the_question_leaves_what_a_yes_has_begun(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(
        clock, tmp_path, DARKROOM_APPROVAL__ABOVE=ABOVE, DARKROOM_JOBS__NEW_KEY="new"
    ) as (found, sandbox, _):
        one, other = found
        busy = Fault(kind="status", status=429, retry_after="30")
        sandbox.emulators["zupertry"].faults.add("submit", busy)
        await one.call(TRYON.start, **TRYON.arguments, idempotency_key="first")
        job_id = await asks(one, idempotency_key="second")
        seen = await other.engine.job(job_id)
        assert seen is not None
        await answer(one, job_id, yes=True)
        assert (await one.call(TRYON.check, job_id=job_id, wait_seconds=0))["status"] == "queued"
        with pytest.raises(CallError) as late:
            await (await other.engine.caller()).withdraw(seen)
        assert late.value.failure.code == "conflict"
        await wait_until(one, TRYON.check, "completed", job_id=job_id)
        assert await states(one, job_id) == ["accepted"]


@pytest.mark.parametrize("yes", [True, False])
async def test_what_a_killed_server_asked_is_answered_at_another(
    clock: Callable[[], float], tmp_path: Path, *, yes: bool
) -> None:
    async with servers(clock, tmp_path, DARKROOM_APPROVAL__ABOVE=ABOVE) as (
        (first, second),
        sandbox,
        _,
    ):
        job_id = await asks(first)
        await first.kill()
        await anyio.sleep(HOUR)
        shown = await second.call(TRYON.check, job_id=job_id, wait_seconds=0)
        assert (shown["status"], shown["queued_for"]) == ("queued", "approval")
        assert asked_of(sandbox, "submit") == []
        await answer(second, job_id, yes=yes)
        await wait_until(second, TRYON.check, "completed" if yes else "cancelled", job_id=job_id)
        assert len(asked_of(sandbox, "submit")) == yes


async def test_what_another_server_went_on_with_does_not_lapse(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path, DARKROOM_APPROVAL__ABOVE=ABOVE) as (
        (first, second),
        sandbox,
        _,
    ):
        job_id = await asks(first)
        await answer(second, job_id, yes=True)
        await anyio.sleep(2 * DAY)
        for one in (first, second):
            job = await one.call(TRYON.check, job_id=job_id)
            assert job["status"] == "completed"
        assert len(asked_of(sandbox, "submit")) == 1

"""What a host is told while a check waits, and what giving up on a check does: nothing."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom.engine.progress import TELL_SECONDS
from tests.harness import ERAS, Era, call, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

Told = tuple[float, float | None, str | None]


@pytest.mark.parametrize("era", ERAS)
async def test_a_wait_tells_how_the_job_stands(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    told: list[Told] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async with rig(clock, tmp_path).client(era) as client:
        job = await call(client, "zsky_start_video", prompt="Waves")
        arguments = {"job_id": job["job_id"], "wait_seconds": 25}
        await client.call_tool("zsky_check_job", arguments, progress_callback=tell)
    assert len(told) >= 25 / TELL_SECONDS
    done = [each[0] for each in told]
    assert done[0] == 0
    assert all(earlier < later for earlier, later in itertools.pairwise(done))
    assert max(later - earlier for earlier, later in itertools.pairwise(done)) <= 5.1
    assert {message for _, _, message in told} == {"zsky_start_video: running"}


@pytest.mark.parametrize("era", ERAS)
async def test_an_ended_job_is_told_at_once_and_nothing_else(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    told: list[Told] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async with rig(clock, tmp_path).client(era) as client:
        job = await call(client, "zsky_start_image", prompt="A boat")
        await call(client, "zsky_check_job", job_id=job["job_id"])
        arguments = {"job_id": job["job_id"]}
        await client.call_tool("zsky_check_job", arguments, progress_callback=tell)
    assert told == []


@pytest.mark.parametrize("era", ERAS)
async def test_cancelling_a_check_leaves_the_job_untouched(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    server = rig(clock, tmp_path)
    async with server.client(era) as client:
        job = await call(client, "zsky_start_image", prompt="A boat")
        asked = len(server.sandbox.emulators["zsky"].requests)
        with anyio.move_on_after(1) as gave_up:
            await call(client, "zsky_check_job", job_id=job["job_id"], wait_seconds=40)
        assert gave_up.cancelled_caught
        assert len(server.sandbox.emulators["zsky"].requests) - asked <= 1
        ended = await call(client, "zsky_check_job", job_id=job["job_id"])
        assert ended["status"] == "completed"
        assert len(server.sandbox.emulators["zsky"].charges) == 1

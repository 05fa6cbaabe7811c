"""A journal that cannot be written: nothing paid goes out unrecorded, nothing accepted is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom.core.errors import ConfigurationError, JournalError
from darkroom.jobs.model import LOCAL_OWNER
from darkroom_tools.emulators.kit import Fault
from tests.engine.stores import TroubledStore
from tests.engine.support import (
    HOUR,
    IMAGE,
    SAMPLES,
    TRYON,
    Paid,
    asked,
    charged,
    ended,
    received,
)
from tests.harness import call, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from darkroom.config.settings import Settings
    from darkroom.jobs.model import Attempt, Job
    from darkroom.jobs.store import Horizon

pytestmark = pytest.mark.anyio

PAID = pytest.mark.parametrize("paid", [IMAGE, TRYON], ids=str)


def failing(status: str, times: int = 10**9) -> Callable[[Job | None, Sequence[Attempt]], bool]:
    """Fail the first writes of a job in this state."""
    left = times

    def fails(job: Job | None, attempts: Sequence[Attempt]) -> bool:
        nonlocal left
        del attempts
        if job is None or job.status != status or left == 0:
            return False
        left -= 1
        return True

    return fails


@PAID
async def test_a_job_that_cannot_be_written_is_not_sent(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    store = TroubledStore()
    dependencies = rig(clock, tmp_path, open_store=store.opened)
    store.fails = failing("queued")
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            text = await refused(client, paid.start, **paid.arguments)
            assert text.startswith("[journal_unavailable] ")
            assert "disk is full" in text
            assert "state folder" in text
            await anyio.sleep(600)
            assert (await call(client, "list_jobs"))["jobs"] == []
    assert asked(dependencies, paid.emulator) == []


@PAID
async def test_a_request_that_cannot_be_marked_as_sent_waits_and_leaves_once_it_can_be(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    store = TroubledStore()
    dependencies = rig(clock, tmp_path, open_store=store.opened)
    store.fails = failing("submitting")
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            assert job["status"] == "queued"
            assert "disk is full" in job["warnings"][0]
            await anyio.sleep(1_000)
            assert asked(dependencies, paid.emulator, paid.submit) == []
            again = await call(client, paid.start, **paid.arguments)
            assert again["job_id"] == job["job_id"]
            store.fails = failing("")
            done = await ended(client, paid.check, job["job_id"])
            assert done["status"] == "completed"
            assert "warnings" not in done
    assert received(dependencies, paid) == 1


async def test_jobs_that_wait_for_their_turn_outlive_a_full_disk(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    store = TroubledStore()
    dependencies = rig(clock, tmp_path, open_store=store.opened)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            jobs = [await call(client, IMAGE.start, prompt=f"picture {n}") for n in range(18)]
            store.fails = lambda _job, _attempts: True
            await anyio.sleep(300)
            statuses = {j["status"] for j in (await call(client, "list_jobs"))["jobs"]}
            assert statuses <= {"queued", "running", "completed"}
            sent = received(dependencies, IMAGE)
            assert sent < len(jobs)
            store.fails = failing("")
            done = [(await ended(client, IMAGE.check, job["job_id"]))["status"] for job in jobs]
    assert done == ["completed"] * 18
    assert received(dependencies, IMAGE) == 18


async def test_items_of_a_job_wait_for_the_journal_too(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    store = TroubledStore()
    dependencies = rig(clock, tmp_path, open_store=store.opened)
    store.fails = lambda _, attempts: any(a.item and a.state == "sent" for a in attempts)
    images = [
        {"image_url": f"{SAMPLES}/product-{n}.jpg", "image_name": f"i{n}"} for n in range(1, 4)
    ]
    details = {"workflow_details": {"a": 1}, "output_details": {"b": 2}}
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, "zyng_start_images", images=images, **details)
            await anyio.sleep(600)
            assert len(asked(dependencies, "zyng", "process_image")) == 0
            store.fails = failing("")
            done = await ended(client, "zyng_check_images", job["job_id"])
    assert done["status"] == "completed"
    assert len(done["outputs"]) == 3


@PAID
@pytest.mark.parametrize("content", ["", "half a\nkey"])
async def test_a_key_file_that_is_empty_for_a_moment_fails_no_waiting_job(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, content: str
) -> None:
    variable = f"{paid.emulator.upper()}_API_KEY"
    key = rig(clock, tmp_path).environment[variable]
    file = tmp_path / "key"
    file.write_text(key)
    dependencies = rig(
        clock, tmp_path, environment={f"{variable}_FILE": str(file)}, without=(variable,)
    )
    emulator = dependencies.sandbox.emulators[paid.emulator]
    emulator.faults.add(paid.submit, Fault(kind="status", status=429, retry_after="2"))
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            assert job["status"] == "queued"
            file.write_text(content)
            await anyio.sleep(20)
            seen = await call(client, paid.check, job_id=job["job_id"], wait_seconds=0)
            assert (seen["status"], seen["queued_for"]) == ("queued", "account")
            file.write_text(key)
            assert (await ended(client, paid.check, job["job_id"]))["status"] == "completed"
    assert received(dependencies, paid) == 1


@PAID
@pytest.mark.parametrize("times", [1, 5])
async def test_an_acceptance_that_cannot_be_written_is_known_and_written_later(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, times: int
) -> None:
    store = TroubledStore()
    dependencies = rig(clock, tmp_path, open_store=store.opened)
    store.fails = failing("running", times)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            started = await call(client, paid.start, **paid.arguments)
            assert started["status"] == "running"
            done = await ended(client, paid.check, started["job_id"])
            assert done["status"] == "completed"
            await anyio.sleep(60)
            row = await store.job(LOCAL_OWNER, str(started["job_id"]))
            attempts = await store.attempts(LOCAL_OWNER, str(started["job_id"]))
    assert row is not None
    assert row.status == "completed"
    assert [attempt.state for attempt in attempts] == ["accepted"]
    assert attempts[0].provider_id == row.provider_job_id
    assert received(dependencies, paid) == charged(dependencies, paid.emulator) == 1


@PAID
async def test_an_acceptance_that_could_never_be_written_is_written_as_the_server_stops(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    store = TroubledStore()
    dependencies = rig(clock, tmp_path, open_store=store.opened)
    store.fails = failing("running")
    async with dependencies.client() as client:
        started = await call(client, paid.start, **paid.arguments)
        store.fails = failing("")
    row = await store.job(LOCAL_OWNER, str(started["job_id"]))
    assert row is not None
    assert (row.status, row.provider_job_id) == ("running", started["provider_job_id"])


@PAID
async def test_the_end_of_a_job_that_cannot_be_written_is_noticed_again(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    store = TroubledStore()
    dependencies = rig(clock, tmp_path, open_store=store.opened)
    store.fails = failing("completed", 3)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            started = await call(client, paid.start, **paid.arguments)
            done = await ended(client, paid.check, started["job_id"])
            assert done["status"] == "completed"
            row = await store.job(LOCAL_OWNER, str(started["job_id"]))
    assert row is not None
    assert row.status == "completed"


async def test_news_of_a_running_job_that_cannot_be_written_does_not_stop_the_questions(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    store = TroubledStore()
    dependencies = rig(clock, tmp_path, open_store=store.opened)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            started = await call(client, TRYON.start, **TRYON.arguments)
            store.fails = failing("running", 2)  # "processing" is news
            done = await ended(client, TRYON.check, started["job_id"])
    assert done["status"] == "completed"


@PAID
async def test_a_job_put_back_while_nothing_can_be_written_goes_on_when_it_can(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    store = TroubledStore()
    dependencies = rig(clock, tmp_path, open_store=store.opened)
    emulator = dependencies.sandbox.emulators[paid.emulator]
    emulator.faults.add(paid.submit, Fault(kind="status", status=429, retry_after="2"))
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):

            def fails(job: Job | None, attempts: Sequence[Attempt]) -> bool:
                del attempts
                return job is not None and job.status == "queued" and job.version > 1 and broken

            broken = True
            store.fails = fails
            started = await call(client, paid.start, **paid.arguments)
            assert started["status"] == "queued"
            broken = False
            done = await ended(client, paid.check, started["job_id"])
            attempts = await store.attempts(LOCAL_OWNER, str(started["job_id"]))
    assert done["status"] == "completed"
    assert [attempt.state for attempt in attempts] == ["refused", "accepted"]
    assert received(dependencies, paid) == 1


async def test_a_cancellation_that_cannot_be_written_down_is_not_sent(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    store = TroubledStore()
    dependencies = rig(clock, tmp_path, open_store=store.opened)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, TRYON.start, **TRYON.arguments)
            store.fails = lambda job, _: job is None
            text = await refused(client, "zupertry_cancel_tryon", job_id=job["job_id"])
            assert "disk is full" in text
            store.fails = failing("")
            assert (await ended(client, TRYON.check, job["job_id"]))["status"] == "completed"
    assert asked(dependencies, "zupertry", "cancel") == []


async def test_a_cancellation_whose_answer_cannot_be_written_down_is_still_told(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    store = TroubledStore()
    dependencies = rig(clock, tmp_path, open_store=store.opened)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, TRYON.start, **TRYON.arguments)
            store.fails = lambda _, attempts: any(a.state == "accepted" for a in attempts)
            told = await call(client, "zupertry_cancel_tryon", job_id=job["job_id"])
            assert told["status"] == "cancelled"
            store.fails = failing("")
            await anyio.sleep(60)
            assert ("accepted",) in store.writes
    assert charged(dependencies, "zupertry") == 0


class _UnreadableStore(TroubledStore):
    readable = False

    async def claim(self, holder: str, is_dead: Callable[[str], bool]) -> list[Job]:
        if self.readable:
            return await super().claim(holder, is_dead)
        raise JournalError("the folder is read-only, so no job was taken over")

    async def prune(self, horizon: Horizon) -> int:
        if self.readable:
            return await super().prune(horizon)
        raise JournalError("the folder is read-only, so nothing was deleted")


async def test_a_journal_that_cannot_be_opened_at_the_start_is_tried_again(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    store = TroubledStore()
    broken = True

    async def opening(settings: Settings) -> TroubledStore:
        if broken:
            raise ConfigurationError("the journal cannot be opened")
        return await store.opened(settings)

    dependencies = rig(clock, tmp_path, open_store=opening)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            text = await refused(client, IMAGE.start, **IMAGE.arguments)
            assert "cannot be opened" in text
            assert asked(dependencies, "zsky") == []
            broken = False
            await anyio.sleep(20)
            job = await call(client, IMAGE.start, **IMAGE.arguments)
            assert (await ended(client, IMAGE.check, job["job_id"]))["status"] == "completed"


async def test_a_journal_that_opens_and_cannot_be_written_at_first_is_tried_again_too(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    store = _UnreadableStore()
    dependencies = rig(clock, tmp_path, open_store=store.opened)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            assert "read-only" in await refused(client, IMAGE.start, **IMAGE.arguments)
            store.readable = True
            await anyio.sleep(20)
            job = await call(client, IMAGE.start, **IMAGE.arguments)
            assert (await ended(client, IMAGE.check, job["job_id"]))["status"] == "completed"


async def test_a_journal_that_cannot_be_written_at_the_start_leaves_a_server_that_says_so(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path, open_store=_UnreadableStore().opened)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            assert len((await client.list_tools()).tools) > 5
            text = await refused(client, IMAGE.start, **IMAGE.arguments)
    assert "read-only" in text
    assert asked(dependencies, "zsky") == []

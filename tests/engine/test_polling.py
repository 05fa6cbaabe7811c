"""When the provider is asked about a job, and when the caller hears of it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom_tools.emulators.kit import Fault
from darkroom_tools.emulators.zsky.emulator import OTHER_KEY, TEST_KEY
from tests.engine.support import (
    HOUR,
    IMAGE,
    TRYON,
    VIDEO,
    Paid,
    asked,
    ended,
    until,
    zsky,
)
from tests.harness import ERAS, Era, call, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.harness import Rig

pytestmark = pytest.mark.anyio

PAID = pytest.mark.parametrize("paid", [IMAGE, VIDEO, TRYON], ids=str)


def looks(dependencies: Rig, paid: Paid) -> int:
    return len(asked(dependencies, paid.emulator, paid.look))


@PAID
@pytest.mark.parametrize("era", ERAS)
async def test_nothing_is_asked_before_poll_after_seconds_however_often_it_is_checked(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, era: Era
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client(era) as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            due = clock() + job["poll_after_seconds"] - 1  # rounded up to whole seconds
            while clock() < due:
                seen = await call(client, paid.check, job_id=job["job_id"], wait_seconds=0)
                assert seen["status"] == "running"
                assert clock() + seen["poll_after_seconds"] >= due
                assert looks(dependencies, paid) == 0
                await anyio.sleep(0.1)


@PAID
async def test_checking_all_the_time_asks_no_more_often_than_waiting_does(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    counts: list[int] = []
    for impatient in (False, True):
        dependencies = rig(clock, tmp_path / str(impatient))
        async with dependencies.client() as client:
            with anyio.fail_after(HOUR):
                job = await call(client, paid.start, **paid.arguments)
                while job["status"] == "running":
                    wait = 0 if impatient else 40
                    job = await call(client, paid.check, job_id=job["job_id"], wait_seconds=wait)
                    await anyio.sleep(0.05)
        counts.append(looks(dependencies, paid))
    assert counts[0] == counts[1]


@PAID
async def test_a_wait_ends_the_moment_the_job_does(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            await ended(client, paid.check, job["job_id"])
            last = asked(dependencies, paid.emulator, paid.look)[-1]
            assert clock() == pytest.approx(last.at, abs=0.001)


@pytest.mark.parametrize("era", ERAS)
async def test_a_wait_that_runs_out_is_a_result_that_says_when_to_look_again(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies = rig(clock, tmp_path)
    zsky(dependencies).faults.add("generate_video", Fault(kind="never_finish"))
    async with dependencies.client(era) as client:
        with anyio.fail_after(HOUR):
            job = await call(client, VIDEO.start, **VIDEO.arguments)
            for wait in (0, 1, 25, 40):
                began = clock()
                seen = await call(client, VIDEO.check, job_id=job["job_id"], wait_seconds=wait)
                assert clock() - began == pytest.approx(wait, abs=0.01)
                assert seen["status"] == "running"
                assert seen["poll_after_seconds"] >= 1
            began = clock()
            await call(client, VIDEO.check, job_id=job["job_id"])
            assert clock() - began == pytest.approx(25, abs=0.01)
            await refused(client, VIDEO.check, job_id=job["job_id"], wait_seconds=41)


async def test_a_wait_ends_however_large_the_clock_has_become(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    zsky(dependencies).faults.add("generate_video", Fault(kind="never_finish"))
    async with dependencies.client() as client:
        with anyio.fail_after(400 * HOUR):
            job = await call(client, VIDEO.start, **VIDEO.arguments)
            for number in range(1, 60):
                await anyio.sleep(number * 1234.567891 / 7)
                began = clock()
                await call(client, VIDEO.check, job_id=job["job_id"], wait_seconds=number % 7)
                assert clock() - began == pytest.approx(number % 7, abs=0.01)


async def test_many_waits_for_one_job_end_together(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    heard: list[float] = []
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, TRYON.start, **TRYON.arguments)

            async def one() -> None:
                done = await call(client, TRYON.check, job_id=job["job_id"], wait_seconds=40)
                assert done["status"] == "completed"
                heard.append(clock())

            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(one)
    assert max(heard) - min(heard) < 0.001


@pytest.mark.parametrize("seconds", [48.0, 55.0, 59.9, 60.0, 60.1, 63.0, 75.0])
async def test_a_video_is_asked_about_at_most_8_times_a_minute_and_noticed_within_5_percent(
    clock: Callable[[], float], tmp_path: Path, seconds: float
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            began = clock()
            job = await call(client, VIDEO.start, **VIDEO.arguments)
            (account, *_) = zsky(dependencies).keys.values()
            account.jobs[job["provider_job_id"]].finishes_at = began + seconds
            await ended(client, VIDEO.check, job["job_id"])
            delay = clock() - began - seconds
    assert looks(dependencies, VIDEO) <= 8 * max(1, seconds / 60)
    assert delay <= 0.05 * seconds


async def test_a_job_that_never_ends_is_asked_about_ever_less_often(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    zsky(dependencies).faults.add("generate_image", Fault(kind="never_finish"))
    async with dependencies.client() as client:
        with anyio.fail_after(10 * HOUR):
            await call(client, IMAGE.start, **IMAGE.arguments)
            await anyio.sleep(4 * HOUR)
    times = [request.at for request in asked(dependencies, "zsky", "get_job")]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    steady = gaps[30:]  # the first ones meet the rate's window, too
    assert steady == pytest.approx(sorted(steady))
    assert gaps[-1] == pytest.approx(60)
    assert len(times) < 400


@PAID
@pytest.mark.parametrize("seconds", ["20", "200"])
async def test_retry_after_of_a_poll_is_obeyed_and_holds_everything_else(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, seconds: str
) -> None:
    dependencies = rig(clock, tmp_path)
    limited = Fault(kind="status", status=429, retry_after=seconds)
    dependencies.sandbox.emulators[paid.emulator].faults.add(paid.look, limited)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            done = await ended(client, paid.check, job["job_id"])
            assert done["status"] == "completed"
    first, second, *_ = asked(dependencies, paid.emulator, paid.look)
    assert second.at - first.at >= float(seconds)
    between = [
        r for r in asked(dependencies, paid.emulator) if first.at < r.at < first.at + int(seconds)
    ]
    assert between == []


@PAID
@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_pause_that_a_start_was_told_does_not_stop_the_looks_at_what_is_paid_for(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, store: str
) -> None:
    dependencies = rig(
        clock,
        tmp_path,
        store=store,  # pyright: ignore[reportArgumentType] -- one of two
        environment={"DARKROOM_JOBS__NEW_KEY": "new"},
    )
    emulator = dependencies.sandbox.emulators[paid.emulator]
    other = {**paid.arguments, "idempotency_key": "another"}
    async with dependencies.client() as client:
        with anyio.fail_after(10 * HOUR):
            job = await call(client, paid.start, **paid.arguments)
            emulator.faults.add(
                paid.submit, Fault(kind="status", status=429, retry_after=str(2 * HOUR))
            )
            waiting = await call(client, paid.start, **other)
            told = clock()
            assert (waiting["status"], waiting["queued_for"]) == ("queued", "pacing")
            done = await ended(client, paid.check, job["job_id"], hours=0.1)
            assert done["status"] == "completed"
            assert clock() - told < 3 * 60
            seen = await call(client, paid.check, job_id=waiting["job_id"], wait_seconds=0)
            assert seen["status"] == "queued"
            await anyio.sleep(HOUR)
            done = await ended(client, paid.check, waiting["job_id"])
            assert done["status"] == "completed"
    first = asked(dependencies, paid.emulator, paid.submit)[1:]
    assert [request.status for request in first] == [429, first[1].status]
    assert first[1].at - first[0].at >= HOUR, "one header holds for an hour; then it is probed"
    times = [r.at for r in asked(dependencies, paid.emulator, paid.look)]
    assert not any(told < at < told + 60 for at in times)


@PAID
@pytest.mark.parametrize("times", [1, 2])
async def test_a_404_now_and_then_does_not_end_a_job(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, times: int
) -> None:
    dependencies = rig(clock, tmp_path)
    missing = Fault(kind="status", status=404)
    dependencies.sandbox.emulators[paid.emulator].faults.add(paid.look, missing, times=times)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            assert (await ended(client, paid.check, job["job_id"]))["status"] == "completed"


@PAID
async def test_three_times_404_in_a_row_is_a_job_that_is_gone(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    dependencies = rig(clock, tmp_path)
    missing = Fault(kind="status", status=404)
    dependencies.sandbox.emulators[paid.emulator].faults.add(paid.look, missing, times=None)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            done = await ended(client, paid.check, job["job_id"])
            await anyio.sleep(600)
    assert done["status"] == "failed"
    assert done["error"]["code"] == "not_found"
    assert looks(dependencies, paid) == 3


NOT_IN_A_ROW = {
    "503-503-404": (503, 503, 404),
    "404-404-503-404": (404, 404, 503, 404),
    "404-404-429-404": (404, 404, 429, 404),
    "404-404-lost-404": (404, 404, None, 404),
    "404-404-unreadable-404": (404, 404, 200, 404),
    "404-503-404-503-404": (404, 503, 404, 503, 404),
}


@PAID
@pytest.mark.parametrize("answers", NOT_IN_A_ROW.values(), ids=NOT_IN_A_ROW)
async def test_404s_with_anything_else_in_between_do_not_end_a_job(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, answers: tuple[int | None, ...]
) -> None:
    dependencies = rig(clock, tmp_path)
    for status in answers:
        fault = (
            Fault(kind="drop_after")
            if status is None
            else Fault(kind="status", status=status, body=b"{" if status == 200 else None)
        )
        dependencies.sandbox.emulators[paid.emulator].faults.add(paid.look, fault)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            assert (await ended(client, paid.check, job["job_id"]))["status"] == "completed"
    assert looks(dependencies, paid) > len(answers)


async def test_404s_for_another_accounts_key_do_not_end_a_job(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    key_file = tmp_path / "zsky.key"
    key_file.write_text(TEST_KEY)
    dependencies = rig(
        clock, tmp_path, environment={"ZSKY_API_KEY": "", "ZSKY_API_KEY_FILE": str(key_file)}
    )
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, IMAGE.start, **IMAGE.arguments)
            key_file.write_text(OTHER_KEY)
            await until(lambda: looks(dependencies, IMAGE) >= 5)
            seen = await call(client, IMAGE.check, job_id=job["job_id"], wait_seconds=0)
            assert seen["status"] == "running"
            key_file.write_text(TEST_KEY)
            assert (await ended(client, IMAGE.check, job["job_id"]))["status"] == "completed"


@PAID
@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_stops_working_leaves_the_job_running_with_a_warning(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, status: int
) -> None:
    dependencies = rig(clock, tmp_path)
    denied = Fault(kind="status", status=status)
    dependencies.sandbox.emulators[paid.emulator].faults.add(paid.look, denied, times=3)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            await until(lambda: looks(dependencies, paid))
            seen = await call(client, paid.check, job_id=job["job_id"], wait_seconds=0)
            assert seen["status"] == "running"
            (warning,) = seen["warnings"]
            assert "it will be asked again" in warning
            done = await ended(client, paid.check, job["job_id"])
            assert done["status"] == "completed"
            assert "warnings" not in done


@PAID
@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="refuse"),
        Fault(kind="drop_before"),
        Fault(kind="drop_after"),
        Fault(kind="drop_during"),
        Fault(kind="hang_before"),
        Fault(kind="hang_after"),
        Fault(kind="delay", seconds=5),
        Fault(kind="malformed"),
        Fault(kind="truncated"),
        Fault(kind="wrong_types"),
        Fault(kind="empty"),
        Fault(kind="huge", size=8 << 20),
        Fault(kind="redirect"),
        *(Fault(kind="status", status=s) for s in (400, 408, 418, 500, 502, 503, 504)),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
async def test_a_poll_that_fails_is_made_again_and_the_job_completes(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, fault: Fault
) -> None:
    dependencies = rig(clock, tmp_path)
    dependencies.sandbox.emulators[paid.emulator].faults.add(paid.look, fault, times=2)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            done = await ended(client, paid.check, job["job_id"])
    assert done["status"] == "completed"
    assert "warnings" not in done


@PAID
async def test_an_answer_that_cannot_be_understood_is_a_warning_until_one_can(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    dependencies = rig(clock, tmp_path)
    dependencies.sandbox.emulators[paid.emulator].faults.add(paid.look, Fault(kind="malformed"))
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            await until(lambda: looks(dependencies, paid))
            seen = await call(client, paid.check, job_id=job["job_id"], wait_seconds=0)
            assert "cannot be understood" in seen["warnings"][0]


@pytest.mark.parametrize(
    "strange",
    [
        b'{"job_id":"x","status":"completed","result_url":"https://zsky.sandbox.test/a","expires_in":NaN}',
        b'{"job_id":"x","status":"completed","result_url":"https://zsky.sandbox.test/a","expires_in":1e400}',
        b'{"job_id":"x","status":"completed","result_url":"https://zsky.sandbox.test/a","expires_in":1e300}',
        b'{"job_id":"x","status":"completed","result_url":"https://zsky.sandbox.test/a","expires_in":-1e300}',
        b'{"job_id":"x","status":"completed","result_url":"https://zsky.sandbox.test/\\ud800"}',
        b'{"job_id":"x","status":"completed","result_url":"https://[","expires_in":1}',
        b'{"job_id":"x","status":"completed","result_url":"https://user:pass@zsky.sandbox.test/a"}',
        b'{"job_id":"x","status":"queued\\ud800"}',
        b'{"job_id":"x","status":"failed","error":"\\ud800\\u202e"}',
        b"\xff\xfe",
        b"[" * 50_000,
        b'{"status":' + b"9" * 5000 + b"}",
    ],
    ids=range(12),
)
@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_no_answer_of_a_provider_breaks_a_check(
    clock: Callable[[], float], tmp_path: Path, strange: bytes, store: str
) -> None:
    dependencies = rig(clock, tmp_path, store=store)  # pyright: ignore[reportArgumentType] -- one of two
    answer = Fault(kind="status", status=200, body=strange)
    zsky(dependencies).faults.add("get_job", answer, times=3)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, IMAGE.start, **IMAGE.arguments)
            for _ in range(4):
                seen = await call(
                    client, IMAGE.check, job_id=job["job_id"], wait_seconds=20, include_url=True
                )
                assert seen["status"] in {"running", "completed", "failed"}
            listed = await client.call_tool("list_jobs", {})
            assert listed.model_dump_json()
            done = await ended(client, IMAGE.check, job["job_id"])
            assert done["status"] in {"completed", "failed"}

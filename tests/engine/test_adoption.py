"""Jobs that were started elsewhere, picked up by the provider's own id."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import httpx2
import pytest

from darkroom_tools.emulators.kit import Fault
from darkroom_tools.emulators.zsky import emulator as zsky
from darkroom_tools.emulators.zupertry import state as zupertry_state
from tests.engine.support import (
    HOUR,
    IMAGE,
    TRYON,
    VIDEO,
    Paid,
    asked,
    ended,
    side_by_side,
)
from tests.harness import ERAS, Era, Rig, call, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

PAID = pytest.mark.parametrize("paid", [IMAGE, TRYON], ids=str)
FOREIGN = {
    IMAGE: {"x-api-key": zsky.OTHER_KEY},
    TRYON: {"authorization": f"Bearer {zupertry_state.OTHER_KEY}"},
}
OURS = {
    IMAGE: {"x-api-key": zsky.TEST_KEY},
    VIDEO: {"x-api-key": zsky.TEST_KEY},
    TRYON: {"authorization": f"Bearer {zupertry_state.LIVE_KEY}"},
}
PATHS = {
    IMAGE: "/v1/images/generate",
    VIDEO: "/v1/videos/generate",
    TRYON: "/v1/tryon",
}


async def started_elsewhere(dependencies: Rig, paid: Paid, headers: dict[str, str]) -> str:
    """Start a job as another program with a key of its own would; return the provider's id."""
    base = dependencies.sandbox.emulators[paid.emulator].base_url
    async with httpx2.AsyncClient(transport=dependencies.sandbox.transport()) as http:
        answer = await http.post(base + PATHS[paid], json=dict(paid.arguments), headers=headers)
    return answer.json()["job_id"]


@pytest.mark.parametrize("paid", [IMAGE, VIDEO, TRYON], ids=str)
@pytest.mark.parametrize("era", ERAS)
async def test_a_job_started_elsewhere_is_picked_up_followed_and_saved(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, era: Era
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client(era) as client:
        with anyio.fail_after(HOUR):
            theirs = await started_elsewhere(dependencies, paid, OURS[paid])
            first = await call(client, paid.check, job_id=theirs, wait_seconds=0)
            assert first["job_id"].startswith(f"{paid.emulator}_")
            assert first["provider_job_id"] == theirs
            assert first["status"] == "running"
            done = await ended(client, paid.check, theirs)
            assert done["job_id"] == first["job_id"]
            assert done["status"] == "completed"
            assert Path(done["outputs"][0]["file"]).is_file()  # noqa: ASYNC240 -- virtual time
            same = await call(client, paid.check, job_id=first["job_id"])
            assert same["outputs"] == done["outputs"]


@PAID
async def test_a_job_that_has_ended_elsewhere_is_complete_at_the_first_check(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        theirs = await started_elsewhere(dependencies, paid, OURS[paid])
        await anyio.sleep(60)
        done = await call(client, paid.check, job_id=theirs)
        assert done["status"] == "completed"
    assert len(asked(dependencies, paid.emulator, paid.look)) == 1


@PAID
async def test_a_job_of_ours_is_found_by_the_providers_id_and_not_adopted(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        ours = await call(client, paid.start, **paid.arguments)
        found = await call(client, paid.check, job_id=ours["provider_job_id"], wait_seconds=0)
        assert found["job_id"] == ours["job_id"]
    assert asked(dependencies, paid.emulator, paid.look) == []


@PAID
async def test_side_by_side_checks_of_a_job_started_elsewhere_make_one_job(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    dependencies = rig(clock, tmp_path)
    dependencies.sandbox.emulators[paid.emulator].faults.add(
        paid.look, Fault(kind="delay", seconds=1), times=5
    )
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            theirs = await started_elsewhere(dependencies, paid, OURS[paid])
            checks = [{"job_id": theirs, "wait_seconds": 0}] * 5
            jobs = await side_by_side(client, paid.check, checks)
            assert len({job["job_id"] for job in jobs}) == 1
            assert len((await call(client, "list_jobs"))["jobs"]) == 1


@PAID
async def test_somebody_elses_job_is_not_found_and_leaves_no_row(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        theirs = await started_elsewhere(dependencies, paid, FOREIGN[paid])
        text = await refused(client, paid.check, job_id=theirs)
        assert text.startswith("[not_found] ")
        assert (await call(client, "list_jobs"))["jobs"] == []


@PAID
@pytest.mark.parametrize(
    "job_id", ["0" * 32, "..", ".", "a/b", "../usage", "%2e%2e", "?x=1", "#", " ", "ж", "\n"]
)
async def test_an_id_that_nobody_knows_is_not_found_and_names_no_other_path(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, job_id: str
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        text = await refused(client, paid.check, job_id=job_id)
        assert text.startswith(("[not_found] ", "[invalid_argument] "))
        assert (await call(client, "list_jobs"))["jobs"] == []
    for request in asked(dependencies, paid.emulator):
        assert request.operation == paid.look
        assert request.method == "GET"


@PAID
async def test_an_id_of_our_shape_that_is_not_ours_is_not_asked_about(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        text = await refused(client, paid.check, job_id=f"{paid.emulator}_{'x' * 22}")
        assert text.startswith("[not_found] ")
        assert "list_jobs" in text
    assert asked(dependencies, paid.emulator) == []


async def test_a_job_of_one_provider_is_not_found_by_the_check_of_another(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        image = await call(client, IMAGE.start, **IMAGE.arguments)
        text = await refused(client, TRYON.check, job_id=image["job_id"])
        assert text.startswith("[not_found] ")


@PAID
@pytest.mark.parametrize("kind", ["refuse", "drop_before", "hang_before"])
async def test_an_adoption_that_gets_no_answer_is_an_error_within_45_s_and_leaves_no_row(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, kind: str
) -> None:
    dependencies = rig(clock, tmp_path)
    dependencies.sandbox.emulators[paid.emulator].faults.add(
        paid.look,
        Fault(kind=kind),  # pyright: ignore[reportArgumentType] -- one of FaultKind
        times=None,
    )
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            theirs = await started_elsewhere(dependencies, paid, OURS[paid])
            began = clock()
            text = await refused(client, paid.check, job_id=theirs, wait_seconds=40)
            assert clock() - began <= 45
            assert text.startswith(("[provider_unavailable] ", "[timeout] "))
            assert (await call(client, "list_jobs"))["jobs"] == []


@PAID
async def test_an_adoption_and_its_wait_answer_together_within_45_s(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    dependencies = rig(clock, tmp_path)
    faults = dependencies.sandbox.emulators[paid.emulator].faults
    faults.add(paid.submit, Fault(kind="never_finish"))
    faults.add(paid.look, Fault(kind="delay", seconds=20))
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            theirs = await started_elsewhere(dependencies, paid, OURS[paid])
            began = clock()
            seen = await call(client, paid.check, job_id=theirs, wait_seconds=40)
            assert clock() - began <= 45
            assert seen["status"] == "running"

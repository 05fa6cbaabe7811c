"""A journal that an earlier version wrote opens, and its jobs go on.

The file was left behind by a server of the version before, killed in the middle of everything: jobs
of three providers and a batch, ended, running, queued, of unknown fate, and one that was just being
sent.
"""

from __future__ import annotations

import gzip
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom.jobs.model import LOCAL_OWNER
from darkroom.jobs.store import Query
from darkroom_tools.emulators.sandbox import Sandbox
from tests.engine.servers import asked_of, wait_until
from tests.engine.support import HOUR, SAMPLES
from tests.faults.process import Process, process
from tests.faults.scenarios import IMAGES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

pytestmark = pytest.mark.anyio

WRITTEN = Path(__file__).parent / "journals" / "schema-2.sqlite.gz"

BEFORE = {
    "zsky_pJG2Tr8hzUjEcPVJ2tRKJC": "failed",
    "zsky_7QFMPd3W2XyygNdemkvdaj": "completed",
    "zsky_oGwbbrqQ7B697wnommM30D": "running",
    "zsky_i4vCK4A4FGGbBlaXkDSIuG": "running",
    "zsky_yE9ZkAFvmtSbIBbuMFd9W8": "running",
    "zsky_vbpaTIlD5gYAEZyFQ8vZRN": "queued",
    "zsky_S2yu9jSNcZ3MTYiGFZXZK3": "queued",
    "zupertry_PQPsGCCh3m86bCY8Bqn6nK": "running",
    "zupertry_x72YN46ISdTBUNrd5hDvsT": "unknown",
    "zyng_2bbR3DKay5Z18pgjGQ6SOV": "running",
    "batch_iddy32T95ul6UbPxxukarv": "running",
    "zupertry_7h7mwYYAdDx5lw3bzYVccd": "running",
    "zupertry_5pU3vq7MqStraU4N6boD77": "running",
    "zupertry_wz19wmTma3AYz2CkaIN4fM": "unknown",  # it was being sent when the server died
}
CHECKS = {"zsky": "zsky_check_job", "zupertry": "zupertry_check_tryon", "zyng": "zyng_check_images"}


def tryon(garment: int) -> dict[str, str]:
    return {
        "model_image_url": f"{SAMPLES}/model-1.jpg",
        "garment_image_url": f"{SAMPLES}/garment-{garment}.jpg",
    }


@asynccontextmanager
async def begun(one: Process) -> AsyncGenerator[Process]:
    """Run a server, in order to its end."""
    async with anyio.create_task_group() as tasks:
        one.begin(tasks)
        await one.store()
        try:
            yield one
        finally:
            with anyio.CancelScope(shield=True):
                await one.stop()


async def accept_as_then(sandbox: Sandbox, folder: Path, clock: Callable[[], float]) -> None:
    """Let the emulators take the same jobs once more: they give them the same ids."""
    other = process(sandbox, folder / "then", clock, {"DARKROOM_JOBS__STORE": "memory"})
    async with begun(other) as one:
        sandbox.emulators["zsky"].time_scale = 0.01
        job = await one.call("zsky_start_image", prompt="A lighthouse at dusk")
        await wait_until(one, "zsky_check_job", "completed", job_id=job["job_id"])
        sandbox.emulators["zsky"].time_scale = 40.0
        for number in range(3):
            await one.call("zsky_start_image", prompt=f"Lighthouse {number}")
        for garment in (1, 2, 3, 4):
            await one.call("zupertry_start_tryon", **tryon(garment))
        await one.call("zyng_start_images", **IMAGES)
        for _ in range(100):  # both images are sent after the call has its answer
            if len(asked_of(sandbox, "process_image", "zyng")) >= 2:
                break
            await anyio.sleep(0.2)


@asynccontextmanager
async def after_an_update(
    clock: Callable[[], float], folder: Path
) -> AsyncGenerator[tuple[Process, Sandbox]]:
    """Run the present version on the old journal."""
    sandbox = Sandbox(clock=clock, time_scale=40.0)
    with anyio.fail_after(HOUR):
        await accept_as_then(sandbox, folder, clock)
        for emulator in sandbox.emulators.values():
            emulator.requests.clear()
        journal = folder / "state" / "journal.sqlite"
        journal.parent.mkdir()
        journal.write_bytes(gzip.decompress(WRITTEN.read_bytes()))
        async with begun(process(sandbox, folder, clock)) as one:
            yield one, sandbox


async def test_every_row_is_there_and_nothing_is_sent_again(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with after_an_update(clock, tmp_path) as (one, sandbox):
        rows = await (await one.store()).list(Query(owner="local", limit=100))
        assert {row.job_id: row.status for row in rows} == BEFORE
        listed = await one.call("list_jobs")
        assert {job["job_id"] for job in listed["jobs"]} <= set(BEFORE)
        assert not asked_of(sandbox, "generate_image", "zsky")  # its slots are taken
        assert not asked_of(sandbox, "submit")
        spending = await one.call("get_spending")
        spent = {each["provider"]: each["spent"] for each in spending["providers"]}
        assert spent == {"zsky": 6, "zupertry": 5, "zyng": 2}


async def test_its_jobs_go_on(clock: Callable[[], float], tmp_path: Path) -> None:
    async with after_an_update(clock, tmp_path) as (one, sandbox):
        for job_id, status in BEFORE.items():
            provider = job_id.partition("_")[0]
            if provider == "batch":
                await wait_until(one, "check_batch", "completed", batch_id=job_id)
            elif status in {"running", "queued"}:
                found = await wait_until(one, CHECKS[provider], "completed", job_id=job_id)
                assert found["outputs"]
        store = await one.store()
        for job_id in (job_id for job_id, status in BEFORE.items() if status == "unknown"):
            job = await store.job(LOCAL_OWNER, job_id)
            assert job is not None
            assert job.status == "unknown", "the person decides"
        prompts = [asked.body for asked in asked_of(sandbox, "generate_image", "zsky")]
        assert len(prompts) == 2, "what had waited is sent, once"
        assert not asked_of(sandbox, "submit")
        assert not asked_of(sandbox, "process_image", "zyng")


async def test_an_identical_call_gets_the_old_job(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with after_an_update(clock, tmp_path) as (one, sandbox):
        for garment, job_id in (
            (1, "zupertry_PQPsGCCh3m86bCY8Bqn6nK"),
            (2, "zupertry_x72YN46ISdTBUNrd5hDvsT"),
            (5, "zupertry_wz19wmTma3AYz2CkaIN4fM"),
        ):
            again = await one.call("zupertry_start_tryon", **tryon(garment))
            assert again["job_id"] == job_id
        assert not asked_of(sandbox, "submit")

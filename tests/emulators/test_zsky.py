"""ZSky's emulator against its developer API page."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, cast

import anyio
import httpx2
import pytest
import trio
from PIL import Image

from darkroom_tools.emulators.kit import Fault, FetchFailedError
from darkroom_tools.emulators.transport import EmulatorTransport
from darkroom_tools.emulators.zsky import emulator as zsky
from darkroom_tools.emulators.zsky.emulator import ZskyEmulator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from darkroom_tools.emulators.kit import Clock

pytestmark = pytest.mark.anyio

BASE = "https://zsky.sandbox.test"
LONGEST_IMAGE_SECONDS = 7.5
LONGEST_VIDEO_SECONDS = 75.0
HOUR = 3600.0
DAY = 24 * HOUR


async def fetch(address: str) -> bytes:
    raise FetchFailedError(address)


class Desk:
    """An emulator and a client that talks to it."""

    def __init__(self, clock: Clock, **switches: object) -> None:
        build = cast("Callable[..., ZskyEmulator]", ZskyEmulator)
        self.emulator = build(clock=clock, base_url=BASE, fetch=fetch, **switches)
        transport = EmulatorTransport({"zsky.sandbox.test": self.emulator.app})
        self.client = httpx2.AsyncClient(transport=transport, base_url=BASE, timeout=30)
        self.key = zsky.TEST_KEY

    async def ask(
        self, method: str, path: str, body: object = None, *, key: str | None = None
    ) -> httpx2.Response:
        headers = {"x-api-key": key or self.key}
        return await self.client.request(method, path, json=body, headers=headers)

    async def image(self, prompt: str = "a lake", **fields: object) -> httpx2.Response:
        return await self.ask("POST", "/v1/images/generate", {"prompt": prompt, **fields})

    async def video(self, prompt: str = "a lake", **fields: object) -> httpx2.Response:
        return await self.ask("POST", "/v1/videos/generate", {"prompt": prompt, **fields})

    async def finished(self, prompt: str = "a lake", **fields: object) -> dict[str, Any]:
        submitted = (await self.image(prompt, **fields)).json()
        await anyio.sleep(LONGEST_IMAGE_SECONDS)
        return (await self.ask("GET", submitted["poll_url"])).json()

    async def usage(self) -> dict[str, Any]:
        return (await self.ask("GET", "/v1/usage")).json()

    async def many(self, count: int, kind: str = "image") -> httpx2.Response:
        """Generate one after another, keeping to all limits but the allowances."""
        answers: list[httpx2.Response] = []
        for _ in range(count):
            await anyio.sleep(LONGEST_IMAGE_SECONDS if kind == "image" else LONGEST_VIDEO_SECONDS)
            answers.append(await (self.image() if kind == "image" else self.video()))
        return answers[-1]


@pytest.fixture
def desk(clock: Clock) -> Desk:
    return Desk(clock)


async def test_an_image_is_queued_with_200_and_an_address_to_poll(desk: Desk) -> None:
    answer = await desk.image(width=1024, height=1024)
    job = answer.json()
    assert answer.status_code == 200
    assert job == {
        "job_id": job["job_id"],
        "status": "queued",
        "kind": "image",
        "poll_url": f"/v1/jobs/{job['job_id']}",
    }


async def test_a_queued_job_shows_three_fields_until_it_is_completed(desk: Desk) -> None:
    job = (await desk.image()).json()
    await anyio.sleep(4)
    assert (await desk.ask("GET", job["poll_url"])).json() == {
        "job_id": job["job_id"],
        "status": "queued",
        "kind": "image",
    }
    await anyio.sleep(LONGEST_IMAGE_SECONDS)
    done = (await desk.ask("GET", job["poll_url"])).json()
    assert set(done) == {"job_id", "status", "kind", "result_url", "expires_in"}
    assert (done["status"], done["expires_in"]) == ("completed", 86400)
    assert "X-Amz-Signature=" in done["result_url"]


async def test_the_running_state_may_have_another_name(clock: Clock) -> None:
    desk = Desk(clock, running_status="running")
    job = (await desk.image()).json()
    assert (await desk.ask("GET", job["poll_url"])).json()["status"] == "running"


async def test_a_video_takes_about_a_minute_and_plays(desk: Desk) -> None:
    job = (await desk.video(length=48)).json()
    assert job["kind"] == "video"
    await anyio.sleep(40)
    assert (await desk.ask("GET", job["poll_url"])).json()["status"] == "queued"
    await anyio.sleep(LONGEST_VIDEO_SECONDS - 40)
    done = (await desk.ask("GET", job["poll_url"])).json()
    film = await desk.client.get(done["result_url"])
    assert film.headers["content-type"] == "video/webm"
    assert film.content.startswith(b"\x1a\x45\xdf\xa3")


async def test_an_image_has_the_asked_size_and_depends_on_prompt_and_seed(desk: Desk) -> None:
    fields = {"width": 320, "height": 256}

    async def drawn(prompt: str, **more: object) -> bytes:
        job = await desk.finished(prompt, **fields, **more)
        answer = await desk.client.get(job["result_url"])
        assert answer.headers["content-type"] == "image/webp"
        assert int(answer.headers["content-length"]) == len(answer.content)
        return answer.content

    first, again, seeded, other = [
        await drawn("a lake", seed=0),
        await drawn("a lake", seed=0),
        await drawn("a lake", seed=1),
        await drawn("a city", seed=0),
    ]
    with Image.open(io.BytesIO(first)) as image:
        assert (image.format, image.size) == ("WEBP", (320, 256))
    assert first == again
    assert len({first, seeded, other}) == 3


async def test_an_address_holds_24_hours_and_reading_again_renews_it(desk: Desk) -> None:
    job = await desk.finished(width=256, height=256)
    await anyio.sleep(DAY - 1)
    assert (await desk.client.get(job["result_url"])).status_code == 200
    await anyio.sleep(1)
    expired = await desk.client.get(job["result_url"])
    assert (expired.status_code, expired.headers["content-type"]) == (403, "application/xml")
    again = (await desk.ask("GET", f"/v1/jobs/{job['job_id']}")).json()
    assert (await desk.client.get(again["result_url"])).status_code == 200
    assert (await desk.client.get(again["result_url"] + "0")).status_code == 403


async def test_results_are_deleted_after_seven_days(desk: Desk) -> None:
    job = await desk.finished(width=256, height=256)
    await anyio.sleep(7 * DAY - HOUR)
    late = (await desk.ask("GET", f"/v1/jobs/{job['job_id']}")).json()
    assert (await desk.client.get(late["result_url"])).status_code == 200
    await anyio.sleep(HOUR)
    assert (await desk.client.get(late["result_url"])).status_code == 404
    assert (await desk.ask("GET", f"/v1/jobs/{job['job_id']}")).status_code == 404


async def test_deleting_answers_204_once_and_purges_the_result(desk: Desk) -> None:
    job = await desk.finished()
    path = f"/v1/jobs/{job['job_id']}"
    assert (await desk.ask("DELETE", path, key=zsky.OTHER_KEY)).status_code == 404
    gone = await desk.ask("DELETE", path)
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await desk.client.get(job["result_url"])).status_code == 404
    assert (await desk.ask("DELETE", path)).status_code == 404
    assert (await desk.ask("GET", path)).status_code == 404


async def test_a_purged_job_may_stay_readable_without_an_address(clock: Clock) -> None:
    desk = Desk(clock, after_purge="completed")
    job = await desk.finished()
    await desk.ask("DELETE", f"/v1/jobs/{job['job_id']}")
    again = (await desk.ask("GET", f"/v1/jobs/{job['job_id']}")).json()
    assert again == {"job_id": job["job_id"], "status": "completed", "kind": "image"}


async def test_a_job_that_is_not_yours_is_not_found(desk: Desk) -> None:
    job = (await desk.image()).json()
    assert (await desk.ask("GET", job["poll_url"], key=zsky.OTHER_KEY)).status_code == 404
    assert (await desk.ask("GET", "/v1/jobs/nothing")).status_code == 404


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ""},
        {"prompt": "  "},
        {"prompt": "x" * 2001},
        {"prompt": 5},
        {"width": 255},
        {"width": 2049},
        {"height": "1024"},
        {"height": 512.5},
        {"seed": True},
        {"seed": "1"},
        {"negative": 1},
    ],
)
async def test_invalid_image_parameters_are_400(desk: Desk, fields: Mapping[str, object]) -> None:
    answer = await desk.ask("POST", "/v1/images/generate", {"prompt": "a lake", **fields})
    assert answer.status_code == 400
    assert isinstance(answer.json()["error"], str)
    assert desk.emulator.charges == []


@pytest.mark.parametrize("length", [0, 242, "121", 1.5])
async def test_an_invalid_length_is_400(desk: Desk, length: object) -> None:
    assert (await desk.video(length=length)).status_code == 400


async def test_the_limits_themselves_are_valid(desk: Desk) -> None:
    assert (await desk.image("x" * 2000, width=256, height=2048, seed=-1)).status_code == 200


async def test_a_malformed_body_is_400(desk: Desk) -> None:
    answer = await desk.client.post(
        "/v1/images/generate", content=b"{", headers={"x-api-key": desk.key}
    )
    assert answer.status_code == 400


async def test_a_missing_or_wrong_key_is_401(desk: Desk) -> None:
    assert (await desk.client.get("/v1/usage")).status_code == 401
    assert (await desk.ask("GET", "/v1/usage", key="zsky_live_wrong")).status_code == 401


async def test_rotating_kills_the_old_key_at_once_and_keeps_jobs_and_counters(desk: Desk) -> None:
    job = await desk.finished()
    new = (await desk.ask("POST", "/v1/keys/rotate")).json()["api_key"]
    assert new.startswith("zsky_live_")
    assert (await desk.ask("GET", "/v1/usage")).status_code == 401
    desk.key = new
    assert (await desk.usage())["images_used"] == 1
    assert (await desk.ask("GET", f"/v1/jobs/{job['job_id']}")).status_code == 200


async def test_usage_counts_the_month_and_starts_again_with_the_next(desk: Desk) -> None:
    await desk.image()
    await desk.video()
    assert await desk.usage() == {
        "videos_used": 1,
        "videos_overage": 0,
        "images_used": 1,
        "images_overage": 0,
        "overage_charged_cents": 0,
        "base_videos_allowance": 300,
        "base_images_allowance": 1000,
        "month_start": "2026-11-01",
    }
    await anyio.sleep(8 * DAY + 15 * HOUR - 1)  # 22 November 09:00 to 30 November 23:59:59
    assert (await desk.usage())["images_used"] == 1
    await anyio.sleep(1)
    usage = await desk.usage()
    assert (usage["images_used"], usage["month_start"]) == (0, "2026-12-01")


async def test_a_fourth_job_at_once_is_429(desk: Desk) -> None:
    for _ in range(3):
        assert (await desk.video()).status_code == 200
    refused = await desk.image()
    assert refused.status_code == 429
    assert "retry-after" not in refused.headers
    await anyio.sleep(LONGEST_VIDEO_SECONDS)
    assert (await desk.image()).status_code == 200
    assert len(desk.emulator.charges) == 4


async def test_the_21st_request_in_any_minute_is_429(clock: Clock) -> None:
    desk = Desk(clock, retry_after=True)
    for pause in (50, 0):
        for _ in range(10):
            assert (await desk.ask("GET", "/v1/usage")).status_code == 200
        await anyio.sleep(pause)
    refused = await desk.ask("GET", "/v1/usage")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
    assert (await desk.ask("GET", "/v1/usage", key=zsky.OTHER_KEY)).status_code == 200
    await anyio.sleep(10)
    assert (await desk.ask("GET", "/v1/usage")).status_code == 200


async def test_the_days_soft_cap_holds_until_midnight_utc(desk: Desk) -> None:
    assert (await desk.many(50, "video")).status_code == 200
    assert (await desk.many(1, "video")).status_code == 429
    assert (await desk.image()).status_code == 200  # images have a cap of their own
    await anyio.sleep(15 * HOUR)
    assert (await desk.video()).status_code == 200


async def test_beyond_the_months_allowance_it_stops_hard(clock: Clock) -> None:
    desk = Desk(clock, soft_cap=False)
    assert (await desk.many(300, "video")).status_code == 200
    refused = await desk.many(1, "video")
    assert refused.status_code == 429
    assert "retry-after" not in refused.headers
    assert (await desk.usage())["videos_used"] == 300
    assert sum(charge.amount for charge in desk.emulator.charges) == 300


async def test_with_overage_it_goes_on_and_is_charged_in_cents(clock: Clock) -> None:
    desk = Desk(clock, soft_cap=False, overage=True)
    assert (await desk.many(302, "video")).status_code == 200
    usage = await desk.usage()
    assert (usage["videos_overage"], usage["overage_charged_cents"]) == (2, 100)


async def test_a_prompt_that_the_safety_check_stops_is_451_and_not_counted(desk: Desk) -> None:
    assert (await desk.image(f"a {zsky.BLOCKED_PROMPT_TRIGGER}")).status_code == 451
    assert (await desk.usage())["images_used"] == 0
    assert desk.emulator.charges == []


async def test_a_blocked_generation_has_a_reason_and_counts(desk: Desk) -> None:
    job = await desk.finished(f"a {zsky.BLOCKED_OUTPUT_TRIGGER}")
    assert set(job) == {"job_id", "status", "kind", "error"}
    assert job["status"] == "blocked"
    assert (await desk.usage())["images_used"] == 1
    assert len(desk.emulator.charges) == 1


async def test_a_failed_generation_says_so(desk: Desk) -> None:
    job = await desk.finished(f"a {zsky.FAIL_TRIGGER}")
    assert (job["status"], "result_url" in job) == ("failed", False)


async def test_more_than_half_of_ten_attempts_rejected_suspends_the_key_for_24_hours(
    desk: Desk,
) -> None:
    prompts = ["a lake"] * 4 + [f"a {zsky.BLOCKED_PROMPT_TRIGGER}"] * 6
    for prompt in prompts:
        await anyio.sleep(LONGEST_IMAGE_SECONDS)
        assert (await desk.image(prompt)).status_code in (200, 451)
    for method, path in (("GET", "/v1/usage"), ("POST", "/v1/keys/rotate")):
        assert (await desk.ask(method, path)).status_code == 403
    await anyio.sleep(DAY - 1)
    assert (await desk.ask("GET", "/v1/usage")).status_code == 403
    await anyio.sleep(1)
    assert (await desk.ask("GET", "/v1/usage")).status_code == 200


async def test_half_of_the_attempts_rejected_does_not_suspend(desk: Desk) -> None:
    for prompt in ["a lake", f"a {zsky.BLOCKED_PROMPT_TRIGGER}"] * 8:
        await anyio.sleep(LONGEST_IMAGE_SECONDS)
        assert (await desk.image(prompt)).status_code in (200, 451)
    assert (await desk.ask("GET", "/v1/usage")).status_code == 200


async def test_nine_attempts_or_old_ones_do_not_suspend(desk: Desk) -> None:
    for _ in range(9):
        await anyio.sleep(LONGEST_IMAGE_SECONDS)
        await desk.image(f"a {zsky.BLOCKED_PROMPT_TRIGGER}")
    assert (await desk.ask("GET", "/v1/usage")).status_code == 200
    await anyio.sleep(30 * 60)
    await desk.image(f"a {zsky.BLOCKED_PROMPT_TRIGGER}")
    assert (await desk.ask("GET", "/v1/usage")).status_code == 200


async def test_blocked_outputs_count_as_rejections_too(desk: Desk) -> None:
    for _ in range(10):
        await anyio.sleep(LONGEST_IMAGE_SECONDS)
        assert (await desk.image(f"a {zsky.BLOCKED_OUTPUT_TRIGGER}")).status_code == 200
    await anyio.sleep(LONGEST_IMAGE_SECONDS)
    assert (await desk.ask("GET", "/v1/usage")).status_code == 403


async def test_a_503_may_have_made_a_job_or_not(desk: Desk) -> None:
    desk.emulator.busy = "refused"
    assert (await desk.image()).status_code == 503
    assert desk.emulator.charges == []
    desk.emulator.busy = "queued_unnamed"
    unnamed = await desk.image()
    assert (unnamed.status_code, "job_id" in unnamed.json()) == (503, False)
    assert len(desk.emulator.charges) == 1
    desk.emulator.busy = "queued"
    named = await desk.image()
    assert named.status_code == 503
    assert (await desk.ask("GET", f"/v1/jobs/{named.json()['job_id']}")).status_code == 200
    assert len(desk.emulator.charges) == 2


async def test_a_planned_503_without_acting_makes_no_job(desk: Desk) -> None:
    desk.emulator.faults.add("generate_image", Fault(kind="status", status=503))
    assert (await desk.image()).status_code == 503
    assert (await desk.usage())["images_used"] == 0


async def test_a_job_that_never_finishes_keeps_its_slot(desk: Desk) -> None:
    desk.emulator.faults.add("generate_image", Fault(kind="never_finish"), times=3)
    polls = [(await desk.image()).json()["poll_url"] for _ in range(3)]
    await anyio.sleep(DAY)
    assert (await desk.ask("GET", polls[0])).json()["status"] == "queued"
    assert (await desk.image()).status_code == 429


async def test_the_clock_is_the_only_time_there_is(desk: Desk) -> None:
    before = trio.current_time()
    await desk.image()
    assert trio.current_time() == before

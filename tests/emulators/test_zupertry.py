"""Zuper Try-On's emulator against its API reference, error-code and webhook pages."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import anyio
import httpx2
import pytest
from PIL import Image

from darkroom_tools.emulators import pictures
from darkroom_tools.emulators.kit import Fault, FetchFailedError
from darkroom_tools.emulators.transport import EmulatorTransport
from darkroom_tools.emulators.zupertry import emulator as zupertry
from darkroom_tools.emulators.zupertry import state as zupertry_state
from darkroom_tools.emulators.zupertry.emulator import ZupertryEmulator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from darkroom_tools.emulators.kit import Clock

pytestmark = pytest.mark.anyio

BASE = "https://zupertry.sandbox.test"
MODEL = "https://shop.example/model.jpg"
GARMENT = "https://shop.example/garment.png"
LONGEST_JOB_SECONDS = 11.0


@cache
def photograph(address: str) -> bytes:
    if "garment" in address:
        return pictures.encode(pictures.garment(1), "png")
    return pictures.encode(pictures.person(1), "jpeg")


async def fetch(address: str) -> bytes:
    if "missing" in address:
        raise FetchFailedError(address)
    if "huge" in address:
        return photograph(address) + bytes(zupertry.INPUT_LIMIT_BYTES)
    if "text" in address:
        return b"hello"
    return photograph(address)


class Desk:
    """An emulator and a client that talks to it."""

    def __init__(self, clock: Clock, key: str = zupertry.LIVE_KEY, **switches: object) -> None:
        build = cast("Callable[..., ZupertryEmulator]", ZupertryEmulator)
        self.emulator = build(clock=clock, base_url=BASE, fetch=fetch, **switches)
        transport = EmulatorTransport({"zupertry.sandbox.test": self.emulator.app})
        self.client = httpx2.AsyncClient(transport=transport, base_url=BASE, timeout=30)
        self.key = key

    async def ask(
        self, method: str, path: str, body: object = None, *, key: str | None = None
    ) -> httpx2.Response:
        headers = {"authorization": f"Bearer {key or self.key}"}
        return await self.client.request(method, path, json=body, headers=headers)

    async def submit(self, **fields: object) -> httpx2.Response:
        body = {"model_image_url": MODEL, "garment_image_url": GARMENT, **fields}
        return await self.ask("POST", "/v1/tryon", body)

    async def job(self, job_id: str) -> dict[str, Any]:
        return (await self.ask("GET", f"/v1/jobs/{job_id}")).json()

    async def finished(self, **fields: object) -> dict[str, Any]:
        job_id = (await self.submit(**fields)).json()["job_id"]
        await anyio.sleep(LONGEST_JOB_SECONDS)
        return await self.job(job_id)

    @property
    def charged(self) -> float:
        return sum(charge.amount for charge in self.emulator.charges)


@pytest.fixture
def desk(clock: Clock) -> Desk:
    return Desk(clock)


def code(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def test_submitting_answers_202_with_a_pending_job(desk: Desk) -> None:
    answer = await desk.submit()
    assert answer.status_code == 202
    body = answer.json()
    assert body["job_id"].startswith("job_")
    assert body | {"job_id": ""} == {
        "job_id": "",
        "status": "pending",
        "created_at": "2026-11-22T09:00:00.000Z",
        "mode": "live",
    }


async def test_a_job_goes_from_pending_over_processing_to_completed(desk: Desk) -> None:
    job_id = (await desk.submit()).json()["job_id"]
    seen: list[str] = []
    for _ in range(24):
        job = await desk.job(job_id)
        if job["status"] not in seen:
            seen.append(job["status"])
        if job["status"] != "completed":
            assert (job["output_url"], job["credits_consumed"], job["completed_at"]) == (None,) * 3
        await anyio.sleep(0.5)
    assert seen == ["pending", "processing", "completed"]
    job = await desk.job(job_id)
    assert job["credits_consumed"] == 1
    assert job["duration_ms"] > 0
    assert job["error_code"] is None


async def test_the_output_is_the_model_in_the_garment_for_one_hour(desk: Desk) -> None:
    url = (await desk.finished())["output_url"]
    assert url.startswith(f"{BASE}/")
    good = await desk.client.get(url)
    assert (good.status_code, good.headers["content-type"]) == (200, "image/jpeg")
    assert int(good.headers["content-length"]) == len(good.content)
    with Image.open(io.BytesIO(good.content)) as image:
        assert image.size == (768, 1024)
        shirt = image.convert("RGB").getpixel((384, 600))
    with Image.open(io.BytesIO(photograph(MODEL))) as image:
        assert image.convert("RGB").getpixel((384, 600)) != shirt
    await anyio.sleep(3600)
    expired = await desk.client.get(url)
    assert (expired.status_code, expired.headers["content-type"]) == (403, "application/xml")


async def test_reading_a_job_again_gives_a_fresh_address(desk: Desk) -> None:
    job = await desk.finished()
    await anyio.sleep(3600)
    again = await desk.job(job["job_id"])
    assert (await desk.client.get(again["output_url"])).status_code == 200


async def test_an_address_may_be_signed_only_once(clock: Clock) -> None:
    desk = Desk(clock, renews_address=False)
    job = await desk.finished()
    await anyio.sleep(3600)
    again = await desk.job(job["job_id"])
    assert again["output_url"] == job["output_url"]
    assert (await desk.client.get(again["output_url"])).status_code == 403


@pytest.mark.parametrize("cut", ["X-Goog-Signature=", "X-Goog-Expires=", "X-Goog-Date="])
async def test_an_address_with_another_signature_is_refused(desk: Desk, cut: str) -> None:
    url = (await desk.finished())["output_url"]
    assert (await desk.client.get(url.replace(cut, cut + "1"))).status_code == 403
    assert (await desk.client.get(url.split("?")[0])).status_code == 403


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("zt_live_sk_unknown", (401, "invalid_api_key")),
        (zupertry_state.REVOKED_KEY, (401, "api_key_revoked")),
        (zupertry_state.DISABLED_KEY, (401, "api_key_disabled")),
        (zupertry_state.SUSPENDED_KEY, (403, "account_suspended")),
    ],
)
async def test_keys_that_are_no_good_are_refused_everywhere(
    desk: Desk, key: str, expected: tuple[int, str]
) -> None:
    for method, path in (
        ("POST", "/v1/tryon"),
        ("GET", "/v1/jobs/job_1"),
        ("GET", "/v1/jobs"),
        ("DELETE", "/v1/jobs/job_1"),
        ("GET", "/v1/workspaces"),
        ("GET", "/v1/account"),
    ):
        assert code(await desk.ask(method, path, key=key)) == expected


async def test_a_request_without_a_key_is_unauthorized(desk: Desk) -> None:
    assert code(await desk.client.get("/v1/account")) == (401, "unauthorized")
    basic = await desk.client.get("/v1/account", headers={"authorization": "Basic abc"})
    assert code(basic) == (401, "unauthorized")


async def test_an_organisation_without_credits_is_refused_in_live_mode(desk: Desk) -> None:
    desk.key = zupertry_state.EMPTY_KEY
    assert code(await desk.submit()) == (402, "insufficient_credits")
    assert desk.charged == 0


async def test_the_credit_is_taken_at_submission(desk: Desk) -> None:
    before = (await desk.ask("GET", "/v1/account")).json()["credits"]
    await desk.submit()
    assert (await desk.ask("GET", "/v1/account")).json()["credits"] == before - 1
    assert [(c.amount, c.unit) for c in desk.emulator.charges] == [(1, "credits")]


async def test_test_mode_costs_nothing_and_gives_a_mock_output(desk: Desk) -> None:
    desk.key = zupertry.TEST_KEY
    first = await desk.finished()
    assert (first["mode"], first["credits_consumed"], desk.charged) == ("test", 0, 0)
    second = await desk.finished(garment_image_url="https://shop.example/garment-other.png")
    one, other = [await desk.client.get(job["output_url"]) for job in (first, second)]
    assert one.content == other.content


@pytest.mark.parametrize(
    "fields",
    [
        {"model_image_url": None},
        {"garment_image_url": ""},
        {"model_image_url": "no address"},
        {"model_image_url": "ftp://shop.example/model.jpg"},
        {"garment_image_url": 7},
        {"garment_image_url": "https://shop.example/animation.gif"},
        {"webhook_url": "no address"},
        {"workspace_id": 3},
    ],
)
async def test_wrong_fields_are_a_validation_error(
    desk: Desk, fields: Mapping[str, object]
) -> None:
    assert code(await desk.submit(**fields)) == (422, "validation_error")
    assert desk.charged == 0


async def test_a_body_that_is_no_object_is_a_validation_error(desk: Desk) -> None:
    assert code(await desk.ask("POST", "/v1/tryon", [])) == (422, "validation_error")


@pytest.mark.parametrize("workspace", ["ws_nowhere", "ws_other", "ws_main_old"])
async def test_a_workspace_of_nobody_or_somebody_else_is_not_found(
    desk: Desk, workspace: str
) -> None:
    assert code(await desk.submit(workspace_id=workspace)) == (404, "workspace_not_found")


@pytest.mark.parametrize("address", ["https://a.example/missing.jpg", "https://a.example/huge.jpg", "https://a.example/text.jpg"])  # fmt: skip
async def test_a_picture_that_cannot_be_used_fails_the_job_and_refunds_it(
    desk: Desk, address: str
) -> None:
    job = await desk.finished(model_image_url=address)
    assert (job["status"], job["output_url"], job["credits_consumed"]) == ("failed", None, 0)
    assert job["error_code"] == "image_fetch_failed"
    assert desk.charged == 0


async def test_a_failed_job_may_show_as_refunded(clock: Clock) -> None:
    desk = Desk(clock, failed_status="refunded")
    job = await desk.finished(garment_image_url=f"https://a.example/{zupertry.FAIL_TRIGGER}.jpg")
    assert (job["status"], job["error_code"]) == ("refunded", "processing_failed")


async def test_a_pending_job_can_be_cancelled_and_is_refunded(desk: Desk) -> None:
    job_id = (await desk.submit()).json()["job_id"]
    answer = await desk.ask("DELETE", f"/v1/jobs/{job_id}")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert desk.charged == 0
    await anyio.sleep(LONGEST_JOB_SECONDS)
    assert (await desk.job(job_id))["status"] == "cancelled"
    assert code(await desk.ask("DELETE", f"/v1/jobs/{job_id}")) == (409, "job_not_cancellable")


async def test_cancelling_may_answer_without_a_body(clock: Clock) -> None:
    desk = Desk(clock, cancel_answer="empty")
    job_id = (await desk.submit()).json()["job_id"]
    answer = await desk.ask("DELETE", f"/v1/jobs/{job_id}")
    assert (answer.status_code, answer.content) == (204, b"")


async def test_a_job_that_is_processed_cannot_be_cancelled(desk: Desk) -> None:
    job_id = (await desk.submit()).json()["job_id"]
    await anyio.sleep(zupertry.PENDING_SECONDS * zupertry.LONGEST)
    assert code(await desk.ask("DELETE", f"/v1/jobs/{job_id}")) == (409, "job_not_cancellable")
    assert desk.charged == 1


@pytest.mark.parametrize(("status", "word"), [(403, "forbidden"), (404, "job_not_found")])
async def test_the_job_of_another_organisation_is_refused(
    clock: Clock, status: int, word: str
) -> None:
    desk = Desk(clock, foreign_job=status)
    job_id = (await desk.submit()).json()["job_id"]
    for method in ("GET", "DELETE"):
        answer = await desk.ask(method, f"/v1/jobs/{job_id}", key=zupertry_state.OTHER_KEY)
        assert code(answer) == (status, word)
        assert code(await desk.ask(method, "/v1/jobs/job_none")) == (404, "job_not_found")


async def test_jobs_are_listed_newest_first_page_by_page(desk: Desk) -> None:
    ids = [(await desk.submit()).json()["job_id"] for _ in range(5)]
    pages: list[list[str]] = []
    query = "limit=2"
    while True:
        page = (await desk.ask("GET", f"/v1/jobs?{query}")).json()
        pages.append([job["job_id"] for job in page["jobs"]])
        assert page["has_more"] == (page["next_cursor"] is not None)
        assert not any("webhook_url" in job or "webhook_status" in job for job in page["jobs"])
        if not page["has_more"]:
            break
        await desk.submit()  # what comes in between does not move the pages
        query = f"limit=2&cursor={page['next_cursor']}"
    assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]


async def test_jobs_are_listed_by_status_and_workspace(desk: Desk) -> None:
    job = await desk.finished()
    await desk.submit()

    async def listed(query: str) -> list[str]:
        body = (await desk.ask("GET", f"/v1/jobs?{query}")).json()
        return [each["job_id"] for each in body["jobs"]]

    assert await listed("status=completed") == [job["job_id"]]
    assert await listed("status=failed") == []
    assert len(await listed("workspace_id=ws_main")) == 2
    assert await listed("workspace_id=ws_elsewhere") == []
    desk.key = zupertry_state.OTHER_KEY
    assert await listed("limit=100") == []


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=x", "status=done"])
async def test_a_list_with_a_wrong_query_is_a_validation_error(desk: Desk, query: str) -> None:
    assert code(await desk.ask("GET", f"/v1/jobs?{query}")) == (422, "validation_error")


async def test_a_page_over_the_limit_may_be_clamped(clock: Clock) -> None:
    desk = Desk(clock, clamps_limit=True)
    assert (await desk.ask("GET", "/v1/jobs?limit=1000")).status_code == 200


async def test_only_active_workspaces_are_listed(clock: Clock) -> None:
    listed = (await Desk(clock).ask("GET", "/v1/workspaces")).json()["workspaces"]
    assert [(each["id"], each["status"]) for each in listed] == [("ws_main", "active")]
    bare = await Desk(clock, workspaces_key=None, lists_archived=True).ask("GET", "/v1/workspaces")
    assert [each["status"] for each in bare.json()] == ["active", "archived"]


async def test_the_account_has_the_documented_fields(desk: Desk) -> None:
    account = (await desk.ask("GET", "/v1/account")).json()
    assert set(account) == {
        "org_id",
        "name",
        "plan",
        "region_code",
        "currency_code",
        "credits",
        "auto_reload_enabled",
    }


async def test_the_61st_request_in_any_minute_must_wait_as_long_as_it_is_told(desk: Desk) -> None:
    for _ in range(30):
        assert (await desk.ask("GET", "/v1/account")).status_code == 200
    await anyio.sleep(40)
    for _ in range(30):
        assert (await desk.ask("GET", "/v1/account", key=zupertry.TEST_KEY)).status_code == 200
    refused = await desk.ask("GET", "/v1/account")
    assert code(refused) == (429, "rate_limit_exceeded")
    assert refused.headers["retry-after"] == "20"
    assert (await desk.ask("GET", "/v1/account", key=zupertry_state.OTHER_KEY)).status_code == 200
    await anyio.sleep(20)
    assert (await desk.ask("GET", "/v1/account")).status_code == 200


async def test_a_completed_job_is_told_to_its_webhook_signed(clock: Clock) -> None:
    sent: list[tuple[str, bytes, Mapping[str, str]]] = []

    async def deliver(url: str, body: bytes, headers: Mapping[str, str]) -> int:
        sent.append((url, body, headers))
        return 200

    desk = Desk(clock, deliver=deliver)
    job = await desk.finished(webhook_url="https://me.example/hook")
    assert (job["webhook_url"], job["webhook_status"]) == ("https://me.example/hook", "delivered")
    [(url, body, headers)] = sent
    assert url == "https://me.example/hook"
    digest = hmac.new(zupertry.WEBHOOK_SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert headers["x-zupertry-signature"] == digest
    event = json.loads(body)
    assert event["type"] == "job.completed"
    assert set(event["data"]) == {
        "job_id",
        "workspace_id",
        "org_id",
        "status",
        "output_url",
        "credits_consumed",
        "created_at",
        "completed_at",
    }


async def test_a_webhook_that_is_not_taken_is_tried_again_and_given_up(clock: Clock) -> None:
    async def deliver(url: str, body: bytes, headers: Mapping[str, str]) -> int:
        del url, body, headers
        return 500

    desk = Desk(clock, deliver=deliver)
    job = await desk.finished(
        webhook_url="https://me.example/hook", model_image_url="https://a.example/missing.jpg"
    )
    seen = [job["webhook_status"]]
    for pause in zupertry.WEBHOOK_RETRY_SECONDS:
        await anyio.sleep(pause)
        seen.append((await desk.job(job["job_id"]))["webhook_status"])
    assert seen == ["retrying", "retrying", "retrying", "failed"]
    event = json.loads(desk.emulator.deliveries[0].body)
    assert event["type"] == "job.failed"
    assert set(event["data"]) == {"job_id", "status", "error", "credits_consumed", "created_at"}
    assert event["data"]["status"] == "failed"


async def test_a_job_planned_to_never_finish_stays_in_processing(desk: Desk) -> None:
    desk.emulator.faults.add("submit", Fault(kind="never_finish"))
    job_id = (await desk.submit()).json()["job_id"]
    await anyio.sleep(24 * 3600)
    assert (await desk.job(job_id))["status"] == "processing"


async def test_time_scale_shortens_jobs(clock: Clock) -> None:
    desk = Desk(clock, time_scale=0.0)
    job_id = (await desk.submit()).json()["job_id"]
    assert (await desk.job(job_id))["status"] == "completed"


async def test_the_same_seed_gives_the_same_jobs(clock: Clock) -> None:
    ids = [(await Desk(clock, seed=seed).submit()).json()["job_id"] for seed in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]


async def test_a_path_that_does_not_exist_is_not_found(desk: Desk) -> None:
    assert (await desk.client.get("/v2/tryon")).status_code == 404

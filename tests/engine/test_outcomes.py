"""What a start call says under every fault, against what the provider received and charged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import anyio
import pytest
from mcp_types import CallToolResult

from darkroom_tools.emulators.kit import Fault
from darkroom_tools.emulators.zsky.emulator import ALLOWANCE
from tests.engine.support import (
    HOUR,
    IMAGE,
    TRYON,
    asked,
    charged,
    ended,
    received,
    zsky,
)
from tests.harness import ERAS, Era, call, refused, rig, text_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.engine.support import Paid
    from tests.harness import Fields

pytestmark = pytest.mark.anyio

Kind = Literal["accepted", "unknown", "later", "refused"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A fault and what must come of it. ``code`` of a refusal; ``charges`` at the provider."""

    fault: Fault
    becomes: Kind
    code: str = ""
    charges: int = 0
    times: int = 1

    def __str__(self) -> str:
        fault = self.fault
        status = f"-{fault.status}" if fault.kind in {"status", "status_after"} else ""
        after = f"-after-{fault.retry_after}" if fault.retry_after else ""
        times = f"-x{self.times}" if self.times > 1 else ""
        return f"{fault.kind}{status}{after}{times}"


def status(number: int, becomes: Kind, code: str = "", **fault: str) -> Case:
    return Case(
        fault=Fault(kind="status", status=number, retry_after=fault.get("retry_after")),
        becomes=becomes,
        code=code,
        charges=1 if becomes == "later" else 0,
    )


NETWORK = [
    Case(fault=Fault(kind="refuse"), becomes="accepted", charges=1),
    Case(fault=Fault(kind="refuse"), times=2, becomes="accepted", charges=1),
    Case(fault=Fault(kind="refuse"), times=3, becomes="refused", code="provider_unavailable"),
    Case(fault=Fault(kind="drop_before"), becomes="unknown"),
    Case(fault=Fault(kind="drop_after"), becomes="unknown", charges=1),
    Case(fault=Fault(kind="drop_during"), becomes="unknown", charges=1),
    Case(fault=Fault(kind="hang_before"), becomes="unknown"),
    Case(fault=Fault(kind="hang_after"), becomes="unknown", charges=1),
    Case(fault=Fault(kind="delay", seconds=5), becomes="accepted", charges=1),
    Case(fault=Fault(kind="delay", seconds=29), becomes="unknown", charges=1),
    Case(fault=Fault(kind="malformed"), becomes="unknown", charges=1),
    Case(fault=Fault(kind="truncated"), becomes="unknown", charges=1),
    Case(fault=Fault(kind="wrong_types"), becomes="unknown", charges=1),
    Case(fault=Fault(kind="empty"), becomes="unknown", charges=1),
    Case(fault=Fault(kind="huge", size=8 << 20), becomes="unknown", charges=1),
    Case(fault=Fault(kind="huge", size=100_000), becomes="unknown", charges=1),
    Case(fault=Fault(kind="redirect"), becomes="unknown"),
    Case(fault=Fault(kind="status_after", status=500), becomes="unknown", charges=1),
    status(500, "unknown"),
    status(502, "unknown"),
    status(503, "unknown"),
    status(418, "unknown"),
    status(429, "later"),
    status(429, "later", retry_after="7"),
]

# "Error Codes" of https://zsky.ai/api-docs; a status that does not stand there is no refusal
ZSKY = [
    *NETWORK,
    status(400, "refused", "invalid_argument"),
    status(401, "refused", "auth_failed"),
    status(402, "unknown"),
    status(403, "refused", "suspended"),
    status(404, "refused", "not_found"),
    status(409, "unknown"),
    status(422, "unknown"),
    status(451, "refused", "blocked_by_safety"),
]

# the error tables of https://docs.zupertry.com/api-reference
ZUPERTRY = [
    *NETWORK,
    status(400, "unknown"),
    status(401, "refused", "auth_failed"),
    status(402, "refused", "insufficient_credits"),
    status(403, "refused", "forbidden"),
    status(404, "refused", "not_found"),
    status(409, "refused", "conflict"),
    status(422, "refused", "invalid_argument"),
    status(451, "unknown"),
]

CASES = [
    pytest.param(paid, case, id=f"{paid}-{case}")
    for paid, cases in ((IMAGE, ZSKY), (TRYON, ZUPERTRY))
    for case in cases
]


@pytest.mark.parametrize(("paid", "case"), CASES)
async def test_a_start_says_what_became_of_it_and_is_received_at_most_once(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, case: Case
) -> None:
    dependencies = rig(clock, tmp_path)
    dependencies.sandbox.emulators[paid.emulator].faults.add(
        paid.submit, case.fault, times=case.times
    )
    began = clock()
    async with dependencies.client() as client:
        with anyio.fail_after(2 * HOUR):
            result = await client.call_tool(paid.start, dict(paid.arguments))
            assert isinstance(result, CallToolResult)
            assert clock() - began <= 45
            text = text_of(result)
            if case.becomes == "refused":
                assert result.is_error
                assert text.startswith(f"[{case.code}] ")
                assert "trying again" in text
                assert "next: " in text
            else:
                assert not result.is_error, text
            (job,) = (await call(client, "list_jobs"))["jobs"]
            match case.becomes:
                case "refused":
                    blocked = case.code == "blocked_by_safety"
                    assert job["status"] == ("blocked" if blocked else "failed")
                    assert job["error"]["code"] == case.code
                case "unknown":
                    assert job["status"] == "unknown"
                    assert job["error"]["code"] == "outcome_unknown"
                    assert job["error"]["retryable"] is False
                    assert "do not start it again" in job["error"]["next_step"]
                    assert job["evidence"]["what_happened"]
                    assert str(job["job_id"]) in text
                    assert "[outcome_unknown]" in text
                case "later":
                    assert job["status"] == "queued"
                    assert job["queued_for"] == "pacing"
                    assert "error" not in job
                    shown = cast("Fields", result.structured_content)
                    wait = float(case.fault.retry_after or 3)
                    assert wait <= shown["poll_after_seconds"] <= wait + 1
                    assert "starts_at" in shown
                case "accepted":
                    assert job["status"] == "running"
                    assert job["provider_job_id"]
            if case.becomes in {"accepted", "later"}:
                job = await ended(client, paid.check, job["job_id"])
                assert job["status"] == "completed"
                assert "error" not in job
            await anyio.sleep(HOUR)
    assert received(dependencies, paid) <= 1
    assert charged(dependencies, paid.emulator) == case.charges


@pytest.mark.parametrize("era", ERAS)
async def test_a_lost_answer_is_a_job_in_the_text_and_in_the_structure(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies = rig(clock, tmp_path)
    zsky(dependencies).faults.add("generate_image", Fault(kind="drop_after"))
    async with dependencies.client(era) as client:
        result = await client.call_tool(IMAGE.start, dict(IMAGE.arguments))
        assert isinstance(result, CallToolResult)
        assert not result.is_error
        assert result.structured_content is not None
        assert result.structured_content["status"] == "unknown"
        assert str(result.structured_content["job_id"]) in text_of(result)


async def test_a_success_without_an_id_is_a_bad_response_of_unknown_fate(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    zsky(dependencies).faults.add("generate_image", Fault(kind="empty"))
    async with dependencies.client() as client:
        job = await call(client, IMAGE.start, **IMAGE.arguments)
    assert job["status"] == "unknown"
    assert str(job["evidence"]["what_happened"]).startswith("bad_response")
    assert job["evidence"]["http_status"] == 200


async def test_a_503_that_names_its_job_is_accepted(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    zsky(dependencies).busy = "queued"
    async with dependencies.client() as client:
        started = await call(client, IMAGE.start, **IMAGE.arguments)
        assert started["status"] == "running"
        zsky(dependencies).busy = None
        assert (await ended(client, IMAGE.check, started["job_id"]))["status"] == "completed"
    assert received(dependencies, IMAGE) == charged(dependencies, "zsky") == 1


@pytest.mark.parametrize("busy", ["refused", "queued_unnamed"])
async def test_a_503_without_a_job_is_of_unknown_fate_and_shows_what_the_provider_said(
    clock: Callable[[], float], tmp_path: Path, busy: Literal["refused", "queued_unnamed"]
) -> None:
    dependencies = rig(clock, tmp_path)
    zsky(dependencies).busy = busy
    async with dependencies.client() as client:
        job = await call(client, IMAGE.start, **IMAGE.arguments)
        await anyio.sleep(HOUR)
    assert job["status"] == "unknown"
    assert job["evidence"]["http_status"] == 503
    assert "Workers unavailable" in job["evidence"]["provider_message"]
    assert received(dependencies, IMAGE) == 1


async def test_an_exhausted_allowance_is_an_error_and_no_second_try(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    (account, *_) = zsky(dependencies).keys.values()
    account.used["image", "2026-11"] = ALLOWANCE["image"]
    async with dependencies.client() as client:
        text = await refused(client, IMAGE.start, **IMAGE.arguments)
        assert text.startswith("[quota_exhausted] ")
        assert "trying again does not help" in text
        (job,) = (await call(client, "list_jobs"))["jobs"]
        assert job["status"] == "failed"
        assert job["error"]["code"] == "quota_exhausted"
        await anyio.sleep(HOUR)
    assert asked(dependencies, "zsky", "generate_image") == [], "the counters said it before"
    assert len(asked(dependencies, "zsky", "usage")) == 1


async def test_a_videos_allowance_is_not_mistaken_for_the_images(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    (account, *_) = zsky(dependencies).keys.values()
    account.used["video", "2026-11"] = ALLOWANCE["video"]
    zsky(dependencies).faults.add("generate_image", Fault(kind="status", status=429))
    async with dependencies.client() as client:
        job = await call(client, IMAGE.start, **IMAGE.arguments)
        assert (job["status"], job["queued_for"]) == ("queued", "pacing")
        assert (await ended(client, IMAGE.check, job["job_id"]))["status"] == "completed"


async def test_a_burst_429_is_told_from_the_allowance_by_asking_for_the_usage_once(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    zsky(dependencies).faults.add("generate_image", Fault(kind="status", status=429))
    async with dependencies.client() as client:
        job = await call(client, IMAGE.start, **IMAGE.arguments)
        assert job["status"] == "queued"
        assert len(asked(dependencies, "zsky", "usage")) == 2, "before the start, and of the 429"


async def test_a_key_that_is_gone_when_the_turn_comes_fails_the_job_and_sends_nothing(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("zsky_live_sandbox_not_a_real_key")
    dependencies = rig(
        clock,
        tmp_path,
        without=("ZSKY_API_KEY",),
        environment={"ZSKY_API_KEY_FILE": str(key_file)},
    )
    for _ in range(3):
        zsky(dependencies).faults.add("generate_image", Fault(kind="never_finish"))
    async with dependencies.client() as client:
        for number in range(3):
            await call(client, IMAGE.start, prompt=f"never {number}")
        waiting = await call(client, IMAGE.start, prompt="the fourth")
        assert (waiting["status"], waiting["queued_for"]) == ("queued", "slot")
        key_file.unlink()
        text = await refused(client, IMAGE.start, prompt="the fifth")
        assert text.startswith("[not_configured] ")
    assert len(asked(dependencies, "zsky", "generate_image")) == 3


GARMENT = "https://samples.sandbox.test/garment-2.jpg"
BAD_IDS = {
    "a number": 12345,
    "too long": "x" * 201,
    "several lines": "a1\nb2",
    "nothing": "",
    "an object": {"id": "a1"},
}


@pytest.mark.parametrize("paid", [IMAGE, TRYON], ids=str)
@pytest.mark.parametrize("given", BAD_IDS.values(), ids=BAD_IDS)
async def test_an_id_that_cannot_be_used_is_kept_as_evidence(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, given: object
) -> None:
    server = rig(clock, tmp_path)
    body = json.dumps({"job_id": given, "status": "queued", "note": "as it came"}).encode()
    answer = Fault(kind="status", status=202, body=body)
    server.sandbox.emulators[paid.emulator].faults.add(paid.submit, answer)
    async with server.client() as client:
        job = await call(client, paid.start, **paid.arguments)
        assert job["status"] == "unknown"
        assert "without a usable id" in job["evidence"]["what_happened"]
        await anyio.sleep(300)  # whatever else is found out is added to it
        job = await call(client, paid.check, job_id=job["job_id"], wait_seconds=0)
        assert job["evidence"]["answer"].startswith('{"job_id": ')
        assert json.dumps(given)[:3] in job["evidence"]["answer"]
        again = await call(client, paid.start, **paid.arguments)
        assert again["job_id"] == job["job_id"], "it is not sent again"


@pytest.mark.parametrize("paid", [IMAGE, TRYON], ids=str)
async def test_an_id_that_another_job_has_is_not_taken_in_silence(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    server = rig(clock, tmp_path)
    async with server.client() as client:
        one = await call(client, paid.start, **paid.arguments)
        body = json.dumps({"job_id": one["provider_job_id"], "status": "queued"}).encode()
        answer = Fault(kind="status", status=202, body=body)
        server.sandbox.emulators[paid.emulator].faults.add(paid.submit, answer)
        changed = {"prompt": "another"} if paid is IMAGE else {"workspace_id": "ws_sandbox"}
        two = await call(client, paid.start, **{**paid.arguments, **changed})
        assert two["job_id"] != one["job_id"]
        await anyio.sleep(2)
        two = await call(client, paid.check, job_id=two["job_id"], wait_seconds=0)
        assert one["job_id"] in two["warnings"][0]
        assert "may be the same job there" in two["warnings"][0]
        other = {"prompt": "a third"} if paid is IMAGE else {"garment_image_url": GARMENT}
        three = await call(client, paid.start, **{**paid.arguments, **other})
        await anyio.sleep(2)
        three = await call(client, paid.check, job_id=three["job_id"], wait_seconds=0)
        assert "the id of" not in str(three.get("warnings"))

"""Every documented error of every operation of ZSky and Zuper Try-On, in our words.

Where each is documented stands beside it: ZSky's page https://zsky.ai/api-docs has one table of
"Error Codes" for all operations; Zuper Try-On's https://docs.zupertry.com/api-reference has one
for each, and https://docs.zupertry.com/error-codes the envelope and further codes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import anyio
import pytest

from darkroom_tools.emulators.kit import Fault
from darkroom_tools.emulators.zsky.emulator import ALLOWANCE
from darkroom_tools.emulators.zupertry import state as zupertry_state
from tests.engine.support import DAY, HOUR, IMAGE, TRYON, VIDEO, Paid, ended, zsky
from tests.harness import call, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mcp import Client

pytestmark = pytest.mark.anyio

Row: TypeAlias = "tuple[str, str, Mapping[str, object]]"
"""An operation of an emulator, the tool that leads to it, and arguments."""

NEVER_ASK = {"DARKROOM_APPROVAL__NEVER_ASK": '["zsky_delete_result", "zsky_rotate_key"]'}
REQUEST_ID = "req_0123456789"
UNKNOWN_JOB = "0" * 32


@dataclass(frozen=True, kw_only=True)
class Documented:
    """One row of a provider's table of errors, and what we make of it."""

    where: str
    operation: str
    tool: str
    arguments: Mapping[str, object]
    status: int
    code: str
    next_step: str
    said: str = ""
    provider_code: str | None = None
    retryable: bool = False

    def __str__(self) -> str:
        return f"{self.tool}-{self.status}-{self.provider_code or self.code}"


# --- ZSky: "Error Codes", each for every operation ---

CODES = "https://zsky.ai/api-docs, Error Codes"
STARTS = (
    ("generate_image", IMAGE.start, IMAGE.arguments),
    ("generate_video", VIDEO.start, VIDEO.arguments),
)
OTHERS: tuple[Row, ...] = (
    ("get_job", "zsky_check_job", {"job_id": UNKNOWN_JOB}),
    ("delete_job", "zsky_delete_result", {"job_id": UNKNOWN_JOB}),
    ("usage", "zsky_get_usage", {}),
)
TABLE: tuple[tuple[int, str, str, str], ...] = (
    (400, "Malformed request body or invalid parameters", "invalid_argument", "correct"),
    (401, "Missing or invalid API key", "auth_failed", "check the key"),
    (403, "API key suspended", "suspended", "stop calling"),
    (404, "Job not found", "not_found", "list_jobs"),
)

ZSKY = [
    Documented(
        where=CODES,
        operation=operation,
        tool=tool,
        arguments=arguments,
        status=status,
        said=said,
        code=code,
        next_step=next_step,
    )
    for operation, tool, arguments in (*STARTS, *OTHERS)
    for status, said, code, next_step in TABLE
] + [
    Documented(
        where=CODES,
        operation=operation,
        tool=tool,
        arguments=arguments,
        status=451,
        said="Generation blocked by safety filter",
        code="blocked_by_safety",
        next_step="change the prompt",
    )
    for operation, tool, arguments in STARTS
]

# --- Zuper Try-On: the table of each operation ---

REFERENCE = "https://docs.zupertry.com/api-reference"
ERROR_CODES = "https://docs.zupertry.com/error-codes"
SUBMIT: Row = ("submit", TRYON.start, TRYON.arguments)
GET: Row = ("get", "zupertry_check_tryon", {"job_id": "job_0"})
CANCEL: Row = ("cancel", "zupertry_cancel_tryon", {"job_id": "job_0"})
LIST: Row = ("list", "zupertry_list_tryons", {})
WORKSPACES: Row = ("workspaces", "zupertry_list_workspaces", {})
ACCOUNT: Row = ("account", "zupertry_get_account", {})
EVERY = (SUBMIT, GET, CANCEL, LIST, WORKSPACES, ACCOUNT)

KEY = "check the key"
ROWS: list[tuple[str, tuple[Row, ...], int, str, str, str]] = [
    (REFERENCE, EVERY, 401, "invalid_api_key", "auth_failed", KEY),
    (REFERENCE, EVERY, 401, "api_key_revoked", "auth_failed", KEY),
    (REFERENCE, (SUBMIT, GET), 403, "account_suspended", "suspended", "stop calling"),
    (REFERENCE, (SUBMIT,), 402, "insufficient_credits", "insufficient_credits", "top up"),
    (REFERENCE, (SUBMIT,), 404, "workspace_not_found", "not_found", "check the id"),
    (REFERENCE, (SUBMIT,), 422, "validation_error", "invalid_argument", "correct"),
    (REFERENCE, (GET, CANCEL), 403, "forbidden", "not_found", "check the id"),
    (REFERENCE, (GET, CANCEL), 404, "job_not_found", "not_found", "check the id"),
    (REFERENCE, (CANCEL,), 409, "job_not_cancellable", "conflict", "check the state"),
    (ERROR_CODES, EVERY, 401, "api_key_disabled", "auth_failed", KEY),
    (ERROR_CODES, EVERY, 401, "unauthorized", "auth_failed", KEY),
]
ZUPERTRY = [
    Documented(
        where=where,
        operation=operation,
        tool=tool,
        arguments=arguments,
        status=status,
        provider_code=provider_code,
        said=f"What the page says of {provider_code}.",
        code=code,
        next_step=next_step,
    )
    for where, operations, status, provider_code, code, next_step in ROWS
    for operation, tool, arguments in operations
]


def body(case: Documented) -> bytes:
    if case.provider_code is None:
        return json.dumps({"error": case.said}).encode()
    return json.dumps({"error": {"code": case.provider_code, "message": case.said}}).encode()


async def error_of(client: Client, case: Documented) -> str:
    return await refused(client, case.tool, **case.arguments)


@pytest.mark.parametrize("case", [*ZSKY, *ZUPERTRY], ids=str)
async def test_a_documented_error_has_our_code_the_way_out_and_the_providers_words(
    clock: Callable[[], float], tmp_path: Path, case: Documented
) -> None:
    dependencies = rig(clock, tmp_path, environment=NEVER_ASK)
    provider = "zsky" if case.where == CODES else "zupertry"
    fault = Fault(
        kind="status", status=case.status, body=body(case), headers={"X-Request-Id": REQUEST_ID}
    )
    dependencies.sandbox.emulators[provider].faults.add(case.operation, fault, times=None)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            text = await error_of(client, case)
            jobs = (await call(client, "list_jobs"))["jobs"]
    assert text.startswith(f"[{case.code}] ")
    assert f'"{case.said.rstrip(".")}' in text
    assert case.provider_code is None or f"({case.provider_code})" in text
    assert REQUEST_ID in text
    assert case.next_step in text.partition("next: ")[2]
    assert ("trying again does not help" in text) is not case.retryable
    requests = dependencies.sandbox.emulators[provider].requests
    assert [each.operation for each in requests if each.operation == case.operation] == [
        case.operation
    ]  # ZSky's counters are read beside it
    if jobs:
        error = jobs[0]["error"]
        assert error["code"] == case.code
        assert error["retryable"] is case.retryable
        assert error["provider_message"] == case.said
        assert error["request_id"] == REQUEST_ID
        assert error.get("provider_code") == case.provider_code


@pytest.mark.parametrize(
    ("operation", "tool", "arguments"), [*OTHERS[:1], *OTHERS[2:], *EVERY[1:2], *EVERY[3:]]
)
@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_5xx_of_a_read_is_tried_again_twice_and_then_told(  # "500 retry", Error Codes
    clock: Callable[[], float],
    tmp_path: Path,
    operation: str,
    tool: str,
    arguments: Mapping[str, object],
    status: int,
) -> None:
    dependencies = rig(clock, tmp_path)
    emulator = dependencies.sandbox.emulators["zsky" if tool.startswith("zsky") else "zupertry"]
    fault = Fault(kind="status", status=status, body=b'{"error":"Server error"}')
    emulator.faults.add(operation, fault, times=3)
    async with dependencies.client() as client:
        text = await refused(client, tool, **arguments)
    assert text.startswith("[provider_error] ")
    assert "trying again may help" in text
    assert '"Server error"' in text
    assert len(emulator.requests) == 3


@pytest.mark.parametrize(("operation", "tool", "arguments"), [*OTHERS[2:], *EVERY[3:]])
async def test_a_read_that_fails_twice_succeeds_the_third_time(
    clock: Callable[[], float],
    tmp_path: Path,
    operation: str,
    tool: str,
    arguments: Mapping[str, object],
) -> None:
    dependencies = rig(clock, tmp_path)
    emulator = dependencies.sandbox.emulators["zsky" if tool.startswith("zsky") else "zupertry"]
    emulator.faults.add(operation, Fault(kind="status", status=429, retry_after="2"))
    emulator.faults.add(operation, Fault(kind="drop_before"))
    async with dependencies.client() as client:
        assert await call(client, tool, **arguments)


@pytest.mark.parametrize(("operation", "tool", "arguments"), [*OTHERS[2:], *EVERY[3:]])
async def test_a_read_that_must_wait_long_says_for_how_long(  # "Retry-After", Rate Limits
    clock: Callable[[], float],
    tmp_path: Path,
    operation: str,
    tool: str,
    arguments: Mapping[str, object],
) -> None:
    dependencies = rig(clock, tmp_path)
    emulator = dependencies.sandbox.emulators["zsky" if tool.startswith("zsky") else "zupertry"]
    emulator.faults.add(operation, Fault(kind="status", status=429, retry_after="50"))
    async with dependencies.client() as client:
        began = clock()
        text = await refused(client, tool, **arguments)
        assert clock() - began < 1
    assert text.startswith("[rate_limited] ")
    assert "trying again helps after 50 s" in text


# --- the same from the emulators themselves, as their pages describe the situation ---


async def test_an_invalid_prompt_is_refused_by_zsky_itself(  # 400, Error Codes
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with rig(clock, tmp_path).client() as client:
        text = await refused(client, IMAGE.start, prompt="   ")
    assert text.startswith("[invalid_argument] ")


async def test_a_prompt_that_is_blocked_is_not_charged(  # 451, Error Codes
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        text = await refused(client, IMAGE.start, prompt="blocked-prompt")
        (job,) = (await call(client, "list_jobs"))["jobs"]
    assert text.startswith("[blocked_by_safety] ")
    assert job["status"] == "blocked"
    assert dependencies.sandbox.emulators["zsky"].charges == []


@pytest.mark.parametrize("paid", [IMAGE, VIDEO], ids=str)
async def test_an_output_that_is_blocked_ends_the_job_and_counts(  # "status":"blocked", Job Status
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, prompt="blocked-output")
            done = await ended(client, paid.check, job["job_id"])
    assert done["status"] == "blocked"
    assert done["error"]["code"] == "blocked_by_safety"
    assert done["error"]["retryable"] is False
    assert "safety check" in done["error"]["provider_message"]
    assert done["cost"]["amount"] == 1


async def test_a_generation_that_fails_is_a_failed_job(  # "failed", Job Status
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with rig(clock, tmp_path).client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, IMAGE.start, prompt="fails-in-processing")
            done = await ended(client, IMAGE.check, job["job_id"])
    assert done["status"] == "failed"
    assert done["error"]["code"] == "provider_error"
    assert done["error"]["provider_message"] == "Generation failed"


async def test_a_suspended_key_is_told_once_for_each_call(  # 403, Safety & Suspension
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    zsky(dependencies).suspend("zsky_live_sandbox_not_a_real_key")
    async with dependencies.client() as client:
        text = await refused(client, IMAGE.start, **IMAGE.arguments)
        assert text.startswith("[suspended] ")
        text = await refused(client, "zsky_get_usage")
        assert text.startswith("[suspended] ")
    # Its counters are read before a start.
    asked = [each.operation for each in zsky(dependencies).requests]
    assert asked == ["usage", "generate_image", "usage"]


@pytest.mark.parametrize(("paid", "kind"), [(IMAGE, "image"), (VIDEO, "video")])
async def test_a_used_up_month_is_not_a_burst(  # 429, Error Codes and Allowance
    clock: Callable[[], float], tmp_path: Path, paid: Paid, kind: str
) -> None:
    dependencies = rig(clock, tmp_path)
    (account, *_) = zsky(dependencies).keys.values()
    account.used[kind, "2026-11"] = ALLOWANCE[kind]
    async with dependencies.client() as client:
        text = await refused(client, paid.start, **paid.arguments)
    assert text.startswith("[quota_exhausted] ")
    assert "used up, here or by others with this key; nothing was sent" in text
    assert [each.operation for each in zsky(dependencies).requests] == ["usage"]


async def test_a_burst_waits_here_until_zsky_takes_it(  # 429, Rate Limits
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    for _ in range(20):  # another program with the same key has used this minute up
        (account, *_) = zsky(dependencies).keys.values()
        account.window.wait(clock())
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, IMAGE.start, **IMAGE.arguments)
            assert (job["status"], job["queued_for"]) == ("queued", "pacing")
            done = await ended(client, IMAGE.check, job["job_id"])
    assert done["status"] == "completed"


async def test_a_result_is_gone_after_7_days(  # "7-day auto-delete", Storage
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        with anyio.fail_after(9 * DAY):
            job = await call(client, IMAGE.start, **IMAGE.arguments)
            await ended(client, IMAGE.check, job["job_id"])
            await anyio.sleep(8 * DAY)
            kept = await call(client, IMAGE.check, job_id=job["job_id"])
    assert kept["status"] == "completed"
    assert kept["outputs"][0]["file"]


@pytest.mark.parametrize(
    ("key", "code", "said"),
    [
        ("zt_live_sk_never_given_out", "auth_failed", "invalid_api_key"),
        (zupertry_state.REVOKED_KEY, "auth_failed", "api_key_revoked"),
        (zupertry_state.DISABLED_KEY, "auth_failed", "api_key_disabled"),
        (zupertry_state.SUSPENDED_KEY, "suspended", "account_suspended"),
        (zupertry_state.EMPTY_KEY, "insufficient_credits", "insufficient_credits"),
    ],
)
async def test_a_key_of_each_kind_is_refused_by_zupertry_itself(
    clock: Callable[[], float], tmp_path: Path, key: str, code: str, said: str
) -> None:
    dependencies = rig(clock, tmp_path, environment={"ZUPERTRY_API_KEY": key})
    async with dependencies.client() as client:
        text = await refused(client, TRYON.start, **TRYON.arguments)
    assert text.startswith(f"[{code}] ")
    assert f"({said})" in text
    assert key not in text
    assert dependencies.sandbox.emulators["zupertry"].charges == []


@pytest.mark.parametrize("shown_as", ["failed", "refunded"])
async def test_a_tryon_that_fails_is_told_with_its_code_and_costs_nothing(  # "error_code", Get a job
    clock: Callable[[], float], tmp_path: Path, shown_as: str
) -> None:
    dependencies = rig(clock, tmp_path, switches={"zupertry": {"failed_status": shown_as}})
    address = "https://photos.example.com/fails-in-processing.jpg"
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            arguments = {**TRYON.arguments, "garment_image_url": address}
            job = await call(client, TRYON.start, **arguments)
            done = await ended(client, TRYON.check, job["job_id"])
    assert done["status"] == "failed"
    assert done["provider_status"] == shown_as
    assert done["error"]["code"] == "provider_error"
    assert done["error"]["provider_code"] == "processing_failed"
    assert done["cost"] == {"amount": 0, "unit": "credits", "basis": "exact"}

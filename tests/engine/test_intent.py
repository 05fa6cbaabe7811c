"""One intent, one job: the key, the window for identical calls, and what is never returned."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolRequest, CallToolRequestParams, CallToolResult

from darkroom_tools.emulators.kit import Fault
from tests.engine.support import (
    HOUR,
    IMAGE,
    TRYON,
    VIDEO,
    Paid,
    asked,
    charged,
    ended,
    received,
    side_by_side,
)
from tests.harness import ERAS, Era, Fields, call, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Literal

    from mcp import Client

pytestmark = pytest.mark.anyio

PAID = pytest.mark.parametrize("paid", [IMAGE, VIDEO, TRYON], ids=str)
STORES = pytest.mark.parametrize("store", ["memory", "sqlite"])
WINDOW = 120
NEW_KEY_IS_NEW = {"DARKROOM_JOBS__NEW_KEY": "new"}


@PAID
@STORES
@pytest.mark.parametrize("era", ERAS)
async def test_a_key_is_the_same_job_however_late_and_whatever_the_job_has_become(
    clock: Callable[[], float],
    tmp_path: Path,
    paid: Paid,
    era: Era,
    store: Literal["memory", "sqlite"],
) -> None:
    dependencies = rig(clock, tmp_path, store=store)
    arguments = {**paid.arguments, "idempotency_key": "spring campaign"}
    async with dependencies.client(era) as client:
        with anyio.fail_after(9 * HOUR):
            first = await call(client, paid.start, **arguments)
            assert (await call(client, paid.start, **arguments))["job_id"] == first["job_id"]
            await ended(client, paid.check, first["job_id"])
            await anyio.sleep(8 * HOUR)
            again = await call(client, paid.start, **arguments)
    assert again["job_id"] == first["job_id"]
    assert again["status"] == "completed"
    assert "warnings" not in again
    assert received(dependencies, paid) == 1


WRITINGS: dict[str, Sequence[dict[str, object]]] = {
    "zsky_start_image": (
        {"prompt": "p", "width": 512},
        {"prompt": "p", "width": "512", "seed": None, "negative": "", "idempotency_key": ""},
        {"prompt": "p", "width": 512.0, "height": [], "toolCallId": "1", "tool_call_id": "2"},
    ),
    "claid_start_image_edit": (
        {"operations": {"adjustments": {"contrast": 5}}},
        {"operations": {"adjustments": {"contrast": "5", "hdr": None}, "resizing": {}}},
        {"operations": '{"adjustments": {"contrast": 5.0}, "padding": ""}', "output": {}},
        {"operations": {"adjustments": {"contrast": 5}, "resizing": {"fit": {"crop": None}}}},
    ),
}
"""Different ways to write one call, as hosts and models do."""


@pytest.mark.parametrize("tool", WRITINGS)
@pytest.mark.parametrize("era", ERAS)
async def test_every_way_to_write_a_call_is_the_same_intent(
    clock: Callable[[], float], tmp_path: Path, era: Era, tool: str
) -> None:
    dependencies = rig(clock, tmp_path)
    picture = {"input": dependencies.sandbox.sample("model", 1)} if tool.startswith("claid") else {}
    async with dependencies.client(era) as client:
        with anyio.fail_after(HOUR):
            jobs = [await call(client, tool, **picture, **each) for each in WRITINGS[tool]]
            await anyio.sleep(WINDOW + HOUR / 2)
            keyed = [
                await call(client, tool, **picture, **{**each, "idempotency_key": "k"})
                for each in WRITINGS[tool]
            ]
    assert len({job["job_id"] for job in jobs}) == 1
    assert len({job["job_id"] for job in keyed}) == 1
    assert jobs[0]["job_id"] != keyed[0]["job_id"]


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_whose_arguments_are_a_json_string_is_the_same_intent(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies = rig(clock, tmp_path)

    async with dependencies.client(era) as client:
        given = {"prompt": "p"}
        text = json.dumps(given)
        with anyio.fail_after(HOUR):
            first = await call(client, "zsky_start_image", **given)
            again = await _raw(client, "zsky_start_image", text)
            nothing = await _raw(client, "list_jobs", "")
            with pytest.raises(MCPError, match="arguments: expected an object, got the string"):
                await _raw(client, "zsky_start_image", "a cat")
    assert again["job_id"] == first["job_id"]
    assert [job["job_id"] for job in nothing["jobs"]] == [first["job_id"]]


async def _raw(client: Client, tool: str, arguments: str) -> Fields:
    """Call a tool with arguments that the SDK's client would not send."""
    params = CallToolRequestParams.model_construct(name=tool, arguments=cast("Any", arguments))
    request = CallToolRequest.model_construct(method="tools/call", params=params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydantic's, of what is sent here on purpose
        result = await client.session.send_request(request, CallToolResult)
    return cast("Fields", result.structured_content)


@PAID
async def test_a_key_with_other_arguments_is_a_conflict_and_sends_nothing(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    dependencies = rig(clock, tmp_path)
    other = {
        IMAGE: {"prompt": "Another lighthouse"},
        VIDEO: {"prompt": "Waves against a lighthouse", "length": 25},
        TRYON: {**TRYON.arguments, "workspace_id": "ws_main"},
    }[paid]
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            first = await call(client, paid.start, **paid.arguments, idempotency_key="k")
            text = await refused(client, paid.start, **other, idempotency_key="k")
    assert text.startswith("[conflict] ")
    assert first["job_id"] in text
    assert received(dependencies, paid) == 1


async def test_a_key_belongs_to_one_tool(clock: Callable[[], float], tmp_path: Path) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        await call(client, IMAGE.start, prompt="waves", idempotency_key="k")
        text = await refused(client, VIDEO.start, prompt="waves", idempotency_key="k")
        assert text.startswith("[conflict] ")
        text = await refused(client, TRYON.start, **TRYON.arguments, idempotency_key="k")
        assert text.startswith("[conflict] ")
    assert received(dependencies, VIDEO) == received(dependencies, TRYON) == 0


async def test_a_failed_job_comes_back_with_its_error_by_its_key(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    dependencies.sandbox.emulators["zsky"].faults.add(
        "generate_image", Fault(kind="status", status=451)
    )
    async with dependencies.client() as client:
        for _ in range(2):
            text = await refused(client, IMAGE.start, **IMAGE.arguments, idempotency_key="k")
            assert text.startswith("[blocked_by_safety] ")
    assert len(asked(dependencies, "zsky", "generate_image")) == 1


@PAID
@STORES
async def test_an_identical_call_within_the_window_gets_the_job_with_a_warning(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, store: Literal["memory", "sqlite"]
) -> None:
    dependencies = rig(clock, tmp_path, store=store)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            first = await call(client, paid.start, **paid.arguments)
            await ended(client, paid.check, first["job_id"])
            await anyio.sleep(WINDOW - 1)
            again = await call(client, paid.start, **paid.arguments)
            assert again["job_id"] == first["job_id"]
            (warning,) = again["warnings"]
            assert "nothing new was started" in warning
            assert "start_batch" in warning
            await anyio.sleep(2)
            new = await call(client, paid.start, **paid.arguments)
            assert new["job_id"] != first["job_id"]
            assert "warnings" not in new
    assert received(dependencies, paid) == 2


async def test_arguments_that_mean_the_same_are_the_same_call(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        first = await call(client, IMAGE.start, prompt="waves", width=512, seed=7)
        again = await call(client, IMAGE.start, seed=7.0, width=512, prompt="waves")
        other = await call(client, IMAGE.start, prompt="waves", width=512, seed=8)
    assert again["job_id"] == first["job_id"] != other["job_id"]


async def test_a_window_of_0_starts_a_job_for_every_call(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(
        clock, tmp_path, environment={"DARKROOM_JOBS__IDENTICAL_WINDOW_SECONDS": "0"}
    )
    async with dependencies.client() as client:
        first = await call(client, IMAGE.start, **IMAGE.arguments)
        second = await call(client, IMAGE.start, **IMAGE.arguments)
        assert first["job_id"] != second["job_id"]
        assert "warnings" not in second
    assert received(dependencies, IMAGE) == 2


@pytest.mark.parametrize("window", ["0", "120"])
@STORES
async def test_an_unknown_job_is_returned_for_as_long_as_it_is_unknown(
    clock: Callable[[], float], tmp_path: Path, window: str, store: Literal["memory", "sqlite"]
) -> None:
    dependencies = rig(
        clock,
        tmp_path,
        store=store,
        environment={"DARKROOM_JOBS__IDENTICAL_WINDOW_SECONDS": window},
    )
    dependencies.sandbox.emulators["zsky"].faults.add("generate_image", Fault(kind="drop_after"))
    async with dependencies.client() as client:
        with anyio.fail_after(40 * HOUR):
            first = await call(client, IMAGE.start, **IMAGE.arguments)
            await anyio.sleep(30 * HOUR)
            again = await call(client, IMAGE.start, **IMAGE.arguments)
    assert (again["job_id"], again["status"]) == (first["job_id"], "unknown")
    assert "not sent again" in " ".join(again["warnings"])
    assert received(dependencies, IMAGE) == 1


@PAID
@STORES
@pytest.mark.parametrize("key", [None, "attempt 1"])
async def test_the_same_arguments_under_a_new_key_get_the_job_with_the_warning(
    clock: Callable[[], float],
    tmp_path: Path,
    paid: Paid,
    store: Literal["memory", "sqlite"],
    key: str | None,
) -> None:
    dependencies = rig(clock, tmp_path, store=store)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            first = await call(client, paid.start, **paid.arguments, idempotency_key=key)
            again = await call(client, paid.start, **paid.arguments, idempotency_key="attempt 2")
            await ended(client, paid.check, first["job_id"])
            later = await call(client, paid.start, **paid.arguments, idempotency_key="attempt 3")
            for job in (again, later):
                assert job["job_id"] == first["job_id"]
                (warning,) = job["warnings"]
                assert "nothing new was started" in warning
                assert "copies" in warning
            await anyio.sleep(WINDOW + 1)
            new = await call(client, paid.start, **paid.arguments, idempotency_key="attempt 4")
            assert new["job_id"] != first["job_id"]
            assert "warnings" not in new
    assert received(dependencies, paid) == 2


async def test_the_same_batch_under_a_new_key_is_the_batch_unless_copies_say_otherwise(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    batch: dict[str, object] = {"items": [{"tool": IMAGE.start, "arguments": IMAGE.arguments}]}
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            first = await call(client, "start_batch", **batch, idempotency_key="one")
            again = await call(client, "start_batch", **batch, idempotency_key="two")
            assert again["batch_id"] == first["batch_id"]
            assert again["warnings"]
            more = await call(client, "start_batch", **batch, copies=2, idempotency_key="three")
            assert more["batch_id"] != first["batch_id"]
            assert more["total"] == 2
            counts: object = None
            for _ in range(10):
                looked = {"batch_id": more["batch_id"], "wait_seconds": 40}
                counts = (await call(client, "check_batch", **looked))["counts"]
            assert counts == {"completed": 2}
    assert received(dependencies, IMAGE) == 3


@STORES
async def test_a_new_key_is_a_new_job_where_the_setting_says_so(
    clock: Callable[[], float], tmp_path: Path, store: Literal["memory", "sqlite"]
) -> None:
    dependencies = rig(clock, tmp_path, store=store, environment=NEW_KEY_IS_NEW)
    async with dependencies.client() as client:
        first = await call(client, IMAGE.start, **IMAGE.arguments, idempotency_key="one")
        second = await call(client, IMAGE.start, **IMAGE.arguments, idempotency_key="two")
    assert first["job_id"] != second["job_id"]
    assert "warnings" not in second
    assert received(dependencies, IMAGE) == 2


async def test_a_new_key_beside_an_unknown_job_is_warned_about_where_it_is_a_new_intent(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path, environment=NEW_KEY_IS_NEW)
    dependencies.sandbox.emulators["zsky"].faults.add("generate_image", Fault(kind="drop_after"))
    async with dependencies.client() as client:
        unknown = await call(client, IMAGE.start, **IMAGE.arguments)
        new = await call(client, IMAGE.start, **IMAGE.arguments, idempotency_key="once more")
    assert new["job_id"] != unknown["job_id"]
    assert new["status"] == "running"
    (warning,) = new["warnings"]
    assert unknown["job_id"] in warning
    assert received(dependencies, IMAGE) == 2


@pytest.mark.parametrize("status", [400, 451])
async def test_a_job_that_failed_or_was_blocked_at_the_start_is_never_returned(
    clock: Callable[[], float], tmp_path: Path, status: int
) -> None:
    dependencies = rig(clock, tmp_path)
    refusal = Fault(kind="status", status=status)
    dependencies.sandbox.emulators["zsky"].faults.add("generate_image", refusal)
    async with dependencies.client() as client:
        await refused(client, IMAGE.start, **IMAGE.arguments)
        new = await call(client, IMAGE.start, **IMAGE.arguments)
    assert new["status"] == "running"
    assert "warnings" not in new


@pytest.mark.parametrize("prompt", ["blocked-output", "fails-in-processing"])
async def test_a_job_that_failed_or_was_blocked_later_is_never_returned(
    clock: Callable[[], float], tmp_path: Path, prompt: str
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            first = await call(client, IMAGE.start, prompt=prompt)
            done = await ended(client, IMAGE.check, first["job_id"])
            assert done["status"] in {"blocked", "failed"}
            again = await call(client, IMAGE.start, prompt=prompt)
    assert again["job_id"] != first["job_id"]


async def test_a_cancelled_job_is_never_returned(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        first = await call(client, TRYON.start, **TRYON.arguments)
        await call(client, "zupertry_cancel_tryon", job_id=first["job_id"])
        again = await call(client, TRYON.start, **TRYON.arguments)
    assert again["job_id"] != first["job_id"]


@PAID
@STORES
@pytest.mark.parametrize("key", [None, "k"])
async def test_identical_calls_side_by_side_make_one_job(
    clock: Callable[[], float],
    tmp_path: Path,
    paid: Paid,
    key: str | None,
    store: Literal["memory", "sqlite"],
) -> None:
    dependencies = rig(clock, tmp_path, store=store)
    dependencies.sandbox.emulators[paid.emulator].faults.add(
        paid.submit, Fault(kind="delay", seconds=5)
    )
    arguments = dict(paid.arguments) if key is None else {**paid.arguments, "idempotency_key": key}
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            jobs = await side_by_side(client, paid.start, [arguments] * 20)
            assert len({job["job_id"] for job in jobs}) == 1
            assert {job["status"] for job in jobs} == {"running"}
            listed = (await call(client, "list_jobs"))["jobs"]
    assert len(listed) == 1
    assert received(dependencies, paid) == charged(dependencies, paid.emulator) == 1


async def test_the_key_never_leaves(clock: Callable[[], float], tmp_path: Path) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        await call(client, IMAGE.start, **IMAGE.arguments, idempotency_key="spring campaign")
    (request,) = asked(dependencies, "zsky", "generate_image")
    assert b"spring" not in request.body
    assert b"idempotency" not in request.body

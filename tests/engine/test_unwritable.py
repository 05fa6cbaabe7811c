"""Text and numbers of a provider that could be written nowhere, and looks that fail in this server."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCNotification, JSONRPCResponse

from darkroom.catalogue.declarations import Result, Tool
from darkroom.jobs import poller
from darkroom.jobs.bounds import MOST_COST, NOT_BELIEVED
from darkroom.jobs.model import LOCAL_OWNER
from darkroom.jobs.storage.sqlite import SqliteStore
from darkroom.mcp.stdio import Outgoing, Requests
from darkroom.providers import reading
from darkroom.providers.messages import DEEPEST, read_body
from darkroom.providers.operations import LOCAL_READS
from darkroom.providers.params import Params
from darkroom_tools import CATALOGUE
from darkroom_tools.emulators.kit import Fault
from tests.engine.support import HOUR, IMAGE, SAMPLES, TRYON, asked, ended, until
from tests.harness import ERAS, Era, call, inline, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from darkroom.core.json_types import JsonObject
    from darkroom.providers.messages import State

pytestmark = pytest.mark.anyio

UNWRITABLE = {
    "raw": b"\xed\xa0\x80x",
    "escaped": b"\\ud800x",
    "no-utf-8": b"\xff\xfex",
    "a-name": b'x", "\xed\xb0\x80": "y',
}
"""In a string of JSON."""


def answer(body: bytes) -> Fault:
    return Fault(kind="status", status=200, body=body)


def can_be_written(value: object) -> None:
    json.dumps(value, ensure_ascii=False).encode()


# --- text ---


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("text", UNWRITABLE)
async def test_an_object_that_is_handed_on_can_be_written(
    clock: Callable[[], float], tmp_path: Path, era: Era, text: str
) -> None:
    dependencies = rig(clock, tmp_path)
    body = b'{"plan": "' + UNWRITABLE[text] + b'"}'
    dependencies.sandbox.emulators["zupertry"].faults.add("account", answer(body), times=None)
    async with dependencies.client(era) as client:
        account = await call(client, "zupertry_get_account")
    can_be_written(account)
    assert account["plan"].endswith("x")


@pytest.mark.parametrize("text", ["raw", "escaped", "no-utf-8"])
async def test_what_a_policy_says_gets_into_the_journal_as_text_that_can_be_written(
    clock: Callable[[], float], tmp_path: Path, text: str
) -> None:
    environment = {"DARKROOM_GUARD__PROVIDER": "znyx"}
    first = rig(clock, tmp_path, store="sqlite", environment=environment)
    said = b'{"decision": "WARN", "rule_hits": [{"rule_id": "' + UNWRITABLE[text] + b'"}]}'
    emulator = first.sandbox.emulators["znyx"]
    emulator.faults.add("runtime.evaluateInput", answer(said), times=None)
    async with first.client() as client:
        started = await call(client, IMAGE.start, **IMAGE.arguments)
    assert "ZNYX warns" in started["warnings"][0]
    second = rig(clock, tmp_path, store="sqlite", sandbox=first.sandbox)
    async with second.client() as client:
        can_be_written(await call(client, "list_jobs"))


async def test_an_old_row_with_text_that_cannot_be_written_opens_lists_and_changes(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    first = rig(clock, tmp_path, store="sqlite")
    async with first.client() as client:
        job = await call(client, IMAGE.start, **IMAGE.arguments)
    store = await SqliteStore.open(first.state / "journal.sqlite", run=inline)
    row = await store.job(LOCAL_OWNER, job["job_id"])
    assert row is not None
    await store.write(row.next(warnings=("half \ud800 of a pair",), provider_status="\udfff"))
    await store.close()
    second = rig(clock, tmp_path, store="sqlite", sandbox=first.sandbox)
    async with second.client() as client:
        (listed,) = (await call(client, "list_jobs"))["jobs"]
        can_be_written(listed)
        assert listed["warnings"] == ["half ? of a pair"]
        assert (await ended(client, IMAGE.check, job["job_id"]))["status"] == "completed"


@pytest.mark.parametrize(
    "body",
    [
        b'{"plan": ' + b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1) + b"}",
        b'{"plan": ' + b'{"a":' * 400 + b"1" + b"}" * 400 + b"}",
        b"[" * 200_000,
    ],
    ids=["too-deep", "deeper", "endless"],
)
async def test_an_answer_that_is_too_deep_is_not_understood(
    clock: Callable[[], float], tmp_path: Path, body: bytes
) -> None:
    dependencies = rig(clock, tmp_path)
    dependencies.sandbox.emulators["zupertry"].faults.add("account", answer(body), times=None)
    async with dependencies.client() as client:
        result = await client.call_tool("zupertry_get_account", {})
        can_be_written(result.model_dump(mode="json"))
        assert (await call(client, "list_jobs"))["jobs"] == []


def test_an_answer_of_ordinary_depth_is_read_as_it_is() -> None:
    inner: object = 1
    for _ in range(DEEPEST - 1):
        inner = [inner]
    assert read_body(json.dumps({"a": inner}).encode()) == {"a": inner}


# --- results that cannot be written ---


def nested(levels: int) -> JsonObject:
    return {"a": nested(levels - 1)} if levels else {}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "result",
    [
        Result(structured={"a": "\ud800"}, text="x"),
        Result(structured={"a": 1}, text="\udfff"),
        Result(structured=nested(300), text="x"),
    ],
    ids=["object", "text", "depth"],
)
async def test_a_result_that_cannot_be_written_is_an_error_of_its_call(
    clock: Callable[[], float], tmp_path: Path, era: Era, result: Result
) -> None:
    async def run(*_: object) -> Result:
        return result

    broken = Tool(
        name="get_broken",
        title="Broken",
        description="Break.",
        params=Params,
        hints=LOCAL_READS,
        run=run,
    )
    catalogue = replace(CATALOGUE, tools=(*CATALOGUE.tools, broken))
    dependencies = rig(clock, tmp_path, catalogue=catalogue)
    async with dependencies.client(era) as client:
        said = await refused(client, "get_broken")
        assert said.startswith("[internal_error]")
        assert (await call(client, "list_jobs"))["jobs"] == []


async def test_what_cannot_be_written_never_reaches_the_transport_of_stdio() -> None:
    send, receive = anyio.create_memory_object_stream[SessionMessage](10)
    outgoing = Outgoing(send, Requests())
    bad: dict[str, Any] = {"text": "\ud800"}
    good = JSONRPCResponse(jsonrpc="2.0", id=2, result={"text": "x"})
    for message in (
        JSONRPCResponse(jsonrpc="2.0", id=1, result=bad),
        JSONRPCNotification(jsonrpc="2.0", method="notifications/message", params=bad),
        good,
    ):
        await outgoing.send(SessionMessage(message))
    await outgoing.aclose()
    async with receive:
        sent = [each.message async for each in receive]
    error, after = sent
    assert isinstance(error, JSONRPCError)
    assert (error.id, error.error.message[:16]) == (1, "[internal_error]")
    assert after == good


# --- numbers ---


@pytest.mark.parametrize(
    "said",
    [
        str(2**70),
        "9" * 401,
        "9" * 5_000,
        "1e308",
        "1e999",
        "NaN",
        "-Infinity",
        "-1000",
        "-0.5",
        str(MOST_COST + 1),
        '"many"',
    ],
)
async def test_a_cost_that_cannot_be_right_is_not_counted_and_a_warning_says_so(
    clock: Callable[[], float], tmp_path: Path, said: str
) -> None:
    cap = {"DARKROOM_SPENDING__ZUPERTRY_CREDITS_PER_DAY": "1"}
    dependencies = rig(clock, tmp_path, store="sqlite", environment=cap)
    body = (
        f'{{"job_id": "x", "status": "completed", "output_url": "{SAMPLES}/model-1.jpg", '
        f'"credits_consumed": {said}}}'
    )
    dependencies.sandbox.emulators["zupertry"].faults.add("get", answer(body.encode()), times=None)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, TRYON.start, **TRYON.arguments)
            done = await ended(client, TRYON.check, job["job_id"])
        other = {**TRYON.arguments, "garment_image_url": f"{SAMPLES}/garment-2.jpg"}
        refusal = await refused(client, TRYON.start, **other)
    assert done["status"] == "completed"
    assert done["cost"] == {"amount": 1, "unit": "credits", "basis": "estimate"}
    assert NOT_BELIEVED in done["warnings"]
    assert refusal.startswith("[spend_cap_reached]")


@pytest.mark.parametrize(("said", "amount"), [("0", 0), ("2", 2), ("0.5", 0.5), ("null", 1)])
async def test_a_cost_that_may_be_right_is_counted(
    clock: Callable[[], float], tmp_path: Path, said: str, amount: float
) -> None:
    dependencies = rig(clock, tmp_path, store="sqlite")
    body = (
        f'{{"job_id": "x", "status": "completed", "output_url": "{SAMPLES}/model-1.jpg", '
        f'"credits_consumed": {said}}}'
    )
    dependencies.sandbox.emulators["zupertry"].faults.add("get", answer(body.encode()), times=None)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, TRYON.start, **TRYON.arguments)
            done = await ended(client, TRYON.check, job["job_id"])
    assert done["cost"]["amount"] == amount
    assert NOT_BELIEVED not in done.get("warnings", ())


@pytest.mark.parametrize("said", ["9" * 401, "1e308", str(2**70), "-5", "NaN", "0", '"soon"'])
async def test_a_lifetime_that_cannot_be_right_is_the_documented_one(
    clock: Callable[[], float], tmp_path: Path, said: str
) -> None:
    dependencies = rig(
        clock, tmp_path, store="sqlite", environment={"DARKROOM_RESULTS__DOWNLOAD": "never"}
    )
    body = (
        f'{{"job_id": "x", "status": "completed", "result_url": "{SAMPLES}/model-1.jpg", '
        f'"expires_in": {said}}}'
    )
    dependencies.sandbox.emulators["zsky"].faults.add("get_job", answer(body.encode()), times=None)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, IMAGE.start, **IMAGE.arguments)
            done = await ended(client, IMAGE.check, job["job_id"])
    assert done["status"] == "completed"
    assert done["outputs"][0]["expires_at"] > done["updated_at"]
    assert done["outputs"][0]["expires_at"] < "2100"


@pytest.mark.parametrize("said", ["9" * 401, "1e308", str(2**70), "-5", "NaN"])
async def test_an_allowance_that_cannot_be_right_is_not_understood(
    clock: Callable[[], float], tmp_path: Path, said: str
) -> None:
    dependencies = rig(clock, tmp_path)
    body = (
        f'{{"base_images_allowance": {said}, "images_used": 1, '
        '"base_videos_allowance": 5, "videos_used": 1}'
    )
    dependencies.sandbox.emulators["zsky"].faults.add("usage", answer(body.encode()), times=None)
    async with dependencies.client() as client:
        refusal = await refused(client, "zsky_get_usage")
    assert refusal.startswith("[bad_response]")


# --- looks that fail in this server ---


@pytest.mark.parametrize("error", [RuntimeError, OverflowError, RecursionError, ZeroDivisionError])
async def test_a_look_that_fails_is_repeated_at_growing_distance_with_a_warning(
    clock: Callable[[], float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
) -> None:
    dependencies = rig(clock, tmp_path, store="sqlite")
    read = reading.required_text
    failures = 5
    times: list[float] = []

    def failing(fields: JsonObject, name: str) -> str:
        times.append(clock())
        if len(times) <= failures:
            raise error
        return read(fields, name)

    monkeypatch.setattr(reading, "required_text", failing)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, IMAGE.start, **IMAGE.arguments)
            await until(lambda: len(times) == 2)
            seen = await call(client, IMAGE.check, job_id=job["job_id"], wait_seconds=0)
            assert seen["status"] == "running"
            assert seen["warnings"][0].endswith("it will be asked again")
            done = await ended(client, IMAGE.check, job["job_id"])
    assert done["status"] == "completed"
    assert "warnings" not in done
    gaps = [later - earlier for earlier, later in pairwise(times[:failures])]
    assert all(longer > shorter * 1.5 for shorter, longer in pairwise(gaps))


async def test_taking_in_what_was_said_may_fail_and_is_repeated_at_growing_distance_too(
    clock: Callable[[], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dependencies = rig(clock, tmp_path, store="sqlite")
    take = poller.believed
    times: list[float] = []

    def failing(state: State, now: float) -> State:
        times.append(clock())
        if len(times) <= 5:
            raise RuntimeError
        return take(state, now)

    monkeypatch.setattr(poller, "believed", failing)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, IMAGE.start, **IMAGE.arguments)
            done = await ended(client, IMAGE.check, job["job_id"])
    assert done["status"] == "completed"
    gaps = [later - earlier for earlier, later in pairwise(times[:5])]
    assert all(longer > shorter * 1.5 for shorter, longer in pairwise(gaps))


@pytest.mark.parametrize("poison", [RuntimeError, KeyError])
async def test_one_poisoned_row_of_a_list_holds_up_no_other(
    clock: Callable[[], float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    poison: type[Exception],
) -> None:
    dependencies = rig(clock, tmp_path, store="sqlite")
    read = reading.required_text
    poisoned: list[object] = []

    def failing(fields: JsonObject, name: str) -> str:
        # the first job that is seen stays unreadable until it has been asked about some times
        poisoned.append(poisoned[0] if poisoned and fields.get("job_id") == poisoned[0] else 0)
        if len(poisoned) == 1:
            poisoned[0] = fields.get("job_id")
        if fields.get("job_id") == poisoned[0] and poisoned.count(poisoned[0]) <= 4:
            raise poison
        return read(fields, name)

    monkeypatch.setattr(reading, "required_text", failing)
    garments = [f"{SAMPLES}/garment-{number}.jpg" for number in (1, 2, 3)]
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            batch = await call(
                client,
                "start_batch",
                tool=TRYON.start,
                arguments={"model_image_url": f"{SAMPLES}/model-1.jpg"},
                for_each={"garment_image_url": garments},
                copies=2,
            )
            while batch["status"] == "running":
                batch = await call(
                    client, "check_batch", batch_id=batch["batch_id"], wait_seconds=40
                )
    assert batch["counts"] == {"completed": 6}
    assert asked(dependencies, "zupertry", "list")

"""Starts that need the person's yes, of hosts that know tasks: the task asks, and nothing is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, CallToolResult, ElicitResult

from darkroom_tools.emulators.kit import Fault
from tests.engine.servers import DETAILS
from tests.engine.stores import TroubledStore
from tests.engine.support import DAY, HOUR, IMAGE, TRYON, asked, received, settle
from tests.harness import Fields, Rig, call, refused, rig
from tests.mcp.tasks.support import (
    ACKNOWLEDGED,
    PROMPT,
    TaskClient,
    ask,
    ended,
    listen,
    result,
    started,
    task_client,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from mcp import Client

pytestmark = pytest.mark.anyio

ABOVE = {"DARKROOM_APPROVAL__ABOVE": '{"zsky_images": 0, "zupertry_credits": 0, "zyng_images": 0}'}
QUESTION = "Spend 1 image (about 0.05) at ZSky on zsky_start_image?"
REQUEST = {
    "method": "elicitation/create",
    "params": {
        "mode": "form",
        "message": QUESTION,
        "requestedSchema": {
            "type": "object",
            "properties": {"approve": {"type": "boolean", "title": "Go ahead", "default": False}},
            "required": ["approve"],
        },
    },
}
YES: dict[str, Any] = {"action": "accept", "content": {"approve": True}}
NO: dict[str, Any] = {"action": "decline"}


def over(clock: Callable[[], float], folder: Path, **more: Any) -> Rig:
    """Return a server that asks before every image, try-on and workflow."""
    environment = {**ABOVE, "DARKROOM_RESULTS__DOWNLOAD": "never", **more.pop("environment", {})}
    return rig(clock, folder, environment=environment, **more)


async def never(context: object, params: object) -> ElicitResult:
    """Stand for a host that can ask: nothing is asked of it on the call."""
    raise AssertionError(context, params)


def host(dependencies: Rig, knows: TaskClient | None = None) -> AbstractAsyncContextManager[Client]:
    """Connect a host that knows tasks and can ask."""
    return task_client(dependencies, knows=knows, elicitation=never)


def quota(clock: Callable[[], float], folder: Path, **zsky: str) -> Rig:
    """Return the same server with a quota at ZSky."""
    return over(
        clock,
        folder,
        environment={f"DARKROOM_ZSKY__{name.upper()}": value for name, value in zsky.items()},
    )


async def answer(client: Client, task_id: str, given: object, key: str = "approval") -> None:
    """Give an answer; every one is acknowledged."""
    with anyio.fail_after(60):
        assert (
            await ask(client, "tasks/update", taskId=task_id, inputResponses={key: given})
            == ACKNOWLEDGED
        )


async def task_of(client: Client, task_id: str) -> Fields:
    return await ask(client, "tasks/get", taskId=task_id)


def refusal(task: Fields) -> str:
    """Return the text of the tool error that a task has ended with."""
    assert task["status"] == "completed"
    assert task["result"]["isError"] is True
    return task["result"]["content"][0]["text"]


def sent(dependencies: Rig) -> int:
    """Count the requests that reached any provider."""
    return sum(len(emulator.requests) for emulator in dependencies.sandbox.emulators.values())


async def test_nothing_is_sent_before_the_yes_and_all_is_as_ever_after_it(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = over(clock, tmp_path)
    async with host(dependencies) as client:
        seed = await started(client)
        assert seed["status"] == "input_required"
        assert "inputRequests" not in seed
        await anyio.sleep(HOUR)
        for _ in range(2):
            task = await task_of(client, seed["taskId"])
            assert (task["status"], task["inputRequests"]) == (
                "input_required",
                {"approval": REQUEST},
            )
        assert sent(dependencies) == 0
        await answer(client, seed["taskId"], YES)
        assert (await task_of(client, seed["taskId"]))["status"] == "working"
        task = await ended(client, seed["taskId"])
        assert task["status"] == "completed"
        assert task["createdAt"] == seed["createdAt"]
        assert task["result"]["structuredContent"]["status"] == "completed"
        assert received(dependencies, IMAGE) == 1


async def test_a_task_asks_what_a_call_would_have_asked(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with over(clock, tmp_path).client(elicitation=never) as client:
        asks: Any = await client.session.call_tool(
            IMAGE.start, {"prompt": PROMPT}, allow_input_required=True
        )
        assert asks.model_dump(by_alias=True, mode="json", exclude_none=True)["inputRequests"] == {
            "approval": REQUEST
        }


@pytest.mark.parametrize(
    "no",
    [
        NO,
        {"action": "cancel"},
        {"action": "accept"},
        {"action": "accept", "content": {"approve": False}},
        {"action": "accept", "content": {"approve": "yes"}},
    ],
    ids=str,
)
async def test_anything_but_a_yes_is_a_no_and_sends_nothing(
    clock: Callable[[], float], tmp_path: Path, no: object
) -> None:
    dependencies = over(clock, tmp_path)
    async with host(dependencies) as client:
        seed = await started(client, prompt=PROMPT, idempotency_key="one")
        await answer(client, seed["taskId"], no)
        text = refusal(await task_of(client, seed["taskId"]))
        assert text.startswith("[declined] ")
        assert "nothing was sent" in text
        job = await call(client, IMAGE.check, job_id=seed["taskId"])
        assert (job["status"], job["error"]["code"]) == ("cancelled", "declined")
        await answer(client, seed["taskId"], YES)  # too late
        assert refusal(await task_of(client, seed["taskId"])) == text
        again = await started(client, prompt=PROMPT, idempotency_key="one")
        assert again["status"] == "input_required"
        assert again["taskId"] != seed["taskId"]
    assert sent(dependencies) == 0


async def test_a_second_answer_changes_nothing(clock: Callable[[], float], tmp_path: Path) -> None:
    dependencies = over(clock, tmp_path)
    async with host(dependencies) as client:
        seed = await started(client)
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(answer, client, seed["taskId"], YES)
        await answer(client, seed["taskId"], NO)
        assert (await ended(client, seed["taskId"]))["status"] == "completed"
        await answer(client, seed["taskId"], YES)
    assert received(dependencies, IMAGE) == 1


async def test_answers_under_other_keys_are_ignored(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = over(clock, tmp_path)
    async with host(dependencies) as client:
        seed = await started(client)
        await answer(client, seed["taskId"], YES, key="name")
        assert (await task_of(client, seed["taskId"]))["status"] == "input_required"
    assert sent(dependencies) == 0


@pytest.mark.parametrize("given", [True, "accept", {}, {"action": "perhaps"}], ids=str)
async def test_what_is_no_answer_is_refused_and_may_be_given_again(
    clock: Callable[[], float], tmp_path: Path, given: object
) -> None:
    dependencies = over(clock, tmp_path)
    async with host(dependencies) as client:
        seed = await started(client)
        with pytest.raises(MCPError) as wrong:
            await answer(client, seed["taskId"], given)
        assert wrong.value.error.code == INVALID_PARAMS
        assert sent(dependencies) == 0
        await answer(client, seed["taskId"], YES)
        await ended(client, seed["taskId"])
    assert received(dependencies, IMAGE) == 1


async def test_another_owner_cannot_answer(clock: Callable[[], float], tmp_path: Path) -> None:
    dependencies = over(clock, tmp_path)
    async with host(dependencies) as client:
        seed = await started(client)
        engine = cast("Any", dependencies.server).engine
        engine.owner = "somebody else"
        with pytest.raises(MCPError) as unknown:
            await answer(client, seed["taskId"], YES)
        assert unknown.value.error.code == INVALID_PARAMS
        engine.owner = "local"
        assert (await task_of(client, seed["taskId"]))["status"] == "input_required"
    assert sent(dependencies) == 0


async def test_a_task_that_asks_is_cancelled(clock: Callable[[], float], tmp_path: Path) -> None:
    dependencies = over(clock, tmp_path)
    async with host(dependencies) as client:
        seed = await started(client)
        assert await ask(client, "tasks/cancel", taskId=seed["taskId"]) == ACKNOWLEDGED
        await settle()
        task = await task_of(client, seed["taskId"])
        assert task["status"] == "cancelled"
        assert not {"result", "inputRequests"} & task.keys()
        await answer(client, seed["taskId"], YES)
        await anyio.sleep(HOUR)
        assert (await task_of(client, seed["taskId"]))["status"] == "cancelled"
    assert sent(dependencies) == 0


async def test_a_tool_that_cancels_withdraws_what_asks(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = over(clock, tmp_path)
    async with host(dependencies) as client:
        seed = await started(client, TRYON.start, **TRYON.arguments)
        done = await call(client, "zupertry_cancel_tryon", job_id=seed["taskId"])
        assert done["status"] == "cancelled"
        assert (await task_of(client, seed["taskId"]))["status"] == "cancelled"
    assert sent(dependencies) == 0


async def test_the_next_process_asks_on_and_sends_once(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    first = over(clock, tmp_path, store="sqlite")
    async with host(first) as client:
        seed = await started(client)
    second = over(clock, tmp_path, store="sqlite", sandbox=first.sandbox)
    async with host(second) as client:
        await anyio.sleep(HOUR)
        task = await task_of(client, seed["taskId"])
        assert (task["status"], task["inputRequests"]) == ("input_required", {"approval": REQUEST})
        assert sent(first) == 0
        await answer(client, seed["taskId"], YES)
        task = await ended(client, seed["taskId"])
        assert task["result"]["structuredContent"]["status"] == "completed"
    assert received(first, IMAGE) == 1


@pytest.mark.parametrize("away", [False, True])
async def test_no_answer_within_a_day_is_a_no(
    clock: Callable[[], float], tmp_path: Path, *, away: bool
) -> None:
    dependencies = over(clock, tmp_path, store="sqlite")
    async with host(dependencies) as client:
        seed = await started(client)
        await anyio.sleep(DAY - 60)
        assert (await task_of(client, seed["taskId"]))["status"] == "input_required"
        if not away:
            await anyio.sleep(120)
            assert refusal(await task_of(client, seed["taskId"])).startswith("[declined] ")
    if away:
        await anyio.sleep(120)
    async with host(over(clock, tmp_path, store="sqlite", sandbox=dependencies.sandbox)) as client:
        await task_of(client, seed["taskId"])  # what was left behind is taken up by then
        await settle()
        text = refusal(await task_of(client, seed["taskId"]))
        assert text.startswith("[declined] ")
        assert "did not answer" in text
        await answer(client, seed["taskId"], YES)
        assert refusal(await task_of(client, seed["taskId"])) == text
    assert sent(dependencies) == 0


async def test_an_answer_after_the_machine_has_slept_for_a_day_is_too_late(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    slept = 0.0
    dependencies = over(lambda: clock() + slept, tmp_path)
    async with host(dependencies) as client:
        seed = await started(client)
        slept = DAY  # the wall clock went on, what the event loop waits by did not
        assert (await task_of(client, seed["taskId"]))["status"] == "input_required"
        await answer(client, seed["taskId"], YES)
        assert "did not answer" in refusal(await task_of(client, seed["taskId"]))
    assert sent(dependencies) == 0


async def test_what_asks_reserves_nothing_and_a_cap_counts_at_the_yes(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = over(
        clock, tmp_path, environment={"DARKROOM_SPENDING__ZSKY_IMAGES_PER_DAY": "1"}
    )
    async with host(dependencies) as client:
        seeds = [await started(client, prompt=f"Boat {number}") for number in range(2)]
        assert (await call(client, "get_spending"))["providers"][0]["spent"] == 0
        await answer(client, seeds[0]["taskId"], YES)
        await answer(client, seeds[1]["taskId"], YES)
        text = refusal(await task_of(client, seeds[1]["taskId"]))
        assert text.startswith("[spend_cap_reached] ")
        assert "nothing was sent" in text
        await ended(client, seeds[0]["taskId"])
        assert (await call(client, "get_spending"))["providers"][0]["spent"] == 1
    assert received(dependencies, IMAGE) == 1


async def test_a_yes_counts_on_its_own_day_not_on_that_of_the_question(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = over(
        clock, tmp_path, environment={"DARKROOM_SPENDING__ZSKY_IMAGES_PER_DAY": "1"}
    )
    async with host(dependencies) as client:
        seeds = [await started(client, prompt=f"Boat {number}") for number in range(2)]
        await anyio.sleep(DAY - HOUR)  # tomorrow
        await answer(client, seeds[0]["taskId"], YES)
        await answer(client, seeds[1]["taskId"], YES)
        assert "[spend_cap_reached]" in refusal(await task_of(client, seeds[1]["taskId"]))
        await ended(client, seeds[0]["taskId"])
    assert received(dependencies, IMAGE) == 1


async def test_a_cap_is_said_before_anybody_is_asked(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = over(
        clock, tmp_path, environment={"DARKROOM_SPENDING__ZSKY_IMAGES_PER_DAY": "0"}
    )
    async with host(dependencies) as client:
        text = await refused(client, IMAGE.start, prompt=PROMPT)
        assert text.startswith("[spend_cap_reached] ")
        assert (await call(client, "list_jobs"))["jobs"] == []


async def test_a_yes_to_what_the_month_covers_is_no_yes_to_what_is_charged_for(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = quota(clock, tmp_path, images_per_month="1", allow_overage="true")
    async with host(dependencies) as client:
        seeds = [await started(client, prompt=f"Boat {number}") for number in range(2)]
        await answer(client, seeds[0]["taskId"], YES)
        await ended(client, seeds[0]["taskId"])
        await anyio.sleep(DAY / 2)
        await answer(client, seeds[1]["taskId"], YES)
        task = await task_of(client, seeds[1]["taskId"])
        assert task["status"] == "input_required"
        ((key, request),) = task["inputRequests"].items()
        assert key == "approval_2"
        said = "It goes beyond the month's allowance of 1 at ZSky, which charges for it."
        assert request["params"]["message"] == f"{QUESTION} {said}"
        await answer(client, seeds[1]["taskId"], YES)  # once more to the first question
        await anyio.sleep(DAY - HOUR)  # the new one has a day of its own
        assert received(dependencies, IMAGE) == 1
        await answer(client, seeds[1]["taskId"], YES, key="approval_2")
        task = await ended(client, seeds[1]["taskId"])
        assert task["result"]["structuredContent"]["warnings"] == [said]
    assert received(dependencies, IMAGE) == 2


async def test_a_question_that_was_asked_anew_lapses_too(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = quota(clock, tmp_path, images_per_month="1", allow_overage="true")
    async with host(dependencies) as client:
        seeds = [await started(client, prompt=f"Boat {number}") for number in range(2)]
        for seed in seeds:
            await answer(client, seed["taskId"], YES)
        await anyio.sleep(DAY - 60)
        assert (await task_of(client, seeds[1]["taskId"]))["status"] == "input_required"
        await anyio.sleep(120)
        assert "did not answer" in refusal(await task_of(client, seeds[1]["taskId"]))
    assert received(dependencies, IMAGE) == 1


async def test_what_the_month_does_not_cover_any_more_is_refused_at_the_yes(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = quota(clock, tmp_path, images_per_month="1")
    async with host(dependencies) as client:
        seeds = [await started(client, prompt=f"Boat {number}") for number in range(2)]
        await answer(client, seeds[0]["taskId"], YES)
        await ended(client, seeds[0]["taskId"])
        await answer(client, seeds[1]["taskId"], YES)
        text = refusal(await task_of(client, seeds[1]["taskId"]))
        assert text.startswith("[quota_exhausted] ")
    assert received(dependencies, IMAGE) == 1


async def test_what_has_become_sooner_needs_no_other_question(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = quota(clock, tmp_path, images_per_day="1")
    async with host(dependencies) as client:
        first = await started(client, prompt="Boat 0")
        await answer(client, first["taskId"], YES)
        await ended(client, first["taskId"])
        second = await started(client, prompt="Boat 1")
        asked_for = (await task_of(client, second["taskId"]))["inputRequests"]["approval"]
        assert "It waits for the next UTC day" in asked_for["params"]["message"]
        await anyio.sleep(DAY - HOUR)
        await answer(client, second["taskId"], YES)
        assert (await ended(client, second["taskId"]))["status"] == "completed"
    assert received(dependencies, IMAGE) == 2


async def test_what_the_policy_says_at_the_yes_counts(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = over(clock, tmp_path, environment={"DARKROOM_GUARD__PROVIDER": "znyx"})
    async with host(dependencies) as client:
        seeds = [await started(client, prompt=f"Boat {number}") for number in range(2)]
        await answer(client, seeds[0]["taskId"], YES)
        dependencies.sandbox.emulators["znyx"].faults.add("*", Fault(kind="refuse"), times=None)
        await answer(client, seeds[1]["taskId"], YES)
        text = refusal(await task_of(client, seeds[1]["taskId"]))
        assert text.startswith("[provider_unavailable] ")
        assert "nothing was sent" in text
        await ended(client, seeds[0]["taskId"])
    assert received(dependencies, IMAGE) == 1
    evaluated = [r for r in asked(dependencies, "znyx") if r.operation == "runtime.evaluateInput"]
    assert sum(r.fault is None for r in evaluated) == 3


async def test_a_host_that_knows_tasks_but_cannot_ask_is_told_the_setting(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = over(clock, tmp_path)
    async with task_client(dependencies) as client:
        text = await refused(client, IMAGE.start, prompt=PROMPT)
        assert text.startswith("[not_configured] ")
        assert "[approval] never_ask = ['zsky_start_image']" in text
    assert sent(dependencies) == 0


async def test_the_older_era_is_asked_on_the_call_whatever_is_declared(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    questions: list[str] = []

    async def yes(context: object, params: Any) -> ElicitResult:
        del context
        questions.append(params.message)
        return ElicitResult(action="accept", content={"approve": True})

    async with task_client(over(clock, tmp_path), "legacy", elicitation=yes) as client:
        assert (await call(client, IMAGE.start, prompt=PROMPT))["status"] == "running"
    assert questions == [QUESTION]


async def test_a_batch_is_asked_about_on_the_call(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    questions: list[str] = []

    async def yes(context: object, params: Any) -> ElicitResult:
        del context
        questions.append(params.message)
        return ElicitResult(action="accept", content={"approve": True})

    dependencies = over(clock, tmp_path)
    async with task_client(dependencies, elicitation=yes) as client:
        seed = await started(
            client,
            "start_batch",
            tool=IMAGE.start,
            arguments={},
            for_each={"prompt": ["a boat", "a tree"]},
        )
        assert seed["status"] == "working"
        assert len(questions) == 1
        assert (await ended(client, seed["taskId"]))["status"] == "completed"
    assert received(dependencies, IMAGE) == 2


async def test_the_other_tools_say_that_it_waits_for_the_person(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = over(clock, tmp_path)
    async with host(dependencies) as client:
        seed = await started(client)
        checked = await client.call_tool(IMAGE.check, {"job_id": seed["taskId"], "wait_seconds": 5})
        assert isinstance(checked, CallToolResult)
        job: Fields = checked.structured_content or {}
        (listed,) = (await call(client, "list_jobs", status="queued"))["jobs"]
        for shown in (job, listed):
            assert (shown["status"], shown["queued_for"]) == ("queued", "approval")
            (warning,) = shown["warnings"]
            assert QUESTION in warning
            assert "nothing is sent before the person's yes" in warning
            assert "2026-11-23T09:00:00Z" in warning
        assert QUESTION in str(checked.content)
        await answer(client, seed["taskId"], YES)
        done = await call(client, IMAGE.check, job_id=seed["taskId"], wait_seconds=40)
        assert done["status"] == "completed"
        assert not {"queued_for", "warnings"} & done.keys()


async def test_an_identical_call_gets_the_task_that_asks(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = over(clock, tmp_path)
    async with host(dependencies) as client:
        seed = await started(client)
        again = await started(client)
        assert (again["taskId"], again["status"]) == (seed["taskId"], "input_required")
        await answer(client, seed["taskId"], YES)
        await ended(client, seed["taskId"])
    assert received(dependencies, IMAGE) == 1


async def test_what_needs_its_output_waits_for_it(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = over(clock, tmp_path)
    async with host(dependencies) as client:
        image = await started(client)
        edit = await started(
            client,
            "claid_start_image_edit",
            input=f"job:{image['taskId']}",
            operations={"resizing": {"width": 64, "height": 64}},
        )
        waiting = await call(
            client, "claid_check_image_edit", job_id=edit["taskId"], wait_seconds=5
        )
        assert (waiting["status"], waiting["queued_for"]) == ("queued", "input")
        assert sent(dependencies) == 0
        await answer(client, image["taskId"], YES)
        task = await ended(client, edit["taskId"])
        assert task["result"]["structuredContent"]["status"] == "completed"


@pytest.mark.parametrize("restarted", [False, True])
async def test_what_asks_holds_no_slot(
    clock: Callable[[], float], tmp_path: Path, *, restarted: bool
) -> None:
    dependencies = over(clock, tmp_path, store="sqlite")
    async with host(dependencies) as client:
        for number in range(3):  # as many as ZSky takes at once
            await started(client, prompt=f"Boat {number}")
        if not restarted:
            await result(client, "zsky_start_video", prompt="Waves")
    if restarted:
        async with host(
            over(clock, tmp_path, store="sqlite", sandbox=dependencies.sandbox)
        ) as client:
            await result(client, "zsky_start_video", prompt="Waves")
    assert len(asked(dependencies, "zsky", "generate_video")) == 1


async def test_a_stream_tells_of_the_question_and_of_what_follows(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    knows = TaskClient()
    async with (
        host(over(clock, tmp_path), knows) as client,
        anyio.create_task_group() as tasks,
    ):
        seed = await started(client)
        tasks.start_soon(listen, client, seed["taskId"])
        await settle()
        assert knows.told[-1]["inputRequests"] == {"approval": REQUEST}
        await answer(client, seed["taskId"], YES)
        with anyio.fail_after(HOUR):
            await knows.over.wait()
        tasks.cancel_scope.cancel()
        statuses = list(dict.fromkeys(told["status"] for told in knows.told))
        assert statuses == ["input_required", "working", "completed"]


async def test_a_job_of_many_requests_sends_each_once_after_the_yes(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = over(clock, tmp_path, environment={"DARKROOM_JOBS__NEW_KEY": "new"})
    async with host(dependencies) as client:
        rid = (await call(client, "zyng_register_request", **DETAILS))["rid"]
        images = [
            {"image_url": f"https://samples.sandbox.test/product-{n}.jpg", "image_name": f"i{n}"}
            for n in (1, 2)
        ]
        seeds = [
            await started(client, "zyng_start_images", rid=rid, images=images, idempotency_key=key)
            for key in ("one", "two")
        ]
        assert len(asked(dependencies, "zyng")) == 1  # the registration
        for seed in seeds:
            await answer(client, seed["taskId"], YES)
        text = refusal(await task_of(client, seeds[1]["taskId"]))
        assert text.startswith("[invalid_argument] i1, i2: already sent to ")
        task = await ended(client, seeds[0]["taskId"])
        assert task["result"]["structuredContent"]["progress"] == {"done": 2, "total": 2}
    assert len(asked(dependencies, "zyng", "process_image")) == 2


async def test_an_answer_that_cannot_be_written_down_is_an_error_and_may_be_given_again(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    store = TroubledStore()
    dependencies = over(clock, tmp_path, open_store=store.opened)
    async with host(dependencies) as client:
        seed = await started(client)
        store.fails = lambda _job, _attempts: True
        for given in (YES, NO):
            with pytest.raises(MCPError) as broken:
                await answer(client, seed["taskId"], given)
            assert broken.value.error.code == INTERNAL_ERROR
        assert (await task_of(client, seed["taskId"]))["status"] == "input_required"
        assert sent(dependencies) == 0
        store.fails = lambda _job, _attempts: False
        await answer(client, seed["taskId"], YES)
        await ended(client, seed["taskId"])
    assert received(dependencies, IMAGE) == 1

"""Deleting and cancelling: the person is asked, and a no sends nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from mcp_types import ElicitRequestFormParams, ElicitResult, InputRequiredResult, InputResponses

from darkroom_tools.emulators.kit import Fault
from mcp import Client, MCPError
from tests.engine.support import (
    HOUR,
    IMAGE,
    TRYON,
    asked,
    charged,
    ended,
    received,
    zsky,
    zupertry,
)
from tests.engine.test_adoption import FOREIGN, started_elsewhere
from tests.harness import ERAS, Era, call, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mcp.client.context import ClientRequestContext
    from mcp.client.session import ElicitationFnT
    from mcp_types import ElicitRequestParams

pytestmark = pytest.mark.anyio

DELETE = "zsky_delete_result"
CANCEL = "zupertry_cancel_tryon"
NEVER_ASK = {"DARKROOM_APPROVAL__NEVER_ASK": f'["{DELETE}"]'}

YES = ElicitResult(action="accept", content={"approve": True})
NOES = {
    "accepts-without-approving": ElicitResult(action="accept", content={"approve": False}),
    "accepts-an-empty-form": ElicitResult(action="accept", content={}),
    "accepts-with-text": ElicitResult(action="accept", content={"approve": "true"}),
    "declines": ElicitResult(action="decline"),
    "declines-with-a-yes-in-the-form": ElicitResult(action="decline", content={"approve": True}),
    "cancels": ElicitResult(action="cancel"),
}


class Person:
    """Answers every question alike, and remembers them."""

    def __init__(self, answer: ElicitResult) -> None:
        self.answer = answer
        self.questions: list[str] = []

    async def __call__(
        self, context: ClientRequestContext, params: ElicitRequestParams
    ) -> ElicitResult:
        del context
        assert isinstance(params, ElicitRequestFormParams)
        self.questions.append(params.message)
        return self.answer


async def an_image(client: Client, prompt: str = "A lighthouse at dusk") -> str:
    job = await call(client, IMAGE.start, prompt=prompt)
    return (await ended(client, IMAGE.check, job["job_id"]))["job_id"]


@pytest.mark.parametrize("era", ERAS)
async def test_a_yes_deletes_the_result_and_its_address_but_not_the_file(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies = rig(clock, tmp_path)
    person = Person(YES)
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(HOUR):
            job_id = await an_image(client)
            told = await call(client, DELETE, job_id=job_id)
            assert told == {"job_id": job_id, "deleted": True}
            (question,) = person.questions
            assert job_id in question
            assert "ZSky" in question
            after = await call(client, IMAGE.check, job_id=job_id, include_url=True)
            assert after["status"] == "completed"
            assert "url" not in after["outputs"][0]
            assert after["outputs"][0]["file"]
            text = await refused(client, DELETE, job_id=job_id)
            assert text.startswith("[not_found] ")
    assert [r.status for r in asked(dependencies, "zsky", "delete_job")] == [204, 404]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("answer", NOES)
async def test_anything_but_a_yes_sends_nothing(
    clock: Callable[[], float], tmp_path: Path, era: Era, answer: str
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client(era, elicitation=Person(NOES[answer])) as client:
        with anyio.fail_after(HOUR):
            job_id = await an_image(client)
            before = len(asked(dependencies, "zsky"))
            text = await refused(client, DELETE, job_id=job_id)
            assert text.startswith("[declined] ")
            assert "nothing was sent" in text
            await anyio.sleep(60)
    assert len(asked(dependencies, "zsky")) == before


@pytest.mark.parametrize("era", ERAS)
async def test_a_host_that_cannot_ask_gets_a_refusal_that_names_the_setting(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client(era) as client:
        with anyio.fail_after(HOUR):
            job_id = await an_image(client)
            text = await refused(client, DELETE, job_id=job_id)
    assert text.startswith("[not_configured] ")
    assert "never_ask" in text
    assert DELETE in text
    assert asked(dependencies, "zsky", "delete_job") == []


@pytest.mark.parametrize("era", ERAS)
async def test_never_ask_deletes_without_a_question(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies = rig(clock, tmp_path, environment=NEVER_ASK)
    person = Person(NOES["declines"])
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(HOUR):
            told = await call(client, DELETE, job_id=await an_image(client))
    assert told["deleted"] is True
    assert person.questions == []


async def test_no_answer_within_40_seconds_is_a_no(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)

    async def silent(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        del context, params
        await anyio.sleep_forever()
        raise AssertionError

    async with dependencies.client("legacy", elicitation=silent) as client:
        with anyio.fail_after(HOUR):
            job_id = await an_image(client)
            began = clock()
            text = await refused(client, DELETE, job_id=job_id)
            assert clock() - began <= 41
    assert text.startswith("[declined] ")
    assert asked(dependencies, "zsky", "delete_job") == []


@pytest.mark.parametrize("era", ERAS)
async def test_every_deletion_is_asked_for_on_its_own(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies = rig(clock, tmp_path)
    person = Person(YES)
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(HOUR):
            first, second = await an_image(client), await an_image(client, "Another one")
            await call(client, DELETE, job_id=first)
            person.answer = NOES["declines"]
            text = await refused(client, DELETE, job_id=second)
    assert text.startswith("[declined] ")
    assert [first in person.questions[0], second in person.questions[1]] == [True, True]
    assert len(asked(dependencies, "zsky", "delete_job")) == 1


async def test_an_approval_for_one_job_is_not_taken_for_another(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    unused: ElicitationFnT = Person(NOES["declines"])  # never asked: the loop is driven by hand
    async with dependencies.client(elicitation=unused) as client:
        with anyio.fail_after(HOUR):
            first, second = await an_image(client), await an_image(client, "Another one")
            needed = await client.session.call_tool(
                DELETE, {"job_id": first}, allow_input_required=True
            )
            assert isinstance(needed, InputRequiredResult)
            assert needed.input_requests
            answers: InputResponses = dict.fromkeys(needed.input_requests, YES)
            with pytest.raises(MCPError, match="requestState"):
                await client.session.call_tool(
                    DELETE,
                    {"job_id": second},
                    input_responses=answers,
                    request_state=needed.request_state,
                    allow_input_required=True,
                )
            bare = await client.session.call_tool(
                DELETE, {"job_id": first}, input_responses=answers, allow_input_required=True
            )
            assert isinstance(bare, InputRequiredResult)
            assert asked(dependencies, "zsky", "delete_job") == []
            meant = await client.session.call_tool(
                DELETE,
                {"job_id": first},
                input_responses=answers,
                request_state=needed.request_state,
                allow_input_required=True,
            )
            assert not isinstance(meant, InputRequiredResult)
            assert not meant.is_error
    (request,) = asked(dependencies, "zsky", "delete_job")
    assert request.status == 204


@pytest.mark.parametrize("said", ["yes", "declines"])
async def test_one_answer_is_for_one_act_however_often_the_call_is_repeated(
    clock: Callable[[], float],
    tmp_path: Path,
    said: str,
) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("zsky_live_sandbox_not_a_real_key")
    file = {"ZSKY_API_KEY_FILE": str(key_file)}
    first = rig(clock, tmp_path, store="sqlite", environment=file, without=("ZSKY_API_KEY",))
    unused: ElicitationFnT = Person(NOES["declines"])  # never asked: the loop is driven by hand
    answer = YES if said == "yes" else NOES["declines"]
    async with first.client(elicitation=unused) as client:
        with anyio.fail_after(HOUR):
            needed = await client.session.call_tool(
                "zsky_rotate_key", {}, allow_input_required=True
            )
            assert isinstance(needed, InputRequiredResult)
            answers: InputResponses = dict.fromkeys(needed.input_requests or {}, answer)

            async def answered(repeats: int) -> list[object]:
                return [
                    await client.session.call_tool(
                        "zsky_rotate_key",
                        {},
                        input_responses=answers,
                        request_state=needed.request_state,
                        allow_input_required=True,
                    )
                    for _ in range(repeats)
                ]

            results = await answered(3)
    rotations = len(asked(first, "zsky", "rotate_key"))
    if said == "yes":
        assert rotations == 1
        assert [isinstance(each, InputRequiredResult) for each in results] == [False, True, True]
    else:
        assert rotations == 0


@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "hang_after"])
async def test_a_deletion_whose_answer_is_lost_is_sent_once_and_of_unknown_outcome(
    clock: Callable[[], float], tmp_path: Path, kind: str
) -> None:
    dependencies = rig(clock, tmp_path, environment=NEVER_ASK)
    lost = Fault(kind=kind)  # pyright: ignore[reportArgumentType] -- one of FaultKind
    zsky(dependencies).faults.add("delete_job", lost)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job_id = await an_image(client)
            text = await refused(client, DELETE, job_id=job_id)
            await anyio.sleep(600)
    assert text.startswith("[outcome_unknown] ")
    assert len(asked(dependencies, "zsky", "delete_job")) == 1


async def test_a_job_that_the_provider_never_named_cannot_be_deleted(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path, environment=NEVER_ASK)
    zsky(dependencies).faults.add("generate_image", Fault(kind="drop_after"))
    async with dependencies.client() as client:
        job = await call(client, IMAGE.start, **IMAGE.arguments)
        text = await refused(client, DELETE, job_id=job["job_id"])
    assert text.startswith("[conflict] ")
    assert asked(dependencies, "zsky", "delete_job") == []


# --- cancelling a try-on ---


@pytest.mark.parametrize("era", ERAS)
async def test_a_queued_tryon_is_cancelled_here_and_never_reaches_the_provider(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client(era) as client:
        with anyio.fail_after(HOUR):
            for _ in range(60):
                await call(client, "zupertry_get_account")
            job = await call(client, TRYON.start, **TRYON.arguments)
            assert (job["status"], job["queued_for"]) == ("queued", "pacing")
            told = await call(client, CANCEL, job_id=job["job_id"])
            assert told == {"job_id": job["job_id"], "status": "cancelled"}
            seen = await call(client, TRYON.check, job_id=job["job_id"])
            assert seen["status"] == "cancelled"
            await anyio.sleep(600)
            again = await call(client, TRYON.start, **TRYON.arguments)
            assert again["status"] == "running"
    assert asked(dependencies, "zupertry", "cancel") == []
    assert received(dependencies, TRYON) == 1


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("answer", ["job", "empty"])
async def test_a_pending_tryon_is_cancelled_and_its_credit_comes_back(
    clock: Callable[[], float], tmp_path: Path, era: Era, answer: str
) -> None:
    dependencies = rig(clock, tmp_path, switches={"zupertry": {"cancel_answer": answer}})
    async with dependencies.client(era) as client:
        with anyio.fail_after(HOUR):
            job = await call(client, TRYON.start, **TRYON.arguments)
            told = await call(client, CANCEL, job_id=job["job_id"])
            assert told["status"] == "cancelled"
            seen = await call(client, TRYON.check, job_id=job["job_id"])
            assert seen["status"] == "cancelled"
            assert "poll_after_seconds" not in seen
            await anyio.sleep(600)
    assert charged(dependencies, "zupertry") == 0
    assert asked(dependencies, "zupertry", "get") == []


async def test_a_tryon_that_is_being_worked_on_cannot_be_cancelled_and_goes_on(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, TRYON.start, **TRYON.arguments)
            await anyio.sleep(2)
            text = await refused(client, CANCEL, job_id=job["job_id"])
            assert text.startswith("[conflict] ")
            assert "job_not_cancellable" in text
            done = await ended(client, TRYON.check, job["job_id"])
            assert done["status"] == "completed"
            text = await refused(client, CANCEL, job_id=job["job_id"])
            assert text.startswith("[conflict] ")
            after = await call(client, TRYON.check, job_id=job["job_id"])
            assert after["status"] == "completed"


@pytest.mark.parametrize("status", [403, 404])
async def test_somebody_elses_tryon_cannot_be_cancelled(
    clock: Callable[[], float], tmp_path: Path, status: int
) -> None:
    dependencies = rig(clock, tmp_path, switches={"zupertry": {"foreign_job": status}})
    async with dependencies.client() as client:
        theirs = await started_elsewhere(dependencies, TRYON, FOREIGN[TRYON])
        text = await refused(client, CANCEL, job_id=theirs)
    assert text.startswith("[not_found] ")
    assert charged(dependencies, "zupertry") == 1


async def test_a_tryon_that_nobody_knows_is_not_asked_about(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        text = await refused(client, CANCEL, job_id=f"zupertry_{'x' * 22}")
    assert text.startswith("[not_found] ")
    assert asked(dependencies, "zupertry") == []


async def test_a_cancellation_beside_the_end_of_the_job_is_one_or_the_other(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    zupertry(dependencies).faults.add("cancel", Fault(kind="delay", seconds=20))
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, TRYON.start, **TRYON.arguments)
            told = await call(client, CANCEL, job_id=job["job_id"])
            seen = await call(client, TRYON.check, job_id=job["job_id"])
    assert told["status"] == seen["status"] == "cancelled"

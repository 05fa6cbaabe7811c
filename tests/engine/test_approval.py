"""Asking the person, in both protocol eras: nothing leaves before a yes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ElicitResult, InputRequiredResult

from tests.engine.money import Asked
from tests.engine.support import HOUR, asked, settle
from tests.harness import ERAS, Era, Rig, call, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("era", ERAS)]

ABOVE = {"DARKROOM_APPROVAL__ABOVE": '{"zsky_videos": 0}'}
VIDEO = "zsky_start_video"
EDIT = "claid_start_image_edit"
WHOLE = (
    "Start 2 jobs: 1 video at zsky, 1 credit at claid "
    "(about 0.50, no price is known for claid_credits)?"
)
EDITED = {
    "input": "https://samples.sandbox.test/model-1.jpg",
    "operations": {"resizing": {"width": 64}},
}


def over(clock: Callable[[], float], folder: Path, **environment: str) -> Rig:
    return rig(
        clock, folder, environment={**ABOVE, "DARKROOM_RESULTS__DOWNLOAD": "never", **environment}
    )


async def test_a_yes_starts_it_and_nothing_is_sent_before(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies, person = over(clock, tmp_path), Asked()
    person.dependencies = dependencies
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(HOUR):
            job = await call(client, VIDEO, prompt="waves")
    assert job["status"] == "running"
    assert person.questions == ["Spend 1 video (about 0.50) at ZSky on zsky_start_video?"]
    assert person.sent_before_the_answer == [0]
    assert len(asked(dependencies, "zsky", "generate_video")) == 1


@pytest.mark.parametrize(
    ("action", "approve"),
    [("accept", False), ("decline", True), ("cancel", True), ("accept", "yes"), ("accept", None)],
)
async def test_anything_but_a_yes_is_a_no_and_sends_nothing(
    clock: Callable[[], float], tmp_path: Path, era: Era, action: str, approve: object
) -> None:
    dependencies, person = over(clock, tmp_path), Asked(action, approve=approve)
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(HOUR):
            text = await refused(client, VIDEO, prompt="waves")
            assert (await call(client, "list_jobs"))["jobs"] == []
    assert text.startswith("[declined] ")
    assert "nothing was sent" in text
    assert len(person.questions) == 1
    assert asked(dependencies, "zsky") == []


async def test_a_host_that_cannot_ask_is_told_the_setting_that_allows_it(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies = over(clock, tmp_path)
    async with dependencies.client(era) as client:
        with anyio.fail_after(HOUR):
            text = await refused(client, VIDEO, prompt="waves")
    assert text.startswith("[not_configured] ")
    assert "[approval] never_ask = ['zsky_start_video']" in text
    assert asked(dependencies, "zsky") == []
    allowed = over(clock, tmp_path / "allowed", DARKROOM_APPROVAL__NEVER_ASK='["zsky_start_video"]')
    async with allowed.client(era) as client:
        assert (await call(client, VIDEO, prompt="waves"))["status"] == "running"


async def test_what_costs_no_more_than_the_amount_is_not_asked_about(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies, person = over(clock, tmp_path), Asked("decline")
    async with dependencies.client(era, elicitation=person) as client:
        assert (await call(client, "zsky_start_image", prompt="waves"))["status"] == "running"
    assert person.questions == []


async def test_an_amount_in_money_is_looked_at_too(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies = over(clock, tmp_path, DARKROOM_APPROVAL__ABOVE='{"money": 0.10}')
    person = Asked("decline")
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(HOUR):
            assert (await call(client, "zsky_start_image", prompt="waves"))["status"] == "running"
            assert (await refused(client, VIDEO, prompt="waves")).startswith("[declined] ")


async def test_a_unit_without_a_price_is_above_any_amount_of_money(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    unpriced = {"DARKROOM_APPROVAL__ABOVE": '{"money": 1000000}'}
    dependencies, person = over(clock, tmp_path, **unpriced), Asked("decline")
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(HOUR):
            assert (await call(client, VIDEO, prompt="waves"))["status"] == "running"
            assert (await refused(client, EDIT, **EDITED)).startswith("[declined] ")
            items = [
                {"tool": VIDEO, "arguments": {"prompt": "tides"}},
                {"tool": EDIT, "arguments": EDITED},
            ]
            assert (await refused(client, "start_batch", items=items)).startswith("[declined] ")
    assert person.questions == [
        f"Spend 1 credit (no price is known for claid_credits) at Claid on {EDIT}?",
        WHOLE,
    ]
    assert asked(dependencies, "claid") == []
    priced = over(
        clock, tmp_path / "priced", **unpriced, DARKROOM_SPENDING__CLAID_CREDITS_PRICE="1"
    )
    async with priced.client(era, elicitation=person) as client:
        assert (await call(client, EDIT, **EDITED))["status"] == "running"
    assert len(person.questions) == 2


async def test_an_identical_repeat_is_not_asked_about_again(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies, person = over(clock, tmp_path), Asked()
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(HOUR):
            first = await call(client, VIDEO, prompt="waves")
            again = await call(client, VIDEO, prompt="waves")
            other = await call(client, VIDEO, prompt="other waves")
    assert first["job_id"] == again["job_id"] != other["job_id"]
    assert len(person.questions) == 2


async def test_a_cap_is_said_before_anybody_is_asked(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies = over(clock, tmp_path, DARKROOM_SPENDING__ZSKY_VIDEOS_PER_DAY="0")
    person = Asked()
    async with dependencies.client(era, elicitation=person) as client:
        text = await refused(client, VIDEO, prompt="waves")
    assert text.startswith("[spend_cap_reached] ")
    assert person.questions == []


async def test_wrong_arguments_are_refused_before_anybody_is_asked(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies, person = over(clock, tmp_path), Asked()
    async with dependencies.client(era, elicitation=person) as client:
        assert (await refused(client, VIDEO, prompt="")).startswith("[invalid_argument] ")
    assert person.questions == []


async def test_no_answer_is_a_no(clock: Callable[[], float], tmp_path: Path, era: Era) -> None:
    """On 2026-07-28 the call has ended with the question, and nothing waits for an answer."""
    dependencies, person = over(clock, tmp_path), Asked("never")
    began = clock()
    async with dependencies.client(era, elicitation=person) as client:
        if era == "legacy":
            with anyio.fail_after(HOUR):
                text = await refused(client, VIDEO, prompt="waves")
            assert text.startswith("[declined] ")
            assert 40 <= clock() - began <= 45
        else:
            result = await client.session.call_tool(
                VIDEO, {"prompt": "waves"}, allow_input_required=True
            )
            assert isinstance(result, InputRequiredResult)
            await anyio.sleep(HOUR)
    assert asked(dependencies, "zsky") == []


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        (VIDEO, {"prompt": "other waves"}),
        (VIDEO, {"prompt": "waves", "idempotency_key": "one more"}),
        ("zsky_rotate_key", {}),
        ("znyx_revoke_token", {"key_id": 1}),
    ],
)
async def test_a_yes_to_one_thing_is_no_yes_to_another(
    clock: Callable[[], float], tmp_path: Path, era: Era, tool: str, arguments: dict[str, object]
) -> None:
    if era == "legacy":
        pytest.skip("there the host answers the question itself, within the call")
    key_file = tmp_path / "key"
    key_file.write_text("zsky_live_sandbox_not_a_real_key")
    dependencies = rig(
        clock,
        tmp_path,
        without=("ZSKY_API_KEY",),
        environment={**ABOVE, "ZSKY_API_KEY_FILE": str(key_file)},
    )
    async with dependencies.client(era, elicitation=Asked("never")) as client:
        question = await client.session.call_tool(
            VIDEO, {"prompt": "waves"}, allow_input_required=True
        )
        assert isinstance(question, InputRequiredResult)
        (name,) = question.input_requests or {}
        yes: Any = {name: ElicitResult(action="accept", content={"approve": True})}
        with pytest.raises(MCPError, match="Invalid or expired requestState"):
            await client.session.call_tool(
                tool,
                arguments,
                input_responses=yes,
                request_state=question.request_state,
                allow_input_required=True,
            )
        await settle()
        assert asked(dependencies, "zsky") == asked(dependencies, "znyx") == []
        taken = await client.session.call_tool(
            VIDEO,
            {"prompt": "waves"},
            input_responses=yes,
            request_state=question.request_state,
            allow_input_required=True,
        )
        assert isinstance(taken, CallToolResult)
        assert not taken.is_error
    assert len(asked(dependencies, "zsky", "generate_video")) == 1


DESTROYS: list[tuple[str, dict[str, object]]] = [
    ("zsky_rotate_key", {}),
    ("zsky_delete_result", {"job_id": "0123456789abcdef0123456789abcdef"}),
    ("znyx_create_token", {"token_type": "ci"}),
    ("znyx_rotate_token", {"key_id": 2}),
    ("znyx_revoke_token", {"key_id": 2}),
    ("znyx_publish_bundle", {"env": "dev", "policies": {}}),
    ("znyx_activate_bundle", {"env": "dev", "version": 1}),
    ("znyx_promote_bundle", {"env": "dev"}),
]


@pytest.mark.parametrize(("tool", "arguments"), DESTROYS, ids=[tool for tool, _ in DESTROYS])
async def test_what_destroys_or_reveals_always_asks_and_a_no_sends_nothing(
    clock: Callable[[], float], tmp_path: Path, era: Era, tool: str, arguments: dict[str, object]
) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("zsky_live_sandbox_not_a_real_key")
    dependencies = rig(
        clock,
        tmp_path,
        without=("ZSKY_API_KEY",),
        environment={
            "ZSKY_API_KEY_FILE": str(key_file),
            "DARKROOM_CREDENTIALS__DIR": str(tmp_path / "keys"),
        },
    )
    person = Asked("decline")
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(HOUR):
            text = await refused(client, tool, **arguments)
    assert text.startswith("[declined] ")
    assert len(person.questions) == 1
    assert all(not each.requests for each in dependencies.sandbox.emulators.values())


PER_DAY = {
    "DARKROOM_APPROVAL__ABOVE": "{}",
    "DARKROOM_APPROVAL__ABOVE_PER_DAY": '{"zsky_videos": 2}',
}


async def test_the_person_is_asked_when_too_much_would_pass_unasked_on_a_day(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies, person = over(clock, tmp_path, **PER_DAY), Asked("decline")
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(2 * 24 * HOUR):
            for text in ("one", "two"):
                assert (await call(client, VIDEO, prompt=text))["status"] == "running"
            assert person.questions == []
            assert (await refused(client, VIDEO, prompt="three")).startswith("[declined] ")
            assert (await call(client, "zsky_start_image", prompt="one"))["status"] == "running"
            await anyio.sleep(24 * HOUR)
            assert (await call(client, VIDEO, prompt="four"))["status"] == "running"
    assert person.questions == ["Spend 1 video (about 0.50) at ZSky on zsky_start_video?"]
    assert len(asked(dependencies, "zsky", "generate_video")) == 3


async def test_what_the_person_said_yes_to_does_not_count_as_unasked(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies, person = over(clock, tmp_path, **PER_DAY), Asked()
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(HOUR):
            items = [{"tool": VIDEO, "arguments": {"prompt": f"{n}"}} for n in range(3)]
            await call(client, "start_batch", items=items)
            assert len(person.questions) == 1
            for text in ("one", "two"):
                assert (await call(client, VIDEO, prompt=text))["status"] in {"running", "queued"}
            assert len(person.questions) == 1
            await call(client, VIDEO, prompt="three")
            await call(client, "start_batch", items=[{"tool": VIDEO, "arguments": {"prompt": "x"}}])
    assert len(person.questions) == 3


async def test_money_of_all_providers_adds_up_and_an_unpriced_unit_is_always_asked_about(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    per_day = {**PER_DAY, "DARKROOM_APPROVAL__ABOVE_PER_DAY": '{"money": 0.55}'}
    dependencies, person = over(clock, tmp_path, **per_day), Asked("decline")
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(HOUR):
            await call(client, VIDEO, prompt="one")
            await call(client, "zsky_start_image", prompt="one")
            assert person.questions == []
            assert (await refused(client, "zsky_start_image", prompt="two")).startswith(
                "[declined]"
            )
            assert (await refused(client, EDIT, **EDITED)).startswith("[declined]")
    assert len(person.questions) == 2
    assert asked(dependencies, "claid") == []


async def test_starts_side_by_side_do_not_pass_the_day_unasked(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies, person = over(clock, tmp_path, **PER_DAY), Asked("decline")
    texts: list[str] = []

    async with dependencies.client(era, elicitation=person) as client:

        async def start(number: int) -> None:
            result = await client.call_tool(VIDEO, {"prompt": f"wave {number}"})
            texts.append("declined" if result.is_error else "sent")

        with anyio.fail_after(HOUR):
            async with anyio.create_task_group() as tasks:
                for number in range(6):
                    tasks.start_soon(start, number)
    assert sorted(texts) == ["declined"] * 4 + ["sent"] * 2
    assert len(person.questions) == 4


async def test_where_nobody_can_be_asked_the_day_ends_with_a_refusal(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies = over(clock, tmp_path, **PER_DAY)
    async with dependencies.client(era) as client:
        for text in ("one", "two"):
            await call(client, VIDEO, prompt=text)
        assert "never_ask = ['zsky_start_video']" in await refused(client, VIDEO, prompt="three")
    allowed = over(
        clock, tmp_path / "a", **PER_DAY, DARKROOM_APPROVAL__NEVER_ASK='["zsky_start_video"]'
    )
    async with allowed.client(era) as client:
        for text in ("one", "two", "three"):
            await call(client, VIDEO, prompt=text)


@pytest.mark.parametrize(
    ("settings", "free"),
    [
        ({"DARKROOM_APPROVAL__ABOVE": '{"znyx_evaluations": 0}'}, 0),
        ({"DARKROOM_APPROVAL__ABOVE_PER_DAY": '{"znyx_evaluations": 2}'}, 2),
        ({"DARKROOM_APPROVAL__ABOVE": '{"money": 5}'}, 0),
        ({"DARKROOM_APPROVAL__NEVER_ASK": '["znyx_evaluate_input"]'}, 3),
    ],
    ids=["each", "of-a-day", "without-a-price", "never"],
)
async def test_a_call_that_is_answered_at_once_and_costs_is_asked_about_too(
    clock: Callable[[], float], tmp_path: Path, era: Era, settings: dict[str, str], free: int
) -> None:
    environment = {"DARKROOM_APPROVAL__ABOVE": "{}", **settings}
    dependencies, person = over(clock, tmp_path, **environment), Asked("decline")
    async with dependencies.client(era, elicitation=person) as client:
        for number in range(free):
            await call(client, "znyx_evaluate_input", text=f"{number}")
        assert person.questions == []
        if free < 3:
            text = await refused(client, "znyx_evaluate_input", text="one more")
            assert text.startswith("[declined]")
            assert len(person.questions) == 1
    assert len(asked(dependencies, "znyx")) == free


async def test_an_evaluation_of_the_policy_gate_asks_nobody(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    guarded = {
        "DARKROOM_APPROVAL__ABOVE": '{"znyx_evaluations": 0}',
        "DARKROOM_GUARD__PROVIDER": "znyx",
    }
    dependencies, person = over(clock, tmp_path, **guarded), Asked("decline")
    async with dependencies.client(era, elicitation=person) as client:
        assert (await call(client, "zsky_start_image", prompt="waves"))["status"] == "running"
    assert person.questions == []
    assert len(asked(dependencies, "znyx")) == 1

"""A second stage for jobs with many outputs: what the person said yes to is what is sent."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from darkroom.providers.operations import JobOperation
from darkroom_tools import CATALOGUE
from tests.engine.batches.support import until_done
from tests.engine.money import DAY, Asked
from tests.engine.support import asked
from tests.harness import ERAS, Era, call, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from darkroom.catalogue.declarations import Catalogue
    from darkroom.mcp.server import DarkroomServer
    from darkroom.providers.messages import Response, State
    from darkroom.providers.operations import Operation
    from tests.harness import Rig

pytestmark = pytest.mark.anyio

WORKFLOWS = json.dumps({"studio": {"workflow_details": {"a": 1}, "output_details": {"b": 2}}})
EDIT = {
    "tool": "claid_start_image_edit",
    "arguments": {"operations": {"resizing": {"width": 300}}},
    "input": "input",
}
IMAGES = 30


def zyng_then_edit(dependencies: Rig) -> dict[str, Any]:
    address = dependencies.sandbox.sample("product", 1)
    images = [{"image_url": address, "image_name": f"image-{n}"} for n in range(IMAGES)]
    arguments = {"images": images, "workflow": "studio"}
    return {"items": [{"tool": "zyng_start_images", "arguments": arguments}], "then": EDIT}


def rigged(clock: Callable[[], float], folder: Path, above: object, **more: Any) -> Rig:
    environment = {
        "DARKROOM_ZYNG__WORKFLOWS": WORKFLOWS,
        "DARKROOM_APPROVAL__ABOVE": json.dumps(above),
        **more.pop("environment", {}),
    }
    return rig(clock, folder, environment=environment, **more)


async def test_the_question_counts_an_edit_for_every_image_of_the_first_stage(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies, person = rigged(clock, tmp_path, {"claid_credits": 1}), Asked("decline")
    async with dependencies.client(elicitation=person) as client:
        text = await refused(client, "start_batch", **zyng_then_edit(dependencies))
    assert text.startswith("[declined]")
    (question,) = person.questions
    assert "Start 31 jobs" in question
    assert f"{IMAGES} images at zyng" in question
    assert f"{IMAGES} credits at claid" in question
    assert not asked(dependencies, "claid")
    assert not asked(dependencies, "zyng")


async def test_a_cap_is_compared_with_all_that_is_to_follow(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    cap = {"DARKROOM_SPENDING__CLAID_CREDITS_PER_DAY": str(IMAGES - 1)}
    dependencies = rigged(clock, tmp_path, {}, environment=cap)
    async with dependencies.client() as client:
        text = await refused(client, "start_batch", **zyng_then_edit(dependencies))
    assert text.startswith("[spend_cap_reached]")
    assert not asked(dependencies, "zyng")


async def test_what_was_approved_is_sent(clock: Callable[[], float], tmp_path: Path) -> None:
    dependencies, person = rigged(clock, tmp_path, {"claid_credits": 1}), Asked()
    async with dependencies.client(elicitation=person) as client:
        started = await call(client, "start_batch", **zyng_then_edit(dependencies))
        report = await until_done(client, started["batch_id"])
    assert report["counts"] == {"completed": 1 + IMAGES}
    assert len(person.questions) == 1


def tripled() -> Catalogue:
    """Return our catalogue with a ZSky that gives three pictures for one that was asked for."""

    def reading(operation: Operation) -> Operation:
        if not isinstance(operation, JobOperation) or operation.name != "zsky_start_image":
            return operation
        read = operation.state.read

        def three(response: Response) -> State:
            state = read(response)
            outputs = [replace(each, index=n) for each in state.outputs for n in range(3)]
            return replace(state, outputs=tuple(outputs))

        return replace(operation, state=replace(operation.state, read=three))

    providers = [
        replace(each, operations=tuple(map(reading, each.operations)))
        for each in CATALOGUE.providers
    ]
    return replace(CATALOGUE, providers=tuple(providers))


PICTURE = {"tool": "zsky_start_image", "arguments": {"prompt": "Waves", "width": 256}}


@pytest.mark.parametrize("above", [{"claid_credits": 1}, {}], ids=["asks", "asks-nobody"])
async def test_outputs_beyond_what_was_approved_are_not_followed_up(
    clock: Callable[[], float], tmp_path: Path, above: dict[str, float]
) -> None:
    dependencies, person = rigged(clock, tmp_path, above, catalogue=tripled()), Asked()
    async with dependencies.client(elicitation=person) as client:
        started = await call(client, "start_batch", items=[PICTURE], then=EDIT)
        report = await until_done(client, started["batch_id"])
    assert not person.questions  # one credit is not above one
    edits = len(asked(dependencies, "claid", "submit"))
    if above:
        assert edits == 1
        assert "2 outputs more than were planned" in report["warnings"][0]
    else:
        assert edits == 3
        assert "warnings" not in report


@pytest.mark.parametrize("answer", ["accept", "decline"])
@pytest.mark.parametrize("era", ERAS)
async def test_a_retry_asks_anew_for_outputs_beyond_what_was_approved(
    clock: Callable[[], float], tmp_path: Path, era: Era, answer: str
) -> None:
    above = {"claid_credits": 1}
    dependencies, person = rigged(clock, tmp_path, above, catalogue=tripled()), Asked(answer)
    async with dependencies.client(era, elicitation=person) as client:
        started = await call(client, "start_batch", items=[PICTURE], then=EDIT)
        report = await until_done(client, started["batch_id"])
        assert "retry_batch" in report["warnings"][0]
        name = {"batch_id": started["batch_id"]}
        if answer == "decline":
            assert (await refused(client, "retry_batch", **name)).startswith("[declined]")
        else:
            assert (await call(client, "retry_batch", **name))["retried"] == 2
            report = await until_done(client, started["batch_id"])
            assert "warnings" not in report
            assert (await call(client, "retry_batch", **name))["retried"] == 0
    (question,) = person.questions
    assert question.startswith(
        "Start 2 jobs of the second stage that were not approved yet: 2 credits at claid"
    )
    assert len(asked(dependencies, "claid", "submit")) == (3 if answer == "accept" else 1)
    assert report["counts"] == {"completed": 4 if answer == "accept" else 2}


async def test_a_job_that_changes_again_is_not_followed_again(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    """What its outputs became is known: no new warning, and no policy is asked again."""
    dependencies, person = (
        rigged(clock, tmp_path, {"claid_credits": 1}, catalogue=tripled()),
        Asked(),
    )
    async with dependencies.client(elicitation=person) as client:
        started = await call(client, "start_batch", items=[PICTURE], then=EDIT)
        await until_done(client, started["batch_id"])
        await call(client, "retry_batch", batch_id=started["batch_id"])
        await until_done(client, started["batch_id"])
        engine = cast("DarkroomServer", dependencies.server).engine
        assert engine is not None
        first = (await call(client, "list_jobs", provider="zsky"))["jobs"]
        live = await engine.job(first[0]["job_id"])
        assert live is not None
        registry = (await engine.runtime()).context.registry
        await registry.update(live, lambda job: job.next(warnings=("seen",)))
        await anyio.sleep(60)
        report = await call(client, "check_batch", batch_id=started["batch_id"])
    assert not any("second stage" in said for said in report["warnings"])


async def test_a_yes_to_a_batch_is_none_to_what_it_did_not_say(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    """However small the rest is: what the day's sum made a question is not above by itself."""
    per_day = {"DARKROOM_APPROVAL__ABOVE_PER_DAY": '{"claid_credits": 0}'}
    dependencies = rigged(clock, tmp_path, {}, catalogue=tripled(), environment=per_day)
    person = Asked()
    async with dependencies.client(elicitation=person) as client:
        started = await call(client, "start_batch", items=[PICTURE], then=EDIT)
        report = await until_done(client, started["batch_id"])
    assert len(person.questions) == 1
    assert len(asked(dependencies, "claid", "submit")) == 1
    assert "2 outputs more than were planned" in report["warnings"][0]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("DARKROOM_APPROVAL__ABOVE_PER_DAY", "the person has to be asked"),
        ("DARKROOM_SPENDING__CLAID_CREDITS_PER_DAY", "claid_credits_per_day = 2"),
    ],
    ids=["unasked", "cap"],
)
async def test_what_a_limit_of_the_day_stops_goes_on_by_a_retry(
    clock: Callable[[], float], tmp_path: Path, setting: str, said: str
) -> None:
    value = "2" if "SPENDING" in setting else '{"claid_credits": 2}'
    limit = {setting: value}
    dependencies = rigged(clock, tmp_path, {}, catalogue=tripled(), environment=limit)
    person = Asked()
    async with dependencies.client(elicitation=person) as client:
        started = await call(client, "start_batch", items=[PICTURE], then=EDIT)
        report = await until_done(client, started["batch_id"])
        assert said in report["warnings"][0]
        assert len(asked(dependencies, "claid", "submit")) == 2
        name = {"batch_id": started["batch_id"]}
        if "SPENDING" in setting:
            text = await refused(client, "retry_batch", **name)
            assert text.startswith("[spend_cap_reached]")
            await anyio.sleep(DAY)
        await call(client, "retry_batch", **name)
        await until_done(client, started["batch_id"])
    assert len(asked(dependencies, "claid", "submit")) == 3
    assert len(person.questions) == ("APPROVAL" in setting)

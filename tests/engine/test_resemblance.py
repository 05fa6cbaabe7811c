"""A start that repeats a call of unknown fate in other words is asked about before it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import anyio
import pytest

from darkroom.engine.resemblance import ALIKE, similarity
from darkroom_tools.emulators.kit import Fault
from tests.engine.money import Asked
from tests.engine.support import HOUR, IMAGE, TRYON, received
from tests.harness import ERAS, Era, Rig, call, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mcp_types import ElicitResult

    from mcp import Client
    from tests.harness import Fields

pytestmark = pytest.mark.anyio

FIRST = "A hero image of a mountain lake at dawn"
AGAIN = "Hero image: a mountain lake at dawn, with soft light"
STORES = pytest.mark.parametrize("store", ["memory", "sqlite"])


def lossy(
    clock: Callable[[], float],
    folder: Path,
    store: Literal["memory", "sqlite"] = "sqlite",
    environment: dict[str, str] | None = None,
) -> Rig:
    """Return a server whose first image is of unknown fate."""
    dependencies = rig(clock, folder, store=store, environment=environment or {})
    dependencies.sandbox.emulators["zsky"].faults.add("generate_image", Fault(kind="drop_after"))
    return dependencies


async def lost(client: Client, **arguments: object) -> Fields:
    job = await call(client, IMAGE.start, prompt=FIRST, **arguments)
    assert job["status"] == "unknown"
    return job


@STORES
@pytest.mark.parametrize("era", ERAS)
async def test_the_person_is_asked_before_it_is_sent(
    clock: Callable[[], float], tmp_path: Path, era: Era, store: Literal["memory", "sqlite"]
) -> None:
    dependencies = lossy(clock, tmp_path, store)
    person, received_before = Asked(), list[int]()

    async def answer(context: object, params: Any) -> ElicitResult:
        received_before.append(received(dependencies, IMAGE))
        return await person(context, params)

    async with dependencies.client(era, elicitation=answer) as client:
        with anyio.fail_after(HOUR):
            job = await lost(client)
            second = await call(client, IMAGE.start, prompt=AGAIN, seed=5)
    (question,) = person.questions
    assert job["job_id"] in question
    assert "perhaps pay twice" in question
    assert received_before == [1]
    assert received(dependencies, IMAGE) == 2
    assert second["job_id"] != job["job_id"]
    assert second["status"] == "running"


@pytest.mark.parametrize("era", ERAS)
async def test_a_no_sends_nothing(clock: Callable[[], float], tmp_path: Path, era: Era) -> None:
    dependencies, person = lossy(clock, tmp_path), Asked("decline")
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(HOUR):
            await lost(client)
            text = await refused(client, IMAGE.start, prompt=AGAIN)
    assert text.startswith("[declined]")
    assert received(dependencies, IMAGE) == 1


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("asks", [True, False])
async def test_where_nobody_is_asked_the_result_warns(
    clock: Callable[[], float], tmp_path: Path, era: Era, *, asks: bool
) -> None:
    person = Asked() if asks else None
    never = {"DARKROOM_APPROVAL__NEVER_ASK": f'["{IMAGE.start}"]'} if asks else {}
    dependencies = lossy(clock, tmp_path, environment=never)
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(HOUR):
            job = await lost(client)
            second = await call(client, IMAGE.start, prompt=AGAIN)
    (warning,) = second["warnings"]
    assert job["job_id"] in warning
    assert "in other words" in warning
    if person is not None:
        assert person.questions == []


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        (IMAGE.start, {"prompt": "Three cats play chess in a library"}),
        ("zsky_start_video", {"prompt": AGAIN}),
        (TRYON.start, dict(TRYON.arguments)),
    ],
)
async def test_another_wish_is_not_asked_about(
    clock: Callable[[], float], tmp_path: Path, tool: str, arguments: dict[str, object]
) -> None:
    dependencies, person = lossy(clock, tmp_path), Asked()
    async with dependencies.client(elicitation=person) as client:
        with anyio.fail_after(HOUR):
            await lost(client)
            job = await call(client, tool, **arguments)
    assert person.questions == []
    assert "warnings" not in job


async def test_a_job_that_was_settled_is_not_asked_about(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies, person = lossy(clock, tmp_path), Asked()
    async with dependencies.client(elicitation=person) as client:
        with anyio.fail_after(HOUR):
            job = await lost(client)
            await call(client, "resolve_job", job_id=job["job_id"], outcome="not_submitted")
            person.questions.clear()
            second = await call(client, IMAGE.start, prompt=AGAIN)
    assert person.questions == []
    assert "warnings" not in second


async def test_another_picture_with_the_same_words_is_another_wish(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies, person = rig(clock, tmp_path), Asked()
    dependencies.sandbox.emulators["claid"].faults.add("*", Fault(kind="drop_after"), times=1)

    def style(prompt: str) -> dict[str, object]:
        given = {"prompt": prompt, "style_reference_image": picture(3)}
        return {"generative": {"style_transfer": given}}

    def picture(number: int) -> str:
        return dependencies.sandbox.sample("model", number)

    async with dependencies.client(elicitation=person) as client:
        with anyio.fail_after(HOUR):
            edit = "claid_start_image_edit"
            first = await call(
                client, edit, input=picture(1), operations=style("a watercolour of the sea")
            )
            assert first["status"] == "unknown"
            await call(client, edit, input=picture(2), operations=style("a watercolour of the sea"))
            assert person.questions == []
            await call(client, edit, input=picture(1), operations=style("watercolour of the sea"))
    assert len(person.questions) == 1


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (FIRST, AGAIN, True),
        (FIRST, FIRST.upper(), True),
        ("赤い椅子の写真、朝の光", "赤い椅子の写真、朝の光の中で", True),
        ("赤い椅子の写真、朝の光", "海辺を走る犬", False),
        (FIRST, "Product photo of a leather wallet on marble", False),
        ("a cat", "a dog", False),
        ("?", "!", False),
        ("?", "?", True),
    ],
)
def test_texts_are_compared_in_any_script(one: str, other: str, *, alike: bool) -> None:
    assert (similarity(one, other) >= ALIKE) is alike
    assert similarity(one, other) == similarity(other, one)

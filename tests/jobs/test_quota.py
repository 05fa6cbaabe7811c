"""The day's cap and the month's allowance are said before the person says yes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp_types import CallToolResult, ElicitResult, InputRequiredResult

from darkroom_tools.emulators.kit import Fault
from tests.conftest import EPOCH
from tests.engine.batches.support import prompts
from tests.engine.money import Asked
from tests.engine.support import DAY, HOUR, asked
from tests.harness import ERAS, Era, Rig, call, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mcp import Client

pytestmark = pytest.mark.anyio

IMAGE, TOMORROW = "zsky_start_image", "2026-11-23T00:00:00Z"


def asking(clock: Callable[[], float], folder: Path, **zsky: str) -> Rig:
    """Build a server that asks before every picture; ``zsky`` are settings of ZSky."""
    environment = {
        "DARKROOM_APPROVAL__ABOVE": '{"zsky_images": 0}',
        "DARKROOM_RESULTS__DOWNLOAD": "never",
        **{f"DARKROOM_ZSKY__{name.upper()}": value for name, value in zsky.items()},
    }
    return rig(clock, folder, environment=environment)


async def start(client: Client, count: int, what: str = "Harbour") -> None:
    for number in range(count):
        await call(client, IMAGE, prompt=f"{what} {number}")


@pytest.mark.parametrize("era", ERAS)
async def test_a_start_that_would_wait_for_tomorrow_is_said_so_before_the_yes(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies, person = asking(clock, tmp_path, images_per_day="2"), Asked()
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(DAY):
            await start(client, 2)
            await anyio.sleep(60)
            waiting = await call(client, IMAGE, prompt="One too many")
    assert person.questions[0] == f"Spend 1 image (about 0.05) at ZSky on {IMAGE}?"
    assert person.questions[2] == (
        f"Spend 1 image (about 0.05) at ZSky on {IMAGE}? It waits for the next UTC day "
        f"({TOMORROW}) or longer: ZSky takes 2 a day."
    )
    assert waiting["queued_for"] == "allowance"
    assert waiting["starts_at"] == TOMORROW


@pytest.mark.parametrize("era", ERAS)
async def test_a_start_behind_jobs_that_take_the_rest_of_the_day_is_said_to_wait_perhaps(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies, person = asking(clock, tmp_path, images_per_day="5"), Asked()
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(DAY):
            await call(client, "start_batch", **prompts(5))
            await call(client, IMAGE, prompt="Behind them")
    assert "may have to wait" in person.questions[1]


@pytest.mark.parametrize("era", ERAS)
async def test_a_start_beyond_the_month_that_is_charged_for_is_said_so_before_the_yes(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies = asking(clock, tmp_path, images_per_month="2", allow_overage="true")
    person = Asked()
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(DAY):
            await start(client, 2)
            await anyio.sleep(60)
            job = await call(client, IMAGE, prompt="Beyond it")
    assert "charges" not in " ".join(person.questions[:2])
    said = "It goes beyond the month's allowance of 2 at ZSky, which charges for it."
    assert person.questions[2].endswith(said)
    assert job["warnings"] == [said]


@pytest.mark.parametrize("era", ERAS)
async def test_a_start_beyond_the_month_is_refused_before_anybody_is_asked(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies, person = asking(clock, tmp_path, images_per_month="2"), Asked()
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(20 * DAY):
            await start(client, 2)
            await anyio.sleep(60)
            text = await refused(client, IMAGE, prompt="Beyond it", idempotency_key="mine")
            assert text.startswith("[quota_exhausted] ")
            assert "allowance of 2 at ZSky is used up" in text
            assert len(person.questions) == 2
            assert len((await call(client, "list_jobs"))["jobs"]) == 2
            await anyio.sleep(10 * DAY)  # the next month has begun
            again = await call(client, IMAGE, prompt="Beyond it", idempotency_key="mine")
    assert again["status"] == "running", "a key that was refused is free"
    assert len(asked(dependencies, "zsky", "generate_image")) == 3


async def test_what_waits_until_the_next_month_is_not_said_to_be_charged_for(
    tmp_path: Path,
) -> None:
    offset = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()
    began = anyio.current_time()

    def clock() -> float:
        return offset + anyio.current_time() - began

    assert offset > EPOCH
    dependencies = asking(
        clock, tmp_path, images_per_day="2", images_per_month="2", allow_overage="true"
    )
    person = Asked()
    async with dependencies.client(elicitation=person) as client:
        with anyio.fail_after(DAY):
            await start(client, 2)
            await anyio.sleep(60)
            job = await call(client, IMAGE, prompt="In the next month")
    assert "(2026-12-01T00:00:00Z)" in person.questions[2]
    assert "charges" not in person.questions[2]
    assert "warnings" not in job


async def test_counters_of_last_month_decide_nothing_while_they_cannot_be_read_anew(
    tmp_path: Path,
) -> None:
    offset = datetime(2026, 11, 30, 23, 50, tzinfo=UTC).timestamp()
    began = anyio.current_time()

    def clock() -> float:
        return offset + anyio.current_time() - began

    used = {"zsky": {"used_elsewhere": {"image": 999}, "overage": True, "soft_cap": False}}
    server = rig(clock, tmp_path, switches=used)
    emulator = server.sandbox.emulators["zsky"]
    async with server.client() as client:
        with anyio.fail_after(DAY):
            await start(client, 1)
            await anyio.sleep(HOUR)  # the next month has begun
            emulator.faults.add("usage", Fault(kind="status", status=403), times=None)
            job = await call(client, IMAGE, prompt="In the next month")
    assert job["status"] == "running"


async def test_a_yes_to_what_the_month_covers_is_no_yes_to_what_is_charged_for(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = asking(clock, tmp_path, images_per_month="1", allow_overage="true")
    person = Asked("never")
    async with dependencies.client(elicitation=person) as client:
        ask = client.session.call_tool
        question = await ask(IMAGE, {"prompt": "First"}, allow_input_required=True)
        other = await ask(IMAGE, {"prompt": "Second"}, allow_input_required=True)
        assert isinstance(question, InputRequiredResult)
        assert isinstance(other, InputRequiredResult)
        yes: Any = {"approval": ElicitResult(action="accept", content={"approve": True})}
        taken = await ask(
            IMAGE,
            {"prompt": "First"},
            input_responses=yes,
            request_state=question.request_state,
            allow_input_required=True,
        )
        assert isinstance(taken, CallToolResult)
        assert not taken.is_error
        again = await ask(
            IMAGE,
            {"prompt": "Second"},
            input_responses=yes,
            request_state=other.request_state,
            allow_input_required=True,
        )
        assert isinstance(again, InputRequiredResult), "the question is another one now"
        assert "charges for it" in str(again.input_requests)
    assert len(asked(dependencies, "zsky", "generate_image")) == 1


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"images_per_day": "3"}, "ZSky takes 3 zsky_start_image a day: 2 of 5 wait"),
        ({"images_per_month": "3"}, "3 of the month's allowance at ZSky are left for 5"),
        (
            {"images_per_month": "3", "allow_overage": "true"},
            "left for 5 zsky_start_image: ZSky charges for the other 2.",
        ),
    ],
)
async def test_a_batch_is_said_what_it_meets_before_the_yes(
    clock: Callable[[], float],
    tmp_path: Path,
    era: Era,
    settings: dict[str, str],
    said: str,
) -> None:
    dependencies, person = asking(clock, tmp_path, **settings), Asked()
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(HOUR):
            started = await call(client, "start_batch", **prompts(5))
    assert person.questions[0].startswith("Start 5 jobs: 5 images at zsky (about 0.25)?")
    assert said in person.questions[0]
    assert said.rstrip(".") in started["warnings"][0]


async def test_a_batch_behind_another_counts_what_waits_before_it(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path, environment={"DARKROOM_ZSKY__IMAGES_PER_DAY": "4"})
    async with dependencies.client() as client:
        await call(client, "start_batch", **prompts(6))
        said = await call(client, "start_batch", **prompts(4, "Forest"), dry_run=True)
    assert "4 of 4 wait for the next 2 UTC days" in said["warnings"][0]

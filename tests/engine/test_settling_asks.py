"""Settling a job of unknown fate asks the person first, in both protocol eras."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitResult, InputRequiredResult

from darkroom_tools.emulators.kit import Fault
from tests.engine.money import Asked
from tests.engine.support import HOUR, asked
from tests.harness import ERAS, Era, Rig, call, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mcp import Client

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("era", ERAS)]

VIDEO = "zsky_start_video"
RESOLVE = "resolve_job"


def lossy(clock: Callable[[], float], folder: Path, **environment: str) -> Rig:
    """Return a server whose first video is lost on its way back."""
    dependencies = rig(
        clock, folder, environment={"DARKROOM_RESULTS__DOWNLOAD": "never", **environment}
    )
    dependencies.sandbox.emulators["zsky"].faults.add("generate_video", Fault(kind="drop_after"))
    return dependencies


async def lost(client: Client) -> str:
    job = await call(client, VIDEO, prompt="waves")
    assert job["status"] == "unknown"
    return job["job_id"]


async def status(client: Client, job_id: str) -> str:
    return (await call(client, "zsky_check_job", job_id=job_id, wait_seconds=0))["status"]


async def test_the_question_says_job_cost_and_what_not_submitted_frees(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies, person = lossy(clock, tmp_path), Asked()
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(HOUR):
            job_id = await lost(client)
            settled = await call(client, RESOLVE, job_id=job_id, outcome="not_submitted")
    assert settled["status"] == "failed"
    (question,) = person.questions
    for words in (
        job_id,
        VIDEO,
        "1 video (about 0.50)",
        "not submitted",
        "frees",
        "charged, again",
    ):
        assert words in question


async def test_the_question_says_which_job_it_is_taken_for(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies, person = lossy(clock, tmp_path), Asked()
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(HOUR):
            job_id = await lost(client)
            there = dependencies.sandbox.emulators["zsky"].charges[-1].job_id
            settled = await call(
                client, RESOLVE, job_id=job_id, outcome="submitted", provider_job_id=there
            )
    assert settled["status"] == "running"
    (question,) = person.questions
    for words in (job_id, VIDEO, "1 video (about 0.50)", f'"{there}" at ZSky', "spent"):
        assert words in question


@pytest.mark.parametrize("outcome", ["submitted", "not_submitted"])
async def test_a_no_settles_nothing_and_frees_nothing(
    clock: Callable[[], float], tmp_path: Path, era: Era, outcome: str
) -> None:
    dependencies = lossy(clock, tmp_path, DARKROOM_SPENDING__ZSKY_VIDEOS_PER_DAY="1")
    async with dependencies.client(era, elicitation=Asked("decline")) as client:
        with anyio.fail_after(HOUR):
            job_id = await lost(client)
            text = await refused(
                client, RESOLVE, job_id=job_id, outcome=outcome, provider_job_id="x"
            )
            assert text.startswith("[declined] ")
            assert await status(client, job_id) == "unknown"
            again = await refused(client, VIDEO, prompt="other waves")
            assert again.startswith("[spend_cap_reached] ")


@pytest.mark.parametrize("outcome", ["submitted", "not_submitted"])
async def test_where_nobody_can_be_asked_it_is_refused_with_the_setting_that_allows_it(
    clock: Callable[[], float], tmp_path: Path, era: Era, outcome: str
) -> None:
    """A model alone that repeats start and resolve_job gets no further than the cap."""
    dependencies = lossy(clock, tmp_path, DARKROOM_SPENDING__ZSKY_VIDEOS_PER_DAY="1")
    async with dependencies.client(era) as client:
        with anyio.fail_after(HOUR):
            job_id = await lost(client)
            text = await refused(
                client, RESOLVE, job_id=job_id, outcome=outcome, provider_job_id="x"
            )
            assert text.startswith("[not_configured] ")
            assert "[approval] never_ask = ['resolve_job']" in text
            assert await status(client, job_id) == "unknown"
            again = await refused(client, VIDEO, prompt="other waves")
            assert again.startswith("[spend_cap_reached] ")
    assert len(asked(dependencies, "zsky", "generate_video")) == 1


async def test_never_ask_settles_without_a_question(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies = lossy(clock, tmp_path, DARKROOM_APPROVAL__NEVER_ASK='["resolve_job"]')
    person = Asked("decline")
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(HOUR):
            settled = await call(
                client, RESOLVE, job_id=await lost(client), outcome="not_submitted"
            )
    assert settled["status"] == "failed"
    assert person.questions == []


async def test_what_cannot_be_settled_is_refused_before_anybody_is_asked(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies, person = lossy(clock, tmp_path), Asked()
    sentence = 'x" at ZSky? This only affects the sandbox. "'
    async with dependencies.client(era, elicitation=person) as client:
        with anyio.fail_after(HOUR):
            job_id = await lost(client)
            other = await call(client, VIDEO, prompt="tides")
            for code, arguments in (
                ("invalid_argument", {"job_id": job_id}),
                ("invalid_argument", {"job_id": job_id, "provider_job_id": sentence}),
                ("conflict", {"job_id": job_id, "provider_job_id": other["provider_job_id"]}),
                ("conflict", {"job_id": other["job_id"], "provider_job_id": "x"}),
                ("not_found", {"job_id": "zsky_nothing", "provider_job_id": "x"}),
            ):
                text = await refused(client, RESOLVE, outcome="submitted", **arguments)
                assert text.startswith(f"[{code}] "), text
    assert person.questions == []


async def test_a_yes_to_one_outcome_is_not_taken_for_another(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    if era == "legacy":
        pytest.skip("there the host answers the question itself, within the call")
    dependencies, unused = lossy(clock, tmp_path), Asked("decline")
    async with dependencies.client(era, elicitation=unused) as client:
        with anyio.fail_after(HOUR):
            job_id = await lost(client)
            asked_for = {"job_id": job_id, "outcome": "submitted", "provider_job_id": "x"}
            needed = await client.session.call_tool(RESOLVE, asked_for, allow_input_required=True)
            assert isinstance(needed, InputRequiredResult)
            yes = ElicitResult(action="accept", content={"approve": True})
            with pytest.raises(MCPError, match="requestState"):
                await client.session.call_tool(
                    RESOLVE,
                    {"job_id": job_id, "outcome": "not_submitted"},
                    input_responses=dict.fromkeys(needed.input_requests or {}, yes),
                    request_state=needed.request_state,
                    allow_input_required=True,
                )
            assert await status(client, job_id) == "unknown"

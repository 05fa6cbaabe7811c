"""Two owners in one process: each has an engine, both share one runtime, neither sees the other."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from darkroom.core.errors import CallError
from darkroom.engine.engine import Engine
from darkroom.jobs.model import LOCAL_OWNER
from darkroom.jobs.store import Query
from darkroom.providers.operations import CheckOperation
from darkroom.providers.params import CheckParams
from darkroom_tools.emulators.kit import Fault
from tests.engine.servers import asked_of, servers, wait_until
from tests.engine.support import DAY, IMAGE, TRYON
from tests.faults.process import Yes, tools

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from darkroom.jobs.model import Job
    from tests.faults.process import Process
    from tests.harness import Fields

pytestmark = pytest.mark.anyio

KIM = "kim"
NOBODYS = "zupertry_01jd0000000000000000000000"
"""An id as ours are, which belongs to nobody."""


async def call_as(one: Process, engine: Engine, tool: str, arguments: Mapping[str, object]) -> Any:
    return (await tools(one.settings)[tool].run(engine, arguments, Yes())).structured


async def refusal(one: Process, engine: Engine, tool: str, **arguments: object) -> str:
    with pytest.raises(CallError) as caught:
        await call_as(one, engine, tool, arguments)
    return caught.value.text


async def a_finished_tryon(one: Process) -> tuple[Fields, Job]:
    """Return a job of the process's own person that has completed, and its row."""
    started = await one.call(TRYON.start, **TRYON.arguments)
    await wait_until(one, TRYON.check, "completed", job_id=started["job_id"])
    row = await (await one.store()).job(LOCAL_OWNER, started["job_id"])
    assert row is not None
    assert row.provider_job_id is not None
    return started, row


async def test_what_one_owner_starts_another_finds_through_no_method_of_the_engine(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path, 1) as ((one,), sandbox, _):
        kim = one.engine.of(KIM)
        _, row = await a_finished_tryon(one)
        batch = await one.call("start_batch", tool=IMAGE.start, arguments=IMAGE.arguments, copies=2)
        provider = kim.providers[row.provider]
        check = next(o for o in provider.operations if isinstance(o, CheckOperation))
        live = await one.engine.job(row.job_id)
        assert live is not None

        async def refused(work: Awaitable[object]) -> str:
            with pytest.raises(CallError) as caught:
                await work
            return caught.value.failure.code

        async def sees_no_job() -> None:
            for job_id in (row.job_id, batch["batch_id"]):
                assert await kim.job(job_id) is None

        async def finds_none() -> None:
            for job_id in (row.job_id, row.provider_job_id or ""):
                assert await kim.find(provider, job_id) is None

        async def lists_none() -> None:
            assert await kim.jobs(Query(owner=KIM)) == []
            assert await kim.jobs(Query(owner=LOCAL_OWNER)) == []  # the engine's owner counts

        async def checks_none() -> None:
            for job_id in (row.job_id, row.provider_job_id):
                params = CheckParams.model_validate({"job_id": job_id})
                assert await refused(kim.check(provider, check, params, Yes())) == "not_found"

        async def resolves_none() -> None:
            assert await refused(kim.resolve(row.job_id, "not_submitted", None, Yes())) == (
                "not_found"
            )

        async def has_no_batches() -> None:
            batches, batch_id = await kim.batches(), batch["batch_id"]
            assert await refused(batches.report(batch_id)) == "not_found"
            assert await refused(batches.wait(batch_id, 0, Yes())) == "not_found"
            assert await refused(batches.cancel(batch_id, await kim.caller())) == "not_found"
            assert await refused(batches.retry(batch_id, Yes())) == "not_found"

        async def has_no_outputs() -> None:
            assert await (await kim.outputs()).batch(kim.owner, batch["batch_id"]) == []

        async def starts_a_job_of_its_own() -> None:
            mine = await call_as(one, kim, TRYON.start, TRYON.arguments)
            assert mine["job_id"] != row.job_id
            kept = await (await one.store()).job(KIM, mine["job_id"])
            assert kept is not None
            assert kept.owner == KIM

        async def calls_about_none() -> None:
            for job_id in (row.job_id, row.provider_job_id):
                said = await refusal(one, kim, "zupertry_cancel_tryon", job_id=job_id)
                assert "not_found" in said or "there is no job" in said

        shown: dict[str, Callable[[], Awaitable[None]] | str] = {
            "job": sees_no_job,
            "find": finds_none,
            "jobs": lists_none,
            "check": checks_none,
            "resolve": resolves_none,
            "batches": has_no_batches,
            "outputs": has_no_outputs,
            "start": starts_a_job_of_its_own,
            "call": calls_about_none,
            "caller": "as call",
            "shown": "takes a job that only `job` returns",
            "shown_output": "takes an output that only `job` returns",
            "answer": "takes a job that only `job` returns",
            "poll_after": "takes a job that only `job` returns",
            "check_tool": "takes a job that only `job` returns",
            "use_yes": "the serial of a question, which is drawn at random",
            "of": "for whoever knows who is asking",
            "runtime": "for whoever serves all owners",
            "broken": "tells of the process",
            "wait_seconds": "tells of a setting",
        }
        methods = {n for n, _ in inspect.getmembers(Engine, inspect.isfunction) if n[0] != "_"}
        assert methods == shown.keys()
        for look in shown.values():
            if not isinstance(look, str):
                await look()
        assert asked_of(sandbox, "cancel") == []  # nor was one sent with the key that both share


@pytest.mark.parametrize(
    ("tool", "argument"),
    [
        (TRYON.check, "job_id"),
        ("zupertry_cancel_tryon", "job_id"),
        ("show_results", "job_id"),
        ("check_batch", "batch_id"),
        ("cancel_batch", "batch_id"),
        ("retry_batch", "batch_id"),
    ],
)
async def test_a_tool_answers_to_a_foreign_id_as_to_an_unknown_one(
    clock: Callable[[], float], tmp_path: Path, tool: str, argument: str
) -> None:
    async with servers(clock, tmp_path, 1) as ((one,), _, _):
        kim = one.engine.of(KIM)
        _, row = await a_finished_tryon(one)
        foreign = row.job_id
        if argument == "batch_id":
            batch = await one.call("start_batch", tool=IMAGE.start, arguments=IMAGE.arguments)
            foreign = batch["batch_id"]
        said = await refusal(one, kim, tool, **{argument: foreign})
        unknown = await refusal(one, kim, tool, **{argument: NOBODYS})
        assert said.replace(foreign, NOBODYS) == unknown


async def test_a_foreign_job_is_no_input_and_a_foreign_name_no_obstacle(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path, 1) as ((one,), _, _):
        kim = one.engine.of(KIM)
        _, row = await a_finished_tryon(one)
        wears = {**TRYON.arguments, "model_image_url": f"job:{row.job_id}"}
        said = await refusal(one, kim, TRYON.start, **wears)
        assert f"there is no job behind job:{row.job_id}" in said
        named = {**IMAGE.arguments, "idempotency_key": "order 7"}
        first = await one.call(IMAGE.start, **named)
        second = await call_as(one, kim, IMAGE.start, {**named, "prompt": "A harbour"})
        assert first["job_id"] != second["job_id"]


async def test_a_job_of_unknown_fate_is_not_settled_as_the_job_of_another_owner(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path, 1) as ((one,), sandbox, _):
        kim = one.engine.of(KIM)
        _, row = await a_finished_tryon(one)
        sandbox.emulators["zupertry"].faults.add(TRYON.submit, Fault(kind="status", status=500))
        lost = await call_as(one, kim, TRYON.start, TRYON.arguments)
        assert lost["status"] == "unknown"
        await anyio.sleep(DAY)  # evidence is looked for meanwhile
        live = await kim.job(lost["job_id"])
        assert live is not None
        assert str(row.provider_job_id) not in str(live.job.evidence)
        said = await refusal(
            one,
            kim,
            "resolve_job",
            job_id=lost["job_id"],
            outcome="submitted",
            provider_job_id=row.provider_job_id,
        )
        assert "not_found" in said
        assert live.job.status == "unknown"


async def test_a_server_that_starts_takes_up_the_jobs_and_batches_of_every_owner(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path) as ((one, two), _, _):
        kim = one.engine.of(KIM)
        asked = {"tool": IMAGE.start, "arguments": IMAGE.arguments, "copies": 2}
        ids = [(await one.call("start_batch", **asked))["batch_id"]]
        ids.append((await call_as(one, kim, "start_batch", asked))["batch_id"])
        await one.kill()
        await anyio.sleep(600)
        for engine, batch_id in zip((two.engine, two.engine.of(KIM)), ids, strict=True):
            report = await call_as(two, engine, "check_batch", {"batch_id": batch_id})
            assert report["status"] == "completed"
            batch = await engine.job(batch_id)
            assert batch is not None
            assert batch.job.ended  # its row too was ended, by who took it up

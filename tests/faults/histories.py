"""Histories of chance: two servers on one journal, and everything that can happen to them.

A history is played within one event loop on a virtual clock, so its rules are drawn one after the
other as it goes on, and not from a `RuleBasedStateMachine`, whose rules cannot await. At its end
what the emulators were asked and charged for is compared with what the journal says.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

import anyio
import trio.testing
from hypothesis import HealthCheck
from hypothesis import strategies as st

from darkroom.core.errors import CallError
from darkroom.jobs.model import LOCAL_OWNER
from darkroom.jobs.pending_approvals import APPROVAL_SECONDS
from darkroom.jobs.store import Query
from darkroom_tools.emulators.kit import Fault, FaultKind
from darkroom_tools.emulators.sandbox import Sandbox
from tests.faults.playing import DRAWN, now
from tests.faults.process import KilledError, LaterYes, Process, Yes, process
from tests.faults.scenarios import HUGE, SAMPLES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskGroup
    from hypothesis.strategies import DataObject

    from darkroom.jobs.model import Attempt, Job
    from darkroom_tools.emulators.zsky.emulator import ZskyEmulator
    from darkroom_tools.emulators.zupertry.emulator import ZupertryEmulator
    from tests.harness import Fields

PROMPTS = ("one", "two", "three")
KEYS = (None, None, "k", "l")
STATUSES = (400, 401, 404, 429, 500, 502, 503)
MOST_RULES = 30
ASKS = {"DARKROOM_APPROVAL__ABOVE": '{"zsky_images": 0, "zupertry_credits": 0}'}
PEOPLE = (Yes(), Yes(), LaterYes())
"""Most are asked on the call, some by the task."""

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
"""What a history is, and what hypothesis would complain of."""

LONG_SECONDS = 2 * 3600.0
"""By then everything that is still under way in a history has ended."""

faults = st.one_of(
    st.sampled_from(
        [k for k in get_args(FaultKind) if k not in {"status", "delay", "huge", "never_finish"}]
    ).map(lambda kind: Fault(kind=kind)),
    st.sampled_from(STATUSES).map(lambda status: Fault(kind="status", status=status)),
    st.sampled_from((0.5, 3.0, 20.0)).map(lambda s: Fault(kind="delay", seconds=s)),
    st.just(Fault(kind="huge", size=HUGE)),
)


@dataclass(repr=False)
class History:
    """Two places for servers, one journal, the emulators, and how far it has come."""

    folder: Path
    data: DataObject
    tasks: TaskGroup
    sandbox: Sandbox = field(default_factory=lambda: Sandbox(clock=now, offload=DRAWN))
    servers: list[Process | None] = field(default_factory=lambda: [None, None])
    calls: list[anyio.CancelScope] = field(default_factory=list[anyio.CancelScope])
    ids: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311 -- repeatable
    told: list[str] = field(default_factory=list[str])
    """What was done, for the report of a failure."""

    def boot(self, place: int) -> Process:
        """Start a server."""
        one = process(self.sandbox, self.folder, now, ASKS, seed=len(self.told), ids=self.ids)
        self.servers[place] = one
        one.begin(self.tasks)
        return one

    # --- rules ---

    async def start(self) -> None:
        """Call a start tool, and do not wait for it."""
        one, prompt = self.any_server(), self.data.draw(st.sampled_from(PROMPTS), "prompt")
        arguments: dict[str, object] = {"prompt": prompt, "width": 256, "height": 256}
        tool = self.data.draw(st.sampled_from(("zsky_start_image", "zupertry_start_tryon")), "tool")
        if tool == "zupertry_start_tryon":
            garment = f"{SAMPLES}/garment-{PROMPTS.index(prompt) + 1}.jpg"
            arguments = {
                "model_image_url": f"{SAMPLES}/model-1.jpg",
                "garment_image_url": garment,
            }
        key = self.data.draw(st.sampled_from(KEYS), "key")
        if key is not None:
            arguments["idempotency_key"] = f"{tool}-{prompt}-{key}"
        person = self.data.draw(st.sampled_from(PEOPLE), "person")
        scope = anyio.CancelScope()
        self.calls.append(scope)

        async def run() -> None:
            with scope:
                try:
                    await one.call_for(person, tool, arguments)
                except CallError as error:
                    if error.failure.code == "internal_error":
                        raise

        self.tasks.start_soon(run)
        await anyio.sleep(self.data.draw(st.sampled_from((0.0, 0.01, 1.0)), "then"))

    async def answer(self) -> None:
        """Answer what a job asks, at two servers or twice at one, and do not wait for the rest."""
        both = self.any_server(), self.any_server()
        asking = [job.job_id for job in await every_job(both[0]) if job.asks]
        if asking:
            job_id = self.data.draw(st.sampled_from(asking), "asks")
            for one in both:
                yes = self.data.draw(st.sampled_from((True, True, False)), "yes")
                self.tasks.start_soon(give, one, job_id, yes)
            await anyio.sleep(self.data.draw(st.sampled_from((0.0, 0.01, 1.0)), "then"))

    async def cancel(self) -> None:
        """Let a host give up on a call."""
        if self.calls:
            self.calls[self.data.draw(st.integers(0, len(self.calls) - 1), "call")].cancel()

    async def fault(self) -> None:
        """Plan what goes wrong next."""
        name, operation = self.data.draw(
            st.sampled_from(
                (("zsky", "generate_image"), ("zupertry", "submit"), ("zsky", "get_job"),
                 ("zupertry", "get"), ("zsky", "*"))
            ),
            "where",
        )  # fmt: skip
        fault = self.data.draw(faults, "fault")
        self.sandbox.emulators[name].faults.add(operation, fault)

    async def kill(self) -> None:
        """Kill a server; the other one may go on."""
        place = self.data.draw(st.sampled_from((0, 1)), "place")
        one = self.servers[place]
        if one is not None:
            self.servers[place] = None
            await one.kill()

    async def stop(self) -> None:
        """Stop a server in order."""
        place = self.data.draw(st.sampled_from((0, 1)), "place")
        one = self.servers[place]
        if one is not None:
            self.servers[place] = None
            await one.stop()

    async def begin(self) -> None:
        """Start a server where there is none."""
        for place, one in enumerate(self.servers):
            if one is None:
                self.boot(place)
                return

    async def check(self) -> None:
        """Check a job, from any server."""
        one = self.any_server()
        jobs = (await one.call("list_jobs"))["jobs"]
        if jobs:
            job = jobs[self.data.draw(st.integers(0, len(jobs) - 1), "job")]
            tool = check_tool(job)
            wait = self.data.draw(st.sampled_from((0, 5)), "wait")
            fields, code = await one.said(tool, job_id=job["job_id"], wait_seconds=wait)
            assert code != "internal_error"
            assert fields.get("job_id", job["job_id"]) == job["job_id"]

    async def resolve(self) -> None:
        """Let the person look at the provider's page, and settle an unknown job by it."""
        one = self.any_server()
        jobs = (await one.call("list_jobs", status="unknown"))["jobs"]
        if jobs:
            await self.settle(
                one, jobs[self.data.draw(st.integers(0, len(jobs) - 1), "job")]["job_id"]
            )

    async def wait(self) -> None:
        """Let time pass."""
        await anyio.sleep(self.data.draw(st.sampled_from((0.1, 2.0, 40.0, 700.0)), "seconds"))

    async def settle(self, one: Process, job_id: str) -> None:
        """Say truthfully what became of an unknown job, as far as the provider's page shows it."""
        store = await one.store()
        job = await store.job(LOCAL_OWNER, job_id)
        if job is None or job.status != "unknown":
            return
        others = [each for each in await every_job(one) if subject(each) == subject(job)]
        if any(each.status == "submitting" for each in others):
            return  # what the page shows may be that one
        claimed = {each.provider_job_id for each in others}
        free = [i for i in self.made(job.provider, subject(job)) if i not in claimed]
        if free:
            await one.said(
                "resolve_job", job_id=job_id, outcome="submitted", provider_job_id=free[0]
            )
        else:
            await one.said("resolve_job", job_id=job_id, outcome="not_submitted")

    # --- what the provider has ---

    def any_server(self) -> Process:
        """Return a server that runs; there is always one."""
        found = [one for one in self.servers if one is not None]
        if not found:
            return self.boot(0)
        return found[self.data.draw(st.integers(0, len(found) - 1), "server")]

    def made(self, provider: str, of: str) -> list[str]:
        """Return the ids of the provider's jobs of one subject."""
        if provider == "zsky":
            zsky = cast("ZskyEmulator", self.sandbox.emulators["zsky"])
            jobs = [job for account in zsky.keys.values() for job in account.jobs.values()]
            return [job.id for job in jobs if job.request["prompt"] == of]
        zupertry = cast("ZupertryEmulator", self.sandbox.emulators["zupertry"])
        return [
            job.id
            for job in zupertry._jobs.values()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- its page
            if job.garment.endswith(f"-{of}.jpg")
        ]

    async def play(self) -> None:
        """Play rules, then let everything come to its end, and compare."""
        self.boot(0)
        rules: dict[str, Callable[[], Awaitable[None]]] = {
            rule.__name__: rule
            for rule in (
                self.start,
                self.answer,
                self.fault,
                self.cancel,
                self.kill,
                self.stop,
                self.begin,
                self.check,
                self.resolve,
                self.wait,
            )
        }
        often = (*rules, "start", "start", "answer", "fault", "wait")
        for _ in range(self.data.draw(st.integers(1, MOST_RULES), "rules")):
            rule = self.data.draw(st.sampled_from(often), "rule")
            self.told.append(rule)
            await rules[rule]()
        for emulator in self.sandbox.emulators.values():
            emulator.faults.clear()
        one = self.any_server()
        for job in await every_job(
            one
        ):  # what a dead server held is taken over when it is asked for
            await one.said(check_tool(job), job_id=job.job_id, wait_seconds=0)
        await anyio.sleep(LONG_SECONDS)
        await self.compare(one, settled=False)
        for job in await every_job(one):
            await self.settle(one, job.job_id)
        await anyio.sleep(APPROVAL_SECONDS + LONG_SECONDS)
        await self.compare(one, settled=True)
        for server in self.servers:
            if server is not None:
                await server.stop()

    async def compare(self, one: Process, *, settled: bool) -> None:
        """Hold the journal to what the providers did and charged."""
        jobs = await every_job(one)
        store = await one.store()
        rows: defaultdict[tuple[str, str], list[Job]] = defaultdict(list)
        attempts: list[Attempt] = []
        for job in jobs:
            rows[job.provider, subject(job)].append(job)
            made = await store.attempts(LOCAL_OWNER, job.job_id)
            assert not (job.unapproved and made), "nobody said yes, and it could be sent"
            attempts += made
        for provider in ("zsky", "zupertry"):
            for of in PROMPTS if provider == "zsky" else ("1", "2", "3"):
                here = rows[provider, of]
                there = self.made(provider, of)
                claimed = [job.provider_job_id for job in here if job.provider_job_id is not None]
                unknown = [job for job in here if job.status == "unknown"]
                assert max(Counter(claimed).values(), default=0) <= 1, "two jobs claim one"
                assert set(claimed) <= set(there), "wrongly adopted"
                lost = set(there) - set(claimed)
                assert len(lost) <= len(unknown), f"lost or paid twice: {lost}"
                if settled:
                    assert not lost
                    assert not unknown
                    assert not [job for job in here if not job.ended], "never ended"
        by_job = Counter(a.job_id for a in attempts if a.state in {"accepted", "unknown", "sent"})
        assert max(by_job.values(), default=0) <= 1, "a job was sent again that may have arrived"
        for provider in ("zsky", "zupertry"):
            charged = sum(each.amount for each in self.sandbox.emulators[provider].charges)
            shown = (await one.call("get_spending", since="2026-01-01"))["providers"]
            counted = sum(each["spent"] for each in shown if each["provider"] == provider)
            assert charged <= counted, "charged, and the ledger does not know"
            if settled:
                assert charged == counted


async def give(one: Process, job_id: str, yes: bool) -> None:  # noqa: FBT001 -- a task takes no names
    """Give the person's answer to a server, which may be stopped or killed meanwhile."""
    try:
        live = await one.engine.job(job_id)
        if live is not None and live.job.asks and live.job.approval is not None:
            await one.engine.answer(live, live.job.approval, yes=yes)
    except (CallError, KilledError, RuntimeError) as error:
        if one.dead:  # nobody is told anything, and its task groups are closed
            return
        # The last of them: it was stopped before its journal was open.
        ends = {"timeout", "outcome_unknown", "not_configured"}
        if not isinstance(error, CallError) or error.failure.code not in ends:
            raise


def subject(job: Job) -> str:
    """Return what tells the jobs of one intent from others, here and at the provider."""
    garment = str(job.arguments.get("garment_image_url", ""))
    return garment[:-4].rpartition("-")[2] if garment else str(job.arguments["prompt"])


def check_tool(job: Job | Fields) -> str:
    """Return the tool that checks a job."""
    provider = job["provider"] if isinstance(job, dict) else job.provider
    return "zsky_check_job" if provider == "zsky" else "zupertry_check_tryon"


async def every_job(one: Process) -> list[Job]:
    """Return all rows of the journal."""
    return await (await one.store()).list(Query(owner="local", limit=1_000))


async def _history(data: DataObject) -> Counter[str]:
    happened: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as made:
        async with anyio.create_task_group() as tasks:
            history = History(Path(made), data, tasks)
            try:
                await history.play()
            except AssertionError as error:
                error.add_note(" ".join(history.told))
                raise
            happened.update(history.told)
            happened["charge"] = sum(len(e.charges) for e in history.sandbox.emulators.values())
            tasks.cancel_scope.cancel()
    return happened


def play(data: DataObject) -> Counter[str]:
    """Play one history on a clock of its own; return how often each rule was played, and charges.

    Raises
    ------
    AssertionError: something was paid twice, lost or wrongly adopted; its note tells the history.
    """
    return anyio.run(
        _history,
        data,
        backend="trio",
        backend_options={"clock": trio.testing.MockClock(autojump_threshold=0)},
    )

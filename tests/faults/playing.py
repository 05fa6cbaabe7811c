"""Playing a scenario: one call, one fault, perhaps a cancellation, and what came of it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio
import anyio.lowlevel
import trio
import trio.testing

from darkroom.jobs.storage.memory import MemoryStore
from darkroom_tools.emulators.kit import Offload
from darkroom_tools.emulators.sandbox import Sandbox
from tests.conftest import EPOCH
from tests.faults.process import Process, process
from tests.faults.scenarios import FAULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from functools import partial

    from darkroom.jobs.model import Attempt, Job
    from darkroom.jobs.spending import Entry
    from darkroom.jobs.store import Created
    from tests.faults.scenarios import Scenario

T = TypeVar("T")


class Drawn(Offload):
    """Draws every picture once: what is on it matters to nobody here."""

    def __init__(self) -> None:
        self._drawn: dict[str, object] = {}

    async def __call__(self, function: Callable[[], T]) -> T:
        """Return what ``function`` returned before, or returns now."""
        drawing = cast("partial[T]", function)
        key = drawing.func.__qualname__
        if key not in self._drawn:
            self._drawn[key] = function()
        return cast("T", self._drawn[key])


DRAWN = Drawn()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a call: what it said, what the provider did, what the journal knows.

    ``said``: the status of its job, ``ok``, the code of its error, or ``cancelled``. ``acted`` and
    ``charged`` are the emulator's, ``attempts`` and ``job`` the journal's, once all was quiet.
    """

    said: str
    seconds: float
    acted: int
    charged: float
    counted: float
    """What the ledger counts of it, reserved or spent."""

    attempts: tuple[str, ...]
    job: str | None
    steps: int = 0


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope when tasks have run for so many steps."""

    def __init__(self, scope: anyio.CancelScope, after: int | None) -> None:
        self.steps = 0
        self._scope = scope
        self._after = after

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count, and cancel when it is time."""
        del task
        if self.steps == self._after:
            self._scope.cancel()
        self.steps += 1


QUIET_SECONDS = 7_200.0
"""By then every repetition, every slot and Zyng's deadline are over."""


class Recorded(MemoryStore):
    """A journal in memory that shows all its attempts, and lets others run around every write."""

    async def create(self, job: Job, attempts: Sequence[Attempt], **more: Any) -> Created:
        """Insert a job."""
        await anyio.lowlevel.checkpoint()
        created = await super().create(job, attempts, **more)
        await anyio.lowlevel.checkpoint()
        return created

    async def write(self, job: Job | None, attempts: Sequence[Attempt] = (), **more: Any) -> None:
        """Replace rows."""
        await anyio.lowlevel.checkpoint()
        await super().write(job, attempts, **more)
        await anyio.lowlevel.checkpoint()

    def counted(self, provider: str) -> list[Entry]:
        """Return the entries of the ledger that count."""
        entries = self._ledger._entries.values()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- what the caps see
        return [e for e in entries if e.provider == provider and e.state != "released"]

    @property
    def attempts_made(self) -> list[Attempt]:
        """Every attempt, oldest first."""
        return list(self._attempts.values())


async def play(scenario: Scenario, fault: str, cancel_after: int | None = None) -> Outcome:
    """Make one call that meets a fault, and perhaps is cancelled; wait until all is quiet."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        sandbox = Sandbox(clock=now, offload=DRAWN)
        emulator = sandbox.emulators[scenario.emulator]
        key_file = folder / "zsky.key"
        key_file.write_text(sandbox.environment()["ZSKY_API_KEY"])
        store = Recorded()
        one = process(
            sandbox,
            folder,
            now,
            {
                "ZSKY_API_KEY": "",
                "ZSKY_API_KEY_FILE": str(key_file),
                "DARKROOM_ZYNG__TIER": "3",
            },
        )
        one = Process(one.settings, one.environment, now, one.way, open_store=lambda _: store)
        outcome: Outcome | None = None
        async with anyio.create_task_group() as tasks:
            one.begin(tasks)
            more = await scenario.before(one, sandbox) if scenario.before is not None else {}
            arguments = {**scenario.arguments, **more}
            planned = FAULTS[fault]
            if planned is not None:
                emulator.faults.add(scenario.operation, planned[0], times=planned[1])
            asked, charges = len(emulator.requests), len(emulator.charges)
            attempts = len(store.attempts_made)
            counted = sum(each.amount for each in store.counted(scenario.emulator))
            began, said = now(), "cancelled"
            scope = anyio.CancelScope()
            cancel = CancelAtStep(scope, cancel_after)
            trio.lowlevel.add_instrument(cancel)
            with scope:
                fields, code = await one.said(scenario.tool, **arguments)
                said = code or str(fields.get("status", "ok"))
            trio.lowlevel.remove_instrument(cancel)
            seconds = now() - began
            await anyio.sleep(QUIET_SECONDS)
            listed = (await one.call("list_jobs"))["jobs"]
            outcome = Outcome(
                said=said,
                seconds=seconds,
                acted=sum(
                    each.acted
                    and (each.status is None or each.status < 400 or each.fault is not None)
                    for each in emulator.requests[asked:]
                    if each.operation == scenario.operation
                ),
                charged=sum(each.amount for each in emulator.charges[charges:]),
                counted=sum(each.amount for each in store.counted(scenario.emulator)) - counted,
                attempts=tuple(a.state for a in store.attempts_made[attempts:]),
                job=listed[0]["status"] if listed else None,
                steps=cancel.steps,
            )
            await one.stop()
            tasks.cancel_scope.cancel()
    assert outcome is not None
    return outcome


def now() -> float:
    """Return the virtual wall clock (seconds since 1970)."""
    return EPOCH + trio.current_time()


def played(scenario: Scenario, fault: str, cancel_after: int | None = None) -> Outcome:
    """Run `play` on a virtual clock of its own."""
    return anyio.run(
        play,
        scenario,
        fault,
        cancel_after,
        backend="trio",
        backend_options={"clock": trio.testing.MockClock(autojump_threshold=0)},
    )


def mistakes(scenario: Scenario, outcome: Outcome) -> Iterator[str]:
    """Name every promise that an outcome breaks."""
    if outcome.seconds > 45:
        yield f"it answered after {outcome.seconds:.0f} s"
    if outcome.said == "internal_error":
        yield "it failed in this server"
    if scenario.before is None and outcome.charged > outcome.counted:
        yield f"it was charged {outcome.charged} times and the ledger counts {outcome.counted}"
    if scenario.repeatable:
        if outcome.attempts:
            yield f"a read is in the journal: {outcome.attempts}"
        return
    most = 2 if scenario.operation == "process_image" else 1
    if outcome.acted > most:
        yield f"it was done {outcome.acted} times"
    if outcome.charged > (2 if scenario.tool == "zyng_start_images" else 1):
        yield f"it was charged {outcome.charged} times"
    known = sum(state in {"accepted", "unknown"} for state in outcome.attempts)
    if outcome.acted > known:
        yield f"it was done {outcome.acted} times and the journal knows {outcome.attempts}"
    if "sent" in outcome.attempts:
        yield "an attempt was left open"
    if scenario.check_tool and outcome.charged and outcome.job in {"failed", "cancelled", "queued"}:
        yield f"it was paid for and is {outcome.job}"

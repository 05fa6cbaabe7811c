"""Outputs of earlier jobs and local files as inputs: ``job:<job_id>#<index>``, ``input:<sha256>/...``.

A job waits here until the jobs that it names have ended. Just before it is sent, each reference is
replaced by the address of the output; if that has expired, the provider is asked for a new one. A
local file is uploaded if the provider takes addresses only: see `darkroom.jobs.uploads`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio

from darkroom.core.errors import CallError, Failure, FetchError, call_error
from darkroom.providers.params import REFERENCE, References

if TYPE_CHECKING:
    from collections.abc import Callable

    from darkroom.core.json_types import JsonValue
    from darkroom.jobs.context import JobContext
    from darkroom.jobs.model import Job
    from darkroom.jobs.outputs import OutputFiles
    from darkroom.jobs.registry import LiveJob
    from darkroom.jobs.uploads import Uploads
    from darkroom.providers.params import Takes
    from darkroom.providers.values import Output

LOOK_SECONDS = 1.0
"""How often the jobs of other processes are read while a job here waits for them."""

LIFE_LEFT_SECONDS = 60.0
"""Seconds that an address must still be valid, because the provider needs time to fetch it."""

_MARK = "job:"
LOCAL_MARK = "input:"


@dataclass(frozen=True, slots=True)
class Reference:
    """One output of a job."""

    text: str
    job_id: str
    index: int


def parse(text: str) -> Reference:
    """Read a reference that has passed the validation of the arguments."""
    match = REFERENCE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return Reference(text, match[1], int(match[2] or 0))


class Inputs:
    """The outputs that jobs wait for, and their addresses."""

    def __init__(self, context: JobContext, outputs: OutputFiles, uploads: Uploads) -> None:
        self._context = context
        self._outputs = outputs
        self._uploads = uploads
        self._waiting: defaultdict[tuple[str, str], list[Callable[[], None]]] = defaultdict(list)
        """What goes on when a job ends, by its owner and id."""
        self._asking: dict[str, anyio.Lock] = {}
        """Locks of the jobs for whose outputs new addresses are being requested."""

        self._seen = 0
        """Number of writes by other processes when the awaited jobs were last read."""

    def named(self, job: Job) -> dict[str, Takes]:
        """Return the references in a job's arguments, each with what its argument takes."""
        if not any(_mentions(value) for value in job.arguments.values()):
            return {}
        found = References()
        try:
            self._context.params(job, self._context.operations[job.operation], found)
        except ValueError:  # a row that this version cannot read: it is refused when it is sent
            return {}
        return found.seen

    def of(self, job: Job) -> list[Reference]:
        """Return the references to outputs of other jobs; most jobs have none."""
        return [parse(text) for text in sorted(self.named(job)) if text.startswith(_MARK)]

    async def fetch(self, live: LiveJob) -> None:
        """Upload the local files of a job whose provider takes addresses.

        Raises
        ------
        CallError: ``input_failed`` or ``not_configured``; nothing was sent to the provider.
        """
        job, operation = live.job, self._context.operations[live.job.operation]
        for text in self.named(job):
            if text.startswith(LOCAL_MARK) and operation.files == "address":
                await self._uploads.hand_over(job, operation, text, live)

    async def missing(self, job: Job) -> list[str]:
        """Return the references that name no job of the job's owner."""
        return [
            reference.text
            for reference in self.of(job)
            if await self._context.registry.get(job.owner, reference.job_id) is None
        ]

    async def state(self, job: Job) -> tuple[Literal["ready", "waiting", "gone"], str]:
        """Tell whether all inputs of a job are there; otherwise return the job that is missing."""
        for reference in self.of(job):
            source = await self._context.registry.get(job.owner, reference.job_id)
            if source is None:
                return "gone", reference.job_id
            if not source.job.ended:
                return "waiting", reference.job_id
            if not any(output.index == reference.index for output in source.job.outputs):
                return "gone", reference.job_id
        return "ready", ""

    def when_ended(self, owner: str, job_id: str, action: Callable[[], None]) -> None:
        """Run ``action`` when a job ends; jobs of other processes are read from time to time."""
        self._waiting[owner, job_id].append(action)
        if self._context.schedule.due("inputs") is None:
            self._look_later()

    def _look_later(self) -> None:
        due = anyio.current_time() + LOOK_SECONDS
        self._context.schedule.at("inputs", due, lambda: self._context.spawn(self._look))

    async def _look(self) -> None:
        """Read the awaited jobs of other processes, and ours if other processes have written."""
        registry = self._context.registry
        try:
            wrote = await registry.others_wrote()
            for owner, job_id in tuple(self._waiting):
                if registry.known(job_id) is not None and wrote == self._seen:
                    continue
                source = await registry.get(owner, job_id)
                if source is None or source.job.ended:
                    self.ended(owner, job_id)
            self._seen = wrote
        finally:
            if self._waiting:
                self._look_later()

    def ended(self, owner: str, job_id: str) -> None:
        """Continue everything that waited for a job."""
        for action in self._waiting.pop((owner, job_id), ()):
            action()

    async def dying(self, job: Job) -> bool:
        """Tell whether a new address must be requested for one of a job's inputs."""
        for reference in self.of(job):
            source = await self._context.registry.get(job.owner, reference.job_id)
            outputs = source.job.outputs if source is not None else ()
            if any(
                output.index == reference.index and self._outputs.dying(output, LIFE_LEFT_SECONDS)
                for output in outputs
            ):
                return True
        return False

    async def addresses(self, job: Job) -> References:
        """Return the current addresses for a job's references.

        Raises
        ------
        CallError: ``expired`` or ``input_failed``; an address is not available.
        """
        found = References()
        operation = self._context.operations[job.operation]
        named = self.named(job)
        for text in named:
            if text.startswith(LOCAL_MARK):
                found.addresses[text] = await self._uploads.hand_over(job, operation, text)
        for reference in (parse(text) for text in sorted(named) if text.startswith(_MARK)):
            source = await self._context.registry.get(job.owner, reference.job_id)
            if source is None:
                raise CallError(gone(reference.job_id))
            output = next((o for o in source.job.outputs if o.index == reference.index), None)
            if output is None:
                raise CallError(gone(reference.job_id))
            if output.url is None and output.file is not None:  # it is here, and nowhere else
                takes = named[reference.text]
                local = await self._uploads.of_output(Path(output.file), takes)
                fresh = await self._uploads.hand_over(job, operation, local)
                found.addresses[reference.text] = fresh
                continue
            try:
                fresh = await self._address(source, output)
            except FetchError as error:
                raise call_error(
                    error.code,
                    f"the output of {reference.job_id} cannot be used: {error.reason}",
                    "run that job again, or give another address",
                ) from None
            found.addresses[reference.text] = fresh
        return found

    async def _address(self, source: LiveJob, output: Output) -> str:
        """Return an output's address; an expired one is requested once for all who wait for it."""
        job_id, index = source.job.job_id, output.index
        if not self._outputs.dying(output, LIFE_LEFT_SECONDS):
            return output.url or ""
        lock = self._asking.setdefault(job_id, anyio.Lock())
        try:
            async with lock:
                newest = next((o for o in source.job.outputs if o.index == index), output)
                fresh = await self._outputs.address_of(source.job, newest, LIFE_LEFT_SECONDS)
                if fresh != newest:
                    await self._context.record(source, lambda job: _with(job, fresh), ())
                return fresh.url or ""
        finally:
            if not lock.statistics().tasks_waiting:
                self._asking.pop(job_id, None)


def _with(job: Job, output: Output) -> Job:
    outputs = (output if output.index == o.index else o for o in job.outputs)
    return job.next(outputs=tuple(outputs))


def gone(job_id: str) -> Failure:
    """Return the failure for a job whose input will never exist."""
    return call_error(
        "input_failed",
        f"{job_id} ended without the output that this job needs",
        "look at that job first; retry_batch runs failed ones again",
    ).failure


def not_understood() -> Failure:
    """Return the failure for stored arguments that the operation no longer accepts."""
    return call_error(
        "invalid_argument",
        "the arguments of this job are not understood any more; nothing was sent",
        "start it again",
    ).failure


def _mentions(value: JsonValue) -> bool:
    if isinstance(value, str):
        return value.startswith((_MARK, LOCAL_MARK))
    if isinstance(value, dict):
        return any(_mentions(inner) for inner in value.values())
    return isinstance(value, list) and any(_mentions(inner) for inner in value)

"""Outputs of earlier jobs as inputs of later ones: ``job:<job_id>`` and ``job:<job_id>#<index>``.

A job waits here until the jobs that it names have ended; just before it is sent, each reference is
replaced by the output's address, asked for afresh where it has died.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import anyio

from darkroom.errors import CallError, Failure, FetchError, JsonValue, call_error
from darkroom.operation import REFERENCE, References

if TYPE_CHECKING:
    from collections.abc import Callable

    from darkroom.core import Core
    from darkroom.jobs.model import Job
    from darkroom.results.collect import Collector

FOREIGN_LOOK_SECONDS = 1.0
"""How often a job that another process follows is looked at, while one here waits for it."""

LIFE_LEFT_SECONDS = 60.0
"""An address that dies sooner is asked for again: the provider needs time to fetch it."""

_MARK = "job:"


@dataclass(frozen=True, slots=True)
class Reference:
    """One output of a job."""

    text: str
    job_id: str
    index: int


def parse(text: str) -> Reference:
    """Read a reference that the arguments' validation has let through."""
    match = REFERENCE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return Reference(text, match[1], int(match[2] or 0))


class Inputs:
    """What jobs wait for, and what it turned out to be."""

    def __init__(self, core: Core, collector: Collector) -> None:
        self._core = core
        self._collector = collector
        self._waiting: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)

    def of(self, job: Job) -> list[Reference]:
        """Return the references in a job's arguments; most have none."""
        if not any(_mentions(value) for value in job.arguments.values()):
            return []
        found = References()
        self._core.params(job, self._core.operations[job.operation], found)
        return [parse(text) for text in sorted(found.seen)]

    async def missing(self, job: Job, owner: str) -> list[str]:
        """Return the references that name no job of the owner."""
        return [
            reference.text
            for reference in self.of(job)
            if (source := await self._core.registry.get(reference.job_id)) is None
            or source.job.owner != owner
        ]

    async def state(self, job: Job) -> tuple[Literal["ready", "waiting", "gone"], str]:
        """Tell whether all inputs of a job are there; else the job that is waited for, or missed."""
        for reference in self.of(job):
            source = await self._core.registry.get(reference.job_id)
            if source is None:
                return "gone", reference.job_id
            if not source.job.ended:
                return "waiting", reference.job_id
            if not any(output.index == reference.index for output in source.job.outputs):
                return "gone", reference.job_id
        return "ready", ""

    def when_ended(self, job_id: str, action: Callable[[], None]) -> None:
        """Run ``action`` when a job ends; another process's job is looked at now and then."""
        self._waiting[job_id].append(action)
        live = self._core.registry.known(job_id)
        if live is None or live.job.holder != self._core.registry.holder:
            self._look_later(job_id)

    def _look_later(self, job_id: str) -> None:
        self._core.schedule.at(
            ("input", job_id),
            anyio.current_time() + FOREIGN_LOOK_SECONDS,
            lambda: self._core.spawn(self._look, job_id),
        )

    async def _look(self, job_id: str) -> None:
        source = await self._core.registry.get(job_id)
        if source is None or source.job.ended:
            self.ended(job_id)
        else:
            self._look_later(job_id)

    def ended(self, job_id: str) -> None:
        """Let everything go on that waited for a job."""
        for action in self._waiting.pop(job_id, ()):
            action()

    async def addresses(self, job: Job) -> References:
        """Return the addresses behind a job's references, as they are now.

        Raises
        ------
        CallError: ``expired`` or ``input_failed``, where one cannot be had.
        """
        found = References()
        for reference in self.of(job):
            source = await self._core.registry.get(reference.job_id)
            if source is None:
                raise CallError(gone(reference.job_id))
            output = next((o for o in source.job.outputs if o.index == reference.index), None)
            if output is None:
                raise CallError(gone(reference.job_id))
            try:
                fresh = await self._collector.address_of(source.job, output, LIFE_LEFT_SECONDS)
            except FetchError as error:
                raise call_error(
                    error.code,
                    f"the output of {reference.job_id} cannot be used: {error.reason}",
                    "run that job again, or give another address",
                ) from None
            found.addresses[reference.text] = fresh
        return found


def gone(job_id: str) -> Failure:
    """Say that a job ended without what another one needed of it."""
    return call_error(
        "input_failed",
        f"{job_id} ended without the output that this job needs",
        "look at that job first; retry_batch runs failed ones again",
    ).failure


def _mentions(value: JsonValue) -> bool:
    if isinstance(value, str):
        return value.startswith(_MARK)
    if isinstance(value, dict):
        return any(_mentions(inner) for inner in value.values())
    return isinstance(value, list) and any(_mentions(inner) for inner in value)

"""The machine in this process, with a provider that answers at once: what is left is our own cost."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from darkroom.approval import Nobody
from darkroom.catalogue import Catalogue
from darkroom.jobs.memory import MemoryStore
from darkroom.jobs.store import Created
from darkroom.machine import running
from darkroom.operation import Answer, Limits
from darkroom.settings import load
from darkroom.world import World
from darkroom_tools import zsky

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

    from darkroom.credentials import Key
    from darkroom.errors import JsonObject
    from darkroom.jobs.model import Attempt, Job
    from darkroom.jobs.registry import Live
    from darkroom.jobs.store import Store
    from darkroom.machine import Machine
    from darkroom.operation import Job as JobOperation
    from darkroom.operation import Request
    from darkroom.settings import Settings
    from darkroom.works import Works


def _no_limits(_: object) -> Limits:
    return Limits()


UNLIMITED = replace(zsky.PROVIDER, limits=_no_limits)
"""ZSky, if it had no limits."""

IMAGE = cast("JobOperation", UNLIMITED.operation("zsky_start_image"))
VIDEO = cast("JobOperation", UNLIMITED.operation("zsky_start_video"))


class Provided:
    """Answers in the place of a provider, at once; ``ended(provider id)`` tells of a job."""

    def __init__(self, ended: Callable[[str], bool]) -> None:
        self.ended = ended
        self.submitted = 0
        self.asked: dict[str, int] = {}

    async def send(self, request: Request, key: Key, *, once: bool) -> Answer:
        """Answer a request."""
        del key
        if once:
            self.submitted += 1
            return Answer(status=202, body={"job_id": f"zj-{self.submitted:08}"})
        provider_id = request.path.rpartition("/")[2]
        self.asked[provider_id] = self.asked.get(provider_id, 0) + 1
        if not self.ended(provider_id):
            return Answer(status=200, body={"job_id": provider_id, "status": "processing"})
        address = f"https://cdn.zsky.ai/results/{provider_id}.webp"
        done: JsonObject = {"job_id": provider_id, "status": "completed", "result_url": address}
        return Answer(status=200, body=done)

    async def aclose(self) -> None:
        """Do nothing."""


class Discarding(MemoryStore):
    """Keeps nothing, so that what is counted is what the machine itself keeps."""

    async def create(self, job: Job, attempts: Sequence[Attempt], **_: Any) -> Created:
        """Take in a job."""
        del attempts
        return Created(job, made=True)

    async def write(self, job: Job | None, attempts: Sequence[Attempt] = (), **_: Any) -> None:
        """Take in a change."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A machine that runs, and the provider that it believes in."""

    machine: Machine
    works: Works
    provided: Provided

    async def start(self, number: int, operation: JobOperation = IMAGE) -> Live:
        """Start a job, as a start tool does."""
        params = operation.params.model_validate({"prompt": f"A lighthouse at dusk, {number}"})
        started = await self.machine.start(UNLIMITED, operation, cast("Any", params), Nobody())
        return started.live


@asynccontextmanager
async def engine(
    store: Literal["memory", "sqlite", "discarding"],
    folder: Path,
    *,
    ended: Callable[[str], bool] = lambda _: False,
    clock: Callable[[], float] = time.time,
) -> AsyncGenerator[Engine]:
    """Run a machine."""
    settings = load(
        [UNLIMITED],
        {},
        overrides={
            "jobs": {"store": "sqlite" if store == "sqlite" else "memory", "state_dir": folder},
            "results": {"download": "never"},
            "zsky": {"images_per_day": 10**9, "videos_per_day": 10**9, "allow_overage": True},
        },
    )
    world = World(
        environment={"ZSKY_API_KEY": "benchmark" * 4},
        clock=clock,
        open_store=_discarding if store == "discarding" else None,
    )
    async with running([UNLIMITED], settings, world) as machine:
        works = await machine.works()
        provided = Provided(ended)
        works.core.channels[UNLIMITED.name].outlet = cast("Any", provided)
        yield Engine(machine, works, provided)


async def _discarding(_: Settings) -> Store:
    return Discarding()


CATALOGUE = Catalogue(providers=(UNLIMITED,))

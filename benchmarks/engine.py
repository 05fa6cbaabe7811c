"""The machine in this process, with a provider that answers at once: what is left is our own cost."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from darkroom.catalogue.declarations import Catalogue
from darkroom.config.settings import load
from darkroom.engine.dependencies import Dependencies
from darkroom.engine.engine import running
from darkroom.engine.person import Nobody
from darkroom.jobs.storage.memory import MemoryStore
from darkroom.jobs.store import Alone, Created, Storage
from darkroom.providers.messages import Response
from darkroom.providers.provider import Limits
from darkroom_tools.providers import zsky

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

    from darkroom.config.settings import Settings
    from darkroom.core.json_types import JsonObject
    from darkroom.engine.engine import Engine
    from darkroom.engine.runtime import Runtime
    from darkroom.jobs.model import Attempt, Job
    from darkroom.jobs.registry import LiveJob
    from darkroom.providers.credentials import Key
    from darkroom.providers.messages import Request
    from darkroom.providers.operations import JobOperation


def _no_limits(_: object) -> Limits:
    return Limits()


UNLIMITED = replace(zsky.PROVIDER, limits=_no_limits, suspension=None)
"""ZSky, if it had no limits."""

IMAGE = cast("JobOperation", UNLIMITED.operation("zsky_start_image"))
VIDEO = cast("JobOperation", UNLIMITED.operation("zsky_start_video"))


class Provided:
    """Answers in the place of a provider, at once; ``ended(provider id)`` tells of a job."""

    base_url = "https://zsky.ai"

    def __init__(self, ended: Callable[[str], bool]) -> None:
        self.ended = ended
        self.submitted = 0
        self.asked: dict[str, int] = {}

    async def send(self, request: Request, key: Key, *, once: bool) -> Response:
        """Answer a request."""
        del key
        if once:
            self.submitted += 1
            return Response(status=202, body={"job_id": f"zj-{self.submitted:08}"})
        provider_id = request.path.rpartition("/")[2]
        self.asked[provider_id] = self.asked.get(provider_id, 0) + 1
        if not self.ended(provider_id):
            return Response(status=200, body={"job_id": provider_id, "status": "processing"})
        address = f"https://cdn.zsky.ai/results/{provider_id}.webp"
        done: JsonObject = {"job_id": provider_id, "status": "completed", "result_url": address}
        return Response(status=200, body=done)

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
class EngineUnderTest:
    """A machine that runs, and the provider that it believes in."""

    engine: Engine
    runtime: Runtime
    provided: Provided

    async def start(self, number: int, operation: JobOperation = IMAGE) -> LiveJob:
        """Start a job, as a start tool does."""
        params = operation.params.model_validate({"prompt": f"A lighthouse at dusk, {number}"})
        started = await self.engine.start(UNLIMITED, operation, cast("Any", params), Nobody())
        return started.live


@asynccontextmanager
async def engine(
    store: Literal["memory", "sqlite", "discarding"],
    folder: Path,
    *,
    ended: Callable[[str], bool] = lambda _: False,
    clock: Callable[[], float] = time.time,
) -> AsyncGenerator[EngineUnderTest]:
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
    dependencies = Dependencies(
        environment={"ZSKY_API_KEY": "benchmark" * 4},
        clock=clock,
        open_storage=_discarding if store == "discarding" else None,
    )
    async with running([UNLIMITED], settings, dependencies) as engine:
        runtime = await engine.runtime()
        provided = Provided(ended)
        runtime.context.clients[UNLIMITED.name].http_client = cast("Any", provided)
        yield EngineUnderTest(engine, runtime, provided)


async def _discarding(_: Settings) -> Storage:
    return Storage(Discarding(), Alone("benchmark"))


CATALOGUE = Catalogue(providers=(UNLIMITED,))

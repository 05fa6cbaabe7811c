"""What the parts of the engine share: clock, settings, registry, scheduler, clients, tasks."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import anyio

from darkroom.core.errors import CallError, DarkroomError, JournalError, Stale, call_error
from darkroom.core.ids import new_id
from darkroom.core.log import log
from darkroom.core.task_pool import TaskPool
from darkroom.providers.params import Admitted, References
from darkroom.providers.requests import build_request

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence

    from anyio.abc import TaskGroup

    from darkroom.config.settings import Settings
    from darkroom.core.scheduler import HeapScheduler
    from darkroom.jobs.model import Attempt, Job
    from darkroom.jobs.registry import LiveJob, Registry
    from darkroom.jobs.spending import Tariff
    from darkroom.providers.client.provider_client import ProviderClient
    from darkroom.providers.credentials import Credentials, Key
    from darkroom.providers.messages import Request
    from darkroom.providers.operations import JobOperation
    from darkroom.providers.params import Params

T = TypeVar("T")

TROUBLE_SECONDS = 15.0
"""How often a request is tried again that this server could not send: no journal, no key."""

SAVE_AGAIN_SECONDS = 5.0
"""Time between attempts to write a row that could not be written."""


class NoKeyError(DarkroomError):
    """The credential cannot be read now: its file is being written, say. No job fails for it."""


@dataclass(kw_only=True)
class JobContext:
    """The shared parts of one run; every task of the engine runs in the task group ``tasks``."""

    settings: Settings
    credentials: Credentials
    clock: Callable[[], float]
    chance: random.Random
    registry: Registry
    schedule: HeapScheduler
    tariff: Tariff
    clients: Mapping[str, ProviderClient]
    operations: Mapping[str, JobOperation]
    tasks: TaskGroup
    admitted: Admitted
    new_id: Callable[[], str] = new_id
    time_scale: float = 1.0
    stopping: bool = False
    """The process is ending: waits return at once."""

    lost_calls_told: bool = False
    """The calls of unknown fate that earlier servers left were told of."""

    closing: bool = False
    """No new requests are sent."""

    open_attempts: set[anyio.CancelScope] = field(default_factory=set[anyio.CancelScope])
    idle: anyio.Event = field(default_factory=anyio.Event)
    _pool: TaskPool = field(init=False)

    @property
    def team(self) -> bool:
        """Whether several owners share this server and its accounts."""
        return self.settings.team.issuer is not None

    def __post_init__(self) -> None:
        self._pool = TaskPool(self.tasks)

    def params(
        self, job: Job, operation: JobOperation, references: References | None = None
    ) -> Params:
        """Return a job's arguments as the model of its operation; see `References`."""
        context = {"admitted": self.admitted, "references": references or References()}
        return operation.params.model_validate(job.arguments, strict=False, context=context)

    def key(self, job: Job, operation: JobOperation) -> Key:
        """Return the credential that a job's next paid request is to be sent with.

        Raises
        ------
        NoKeyError: it is not there now.
        """
        provider = self.clients[job.provider].provider
        try:
            return self.credentials.key(provider, operation.credential, owner=job.owner)
        except CallError as error:
            raise NoKeyError(error.failure.message) from None

    def request(self, job: Job, operation: JobOperation, inputs: References) -> Request:
        """Build the request that starts a job, with the addresses of its inputs."""
        settings = self.clients[job.provider].settings
        return build_request(operation, self.params(job, operation, inputs), settings)

    async def record(
        self, live: LiveJob, change: Callable[[Job], Job | None], attempts: Sequence[Attempt]
    ) -> None:
        """Write a change that has already happened, for example the answer to a request.

        If the journal cannot be written, the change is kept in memory and written later.
        """
        try:
            try:
                await self.registry.update(live, change, attempts)
            except Stale:  # Another process took us for dead and settled the attempts. What really happened counts.
                await self.registry.update(live, change, await self._newest(live, attempts))
        except JournalError as error:
            log.error("the journal cannot be written: %s", error)
            ahead = change(live.job)
            if ahead is not None:
                live.job = replace(ahead, version=live.job.version)
            live.unwritten += tuple(attempts)
            live.wake()
            if not live.ahead:
                live.ahead = True
                self.spawn(self._save_later, live)

    async def _newest(self, live: LiveJob, attempts: Sequence[Attempt]) -> Sequence[Attempt]:
        """Return the attempts as the next versions of the rows that are stored now."""
        rows = {
            row.attempt_id: row
            for row in await self.registry.store.attempts(live.job.owner, live.job.job_id)
        }
        newest = [
            replace(attempt, version=rows[attempt.attempt_id].version + 1)
            if attempt.attempt_id in rows
            else attempt
            for attempt in attempts
        ]
        known = {attempt.attempt_id for attempt in live.attempts()}
        for attempt in newest:
            if attempt.attempt_id in known:
                live.keep(attempt)
        return newest

    async def record_attempt(self, attempt: Attempt) -> None:
        """Write the outcome of an attempt without a job; see `record` if that fails."""
        try:
            await self.registry.store.write(None, [attempt])
        except JournalError as error:
            log.error("the journal cannot be written: %s", error)
            self.spawn(self._write_later, attempt)

    async def _write_later(self, attempt: Attempt) -> None:
        await anyio.sleep(SAVE_AGAIN_SECONDS)
        await self.record_attempt(attempt)

    async def _save_later(self, live: LiveJob) -> None:
        while live.ahead:
            await anyio.sleep(SAVE_AGAIN_SECONDS)
            await self.save(live)

    async def save(self, live: LiveJob) -> None:
        """Try again to write what could not be written before."""
        if live.ahead:
            try:
                await self.registry.update(live, lambda job: job.next())
            except JournalError as error:
                log.error("the journal cannot be written: %s", error)

    def spawn(
        self, function: Callable[..., Coroutine[object, object, None]], *args: object
    ) -> None:
        """Run a task of the engine; an exception is logged and does not end the task group."""
        self._pool.give(function, *args)

    @contextmanager
    def under_way(self) -> Generator[None]:
        """Shield a request and the write of its answer from cancellation; `Runtime.drain` waits."""
        with anyio.CancelScope(shield=True) as scope:
            self.open_attempts.add(scope)
            try:
                yield
            finally:
                self.open_attempts.discard(scope)
                if not self.open_attempts:
                    self.idle.set()
                    self.idle = anyio.Event()

    async def detached(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run ``function`` to its end in a task of the engine, and return its result.

        If the caller is cancelled (the host gave up), the function goes on.

        Raises
        ------
        CallError: ``timeout``; the server is stopping, and the function was not started.
        """
        if self.closing:
            raise call_error(
                "timeout", "the server is stopping; nothing was sent", "start it again"
            )
        box: list[T] = []
        failed: list[BaseException] = []
        finished = anyio.Event()

        async def run() -> None:
            with self.under_way():
                try:
                    box.append(await function())
                except Exception as error:  # noqa: BLE001 -- raised again where it is awaited
                    failed.append(error)
                finally:
                    finished.set()

        self.tasks.start_soon(run)
        await finished.wait()
        if failed:
            raise failed[0]
        if not box:  # the server stopped and could not wait any longer
            raise call_error(
                "outcome_unknown", "the server stopped", "start it again and look at the state"
            )
        return box[0]

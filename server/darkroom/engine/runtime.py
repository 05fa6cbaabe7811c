"""The parts of the engine that need the journal, and how they are put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from darkroom.core.errors import ConfigurationError, JournalError
from darkroom.core.log import log
from darkroom.core.scheduler import HeapScheduler
from darkroom.engine import cancellation
from darkroom.engine.batches.tracker import Tracker
from darkroom.jobs.context import JobContext
from darkroom.jobs.fan_out import ItemSender
from darkroom.jobs.inputs import Inputs
from darkroom.jobs.pending_approvals import Questions
from darkroom.jobs.poller import Poller
from darkroom.jobs.registry import Registry
from darkroom.jobs.spending import Tariff
from darkroom.jobs.store import Alone, Storage
from darkroom.jobs.submission import Submitter
from darkroom.jobs.uploads import Uploads
from darkroom.providers.client.http import HttpClient
from darkroom.providers.client.provider_client import ProviderClient
from darkroom.providers.client.proxies import proxy_for
from darkroom.providers.operations import JobOperation
from darkroom.results.downloads import OutputDownloader
from darkroom.results.intake import Intake
from darkroom.results.outputs import Outputs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from anyio.abc import TaskGroup

    from darkroom.config.settings import Settings
    from darkroom.core.executor import Executor
    from darkroom.engine.dependencies import Dependencies
    from darkroom.jobs.model import Attempt
    from darkroom.jobs.registry import LiveJob
    from darkroom.jobs.store import Liveness
    from darkroom.providers.client.bucket import Bucket
    from darkroom.providers.client.fetch import Fetcher
    from darkroom.providers.credentials import Credentials
    from darkroom.providers.params import Admitted
    from darkroom.providers.provider import Provider


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts that send, poll, download and approve jobs. They exist while the journal is open."""

    context: JobContext
    poller: Poller
    downloader: OutputDownloader
    outputs: Outputs
    intake: Intake
    uploads: Uploads
    inputs: Inputs
    items: ItemSender
    submitter: Submitter
    questions: Questions
    tracker: Tracker
    liveness: Liveness
    run: Executor
    folder: Path
    recovering: anyio.Lock = field(default_factory=anyio.Lock)
    adopting: anyio.Lock = field(default_factory=anyio.Lock)
    go_on: list[Callable[[], Awaitable[None]]] = field(
        default_factory=list["Callable[[], Awaitable[None]]"]
    )
    """Called after batches of a dead process were taken over."""

    def queue(self, live: LiveJob, attempts: Sequence[Attempt]) -> None:
        """Begin a job whose row and attempts were written just now; one that asks waits for a yes."""
        live.load(attempts)
        if live.job.asks:
            self.questions.follow(live)
        else:
            self.submitter.enqueue(live)

    async def stay_alive(self) -> None:
        """Report that this process is alive, as often as its store requires."""
        seconds = self.liveness.beat_seconds
        while seconds is not None:
            await anyio.sleep(seconds)
            try:
                await self.liveness.beat()
            except JournalError as error:
                log.error("%s", error)

    async def drain(self) -> None:
        """Start nothing new, and let open attempts finish within their deadline."""
        context = self.context
        context.closing = True
        with anyio.move_on_after(context.settings.serve.drain_seconds, shield=True):
            while context.open_attempts:
                await context.idle.wait()
        for scope in context.open_attempts:
            scope.cancel()

    async def close(self) -> None:
        """Close the connections, then the journal, and release the lease last."""
        with anyio.CancelScope(shield=True):
            for live in tuple(self.context.registry):
                await self.context.save(live)
            for client in self.context.clients.values():
                await client.http_client.aclose()
            await self.downloader.aclose()
            await self.uploads.aclose()
            await self.context.registry.store.close()
            await self.liveness.release()


async def open_runtime(
    providers: Mapping[str, Provider],
    settings: Settings,
    dependencies: Dependencies,
    credentials: Credentials,
    admitted: Admitted,
    tasks: TaskGroup,
) -> Runtime:
    """Open the journal and build the parts around it.

    Raises
    ------
    ConfigurationError, JournalError: the journal cannot be used.
    """
    run: Executor = dependencies.run or anyio.to_thread.run_sync
    storage = await _open_storage(settings, dependencies, run)
    store, liveness = storage.store, storage.liveness
    tariff = Tariff(settings, providers, liveness.holder)
    registry = Registry(store, liveness.holder, tariff)
    schedule = HeapScheduler()
    clients = {
        name: ProviderClient(
            provider,
            settings.provider(name),
            HttpClient(
                credentials.base_url(provider),
                hosts=provider.hosts,
                clock=dependencies.clock,
                transport=dependencies.transport,
                environment=dependencies.environment,
            ),
            credentials,
            schedule,
            dependencies.chance,
            sandbox=dependencies.sandbox is not None,
            limits_state=partial(storage.limits, name) if storage.limits is not None else None,
        )
        for name, provider in providers.items()
    }
    context = JobContext(
        settings=settings,
        credentials=credentials,
        clock=dependencies.clock,
        chance=dependencies.chance,
        registry=registry,
        schedule=schedule,
        tariff=tariff,
        clients=clients,
        operations={
            operation.name: operation
            for provider in providers.values()
            for operation in provider.operations
            if isinstance(operation, JobOperation)
        },
        tasks=tasks,
        admitted=admitted,
        new_id=dependencies.new_id,
        time_scale=dependencies.time_scale,
    )

    def open_fetcher() -> Fetcher:
        from darkroom.providers.client.fetch import Fetcher  # noqa: PLC0415 -- needed with the first result

        none: Mapping[str, str] = {}
        through = dependencies.environment if settings.results.through_proxy else none
        return Fetcher(
            admitted=admitted.origins,
            sandbox=dependencies.sandbox,
            offload=run,
            proxies=partial(proxy_for, environment=through),
        )

    folder = settings.results_folder
    downloader = OutputDownloader(context, open_fetcher, folder, run, liveness.dead)
    outputs = Outputs(context, downloader, folder, run)
    poller = Poller(context, downloader)
    chosen = settings.inputs
    intake = Intake(
        chosen.folders(settings.file_roots),
        settings.state_dir / "inputs",
        run,
        fit=chosen.fit,
        keep_metadata=chosen.keep_metadata,
    )
    uploads = Uploads(context, intake, _bucket(settings, dependencies, run))
    inputs = Inputs(context, downloader, uploads)
    items = ItemSender(context, poller, inputs)
    submitter = Submitter(context, poller, items, inputs)
    registry.watchers.append(lambda job: inputs.ended(job.owner, job.job_id) if job.ended else None)
    registry.watchers.append(lambda job: uploads.ended(job) if job.ended else None)
    runtime = Runtime(
        context,
        poller,
        downloader,
        outputs,
        intake,
        uploads,
        inputs,
        items,
        submitter,
        Questions(context),
        Tracker(registry),
        liveness,
        run,
        folder,
    )
    registry.watchers.append(
        lambda job: cancellation.changed(runtime, job) if job.cancel_wanted else None
    )
    return runtime


def _bucket(settings: Settings, dependencies: Dependencies, run: Executor) -> Bucket | None:
    """Return the bucket that local files are put into, if the settings name one."""
    if settings.inputs.upload != "s3":
        return None
    from darkroom.providers.client.bucket import Bucket, Place  # noqa: PLC0415 -- needed with a bucket

    s3 = settings.inputs.s3
    if s3.bucket is None:
        raise ConfigurationError(
            'inputs.s3.bucket: [inputs] upload = "s3" needs the bucket\'s name'
        )
    return Bucket(
        Place(bucket=s3.bucket, endpoint=s3.endpoint, region=s3.region, prefix=s3.prefix),
        dependencies.environment,
        run,
        dependencies.transport,
    )


async def _open_storage(settings: Settings, dependencies: Dependencies, run: Executor) -> Storage:
    if dependencies.open_storage is not None:
        return await dependencies.open_storage(settings)
    if settings.jobs.store == "memory":
        from darkroom.jobs.storage.memory import MemoryStore  # noqa: PLC0415 -- one of two is needed

        holder = dependencies.new_id()
        return Storage(
            MemoryStore(
                holder=holder,
                began=dependencies.clock(),
                shared=settings.team.issuer is not None,
            ),
            Alone(holder),
        )
    from darkroom.jobs.storage.local import open_local  # noqa: PLC0415 -- one of two is needed

    return await open_local(
        settings.state_dir,
        run=run,
        journal=dependencies.run,
        monotonic=dependencies.monotonic,
        shared=settings.team.issuer is not None,
    )

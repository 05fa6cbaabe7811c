"""What all owners of one server process share, and how it is opened and closed.

There is one `Runtime` in a process: one store, one scheduler, one set of limits and credentials, one
poller. It is opened in the background; whoever needs it awaits `Process.owners`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import anyio

from darkroom.core.errors import CallError, ConfigurationError, JournalError, call_error
from darkroom.core.log import log
from darkroom.providers.credentials import Credentials
from darkroom.providers.params import Admitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anyio.abc import TaskGroup

    from darkroom.config.settings import Settings
    from darkroom.engine.dependencies import Dependencies
    from darkroom.engine.owners import Owners
    from darkroom.engine.runtime import Runtime
    from darkroom.jobs.model import Job
    from darkroom.providers.provider import Policy, Provider


OPEN_AGAIN_SECONDS = 15.0
"""How often a journal is tried again that could not be opened."""

QUIET_SECONDS = 0.25
"""How long the journal stays closed while no tool is called: hosts list the tools first."""


class Links(Protocol):
    """Makes links by which people get results that are kept on this machine."""

    def make(self, owner: str, job_id: str, index: int) -> tuple[str, float]:
        """Return the link to an output, and when it ends (seconds since the epoch)."""
        ...


class Process:
    """Opens the runtime, takes over the jobs of dead processes, and closes it at the end."""

    def __init__(
        self, providers: Iterable[Provider], settings: Settings, dependencies: Dependencies
    ) -> None:
        self.providers = {provider.name: provider for provider in providers}
        self.settings = settings
        self.credentials = Credentials(dependencies.environment, settings)
        self.clock = dependencies.clock
        self.admitted = Admitted(
            self.credentials.loopback_origins(tuple(self.providers.values())),
            (".sandbox.test",) if dependencies.sandbox is not None else (),
        )
        self._dependencies = dependencies
        self._wanted = anyio.Event()
        self._ready = anyio.Event()
        self._broken: ConfigurationError | JournalError | None = None
        self._owners: Owners | None = None
        self._watchers: list[Callable[[Job], None]] = []
        self.links: Links | None = None
        """Makes links to results, if the people are on other machines than the files."""

        self.opened: Runtime | None = None
        """The runtime, as soon as the journal is open."""

    # --- opening and closing ---

    async def run(self, tasks: TaskGroup) -> None:
        """Open the journal, take over the jobs of dead processes, and start the scheduler.

        A journal that cannot be used is tried again until it can. What is needed is imported then
        and not before: the first list of tools waits for none of it.
        """
        with anyio.move_on_after(QUIET_SECONDS):
            await self._wanted.wait()
        while True:
            try:
                await self._open(tasks)
            except (ConfigurationError, JournalError) as error:
                if str(error) != str(self._broken):
                    log.error("%s", error)
                self._broken = error
            except BaseException:
                self._broken = ConfigurationError("the server was stopped before it was ready")
                raise
            else:
                self._broken = None
                return
            finally:
                self._ready.set()
            await anyio.sleep(OPEN_AGAIN_SECONDS)

    async def _open(self, tasks: TaskGroup) -> None:
        """Open what is not open yet, and take up what dead processes left."""
        from darkroom.engine.owners import Owners  # noqa: PLC0415 -- see `run`
        from darkroom.engine.recovery import (  # noqa: PLC0415 -- see `run`
            recover,
            watch_neighbours,
        )
        from darkroom.engine.retention import Pruner  # noqa: PLC0415 -- see `run`
        from darkroom.engine.runtime import open_runtime  # noqa: PLC0415 -- see `run`

        runtime = self.opened
        if runtime is None:
            runtime = await open_runtime(
                self.providers,
                self.settings,
                self._dependencies,
                self.credentials,
                self.admitted,
                tasks,
            )
            tasks.start_soon(runtime.context.schedule.run)
            if runtime.liveness.beat_seconds is not None:
                tasks.start_soon(runtime.stay_alive)
            tasks.start_soon(self._stop_waits, runtime)
            runtime.context.registry.watchers.append(self._tell)
            self.opened = runtime
        await recover(runtime)
        if runtime.liveness.shared:
            runtime.submitter.take_over = lambda: recover(runtime)
            watch_neighbours(runtime)
        if self._owners is None:
            self._owners = Owners(runtime, self.providers, self._guard())
        await self._owners.take_up()
        Pruner(runtime)
        for owner in await runtime.context.registry.store.owners():
            runtime.context.spawn(runtime.downloader.resume, owner)

    def _guard(self) -> tuple[Provider, Policy] | None:
        """Return whose policy the configuration asks for.

        Raises
        ------
        ConfigurationError: the named provider has no policy; `settings.load` reports this earlier.
        """
        name = self.settings.guard.provider
        if name is None:
            return None
        provider = self.providers.get(name)
        if provider is None or provider.policy is None:
            raise ConfigurationError(f"guard.provider: no provider {name!r} has a policy")
        return provider, provider.policy

    async def _stop_waits(self, runtime: Runtime) -> None:
        """Let every wait for a job return when the process is asked to end."""
        if self._dependencies.stopping is None:
            return
        await self._dependencies.stopping.wait()
        runtime.context.stopping = True
        for live in runtime.context.registry:
            live.wake()

    async def drain(self) -> None:
        """Let open attempts finish, up to their deadline."""
        if self.opened is not None:
            await self.opened.drain()

    async def close(self) -> None:
        """Close everything; no task of the engine may be running."""
        if self.opened is not None:
            await self.opened.close()

    # --- what the owners' engines need ---

    async def broken(self) -> ConfigurationError | JournalError | None:
        """Wait until the runtime was opened; return why it could not be, or None."""
        self._wanted.set()
        await self._ready.wait()
        return self._broken

    async def owners(self) -> Owners:
        """Return the parts of every owner; wait until the journal is open.

        Raises
        ------
        CallError: ``journal_unavailable`` or ``not_configured``, if the journal cannot be used now.
        """
        broken = await self.broken()
        if isinstance(broken, JournalError):
            raise CallError(broken.failure)
        if self._owners is None or broken is not None:
            raise call_error(
                "not_configured",
                f"{broken}; nothing was sent",
                f"ask the person to correct it; it is tried again every {OPEN_AGAIN_SECONDS:.0f} s",
            )
        return self._owners

    def watch(self, watcher: Callable[[Job], None]) -> None:
        """Call ``watcher`` with every job that this process has changed, whoever owns it."""
        self._watchers.append(watcher)

    def _tell(self, job: Job) -> None:
        for watcher in self._watchers:
            watcher(job)

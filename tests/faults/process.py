"""Server processes on virtual time: several in one event loop, on one journal, killed at will.

A process here is the shipped machine with its desks, without the protocol around them. It has a
lock file, a connection to the journal and a share of the rates of its own, as a real one has.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast

import anyio
import anyio.lowlevel
import httpx2

from darkroom.catalogue.dispatch import ToolHandler, desks
from darkroom.config.settings import load
from darkroom.core.errors import CallError, call_error
from darkroom.core.ids import ID_ALPHABET, ID_CHARACTERS, new_id
from darkroom.engine.dependencies import Dependencies
from darkroom.engine.engine import Engine
from darkroom.engine.process import Process as EngineProcess
from darkroom.jobs.storage.lease import FileLiveness
from darkroom.jobs.store import Alone, Storage
from darkroom_tools import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from anyio.abc import TaskGroup

    from darkroom.config.settings import Settings
    from darkroom.engine.person import Person
    from darkroom.jobs.store import Store
    from darkroom_tools.emulators.sandbox import Sandbox
    from tests.harness import Fields

T = TypeVar("T")

BEGINNING = 1_000.0
"""What the machine's monotonic clock says when a test begins."""


class Yes:
    """A person who approves everything."""

    answers_tasks = False
    can_ask = True

    async def approve(self, tool: str, question: str, binding: str) -> None:
        """Say yes."""
        del tool, question, binding

    async def progress(self, done: float, total: float | None, message: str) -> None:
        """Show nothing."""
        del done, total, message


class LaterYes(Yes):
    """A person whose host takes the answer to a start within a task."""

    answers_tasks = True


class KilledError(BaseException):
    """The process is gone: nothing of it goes on, not even what is shielded."""


class Wire(httpx2.AsyncBaseTransport):
    """The way to the emulators, as long as the process lives."""

    def __init__(self, process: Process, way: httpx2.AsyncBaseTransport) -> None:
        self._process = process
        self._way = way

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send, if there is still a process to do it."""
        if self._process.dead:
            raise KilledError
        return await self._way.handle_async_request(request)


@dataclass(repr=False)
class Process:
    """One server process. ``begin`` it inside a task group; then `call`, `kill` or `stop` it."""

    settings: Settings
    environment: Mapping[str, str]
    clock: Callable[[], float]
    way: httpx2.AsyncBaseTransport
    seed: int = 0
    new_id: Callable[[], str] = new_id
    open_store: Callable[[Settings], Store] | None = None
    open_storage: Callable[[Process], Awaitable[Storage]] | None = None
    dead: bool = False
    engine: Engine = field(init=False)
    _desks: dict[str, ToolHandler] = field(init=False)
    _scope: anyio.CancelScope = field(init=False)
    _ended: anyio.Event = field(init=False)

    def __post_init__(self) -> None:
        wire = Wire(self, self.way)
        opener = self.open_store

        async def opened(settings: Settings) -> Storage:
            if self.open_storage is not None:
                return await self.open_storage(self)
            store = cast("Callable[[Settings], Store]", opener)(settings)
            return Storage(store, Alone(self.new_id()))

        dependencies = Dependencies(
            environment=self.environment,
            clock=self.clock,
            monotonic=lambda: BEGINNING + anyio.current_time(),
            chance=random.Random(self.seed),  # noqa: S311 -- repeatable, not secret
            new_id=self.new_id,
            run=self.run,
            transport=wire,
            sandbox=wire,
            open_storage=opened if opener or self.open_storage else None,
        )
        self.process = EngineProcess(CATALOGUE.providers, self.settings, dependencies)
        self.engine = Engine(self.process)
        self._desks = tools(self.settings)

    async def run(self, work: Callable[[], T], /) -> T:
        """Do blocking work in place: threads time out spuriously on virtual time."""
        if self.dead:
            raise KilledError
        return work()

    # --- its life ---

    def begin(self, tasks: TaskGroup) -> None:
        """Run the machine in a task of ``tasks``."""
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        tasks.start_soon(self._live)

    async def _live(self) -> None:
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self.process.run, tasks)
                    await anyio.sleep_forever()
        except BaseExceptionGroup as group:
            _, others = group.split(KilledError)
            if others is not None:
                raise others from None
        finally:
            self._ended.set()

    async def kill(self) -> None:
        """End it as SIGKILL does: nothing more is sent or written, and its lock is free."""
        self.dead = True
        runtime = self.process.opened
        if runtime is not None:
            runtime.context.closing = (
                True  # what awaits it in this test's own tasks begins nothing more
            )
        self._scope.cancel()
        while not self._ended.is_set():
            for scope in tuple(runtime.context.open_attempts) if runtime is not None else ():
                scope.cancel()
            await anyio.lowlevel.checkpoint()
        if runtime is not None and isinstance(runtime.liveness, FileLiveness):
            lease = runtime.liveness._lease  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- the system does this for a dead process
            os.close(cast("int", lease._descriptor))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- as above
            lease._descriptor = None  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- as above
            self.dead = False
            await runtime.context.registry.store.close()
            self.dead = True

    async def stop(self) -> None:
        """End it in order, as at the end of its input; one that was killed has ended."""
        if self.dead:
            return
        await self.process.drain()
        self._scope.cancel()
        await self._ended.wait()
        await self.process.close()
        self.dead = True

    # --- its tools ---

    async def call(self, tool: str, /, **arguments: object) -> Fields:
        """Call a tool for a person who says yes at once; see `call_for`."""
        return await self.call_for(Yes(), tool, arguments)

    async def call_for(self, person: Person, tool: str, arguments: Mapping[str, object]) -> Fields:
        """Call a tool; return its structured content.

        Raises
        ------
        CallError: as a chat would see it; ``outcome_unknown`` where the process is killed.
        """
        try:
            result = await self._desks[tool].run(self.engine, arguments, person)
        except (KilledError, CallError):
            if not self.dead:
                raise
            raise call_error("outcome_unknown", "the connection closed", "start again") from None
        return cast("Fields", result.structured)

    async def said(self, tool: str, /, **arguments: object) -> tuple[Fields, str]:
        """Call a tool; return its structured content, or the code of its error."""
        try:
            return await self.call(tool, **arguments), ""
        except CallError as error:
            return {}, error.failure.code

    async def store(self) -> Store:
        """Return its journal."""
        return (await self.engine.runtime()).context.registry.store


_TOOLS: dict[int, dict[str, ToolHandler]] = {}


def tools(settings: Settings) -> dict[str, ToolHandler]:
    """Return the desks of all tools; their schemas do not change with the process."""
    key = id(type(settings))
    if key not in _TOOLS:
        _TOOLS[key] = desks([CATALOGUE], lambda _: True, settings)
    return _TOOLS[key]


def environment(sandbox: Sandbox, folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a process whose journal and results are in ``folder``."""
    return {
        **sandbox.environment(),
        "DARKROOM_JOBS__STORE": "sqlite",
        "DARKROOM_JOBS__STATE_DIR": str(folder / "state"),
        "DARKROOM_RESULTS__FOLDER": str(folder / "results"),
        "DARKROOM_RESULTS__DOWNLOAD": "never",
        "DARKROOM_CREDENTIALS__DIR": str(folder / "keys"),
        **more,
    }


def process(
    sandbox: Sandbox,
    folder: Path,
    clock: Callable[[], float],
    variables: Mapping[str, str] | None = None,
    *,
    seed: int = 0,
    ids: random.Random | None = None,
) -> Process:
    """Return a process on the journal in ``folder``, with the sandbox as its providers.

    ``variables`` are added to its environment, or take the place of some. ``ids``: where the ids of
    its jobs come from, if what happens has to be repeatable; servers of one journal share it.
    """
    all_variables = environment(sandbox, folder, variables or {})
    settings = load(CATALOGUE.providers, all_variables, tools=[t.name for t in CATALOGUE.tools])
    drawn = new_id if ids is None else lambda: "".join(ids.choices(ID_ALPHABET, k=ID_CHARACTERS))
    return Process(settings, all_variables, clock, sandbox.transport(), seed, drawn)

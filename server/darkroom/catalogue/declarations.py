"""What a package contributes: providers, neutral tools, resources, prompts, a sandbox."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from darkroom.providers.operations import Declared

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    import httpx2

    from darkroom.catalogue.prompts import Prompt
    from darkroom.core.json_types import JsonObject
    from darkroom.engine.engine import Engine
    from darkroom.engine.person import Person
    from darkroom.providers.provider import Provider


@dataclass(frozen=True, slots=True, kw_only=True)
class LongRunning:
    """The tools that check and cancel what a tool starts; ``argument`` takes its id."""

    argument: str
    check: str
    cancel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture in a result."""

    data: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Link:
    """An address that gives the person an output, where its file is on another machine."""

    url: str
    name: str
    media_type: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a tool returns: an object for the model, and one or two lines of text for the person.

    If there is an object, hosts show the model nothing else; therefore a result with ``pictures``
    has no object. ``meta`` is for the host's interface and is not shown to the model.
    """

    structured: JsonObject | None
    text: str
    pictures: tuple[Picture, ...] = ()
    meta: JsonObject | None = None
    links: tuple[Link, ...] = ()


class ToolFunction(Protocol):
    """What a neutral tool does."""

    def __call__(self, engine: Engine, params: Any, person: Person, /) -> Awaitable[Result]:
        """Run with valid arguments; raise `errors.CallError` for what the model should read."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tool(Declared):
    """A tool that belongs to no provider."""

    run: ToolFunction
    listed: Callable[[bool], bool] = bool
    """Whether it is listed, given whether any provider has a credential."""

    local: bool = False
    """It works with paths of this machine, and is not listed for people who are elsewhere."""

    long_running: LongRunning | None = None
    """The tools that check and cancel what it starts, if it starts something."""


class Sandbox(Protocol):
    """Emulators of a catalogue's providers, in this process."""

    def transport(self) -> httpx2.AsyncBaseTransport:
        """Return the HTTP transport to the emulators; it does not use the network."""
        ...

    def environment(self) -> dict[str, str]:
        """Return the variables that point a server to the emulators, including credentials."""
        ...


class OpenSandbox(Protocol):
    """Build the emulators."""

    def __call__(self, *, time_scale: float) -> Sandbox:
        """``time_scale`` is a factor on how long jobs take."""
        ...


class ServeSandbox(Protocol):
    """Serve the emulators on a loopback port until told to end by a signal."""

    def __call__(
        self,
        *,
        port: int,
        time_scale: float,
        control: bool,
        ready: Callable[[str, Mapping[str, str]], None],
    ) -> Awaitable[None]:
        """Call ``ready`` with the address of the index and the variables once it answers."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a resource holds: text, or bytes."""

    data: str | bytes
    media_type: str


class Read(Protocol):
    """Reads a resource; ``variables`` are those of its address."""

    def __call__(self, engine: Engine, variables: Mapping[str, str], /) -> Awaitable[Content]:
        """Return the content; raise `errors.CallError` (``not_found``: no such resource)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resource:
    """Content that can be read under an address, which is fixed or an RFC 6570 template.

    ``complete`` returns values of a variable that begin with what was typed. For every resource
    there is a tool that does the same, because several hosts do not read resources.
    """

    uri: str
    name: str
    title: str
    description: str
    media_type: str
    read: Read
    complete: Mapping[str, Callable[[Engine, str], Awaitable[Sequence[str]]]] = field(
        default_factory=dict[str, "Callable[[Engine, str], Awaitable[Sequence[str]]]"]
    )
    meta: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeferredProvider:
    """A provider whose module is imported only where it is used: see `loading.completed`.

    ``module`` is ``package.module:NAME``; ``variables`` are those of its credentials. With
    ``shared_key`` a key opens nothing by itself, because other programs use the same variable.
    """

    name: str
    module: str
    variables: tuple[str, ...]
    shared_key: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Catalogue:
    """What one package contributes: providers, neutral tools and, for ours, the sandbox."""

    providers: tuple[Provider, ...] = ()
    deferred: tuple[DeferredProvider, ...] = ()
    tools: tuple[Tool, ...] = ()
    resources: tuple[Resource, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    schemas: Path | None = None
    """A JSON file with the input schemas of all tools, if they were generated in advance."""

    sandbox: OpenSandbox | None = None
    serve_sandbox: ServeSandbox | None = None
    demo: Callable[[Path], int] | None = None
    """Runs the demo and writes its results into the given folder; returns the exit status."""

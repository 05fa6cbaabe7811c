"""What a package contributes: providers, tools that belong to none, resources, a sandbox."""

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
    """The tools that check and cancel what was begun; ``argument`` names it to them."""

    argument: str
    check: str
    cancel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture in a result, whole and small."""

    data: bytes
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a tool returns: one object for the model and a line or two of text for the person.

    Hosts that see an object show the model nothing else: a result with ``pictures`` has none.
    ``meta`` is for the host's interfaces and is not shown to the model.
    """

    structured: JsonObject | None
    text: str
    pictures: tuple[Picture, ...] = ()
    meta: JsonObject | None = None


class ToolFunction(Protocol):
    """What a neutral tool does."""

    def __call__(self, engine: Engine, params: Any, person: Person, /) -> Awaitable[Result]:
        """Run with valid arguments; raise `errors.CallError` for what the model should read."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tool(Declared):
    """A tool that belongs to no provider. ``always``: listed even when no credential is there."""

    run: ToolFunction
    listed: Callable[[bool], bool] = bool
    """Whether it is listed, given whether any provider has a credential."""

    long_running: LongRunning | None = None
    """By what, where it begins something that goes on."""


class Sandbox(Protocol):
    """Emulators of a catalogue's providers, in this process."""

    def transport(self) -> httpx2.AsyncBaseTransport:
        """Return the way to them; it never touches the network."""
        ...

    def environment(self) -> dict[str, str]:
        """Return the variables that point a server to them, credentials included."""
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
    """Something to read under an address: fixed, or an RFC 6570 template with variables.

    ``complete`` returns values of a variable that begin with what was typed. Every resource has a
    tool that does the same: several hosts read none.
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
class Catalogue:
    """What one package contributes: providers, neutral tools and, for ours, the sandbox."""

    providers: tuple[Provider, ...] = ()
    tools: tuple[Tool, ...] = ()
    resources: tuple[Resource, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    schemas: Path | None = None
    """A JSON file with the input schema of every tool, if that was made beforehand."""

    sandbox: OpenSandbox | None = None
    serve_sandbox: ServeSandbox | None = None
    demo: Callable[[Path], int] | None = None
    """Shows, in the folder given, what it all can do; returns the exit status."""

"""`darkroom call`: call one tool from a shell, in the same way as a chat."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import anyio
import anyio.to_thread

from darkroom.catalogue.dispatch import desks
from darkroom.cli.context import prepare
from darkroom.core.errors import CallError, ConfigurationError, call_error
from darkroom.core.foreign import printable
from darkroom.core.names import nearest
from darkroom.engine.engine import running
from darkroom.engine.person import declined
from darkroom.providers.operations import CheckOperation, JobOperation
from darkroom.providers.params import MAX_WAIT_SECONDS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator, Mapping

    from darkroom.catalogue.declarations import Result
    from darkroom.catalogue.dispatch import ToolHandler
    from darkroom.cli.context import CommandContext
    from darkroom.core.json_types import JsonObject
    from darkroom.engine.engine import Engine

WAIT_SECONDS = 5
"""Interval of the status on a terminal during a wait."""

NOT_OVER = frozenset({"queued", "running"})
DONE, FAILED = 0, 1


class TerminalPerson:
    """The person at a terminal."""

    answers_tasks = False

    def __init__(self, *, yes: bool, can_ask: bool) -> None:
        self._yes = yes
        self._can_ask = can_ask

    @property
    def can_ask(self) -> bool:
        """Whether there is a terminal, or everything was approved beforehand."""
        return self._yes or self._can_ask

    async def approve(self, tool: str, question: str, binding: str) -> None:
        """Ask y or N; see `approval.Person`."""
        del binding
        if self._yes:
            return
        if not self._can_ask:
            raise call_error(
                "not_configured",
                f"{tool} needs a person's approval ({question}), and nobody can be asked here",
                "call it at a terminal, or with --yes",
            )
        sys.stderr.write(printable(f"{question} [y/N] "))
        sys.stderr.flush()
        response = await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
        if response.strip().lower() not in {"y", "yes"}:
            raise declined(tool)

    async def progress(self, done: float, total: float | None, message: str) -> None:
        """Show nothing: the wait is shown by `_wait`."""
        del done, total, message


def run(options: argparse.Namespace) -> int:
    """Call the tool, and print its result as JSON or its error."""
    context = prepare(sandbox=options.sandbox, everything=True)
    handler = find(context, options.tool)
    from_stdin = options.arguments == "-"
    arguments = read_arguments(sys.stdin.read() if from_stdin else options.arguments)
    person = TerminalPerson(yes=options.yes, can_ask=sys.stdin.isatty() and not from_stdin)
    return anyio.run(call, context, handler, arguments, person, options.wait)


def find(context: CommandContext, name: str) -> ToolHandler:
    """Return a tool by its name, even if the provider's credential is missing.

    Raises
    ------
    ConfigurationError: there is no such tool; the error suggests the nearest name.
    """
    credentials = context.credentials
    found = {
        **desks(context.catalogues, credentials.available, context.settings),
        **desks(context.catalogues, lambda _: True, context.settings),
    }
    if name in found:
        return found[name]
    declared = {tool.name for catalogue in context.catalogues for tool in catalogue.tools}
    declared |= {o.name for provider in context.providers for o in provider.operations}
    if name in declared:
        raise ConfigurationError(f"{name}: the filters of [serve] leave it out")
    near = nearest(name, found)
    hint = f"; did you mean {near}?" if near else "; `darkroom tools --all` lists them"
    raise ConfigurationError(f"there is no tool {name}{hint}")


def read_arguments(text: str) -> Mapping[str, object]:
    """Return the arguments of a call.

    Raises
    ------
    ConfigurationError: they are no JSON object.
    """
    try:
        arguments: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"the arguments are not JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise ConfigurationError("the arguments must be a JSON object, as in '{\"name\": 1}'")
    return cast("dict[str, object]", arguments)


async def call(
    context: CommandContext,
    handler: ToolHandler,
    arguments: Mapping[str, object],
    person: TerminalPerson,
    wait: bool,  # noqa: FBT001 -- anyio.run passes by position
) -> int:
    """Run the tool with an engine of its own; return the exit status."""
    async with running(context.providers, context.settings, context.dependencies) as engine:
        try:
            result = await handler.run(engine, arguments, person)
            if wait:
                result = await _wait(context, engine, handler, arguments, result, person)
        except CallError as error:
            sys.stderr.write(printable(error.text) + "\n")
            return FAILED
    fields = result.structured
    sys.stdout.write(printable(_shown(fields) if fields is not None else result.text + "\n"))
    if wait and fields is not None and not _went_well(fields):
        sys.stderr.write(printable(result.text) + "\n")
        return FAILED
    return DONE


def _went_well(fields: JsonObject) -> bool:
    """Tell whether the job, or all jobs of the batch, have completed."""
    begun = "job_id" in fields or "batch_id" in fields
    return not begun or (fields.get("status") == "completed" and not fields.get("failures"))


async def _wait(
    context: CommandContext,
    engine: Engine,
    handler: ToolHandler,
    arguments: Mapping[str, object],
    result: Result,
    person: TerminalPerson,
) -> Result:
    """Check the job or batch of a result until it has ended."""
    tool, fields = handler.tool, result.structured or {}
    if isinstance(tool, JobOperation):
        look, asked = tool.check_tool, {"job_id": fields.get("job_id")}
    elif isinstance(tool, CheckOperation):
        look, asked = tool.name, dict(arguments)
    else:
        tools = (each for catalogue in context.catalogues for each in catalogue.tools)
        long_running = (each.long_running for each in tools if each.long_running is not None)
        begun = next((each for each in long_running if each.argument in fields), None)
        if begun is None:
            return result
        look, asked = begun.check, {begun.argument: fields[begun.argument]}
    check = find(context, look)
    since = anyio.current_time()
    while (fields := result.structured or {}).get("status") in NOT_OVER:
        shown = f"{next(iter(asked.values()), look)}: {fields.get('status')}"
        with _shown_wait(f"{shown}, {anyio.current_time() - since:.0f} s"):
            result = await check.run(engine, {**asked, "wait_seconds": WAIT_SECONDS}, person)
    if fields.get("status") == "completed":  # a check waits for files that are downloading
        result = await check.run(engine, {**asked, "wait_seconds": MAX_WAIT_SECONDS}, person)
    return result


@contextmanager
def _shown_wait(text: str) -> Generator[None]:
    """Show on a terminal what is waited for, and remove the line afterwards."""
    if not sys.stderr.isatty():
        yield
        return
    sys.stderr.write(printable(text))
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write("\r\x1b[K")


def _shown(fields: JsonObject) -> str:
    return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"

"""Asking the person, in both protocol eras.

On 2026-07-28 the call is answered with an `InputRequiredResult` and comes back with the answer; on
2025-11-25 the host is asked in the middle of the call and has `ANSWER_SECONDS`, after which it is
a no. A host that knows tasks finds the same question in the task of a start
(`darkroom.jobs.questions`). A host that cannot ask gets a refusal that names the setting which
allows it. Permission to use a tool is never approval to spend or to destroy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio
from mcp_types import (
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequests,
    InputRequiredResult,
)

from darkroom.errors import DarkroomError, call_error
from darkroom.jobs.model import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.mcpserver.context import Context

    from darkroom.errors import CallError

ANSWER_SECONDS = 40.0
MODERN = "2026-07-28"
_QUESTION = "approval"
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"approve": {"type": "boolean", "title": "Go ahead", "default": False}},
    "required": ["approve"],
}


class InputNeededError(DarkroomError):
    """The call ends with a question; the host asks it and calls again."""

    def __init__(self, result: InputRequiredResult) -> None:
        super().__init__("input required")
        self.result = result


class Person(Protocol):
    """Who is behind a call."""

    @property
    def answers_tasks(self) -> bool:
        """Whether a start may go on as a task that asks, in place of `approve`."""
        ...

    async def approve(self, tool: str, question: str, binding: str) -> None:
        """Return when the person said yes to ``question``.

        ``binding`` identifies what exactly is asked (tool and arguments), so that a yes to one
        thing is never taken for a yes to another.

        Raises
        ------
        CallError: ``declined``, or ``not_configured`` where nobody can be asked.
        InputNeededError: the host has to ask and call again.
        """
        ...

    async def progress(self, done: float, total: float | None, message: str) -> None:
        """Tell the person how far a wait is, where the host shows it."""
        ...


class Nobody:
    """Nobody is behind what the machine does by itself."""

    answers_tasks = False

    async def approve(self, tool: str, question: str, binding: str) -> None:
        """Refuse: nobody can be asked."""
        del binding
        raise cannot_ask(tool, question)

    async def progress(self, done: float, total: float | None, message: str) -> None:
        """Tell nobody."""


def cannot_ask(tool: str, question: str) -> CallError:
    """Return the refusal for a host that has no way to ask."""
    return call_error(
        "not_configured",
        f"{tool} needs the person's approval ({question}), and this host has no way to ask",
        f"ask the person to allow it in the configuration: [approval] never_ask = ['{tool}']",
    )


def declined(tool: str) -> CallError:
    """Return the error for a no."""
    return call_error(
        "declined",
        f"the person did not approve {tool}; nothing was sent",
        "do not call it again unless the person asks for it",
    )


class HostPerson:
    """The person behind an MCP host; ``knows_tasks``: it said so on this very request."""

    def __init__(self, context: Context[Any, Any], *, knows_tasks: bool) -> None:
        self._context = context
        self._knows_tasks = knows_tasks
        self._told = -1.0

    @property
    def answers_tasks(self) -> bool:
        """Whether the host knows tasks and can ask."""
        return self._knows_tasks and self._can_ask()

    def _can_ask(self) -> bool:
        capabilities = self._context.client_capabilities
        modes = capabilities.elicitation if capabilities is not None else None
        return modes is not None and (modes.form is not None or modes.url is None)

    async def approve(self, tool: str, question: str, binding: str) -> None:
        """Ask through the host; see `Person`."""
        if not self._can_ask():
            raise cannot_ask(tool, question)
        if (self._context.protocol_version or "") >= MODERN:
            self._ask_and_come_back(tool, question, binding)
        else:
            await self._ask_now(tool, question)

    def _ask_and_come_back(self, tool: str, question: str, binding: str) -> None:
        state = digest("approval", tool, binding)
        responses = self._context.input_responses
        if responses and self._context.request_state == state:
            answer = responses.get(_QUESTION)
            if isinstance(answer, ElicitResult) and _is_yes(answer):
                return
            raise declined(tool)
        raise InputNeededError(
            InputRequiredResult(input_requests=requests(question, 1), request_state=state)
        )

    async def _ask_now(self, tool: str, question: str) -> None:
        answer: ElicitResult | None = None
        with anyio.move_on_after(ANSWER_SECONDS):
            answer = await self._context.session.elicit_form(
                question, _SCHEMA, self._context.request_id
            )
        if answer is None or not _is_yes(answer):
            raise declined(tool)

    async def progress(self, done: float, total: float | None, message: str) -> None:
        """Send a progress notification, if the host asked for them; each has to say more is done."""
        if done <= self._told:
            return
        self._told = done
        await self._context.report_progress(done, total, message)


def requests(question: str, number: int) -> InputRequests:
    """Return what the host is asked to do: show the question, with a box to tick.

    Each question of a task has a ``number`` of its own.
    """
    params = ElicitRequestFormParams(message=question, requested_schema=_SCHEMA)
    return {_key(number): ElicitRequest(params=params)}


def answer(responses: Mapping[str, Any], number: int) -> bool | None:
    """Return the answer to `requests` as it is on the wire; None: there is none among these.

    Raises
    ------
    ValueError: what is there for it is no answer.
    """
    if _key(number) not in responses:
        return None
    return _is_yes(ElicitResult.model_validate(responses[_key(number)]))


def _key(number: int) -> str:
    return _QUESTION if number == 1 else f"{_QUESTION}_{number}"


def _is_yes(answer: ElicitResult) -> bool:
    content = cast("dict[str, object]", answer.content or {})
    return answer.action == "accept" and content.get("approve") is True

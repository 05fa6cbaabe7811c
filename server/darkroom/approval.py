"""Asking the person, in both protocol eras.

On 2026-07-28 the call is answered with an `InputRequiredResult` and comes back with the answer; on
2025-11-25 the host is asked in the middle of the call and has `ANSWER_SECONDS`, after which it is
a no. A host that cannot ask gets a refusal that names the setting which allows it. Permission to
use a tool is never approval to spend or to destroy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult

from darkroom.errors import DarkroomError, call_error
from darkroom.jobs.model import digest

if TYPE_CHECKING:
    from mcp.server.mcpserver.context import Context

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

    async def approve(self, tool: str, question: str, binding: str) -> None:
        """Refuse: nobody can be asked."""
        del binding
        raise cannot_ask(tool, question)

    async def progress(self, done: float, total: float | None, message: str) -> None:
        """Tell nobody."""


def cannot_ask(tool: str, question: str) -> Exception:
    """Return the refusal for a host that has no way to ask."""
    return call_error(
        "not_configured",
        f"{tool} needs the person's approval ({question}), and this host has no way to ask",
        f"ask the person to allow it in the configuration: [approval] never_ask = ['{tool}']",
    )


def declined(tool: str) -> Exception:
    """Return the error for a no."""
    return call_error(
        "declined",
        f"the person did not approve {tool}; nothing was sent",
        "do not call it again unless the person asks for it",
    )


class HostPerson:
    """The person behind an MCP host."""

    def __init__(self, context: Context[Any, Any]) -> None:
        self._context = context
        self._told = -1.0

    async def approve(self, tool: str, question: str, binding: str) -> None:
        """Ask through the host; see `Person`."""
        capabilities = self._context.client_capabilities
        modes = capabilities.elicitation if capabilities is not None else None
        if modes is None or (modes.form is None and modes.url is not None):
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
        request = ElicitRequest(
            params=ElicitRequestFormParams(message=question, requested_schema=_SCHEMA)
        )
        raise InputNeededError(
            InputRequiredResult(input_requests={_QUESTION: request}, request_state=state)
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


def _is_yes(answer: ElicitResult) -> bool:
    content = cast("dict[str, object]", answer.content or {})
    return answer.action == "accept" and content.get("approve") is True

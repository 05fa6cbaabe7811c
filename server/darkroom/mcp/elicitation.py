"""Asks the person, in both revisions of the protocol.

In 2026-07-28 the call is answered with an `InputRequiredResult`, and the host calls again with the
answer. In 2025-11-25 the host is asked during the call; no answer within `ANSWER_SECONDS` is a no.
For a host that supports tasks, the task of a start contains the question
(`darkroom.jobs.pending_approvals`). For a host that cannot ask, the call is refused with the name of
the setting that allows it. Permission to use a tool is never approval to spend or to destroy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import anyio
from mcp_types import (
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequests,
    InputRequiredResult,
)

from darkroom.core.digests import digest
from darkroom.core.errors import DarkroomError
from darkroom.engine.person import cannot_ask, declined

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    """The call ends with a question; the host asks the person and calls again."""

    def __init__(self, result: InputRequiredResult) -> None:
        super().__init__("input required")
        self.result = result


class HostPerson:
    """The person behind an MCP host; ``knows_tasks``: this request declares support of tasks."""

    def __init__(self, context: Context[Any, Any], *, knows_tasks: bool) -> None:
        self._context = context
        self._knows_tasks = knows_tasks
        self._told = -1.0

    @property
    def answers_tasks(self) -> bool:
        """Whether the host supports tasks and can ask the person."""
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
            response = responses.get(_QUESTION)
            if isinstance(response, ElicitResult) and _is_yes(response):
                return
            raise declined(tool)
        raise InputNeededError(
            InputRequiredResult(input_requests=requests(question, 1), request_state=state)
        )

    async def _ask_now(self, tool: str, question: str) -> None:
        response: ElicitResult | None = None
        with anyio.move_on_after(ANSWER_SECONDS):
            response = await self._context.session.elicit_form(
                question, _SCHEMA, self._context.request_id
            )
        if response is None or not _is_yes(response):
            raise declined(tool)

    async def progress(self, done: float, total: float | None, message: str) -> None:
        """Send a progress notification, if the host wants them; progress must increase each time."""
        if done <= self._told:
            return
        self._told = done
        await self._context.report_progress(done, total, message)


def requests(question: str, number: int) -> InputRequests:
    """Return the request to the host: show the question with a check box.

    Each question of a task has a ``number`` of its own.
    """
    params = ElicitRequestFormParams(message=question, requested_schema=_SCHEMA)
    return {_key(number): ElicitRequest(params=params)}


def answer(responses: Mapping[str, Any], number: int) -> bool | None:
    """Return the answer to `requests` from the received responses; None if there is none.

    Raises
    ------
    ValueError: the response is not a valid answer.
    """
    if _key(number) not in responses:
        return None
    return _is_yes(ElicitResult.model_validate(responses[_key(number)]))


def _key(number: int) -> str:
    return _QUESTION if number == 1 else f"{_QUESTION}_{number}"


def _is_yes(response: ElicitResult) -> bool:
    content = cast("dict[str, object]", response.content or {})
    return response.action == "accept" and content.get("approve") is True

"""Asks the person, in both revisions of the protocol.

On 2026-07-28 the call is answered with an `InputRequiredResult` and comes back with the answer; on
2025-11-25 the host is asked in the middle of the call and has `PERSON_SECONDS`, after which it is
a no. A host that knows tasks finds the same question in the task of a start
(`darkroom.jobs.pending_approvals`). A host that cannot ask gets a refusal that names the setting which
allows it. Permission to use a tool is never approval to spend or to destroy.
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

from darkroom.core.deadlines import PERSON_SECONDS
from darkroom.core.digests import digest
from darkroom.core.errors import DarkroomError
from darkroom.core.ids import new_id
from darkroom.engine.person import cannot_ask, declined

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mcp.server.mcpserver.context import Context


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
    """The person behind an MCP host; ``knows_tasks``: it said so on this very request.

    ``use(serial, tool)`` tells whether a yes is used for the first time, and uses it.
    """

    def __init__(
        self,
        context: Context[Any, Any],
        *,
        knows_tasks: bool,
        use: Callable[[str, str], Awaitable[bool]],
    ) -> None:
        self._context = context
        self._use = use
        self._knows_tasks = knows_tasks
        self._told = -1.0

    @property
    def answers_tasks(self) -> bool:
        """Whether the host supports tasks and can ask the person."""
        return self._knows_tasks and self.can_ask

    @property
    def can_ask(self) -> bool:
        """Whether the host declared that it can show a form."""
        capabilities = self._context.client_capabilities
        modes = capabilities.elicitation if capabilities is not None else None
        return modes is not None and (modes.form is not None or modes.url is None)

    async def approve(self, tool: str, question: str, binding: str) -> None:
        """Ask through the host; see `Person`."""
        if not self.can_ask:
            raise cannot_ask(tool, question)
        if (self._context.protocol_version or "") >= MODERN:
            await self._ask_and_come_back(tool, question, binding)
        else:
            await self._ask_now(tool, question)

    async def _ask_and_come_back(self, tool: str, question: str, binding: str) -> None:
        """Return at the first answered call that says yes; a repeated one is asked anew.

        A host repeats a call whose answer it lost. One yes is for one act: the second would
        rotate, or pay, once more.
        """
        asked = digest("approval", tool, binding)
        responses = self._context.input_responses
        state, _, serial = (self._context.request_state or "").partition(".")
        if responses and state == asked:
            response = responses.get(_QUESTION)
            if not isinstance(response, ElicitResult) or not _is_yes(response):
                raise declined(tool)
            if await self._use(serial, tool):
                return
        raise InputNeededError(
            InputRequiredResult(
                input_requests=requests(question, 1), request_state=f"{asked}.{new_id()}"
            )
        )

    async def _ask_now(self, tool: str, question: str) -> None:
        response: ElicitResult | None = None
        with anyio.move_on_after(PERSON_SECONDS):
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

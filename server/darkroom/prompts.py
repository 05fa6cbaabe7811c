"""Prompts: what people ask most, put into words for the model, by the tools that are there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from mcp_types import INVALID_PARAMS, GetPromptResult, PromptMessage, TextContent
from mcp_types import Prompt as SdkPrompt
from mcp_types import PromptArgument as SdkArgument

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

    from darkroom.machine import Machine

MOST_ARGUMENT_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """An argument of a prompt; ``complete`` returns values that begin with what was typed.

    It is offered only where all tools that it ``needs`` are listed.
    """

    name: str
    description: str
    required: bool = False
    needs: tuple[str, ...] = ()
    complete: Callable[[Machine, str], Awaitable[Sequence[str]]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a person asks for, as a message to the model.

    ``text(arguments, tools)`` writes it, for the tools that are listed; a prompt is offered only
    where all tools of one of the sets that it ``needs`` are.
    """

    name: str
    title: str
    description: str
    text: Callable[[Mapping[str, str], Collection[str]], str]
    arguments: tuple[Argument, ...] = ()
    needs: tuple[tuple[str, ...], ...] = ((),)


class Prompts:
    """The prompts that are offered."""

    def __init__(self, prompts: Iterable[Prompt], tools: Collection[str]) -> None:
        self._tools = tools
        self._prompts = {
            prompt.name: replace(
                prompt, arguments=tuple(a for a in prompt.arguments if set(a.needs) <= set(tools))
            )
            for prompt in prompts
            if any(set(needed) <= set(tools) for needed in prompt.needs)
        }

    def listed(self) -> list[SdkPrompt]:
        """Return them as the protocol lists them."""
        return [
            SdkPrompt(
                name=prompt.name,
                title=prompt.title,
                description=prompt.description,
                arguments=[
                    SdkArgument(name=a.name, description=a.description, required=a.required)
                    for a in prompt.arguments
                ],
            )
            for prompt in self._prompts.values()
        ]

    def get(self, name: str, given: Mapping[str, object]) -> GetPromptResult:
        """Write a prompt.

        Raises
        ------
        MCPError: there is no such prompt, or the arguments are not its arguments.
        """
        from mcp.shared.exceptions import MCPError  # noqa: PLC0415 -- declaring a prompt needs no SDK

        prompt = self._prompts.get(name)
        if prompt is None:
            offered = ", ".join(self._prompts) or "none"
            raise MCPError(INVALID_PARAMS, f"there is no prompt {name[:100]!r}; offered: {offered}")
        if mistakes := list(_mistakes(prompt, given)):
            raise MCPError(INVALID_PARAMS, "; ".join(mistakes))
        text = prompt.text(cast("Mapping[str, str]", given), self._tools)
        message = PromptMessage(role="user", content=TextContent(type="text", text=text))
        return GetPromptResult(description=prompt.description, messages=[message])

    async def complete(
        self, machine: Machine, name: str, argument: str, typed: str
    ) -> Sequence[str]:
        """Return values of an argument that begin with what was typed."""
        prompt = self._prompts.get(name)
        for each in prompt.arguments if prompt is not None else ():
            if each.name == argument and each.complete is not None:
                return await each.complete(machine, typed)
        return ()


def _mistakes(prompt: Prompt, given: Mapping[str, object]) -> Iterable[str]:
    known = {argument.name for argument in prompt.arguments}
    for argument in prompt.arguments:
        if argument.required and not given.get(argument.name):
            yield f"{argument.name}: missing ({argument.description})"
    for name, value in given.items():
        if name not in known:
            yield f"{name[:100]}: no such argument; known: {', '.join(sorted(known)) or 'none'}"
        elif not isinstance(value, str) or len(value) > MOST_ARGUMENT_CHARACTERS:
            yield f"{name}: expected text of at most {MOST_ARGUMENT_CHARACTERS} characters"

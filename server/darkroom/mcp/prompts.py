"""The offered prompts, in the form of the protocol."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from mcp_types import INVALID_PARAMS, GetPromptResult, PromptMessage, TextContent
from mcp_types import Prompt as SdkPrompt
from mcp_types import PromptArgument as SdkArgument

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from darkroom.catalogue.prompts import Prompt
    from darkroom.engine.engine import Engine


MOST_ARGUMENT_CHARACTERS = 20_000


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
        """Return the prompts as the protocol lists them."""
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
        """Return a prompt's message.

        Raises
        ------
        MCPError: there is no such prompt, or its arguments are wrong.
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

    async def complete(self, engine: Engine, name: str, argument: str, typed: str) -> Sequence[str]:
        """Return values of an argument that begin with what was typed."""
        prompt = self._prompts.get(name)
        for each in prompt.arguments if prompt is not None else ():
            if each.name == argument and each.complete is not None:
                return await each.complete(engine, typed)
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

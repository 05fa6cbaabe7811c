"""`darkroom tools`: the tools, and how many tokens each takes in a model's context."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from darkroom.catalogue.dispatch import desks
from darkroom.cli.context import prepare
from darkroom.cli.token_count import count, tool_tokens

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from darkroom.catalogue.dispatch import ToolHandler
    from darkroom.cli.context import CommandContext

NEUTRAL = "neutral"
"""Shown as the provider of tools that belong to no provider."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One tool and its tokens."""

    handler: ToolHandler
    tokens: int

    @property
    def provider(self) -> str:
        """The provider of the tool."""
        return self.handler.provider.name if self.handler.provider is not None else NEUTRAL


def run(options: argparse.Namespace) -> int:
    """Print the table, or the schemas as JSON."""
    context = prepare(sandbox=options.sandbox, everything=True)
    found = listed(context, everything=options.all)
    exact = count("")[1]
    if options.json:
        _write(json.dumps([_as_json(each, exact=exact) for each in found], indent=2))
        return 0
    hidden = len(listed(context, everything=True)) - len(found)
    _write("\n".join(table(found, exact=exact)))
    if hidden > 0:
        _write(f"\n{hidden} more without a credential: darkroom tools --all")
    return 0


def listed(context: CommandContext, *, everything: bool) -> list[Listed]:
    """Return the tools that a host would see, or the tools of all providers."""
    available = context.credentials.available
    found = desks(
        context.catalogues,
        (lambda _: True) if everything else available,
        context.settings,
    )
    return [
        Listed(handler, tool_tokens(name, handler.tool.description, handler.schema))
        for name, handler in found.items()
    ]


def table(found: Iterable[Listed], *, exact: bool) -> list[str]:
    """Return the lines of the table, grouped by provider."""
    about = "" if exact else "~"
    groups: dict[str, list[Listed]] = {}
    for each in found:
        groups.setdefault(each.provider, []).append(each)
    width = max((len(e.handler.tool.name) for group in groups.values() for e in group), default=0)
    lines: list[str] = []
    for name, group in groups.items():
        title = (
            group[0].handler.provider.title if group[0].handler.provider is not None else "Neutral"
        )
        total = sum(each.tokens for each in group)
        lines.append(_row(f"{title} ({name})" if name != NEUTRAL else title, total, width, about))
        lines += [
            "  " + _row(e.handler.tool.name, e.tokens, width - 2, about, e.handler.tool.title)
            for e in group
        ]
        lines.append("")
    whole = [each.tokens for group in groups.values() for each in group]
    lines.append(
        _row(
            f"{len(whole)} tool{'' if len(whole) == 1 else 's'}",
            sum(whole),
            width,
            about,
            "tokens (o200k)",
        )
    )
    return lines


def _row(name: str, tokens: int, width: int, about: str, text: str = "") -> str:
    number = f"{about}{tokens:,}"
    return f"{name:<{width + 2}}{number:>8}  {text}".rstrip()


def _as_json(each: Listed, *, exact: bool) -> dict[str, object]:
    tool = each.handler.tool
    return {
        "name": tool.name,
        "provider": each.provider,
        "title": tool.title,
        "description": tool.description,
        "inputSchema": each.handler.schema,
        "annotations": asdict(tool.hints),
        "tokens": each.tokens,
        "tokens_exact": exact,
    }


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")

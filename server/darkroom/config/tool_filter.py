"""Tells whether the filters of ``[serve]`` list a tool."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from darkroom.config.sections import ServeSection
    from darkroom.providers.operations import Declared
    from darkroom.providers.provider import Provider


def keeps(wanted: ServeSection, provider: Provider | None, tool: Declared) -> bool:
    """Tell whether the filters list a tool; a tool that is not listed cannot be called."""
    if wanted.read_only and not tool.hints.read_only:
        return False
    if _named(tool.name, wanted.exclude):
        return False
    if provider is not None and wanted.providers and provider.name not in wanted.providers:
        return False
    return not wanted.tools or _named(tool.name, wanted.tools)


def _named(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)

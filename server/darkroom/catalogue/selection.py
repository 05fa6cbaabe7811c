"""Which tools are listed: the filters of ``[serve]`` and of the command line."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from darkroom.config.tool_filter import keeps
from darkroom.core.errors import ConfigurationError
from darkroom.core.names import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from darkroom.catalogue.declarations import Catalogue
    from darkroom.config.settings import Settings
    from darkroom.providers.operations import Declared
    from darkroom.providers.provider import Provider


NO_TOOLS = "the filters of [serve], or of the command line, leave no tool to list"


def selected(
    catalogues: Sequence[Catalogue], settings: Settings
) -> Callable[[Provider | None, Declared], bool]:
    """Return a function that tells whether a tool (of a provider, or None) may be listed.

    Raises
    ------
    ConfigurationError: a filter names something that does not exist.
    """
    wanted = settings.serve
    providers = {p.name for catalogue in catalogues for p in catalogue.providers}
    tools = {
        *(t.name for catalogue in catalogues for t in catalogue.tools),
        *(o.name for c in catalogues for p in c.providers for o in p.operations),
    }
    _refuse_unknown("providers", wanted.providers or (), providers)
    _refuse_unknown("tools", wanted.tools or (), tools)
    _refuse_unknown("exclude", wanted.exclude, tools)
    return lambda provider, tool: keeps(wanted, provider, tool)


def _refuse_unknown(key: str, patterns: Iterable[str], known: Collection[str]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            near = nearest(pattern, known)
            hint = f"; did you mean {near!r}?" if near else f": {', '.join(sorted(known))}"
            raise ConfigurationError(f"serve.{key}: nothing is called {pattern!r}{hint}")

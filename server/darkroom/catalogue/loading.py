"""Finds catalogues by the entry-point group ``darkroom.catalogue``."""

from __future__ import annotations

import json
import logging
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from darkroom.catalogue.declarations import Catalogue

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from importlib.metadata import EntryPoint
    from pathlib import Path

    from darkroom.core.json_types import JsonObject

log = logging.getLogger("darkroom")

GROUP = "darkroom.catalogue"
OURS = "darkroom-tools"


def load_catalogues(found: Iterable[EntryPoint] | None = None) -> tuple[Catalogue, ...]:
    """Load the installed catalogues: ours first, then the others by name.

    A catalogue that cannot be loaded, or uses a name of another one, is logged and left out.
    """
    points = sorted(
        entry_points(group=GROUP) if found is None else found,
        key=lambda point: (point.name != OURS, point.name),
    )
    loaded: list[Catalogue] = []
    taken: set[str] = set()
    for point in points:
        try:
            catalogue: Any = point.load()
            if not isinstance(catalogue, Catalogue):
                raise TypeError(f"it is no Catalogue but {type(catalogue).__name__}")  # noqa: TRY301 -- reported like the rest
            names = names_of(catalogue)
        except Exception as error:  # noqa: BLE001 -- somebody else's package must not stop ours
            log.warning("catalogue %s (%s) is left out: %r", point.name, point.value, error)
            continue
        if double := sorted(taken & names):
            log.warning(
                "catalogue %s is left out: %s stands in another one", point.name, ", ".join(double)
            )
            continue
        taken |= names
        loaded.append(catalogue)
    return tuple(loaded)


def names_of(catalogue: Catalogue) -> set[str]:
    """Return the names that a catalogue uses: those of its providers and tools."""
    operations = {o.name for provider in catalogue.providers for o in provider.operations}
    return (
        operations
        | {tool.name for tool in catalogue.tools}
        | {f"provider {provider.name}" for provider in catalogue.providers}
    )


def made_beforehand(file: Path | None) -> Mapping[str, JsonObject]:
    """Read the generated schemas of a catalogue's tools, by name, if there are any.

    Generating them takes longer than everything else that a start does with the tools.
    """
    if file is None:
        return {}
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        log.warning("the schemas in %s are made anew: %s", file.name, type(error).__name__)
        return {}

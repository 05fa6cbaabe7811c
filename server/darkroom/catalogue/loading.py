"""Finds catalogues by the entry-point group ``darkroom.catalogue``."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from darkroom.catalogue.declarations import Catalogue

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from importlib.metadata import EntryPoint
    from pathlib import Path

    from darkroom.catalogue.declarations import DeferredProvider
    from darkroom.core.json_types import JsonObject
    from darkroom.providers.provider import Provider

log = logging.getLogger("darkroom")

GROUP = "darkroom.catalogue"
OURS = "darkroom-tools"
OUR_PREFIX = "DARKROOM_"


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


def completed(
    catalogue: Catalogue, environment: Mapping[str, str] | None = None, named: str = ""
) -> Catalogue:
    """Return the catalogue with those of its deferred providers that are used.

    One is used if one of its credentials is set, if a variable of the server's names it, or if
    ``named`` (the text of the configuration) does. Without an ``environment`` all are. One that
    cannot be imported is logged and left out.
    """
    used = [d for d in catalogue.deferred if environment is None or _used(d, environment, named)]
    if not used:
        return catalogue
    return replace(
        catalogue,
        providers=(*catalogue.providers, *filter(None, map(_loaded, used))),
        deferred=tuple(d for d in catalogue.deferred if d not in used),
    )


def _used(deferred: DeferredProvider, environment: Mapping[str, str], named: str) -> bool:
    variables = {name for each in deferred.variables for name in (each, f"{each}_FILE")}
    if not deferred.shared_key and any(environment.get(name) for name in variables):
        return True
    word = re.compile(rf"(?<![a-z0-9]){re.escape(deferred.name)}(?![a-z0-9])", re.IGNORECASE)
    ours = (f"{k} {v}" for k, v in environment.items() if k.startswith(OUR_PREFIX) and v)
    return any(map(word.search, (named, *ours)))


def _loaded(deferred: DeferredProvider) -> Provider | None:
    module, _, name = deferred.module.partition(":")
    try:
        provider: Provider = getattr(import_module(module), name)
    except Exception as error:  # noqa: BLE001 -- as in `load_catalogues`
        log.warning("provider %s (%s) is left out: %r", deferred.name, deferred.module, error)
        return None
    return provider


def names_of(catalogue: Catalogue) -> set[str]:
    """Return the names that a catalogue uses: those of its providers and tools."""
    operations = {o.name for provider in catalogue.providers for o in provider.operations}
    return (
        operations
        | {tool.name for tool in catalogue.tools}
        | {f"provider {provider.name}" for provider in (*catalogue.providers, *catalogue.deferred)}
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

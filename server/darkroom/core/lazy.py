"""Lazy imports for the public names of a package: each is loaded when it is first used."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def lazy_names(package: str, homes: Mapping[str, tuple[str, ...]]) -> Callable[[str], object]:
    """Return a module's ``__getattr__``; ``homes`` maps each module to the names that it defines.

    A name may also be a submodule. Once loaded, the name is set on the package, so that the next
    use costs nothing.
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def load(name: str) -> object:
        home = home_of.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(home)
        found: object = getattr(module, name, None) or importlib.import_module(f"{home}.{name}")
        setattr(sys.modules[package], name, found)
        return found

    return load

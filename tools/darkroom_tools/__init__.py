"""The catalogue: the providers, and the tools that belong to none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkroom.operation import Catalogue
from darkroom_tools import jobs, setup, zsky, zupertry

if TYPE_CHECKING:
    from darkroom_tools.emulators.sandbox import Sandbox


def open_sandbox(**options: object) -> Sandbox:
    """Build the emulators; they are imported only then."""
    from darkroom_tools.emulators.sandbox import Sandbox  # noqa: PLC0415 -- start-up pays for it

    return Sandbox(**options)  # pyright: ignore[reportArgumentType] -- the command line's own


CATALOGUE = Catalogue(
    providers=(zupertry.PROVIDER, zsky.PROVIDER),
    tools=(*jobs.TOOLS, setup.GET_SETUP),
    sandbox=open_sandbox,
)

"""What the life of a job needs of whoever keeps its outputs; `darkroom.results` implements it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from darkroom.jobs.model import Job
    from darkroom.jobs.registry import LiveJob
    from darkroom.providers.values import Output


class OutputFiles(Protocol):
    """Downloads outputs, and knows how long their addresses live."""

    def wanted(self, outputs: tuple[Output, ...], /) -> bool:
        """Tell whether outputs that have just come are to be downloaded."""
        ...

    async def collect(self, live: LiveJob, /) -> None:
        """Download what a job made and write down where it is; a failure becomes a warning."""
        ...

    def dying(self, output: Output, life: float, /) -> bool:
        """Tell whether an output has no address that lives ``life`` seconds."""
        ...

    async def address_of(self, job: Job, output: Output, life: float, /) -> Output:
        """Return an output with an address that lives ``life`` seconds, if it can be had.

        Raises
        ------
        FetchError: the address is dead, and there is no other.
        CallError: the provider was asked for another, and refused.
        """
        ...

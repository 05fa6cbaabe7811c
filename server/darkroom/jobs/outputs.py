"""What jobs need of the code that saves outputs; `darkroom.results` implements it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from darkroom.jobs.model import Job
    from darkroom.jobs.registry import LiveJob
    from darkroom.providers.values import Output


class OutputFiles(Protocol):
    """Downloads outputs, and knows how long their addresses are valid."""

    def wanted(self, outputs: tuple[Output, ...], /) -> bool:
        """Tell whether new outputs are to be downloaded now."""
        ...

    async def collect(self, live: LiveJob, /) -> None:
        """Download a job's outputs and record the files; a failure becomes a warning."""
        ...

    def dying(self, output: Output, life: float, /) -> bool:
        """Tell whether an output has no address that stays valid for ``life`` seconds."""
        ...

    async def address_of(self, job: Job, output: Output, life: float, /) -> Output:
        """Return an output with an address that stays valid for ``life`` seconds, if possible.

        Raises
        ------
        FetchError: the address has expired, and there is no other.
        CallError: the provider was asked for another address and refused.
        """
        ...

"""How many bytes come in from outside, of one file and of several together."""

from __future__ import annotations

from dataclasses import dataclass

from darkroom.core.errors import FetchError

LARGEST_FILE_BYTES = 200 * 1024 * 1024


@dataclass(slots=True)
class ByteBudget:
    """The bytes that several downloads may have together, also those of a download that failed."""

    left: int

    def need(self, count: int) -> None:
        """Raise `FetchError` if so many bytes are more than are left."""
        if count > self.left:
            raise FetchError(
                "the files of its job are larger than they may be together", code="bad_response"
            )

    def take(self, count: int) -> None:
        """Count bytes that have come; raise `FetchError` if they are more than were left."""
        self.need(count)
        self.left -= count

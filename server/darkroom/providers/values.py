"""What a provider says about a job: status, cost, progress and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import builtins
    from pathlib import Path

Status = Literal[
    "queued", "submitting", "running", "completed", "failed", "blocked", "cancelled", "unknown"
]
ShownStatus = Literal["queued", "running", "completed", "failed", "blocked", "cancelled", "unknown"]
"""A status as the model sees it: all but the internal ``submitting``."""


ENDED: frozenset[Status] = frozenset({"completed", "failed", "blocked", "cancelled"})


Unit: TypeAlias = str
"""What a provider counts; a module declares its own: ``credits``, ``images``, ``videos``, ``usd``."""


Basis = Literal["exact", "estimate", "unknown"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a job costs, in the provider's unit."""

    amount: float
    unit: Unit
    basis: Basis = "estimate"


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of a job is done, if the provider says so."""

    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One result of a job. Times are seconds since the epoch."""

    index: int
    url: str | None = None
    expires_at: float | None = None
    media_type: str | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    name: str | None = None
    file: str | None = None
    sha256: str | None = None
    fetch_error: str | None = None
    """The error code of the last download, if it failed."""


class LocalFile(str):
    """A local file in the place of an address, for operations whose ``files`` is ``bytes``.

    The text is the reference that stands in the job's arguments (``input:<sha256>/<name>``): it
    holds nothing secret and is never sent. ``path`` is a copy that does not change while the
    request is sent: what `darkroom` hashed, without positions and upright. ``name`` ends with the
    extension of ``media_type``; ``width`` and ``height`` are None for a video.
    """

    __slots__ = ("bytes", "height", "media_type", "name", "path", "sha256", "width")

    path: Path
    name: str
    media_type: str
    bytes: int
    sha256: str
    width: int | None
    height: int | None

    @classmethod
    def of(
        cls,
        reference: str,
        path: Path,
        *,
        name: str,
        media_type: str,
        bytes: int,  # noqa: A002 -- as in `Output`
        sha256: str,
        width: int | None = None,
        height: int | None = None,
    ) -> LocalFile:
        """Return the file that a reference stands for."""
        file = cls(reference)
        file.path, file.name, file.media_type = path, name, media_type
        file.bytes, file.sha256, file.width, file.height = bytes, sha256, width, height
        return file

    def read(self) -> builtins.bytes:
        """Return the whole content; it blocks."""
        return self.path.read_bytes()

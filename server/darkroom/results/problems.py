"""Why no picture is shown."""

from __future__ import annotations

from darkroom.core.errors import DarkroomError


class NoPictureError(DarkroomError):
    """A file cannot be shown as a picture; the text says why."""

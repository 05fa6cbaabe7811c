"""Reading text files that people write, with or without a byte order mark."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def read_text(path: Path) -> str:
    """Return a file's text without its byte order mark.

    Raises
    ------
    OSError: the file cannot be read.
    UnicodeDecodeError: it is not UTF-8.
    """
    return path.read_text("utf-8-sig")

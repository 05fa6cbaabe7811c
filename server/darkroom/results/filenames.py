"""Names of result files: one folder a day, and names such as ``zsky-lighthouse-at-dusk-1.webp``."""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from darkroom.core.media_types import EXTENSIONS, PART_PREFIX, PART_SUFFIX

if TYPE_CHECKING:
    from pathlib import Path

    from darkroom.providers.client.fetch import Download

LABEL_CHARACTERS = 48
STALE_PART_SECONDS = 86_400.0
"""An unfinished file that is older than this belongs to a process that died."""

_ARTICLES = frozenset({"a", "an", "the"})
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK})


def day_folder(folder: Path, at: float) -> Path:
    """Return the folder of a day, UTC."""
    return folder / datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def slug(text: str) -> str:
    """Return a text as lower-case words joined by hyphens: letters and digits of any script.

    An article at the beginning is dropped.
    """
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).casefold())
    while len(words) > 1 and words[0] in _ARTICLES:
        del words[0]
    kept = ""
    for word in words:
        longer = f"{kept}-{word}" if kept else word[:LABEL_CHARACTERS]
        if len(longer) > LABEL_CHARACTERS:
            break
        kept = longer
    return kept


def stem(provider: str, operation: str, label: str, index: int) -> str:
    """Return what a file is called, without its extension."""
    words = slug(label) or operation.rpartition("_")[2]
    return f"{provider}-{words}-{index + 1}"


def place(download: Download, folder: Path, name: str) -> Path:
    """Rename a finished download to the first free name."""
    extension = EXTENSIONS.get(download.media_type, "bin")
    serial = 1
    while True:
        numbered = name if serial == 1 else f"{name}-{serial}"
        path = folder / f"{numbered}.{extension}"
        try:
            os.link(download.path, path)
        except FileExistsError:
            serial += 1
            continue
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if path.exists():  # a file system without hard links: rename if the name is free
                serial += 1
                continue
            download.path.replace(path)
            return path
        download.path.unlink()
        return path


def sweep(folder: Path, now: float) -> None:
    """Remove unfinished downloads of dead processes from a folder."""
    for path in folder.glob(f"{PART_PREFIX}*{PART_SUFFIX}"):
        try:
            if now - path.stat().st_mtime > STALE_PART_SECONDS:
                path.unlink()
        except OSError:
            continue

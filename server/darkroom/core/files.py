"""Writing files whole or not at all."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

OWNER_ONLY = 0o600
"""Permissions of a file with something secret in it."""

_BY_UMASK = 0o666
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def write_atomic(
    path: Path,
    data: bytes,
    *,
    mode: int | None = None,
    durable: bool = False,
    beside: str | None = None,
) -> None:
    """Put a file in the place of ``path`` at once: whoever reads it finds the old or the new one.

    ``mode`` and ``durable`` as in `write_new`. ``beside``: what the file is called while it is
    written; None: a random name that begins with a dot.

    Raises
    ------
    OSError: it could not be written; what was there is still there, and nothing beside it.
    """
    new = path.with_name(beside or f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_new(new, data, mode=mode, durable=durable)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    if durable:
        sync_folder(path.parent)


def write_new(path: Path, data: bytes, *, mode: int | None = None, durable: bool = False) -> None:
    """Write a file that was not there before.

    ``mode``: its permissions; nobody else can read it before it has them. None: the umask decides.
    ``durable``: what is in it survives a loss of power.

    Raises
    ------
    FileExistsError: something has this name already; it was not touched.
    """
    descriptor = os.open(path, _NEW, _BY_UMASK if mode is None else OWNER_ONLY)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    if mode is not None and mode != OWNER_ONLY:
        path.chmod(mode)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a loss of power."""
    if os.name != "posix":
        return  # other systems sync a file's name with the file
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Files and folders: written whole or not at all, and the person's alone."""

from __future__ import annotations

import os
import secrets
import stat
from typing import TYPE_CHECKING

from darkroom.core.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

OWNER_ONLY = 0o600
"""Permissions of a file with something secret in it."""

PRIVATE_FOLDER = 0o700
ROOT = 0
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
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


def write_private(path: Path, text: str) -> None:
    """Write a text for the person only, whole or not at all; see `write_atomic`."""
    write_atomic(path, text.encode(), mode=OWNER_ONLY)


def make_private_folder(path: Path) -> None:
    """Make a folder and what is missing above it, for the person only.

    `Path.mkdir` gives the folders above it the mode of the umask. What is there stays as it is.
    """
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    path.mkdir(exist_ok=True)  # raises where something else has its name


def trusted(path: Path, what: str) -> None:
    """Check that nobody else decides what a file or folder holds; one that is not there will do.

    Whoever can write the journal decides what is paid again, and whoever can write the token who may
    pay. Root is trusted: it can write everything. Windows keeps other rights, and is not checked.

    Raises
    ------
    ConfigurationError: it is a link, belongs to somebody else, or others can write to it.
    """
    if os.name != "posix":
        return
    try:
        found = os.lstat(path)
    except OSError:
        return  # whoever opens it says why it cannot be opened
    if stat.S_ISLNK(found.st_mode):
        raise ConfigurationError(f"{what} {path} is a link: name what it points to instead")
    if found.st_uid not in {os.geteuid(), ROOT}:
        raise ConfigurationError(
            f"{what} {path} belongs to somebody else (user {found.st_uid}): use one of your own"
        )
    if found.st_mode & _WRITABLE_BY_OTHERS:
        raise ConfigurationError(f"{what} {path} can be written by others: run chmod go-w on it")

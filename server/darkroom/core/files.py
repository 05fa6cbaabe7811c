"""Files and folders that are the person's alone."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from darkroom.core.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
ROOT = 0
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def make_private_folder(path: Path) -> None:
    """Make a folder and what is missing above it, for the person only.

    `Path.mkdir` gives the folders above it the mode of the umask. What is there stays as it is.
    """
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    path.mkdir(exist_ok=True)  # raises where something else has its name


def write_private(path: Path, text: str) -> None:
    """Write a file for the person only, whole or not at all; it replaces one of its name."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise


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

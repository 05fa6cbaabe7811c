"""Opens a saved file only if it is a regular file in the results folder and is unchanged."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from darkroom.core.errors import DarkroomError

if TYPE_CHECKING:
    from darkroom.providers.values import Output

READ_BYTES = 256 * 1024


class NotKeptError(DarkroomError):
    """The file of an output is missing or is not the one that was saved; the text says which."""


def open_kept(folder: Path, output: Output) -> BinaryIO:
    """Open an output's file for reading, after comparing its checksum with the journal.

    Raises
    ------
    NotKeptError: it is missing, elsewhere, not a regular file, or has changed.
    """
    if output.file is None or output.sha256 is None:
        raise NotKeptError("it was not downloaded")
    try:
        path, root = Path(output.file), folder.resolve(strict=True)
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise NotKeptError("its file is gone") from None
    inside = real.is_relative_to(root) and not path.is_symlink()
    if not inside:
        raise NotKeptError("its file is not in the results folder")
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    flags |= getattr(os, "O_BINARY", 0)
    try:
        file = os.fdopen(os.open(real, flags), "rb")
    except OSError:
        raise NotKeptError("its file cannot be read") from None
    try:
        _check(file, output.sha256)
    except BaseException:
        file.close()
        raise
    return file


def _check(file: BinaryIO, expected: str) -> None:
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise NotKeptError("its file is no plain file")
        found = checksum(file)
    except OSError:
        raise NotKeptError("its file cannot be read") from None
    if found != expected:
        raise NotKeptError("its file was changed after it was saved")


def checksum(file: BinaryIO) -> str:
    """Return the SHA-256 of a file from its beginning, in hex, and go back to its beginning."""
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(READ_BYTES):
        digest.update(block)
    file.seek(0)
    return digest.hexdigest()

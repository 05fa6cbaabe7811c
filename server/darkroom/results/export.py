"""Copies results into folders under the allowed roots, and nowhere else.

If the system supports it, each folder is opened relative to the one before it, without following
links, so that a folder cannot be replaced by a link between the check and the write.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from darkroom.core.errors import CallError, call_error
from darkroom.core.media_types import EXTENSIONS, MEDIA_TYPES, PART_PREFIX, PART_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

COPY_BYTES = 256 * 1024
LONGEST_NAME_BYTES = 255 - len(PART_PREFIX) - len(PART_SUFFIX) - 16
"""What file systems take, less what a file that is being written is called."""

ANCHORED = {os.open, os.mkdir, os.stat, os.unlink, os.rename} <= os.supports_dir_fd
"""Whether the system supports operations relative to an open folder."""

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN
CONVERTED = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
"""The formats that a picture can be converted to, by extension."""


@dataclass(frozen=True, slots=True)
class Target:
    """A target under one of the roots: its folders and its name (None: the target is a folder)."""

    root: Path
    folders: tuple[str, ...]
    name: str | None

    def path(self, name: str) -> Path:
        """Return the path of a file there."""
        return self.root.joinpath(*self.folders, name)


def target(to: str, roots: Sequence[Path]) -> Target:
    """Return the target that ``to`` names: a folder, if it ends with a slash, otherwise a file.

    Raises
    ------
    CallError: ``invalid_argument``: it is not under a root, or climbs out of one.
    """
    if (mistake := _foreign(to)) is not None:
        raise _refused(f"to: {mistake}", roots)
    text = to.replace("\\", "/") if os.sep == "\\" else to
    is_folder = text.endswith("/")
    given = Path(text).expanduser()
    if "\0" in to or ".." in given.parts:
        raise _refused("to: no '..' and no null character is allowed", roots)
    candidates = [(root, given if given.is_absolute() else root / given) for root in roots]
    for root, path in candidates:
        inside = _relative(path, root)
        if inside is not None:
            parts = inside.parts
            if is_folder:
                return Target(root, parts, None)
            if parts:
                return Target(root, parts[:-1], parts[-1])
    raise _refused(f"to: {to[:200]!r} is not a file or folder under an allowed folder", roots)


def _foreign(to: str) -> str | None:
    """Say what is wrong with a text that is no path of this system; None if it may be one."""
    if to.lower().startswith("file:"):
        return "give a path, not a file: address"
    if os.sep == "/" and ("\\" in to or re.match("[A-Za-z]:", to)):
        return "a path of this system has '/' between its folders, and no drive letter"
    if re.search(r"\$\w|\$\{|%\w+%", to):
        return "variables are not resolved here: write the path itself"
    if any(len(os.fsencode(part)) > LONGEST_NAME_BYTES for part in to.split("/")):
        return f"a name is too long: the most is {LONGEST_NAME_BYTES} bytes"
    return None


def _relative(path: Path, root: Path) -> Path | None:
    """Return a path relative to a root; links above the root are followed."""
    if path.is_relative_to(root):
        return path.relative_to(root)
    for above in path.parents:
        with suppress(OSError, RuntimeError):
            if above.resolve(strict=True) == root:
                return path.relative_to(above)
    return None


def _refused(message: str, roots: Sequence[Path]) -> CallError:
    return call_error(
        "invalid_argument",
        message,
        f"allowed: {', '.join(map(str, roots))}; a folder ends in '/'; the person can add folders "
        "in [files] roots, or with --root of darkroom serve",
    )


def media_type_of(name: str) -> str:
    """Return the media type for a file's extension.

    Raises
    ------
    CallError: ``invalid_argument``: only pictures and videos are written.
    """
    wanted = MEDIA_TYPES.get(Path(name).suffix.removeprefix(".").lower())
    if wanted is None:
        known = ", ".join(sorted(EXTENSIONS.values()))
        raise call_error(
            "invalid_argument",
            f"to: {name!r} has none of the extensions of pictures and films ({known})",
            "add one, or end a folder with '/'",
        )
    return wanted


class Folder:
    """A folder under a root, opened for writing; see `opened`."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path = path
        self._descriptor = descriptor

    def _at(self, name: str) -> str | Path:
        return name if self._descriptor is not None else self._path / name

    def exists(self, name: str) -> bool:
        """Tell whether something has this name, a dangling link included."""
        try:
            os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def write(self, name: str, source: BinaryIO, *, overwrite: bool) -> int:
        """Write a file, completely or not at all; return its size in bytes.

        Raises
        ------
        FileExistsError: the name is taken, and ``overwrite`` is not set.
        """
        reserved = not overwrite
        if not reserved and not self.replaceable(name):
            raise FileExistsError(name)
        if reserved:
            os.close(os.open(self._at(name), _NEW, 0o666, dir_fd=self._descriptor))
        growing = f"{PART_PREFIX}{secrets.token_hex(8)}{PART_SUFFIX}"
        try:
            written = self._fill(growing, source)
            self._rename(growing, name)
        except BaseException:
            with suppress(OSError):
                os.unlink(self._at(growing), dir_fd=self._descriptor)
            if reserved:
                with suppress(OSError):
                    os.unlink(self._at(name), dir_fd=self._descriptor)
            raise
        return written

    def replaceable(self, name: str) -> bool:
        """Tell whether a name is free or a plain file's, and no link, folder or device."""
        try:
            found = os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return True
        return stat.S_ISREG(found.st_mode)

    def _fill(self, name: str, source: BinaryIO) -> int:
        descriptor = os.open(self._at(name), _NEW, 0o666, dir_fd=self._descriptor)
        written = 0
        with os.fdopen(descriptor, "wb") as file:
            while block := source.read(COPY_BYTES):
                written += file.write(block)
            file.flush()
            os.fsync(file.fileno())
        return written

    def _rename(self, growing: str, name: str) -> None:
        if self._descriptor is None:
            (self._path / growing).replace(self._path / name)
        else:
            os.rename(growing, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)


@contextmanager
def opened(where: Target) -> Generator[Folder]:
    """Open the folder of a target and create missing folders, without following links.

    Raises
    ------
    CallError: ``invalid_argument``: a part of it is a link or no folder.
    """
    try:
        where.root.mkdir(parents=True, exist_ok=True)
        if not ANCHORED:
            yield Folder(_walk(where), None)
            return
        descriptor = os.open(where.root, _FOLDER)
        try:
            for part in where.folders:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=descriptor)
                below = os.open(part, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield Folder(where.root.joinpath(*where.folders), descriptor)
        finally:
            os.close(descriptor)
    except NotADirectoryError:
        raise _no_folder(where) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _no_folder(where) from None
        raise


def _walk(where: Target) -> Path:
    """Create the folders one by one, on systems without operations relative to an open folder."""
    path = where.root
    for part in where.folders:
        path /= part
        path.mkdir(exist_ok=True)
        if path.resolve() != path:
            raise _no_folder(where)
    return path


def _no_folder(where: Target) -> CallError:
    return call_error(
        "invalid_argument",
        f"to: {'/'.join(where.folders)} leads through a link or a file",
        "name a plain folder",
    )

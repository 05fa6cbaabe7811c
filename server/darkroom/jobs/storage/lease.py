"""Tells which processes are alive: those that hold the lock on their lease file.

The operating system frees the lock when a process ends, however it ends, so that neither a heartbeat
nor a clock is needed. A holder whose file is missing counts as dead. Therefore a file may only be
removed by a process that holds its lock.
"""

from __future__ import annotations

import os
import secrets
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from darkroom.core.errors import ConfigurationError
from darkroom.core.files import make_private_folder, trusted
from darkroom.core.locks import try_lock

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from darkroom.core.executor import Executor

LOCK_TRIES = 8
"""How many times to try if another process removes the new file before it is locked."""


class Lease:
    """Marks this process as alive, from `take` to `release` or to the end of the process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor

    @property
    def holder(self) -> str:
        """The random name that the rows of this process contain."""
        return self._path.stem

    @classmethod
    def take(cls, state_dir: Path) -> Lease:
        """Lock a new file in ``state_dir``; child processes do not inherit it (PEP 446).

        Raises `ConfigurationError` where files cannot be made or locked, or others can write there.
        """
        folder = state_dir / "holders"
        try:
            trusted(state_dir, "the state folder")
            make_private_folder(state_dir)
            folder.mkdir(mode=0o700, exist_ok=True)
            for _ in range(LOCK_TRIES):
                path = folder / f"{secrets.token_hex(8)}.lock"
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
                lease, taken = cls(path, descriptor), False
                try:
                    taken = try_lock(descriptor) and _is_open_as(path, descriptor)
                finally:
                    if not taken:
                        lease.release()
                if taken:
                    return lease
            reason = "others keep removing or locking new files"
        except OSError as error:
            reason = error.strerror or str(error)
        raise ConfigurationError(
            f"no file can be locked in {folder}: {reason}. Set [jobs] state_dir to a folder on a "
            'local disk that you may write to, or [jobs] store = "memory" to do without a journal'
        )

    def release(self) -> None:
        """Release the lock and remove the file; from now on this holder counts as dead."""
        if self._descriptor is not None:
            _remove_and_close(self._path, self._descriptor)
            self._descriptor = None


class FileLiveness:
    """The `Liveness` of the processes of one computer, by the locks on their lease files."""

    shared = True
    beat_seconds = None  # the system frees a lock by itself

    def __init__(self, lease: Lease, state_dir: Path, run: Executor) -> None:
        self._lease = lease
        self._state_dir = state_dir
        self._run = run

    @property
    def holder(self) -> str:
        """The name under which this process holds rows."""
        return self._lease.holder

    def dead(self, holder: str) -> bool:
        """Tell whether nobody holds the holder's lock. In doubt it is alive."""
        return is_dead(self._state_dir, holder)

    async def beat(self) -> None:
        """Remove the files of dead processes; that this one is alive, its lock says."""
        await self._run(lambda: sweep(self._state_dir, {self.holder}))

    async def release(self) -> None:
        """Give up the lock."""
        self._lease.release()


def is_dead(state_dir: Path, holder: str) -> bool:
    """Tell whether a holder's lock is free. If that cannot be determined, it counts as alive."""
    try:
        descriptor = os.open(_path(state_dir, holder), os.O_RDWR)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        # A shared lock, so that two processes that check at once do not see each other as the holder.
        return try_lock(descriptor, shared=True)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def others(state_dir: Path, mine: str | None = None) -> list[str]:
    """Return the live holders, without ``mine``."""
    return [
        holder
        for holder in _holders(state_dir)
        if holder != mine and not is_dead(state_dir, holder)
    ]


def sweep(state_dir: Path, keep: Collection[str] = ()) -> None:
    """Remove the files of dead holders, except those to ``keep``."""
    for holder in _holders(state_dir):
        if holder in keep:
            continue
        path = _path(state_dir, holder)
        with suppress(OSError):
            descriptor, free = os.open(path, os.O_RDWR), False
            try:
                free = try_lock(descriptor, shared=True)
            finally:
                if free:
                    _remove_and_close(path, descriptor)
                else:
                    os.close(descriptor)


def _path(state_dir: Path, holder: str) -> Path:
    return state_dir / "holders" / f"{holder}.lock"


def _holders(state_dir: Path) -> Iterator[str]:
    return (path.stem for path in sorted((state_dir / "holders").glob("*.lock")))


def _is_open_as(path: Path, descriptor: int) -> bool:
    """Tell whether the file is still there: a sweep may have removed it before it was locked."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_and_close(path: Path, descriptor: int) -> None:
    """Remove a file under its lock; Windows removes no open file, not even somebody else's."""
    if sys.platform == "win32":
        os.close(descriptor)
        with suppress(OSError):
            path.unlink()
    else:
        try:
            path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

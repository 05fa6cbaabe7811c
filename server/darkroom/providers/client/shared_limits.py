"""The limits of a credential, shared by the processes of one computer through a small file.

The file is mapped into memory and locked for the microseconds of each access. Its times are on the
system's monotonic clock, which changes of the wall clock do not affect. After a reboot the clock
starts again, so that old entries lie in its future; they are ignored.

    slots   pairs: hash of the job, and when its slot becomes free by itself
    hold    until when polls are held; when a pause was asked for, and until when
    turns   when each request was over; for an open request, when it will be over at the latest

The file never becomes shorter, because a process with other limits may have mapped more of it.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import math
import mmap
import os
import struct
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from darkroom.core.locks import lock, unlock
from darkroom.providers.client.capacity import WINDOW_MARGIN_SECONDS, capacity_of
from darkroom.providers.client.local_limits import LocalLimits, reach
from darkroom.providers.client.rate_limiter import LONGEST_SLOT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from darkroom.providers.provider import Limits

LONGEST_REQUEST_SECONDS = 45.0
"""Longest duration of a request: its deadline plus the time for the writes around it."""

LONGEST_REACH_SECONDS = 24 * 3_600.0
"""A slot or hold that would last longer than this is from before the last reboot."""

SLOTS = 125
_FREE = 0.0
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
_OWN = -1
"""The token of a permit that was granted while there was no file."""

log = logging.getLogger("darkroom")
_TIME = struct.Struct("<d")
_SLOT = struct.Struct("<Qd")
_HOLD = struct.Struct("<8xd8xd8xd")
"""The holds use three places of the table of slots, without a job's hash: an older version, which
knows no holds, does not count them as slots in use."""

_HOLD_AT = SLOTS * _SLOT.size
_TURNS_AT = _HOLD_AT + _HOLD.size


def _allocate(descriptor: int, size: int) -> None:
    """Allocate the blocks of a file, because writing to a mapped hole on a full disk kills us.

    Raises
    ------
    OSError: there is no room.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
                raise
        else:
            return
    os.lseek(descriptor, 0, os.SEEK_SET)
    content = os.read(descriptor, size).ljust(size, b"\0")
    os.lseek(descriptor, 0, os.SEEK_SET)
    if os.write(descriptor, content) < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class SharedLimits:
    """A `LimitsState` in a file. ``clock`` is monotonic and the same for all processes (seconds).

    While there is no room for the file, this process keeps the limits by itself, and ``trouble``
    says why. Its slots and holds are written to the file as soon as there is room.
    """

    shared = True

    def __init__(
        self, path: Path, limits: Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._limits = limits
        self._clock = clock
        self._places = max((rate.requests for rate in limits.rates), default=0)
        self._reach = reach(limits)
        self._permits = struct.Struct(f"<{self._places}d")
        self._own = LocalLimits(limits)
        self._trouble: OSError | None = None
        self._opened = False
        self._open()

    def keep_to(self, limits: Limits) -> None:
        """Keep to other limits from now on, in this process; the others hear of them themselves."""
        self._limits, self._reach = limits, max(self._reach, reach(limits))
        self._own.keep_to(limits)

    @property
    def trouble(self) -> OSError | None:
        """Why the file cannot be used now; None: it is in use."""
        return None if self._open() else self._trouble

    def _open(self) -> bool:
        """Tell whether the file is in use; try to open it if it is not."""
        if self._opened:
            return True
        try:
            self._descriptor, self._map = self._map_file()
        except OSError as error:
            if self._trouble is None:
                log.error("%s: limits cannot be shared: %s", self._path, error.strerror)
            self._trouble = error
            return False
        self._opened = True
        if self._trouble is not None:
            for job_id in self._own.slots:
                self.occupy(job_id, LONGEST_SLOT_SECONDS)
            self.hold(self._own.held(), self._own.held(look=True))
        return True

    def _map_file(self) -> tuple[int, mmap.mmap]:
        size = _TURNS_AT + self._places * _TIME.size
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, _FLAGS, 0o600)
        try:
            lock(descriptor)
            try:
                _allocate(descriptor, size)
            finally:
                unlock(descriptor)
            return descriptor, mmap.mmap(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise

    def close(self) -> None:
        """Close the file; its content stays for the other processes."""
        if self._opened:
            self._map.close()
            os.close(self._descriptor)

    @contextmanager
    def _locked(self) -> Generator[None]:
        lock(self._descriptor)
        try:
            yield
        finally:
            unlock(self._descriptor)

    # --- holds ---

    def hold(self, seconds: float, looks_seconds: float | None = None) -> None:
        """Hold back submissions and polls of all processes; a longer hold stays."""
        if not self._open():
            self._own.hold(seconds, looks_seconds)
            return
        looks_seconds = seconds if looks_seconds is None else looks_seconds
        with self._locked():
            now = self._clock()
            until, looks_until = (
                now + min(max(wanted, self._held(now, look=look)), LONGEST_REACH_SECONDS)
                for wanted, look in ((seconds, False), (looks_seconds, True))
            )
            _HOLD.pack_into(self._map, _HOLD_AT, looks_until, now, until)

    def held(self, *, look: bool = False) -> float:
        """Return the remaining seconds of a hold."""
        if not self._open():
            return self._own.held(look=look)
        with self._locked():
            return self._held(self._clock(), look=look)

    def _held(self, now: float, *, look: bool) -> float:
        looks_until, since, until = _HOLD.unpack_from(self._map, _HOLD_AT)
        if since > now:  # from before the last reboot: remove it, or the clock would reach it later
            _HOLD.pack_into(self._map, _HOLD_AT, 0.0, 0.0, 0.0)
            return 0.0
        return max(0.0, (looks_until if look else until) - now)

    # --- rates ---

    def delay(self, *, look: bool = False) -> float:
        """Return the seconds until a request may be sent."""
        if not self._open():
            return self._own.delay(look=look)
        with self._locked():
            return self._delay(self._clock(), look=look)

    def _delay(self, now: float, *, look: bool) -> float:
        if not self._limits.rates:
            return self._held(now, look=look)
        over = sorted(
            at for at in self._permits.unpack_from(self._map, _TURNS_AT) if self._counts(at, now)
        )
        free_at = now + self._held(now, look=look)
        for rate in self._limits.rates:
            if len(over) >= rate.requests:
                free_at = max(free_at, over[-rate.requests] + rate.seconds + WINDOW_MARGIN_SECONDS)
        return free_at - now

    def free(self) -> float:
        """Return how many requests may be sent now; infinity without rates."""
        if not self._open():
            return self._own.free()
        with self._locked():
            now = self._clock()
            if self._held(now, look=False) > 0:
                return 0
            if not self._limits.rates:
                return math.inf
            permits = self._permits.unpack_from(self._map, _TURNS_AT)
            over = [at + WINDOW_MARGIN_SECONDS for at in permits if self._counts(at, now)]
            return min(
                r.requests - sum(at + r.seconds > now for at in over) for r in self._limits.rates
            )

    def capacity(self, seconds: float, shortest: float = 0.0) -> float:
        """Return how many requests may leave within a time, by windows at least so long."""
        if not self._open():
            return self._own.capacity(seconds, shortest)
        rates = [rate for rate in self._limits.rates if rate.seconds >= shortest]
        with self._locked():
            now = self._clock()
            held = self._held(now, look=False)
            turns = self._permits.unpack_from(self._map, _TURNS_AT) if self._limits.rates else ()
            over = sorted(at for at in turns if self._counts(at, now))
            return capacity_of(rates, 0, over, now, seconds, held)

    def take(self, *, look: bool = False) -> int | None:
        """Count a request that is sent now; None if it may not be sent."""
        if not self._open():
            return None if self._own.take(look=look) is None else _OWN
        with self._locked():
            now = self._clock()
            if self._delay(now, look=look) > 0:
                return None
            if not self._limits.rates:
                return 0
            permits = self._permits.unpack_from(self._map, _TURNS_AT)
            free = (i for i, at in enumerate(permits) if not self._counts(at, now))
            place = next(free, permits.index(min(permits)))  # the oldest one, to the last digit
            self._put(place, now + LONGEST_REQUEST_SECONDS)
            return place

    def done(self, token: int, *, counts: bool) -> None:
        """Report that a request is over; one that was never sent does not count."""
        if token == _OWN:
            self._own.done(token, counts=counts)
            return
        if not self._limits.rates:
            return
        with self._locked():
            self._put(token, self._clock() if counts else _FREE)

    def _counts(self, at: float, now: float) -> bool:
        """Tell whether an entry still counts in a window and is not from before a reboot."""
        return at != _FREE and now < at + self._reach and at <= now + LONGEST_REQUEST_SECONDS

    def _put(self, place: int, at: float) -> None:
        _TIME.pack_into(self._map, _TURNS_AT + place * _TIME.size, at)

    # --- slots ---

    def slot_free(self, job_id: str) -> bool:
        """Tell whether the job has a concurrency slot or could take one."""
        if not self._open():
            return self._own.slot_free(job_id)
        if self._limits.concurrent_jobs is None:
            return True
        with self._locked():
            taken = self._taken()
        return _hash(job_id) in taken or len(taken) < self._limits.concurrent_jobs

    def occupy(self, job_id: str, seconds: float) -> bool:
        """Take a slot for a job; False if none is free (and then it has none)."""
        if not self._open():
            return self._own.occupy(job_id, seconds)
        if self._limits.concurrent_jobs is None:
            return True
        key = _hash(job_id)
        with self._locked():
            taken = self._taken()
            if key not in taken and len(taken) >= self._limits.concurrent_jobs:
                return False
            place = taken.get(key)
            if place is None:
                place = next(i for i in range(SLOTS) if i not in taken.values())
            self._put_slot(place, key, self._clock() + seconds)
        return True

    def release(self, job_id: str) -> bool:
        """Give a job's slot back; tell whether it had one."""
        if not self._open():
            return self._own.release(job_id)
        if self._limits.concurrent_jobs is None:
            return False
        with self._locked():
            place = self._taken().get(_hash(job_id))
            if place is not None:
                self._put_slot(place, 0, 0.0)
        return place is not None

    def _taken(self) -> dict[int, int]:
        """Return the slots in use, as hash of the job -> place in the table."""
        now = self._clock()
        table = self._map[:_HOLD_AT]
        return {
            key: place
            for place, (key, until) in enumerate(_SLOT.iter_unpack(table))
            if key and now < until <= now + LONGEST_REACH_SECONDS
        }

    def _put_slot(self, place: int, key: int, until: float) -> None:
        _SLOT.pack_into(self._map, place * _SLOT.size, key, until)


def _hash(job_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(job_id.encode(), digest_size=8).digest()) | 1

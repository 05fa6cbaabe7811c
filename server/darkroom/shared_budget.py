"""A credential's budget, shared by the processes of one machine through a small file.

The file is mapped into memory and locked for the microseconds of each access. Times in it are on
the machine's monotonic clock: nothing that happens to the wall clock reaches it. An entry from
before the machine was started last lies in the future of that clock, and counts for nothing.

    slots   pairs of a job's hash and when its slot comes free by itself
    hold    when the provider asked for nothing more, and until when
    turns   when each request was over; while it is under way, when it will be at the latest

The file never becomes shorter: a process with other limits may have mapped more of it.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import struct
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from darkroom.pacing import WINDOW_MARGIN_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from darkroom.operation import Limits

LONGEST_REQUEST_SECONDS = 45.0
"""A request is over by then: its deadline, and the time to write it down before and after."""

LONGEST_REACH_SECONDS = 24 * 3_600.0
"""A slot or hold that seems to last longer is from before the machine was started last."""

SLOTS = 126
_FREE = 0.0
_TIME = struct.Struct("<d")
_SLOT = struct.Struct("<Qd")
_HOLD = struct.Struct("<8xd8xd")
"""Two places of the table of slots, of no job: a process that knows of no holds takes neither for
a slot in use."""

_HOLD_AT = SLOTS * _SLOT.size
_TURNS_AT = _HOLD_AT + _HOLD.size

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class SharedBudget:
    """A `Budget` in a file. ``clock`` is monotonic and the same for all processes (seconds)."""

    shared = True

    def __init__(
        self, path: Path, limits: Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._clock = clock
        places = max((rate.requests for rate in limits.rates), default=0)
        self._reach = WINDOW_MARGIN_SECONDS + max((r.seconds for r in limits.rates), default=0.0)
        size = _TURNS_AT + places * _TIME.size
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        with self._locked():
            if os.fstat(self._descriptor).st_size < size:
                os.ftruncate(self._descriptor, size)
        self._map = mmap.mmap(self._descriptor, size)
        self._turns = struct.Struct(f"<{places}d")

    def close(self) -> None:
        """Let go of the file; what is in it stays for the others."""
        self._map.close()
        os.close(self._descriptor)

    @contextmanager
    def _locked(self) -> Generator[None]:
        _lock(self._descriptor)
        try:
            yield
        finally:
            _unlock(self._descriptor)

    # --- holds ---

    def hold(self, seconds: float) -> None:
        """Let nothing leave for a time, in no process; a longer hold stays."""
        with self._locked():
            now = self._clock()
            until = now + min(max(seconds, self._held(now)), LONGEST_REACH_SECONDS)
            _HOLD.pack_into(self._map, _HOLD_AT, now, until)

    def held(self) -> float:
        """Return the seconds that are left of a hold."""
        with self._locked():
            return self._held(self._clock())

    def _held(self, now: float) -> float:
        since, until = _HOLD.unpack_from(self._map, _HOLD_AT)
        if since > now:  # from before the machine was started: it must not come true later
            _HOLD.pack_into(self._map, _HOLD_AT, 0.0, 0.0)
            return 0.0
        return max(0.0, until - now)

    # --- rates ---

    def delay(self) -> float:
        """Return the seconds until a request may leave."""
        with self._locked():
            return self._delay(self._clock())

    def _delay(self, now: float) -> float:
        if not self._limits.rates:
            return self._held(now)
        over = sorted(
            at for at in self._turns.unpack_from(self._map, _TURNS_AT) if self._counts(at, now)
        )
        free_at = now + self._held(now)
        for rate in self._limits.rates:
            if len(over) >= rate.requests:
                free_at = max(free_at, over[-rate.requests] + rate.seconds + WINDOW_MARGIN_SECONDS)
        return free_at - now

    def free(self) -> float:
        """Return how many requests may leave now; infinity where nothing limits them."""
        with self._locked():
            now = self._clock()
            if self._held(now) > 0:
                return 0
            if not self._limits.rates:
                return math.inf
            turns = self._turns.unpack_from(self._map, _TURNS_AT)
            over = [at + WINDOW_MARGIN_SECONDS for at in turns if self._counts(at, now)]
            return min(
                r.requests - sum(at + r.seconds > now for at in over) for r in self._limits.rates
            )

    def take(self) -> int | None:
        """Count a request that leaves now; None if it may not."""
        with self._locked():
            now = self._clock()
            if self._delay(now) > 0:
                return None
            if not self._limits.rates:
                return 0
            turns = self._turns.unpack_from(self._map, _TURNS_AT)
            free = (i for i, at in enumerate(turns) if not self._counts(at, now))
            place = next(free, turns.index(min(turns)))  # the oldest one, to the last digit
            self._put(place, now + LONGEST_REQUEST_SECONDS)
            return place

    def done(self, token: int, *, counts: bool) -> None:
        """Say that a request is over; one that was never sent does not count."""
        if not self._limits.rates:
            return
        with self._locked():
            self._put(token, self._clock() if counts else _FREE)

    def _counts(self, at: float, now: float) -> bool:
        """Tell whether an entry still reaches into a window, and is not from an earlier clock."""
        return at != _FREE and now < at + self._reach and at <= now + LONGEST_REQUEST_SECONDS

    def _put(self, place: int, at: float) -> None:
        _TIME.pack_into(self._map, _TURNS_AT + place * _TIME.size, at)

    # --- slots ---

    def slot_free(self, job_id: str) -> bool:
        """Tell whether the job has a concurrency slot or may take one."""
        if self._limits.concurrent_jobs is None:
            return True
        with self._locked():
            taken = self._taken()
        return _hash(job_id) in taken or len(taken) < self._limits.concurrent_jobs

    def occupy(self, job_id: str, seconds: float) -> bool:
        """Take a slot for a job; False if none is free (and then it has none)."""
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
        if self._limits.concurrent_jobs is None:
            return False
        with self._locked():
            place = self._taken().get(_hash(job_id))
            if place is not None:
                self._put_slot(place, 0, 0.0)
        return place is not None

    def _taken(self) -> dict[int, int]:
        """Return the slots in use: hash of the job -> place in the table."""
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

"""What must never happen: a false unknown on a healthy network, and paying twice under faults.

Both play what the tests play (`tests.faults`), as much of it as fits into a minute.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from typing import TYPE_CHECKING

import anyio
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st
from tests.faults.histories import SLOW, play
from tests.faults.keepalive import APART_SECONDS, KEEP_ALIVE_SECONDS, SCALE, submissions

from benchmarks.measure import Number, elsewhere

if TYPE_CHECKING:
    from hypothesis.strategies import DataObject
    from tests.faults.keepalive import Submitted

    from benchmarks.measure import Options

SUBMISSIONS, SIDE_BY_SIDE = 1_000, 100
HISTORIES = 500
SHOWN = 3
"""Broken histories that are told in the results; all are counted."""


def faults(options: Options) -> list[Number]:
    """Submit to a server that closes idle connections; meanwhile play histories of chance."""
    count, side_by_side = options.times(SUBMISSIONS, 20), options.times(SIDE_BY_SIDE, 20)
    with elsewhere() as process:
        healthy = process.submit(_submit, count, side_by_side)
        broken = _histories(options.times(HISTORIES, 10))
        return [_unknown(healthy.result(), count), broken]


def _submit(count: int, side_by_side: int) -> Submitted:
    return anyio.run(submissions, count, side_by_side)


def _unknown(submitted: Submitted, count: int) -> Number:
    first, last = APART_SECONDS
    return Number(
        what=f"`unknown` on a healthy network, {count:,} submits {first}-{last} s apart against a "
        f"{KEEP_ALIVE_SECONDS * SCALE:g} s keep-alive (over real sockets, {SCALE} times as fast)",
        value=len(submitted.lost),
        at_most=0,
        digits=0,
        details={
            "answered": float(submitted.answered),
            "connections": float(submitted.connections),
        },
        profile=submitted.lost[:SHOWN],
    )


def _histories(count: int) -> Number:
    chosen = random.SystemRandom().getrandbits(32)
    happened: Counter[str] = Counter()
    broken: list[str] = []

    @seed(chosen)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=SLOW,
    )
    @given(data=st.data())
    def histories(data: DataObject) -> None:
        try:
            happened.update(play(data))
        except* AssertionError as group:
            broken.append(_story(group))
        happened["history"] += 1

    log = logging.getLogger("darkroom")
    log.setLevel(logging.CRITICAL)  # servers that are killed complain of it
    histories()
    log.setLevel(logging.NOTSET)
    return Number(
        what="duplicate, lost or wrongly adopted jobs over "
        f"{happened['history']:,} randomised fault histories (`make soak`: 10,000)",
        value=len(broken),
        at_most=0,
        digits=0,
        details={
            "starts": float(happened["start"]),
            "charges": float(happened["charge"]),
            "faults": float(happened["fault"]),
            "kills": float(happened["kill"]),
            "given up by the host": float(happened["cancel"]),
            "seed": str(chosen),
        },
        profile=broken[:SHOWN],
    )


def _story(group: BaseExceptionGroup[AssertionError]) -> str:
    """Return what was done in a history, and what was found wrong at its end."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{error}: {' '.join(getattr(error, '__notes__', ()))}"

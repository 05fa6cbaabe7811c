"""Fixtures for all tests: virtual time on trio."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from darkroom_tools.emulators import pictures, sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH = datetime(2026, 11, 22, 9, 0, tzinfo=UTC).timestamp()
"""What the clock says when a test begins (seconds since 1970)."""


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run tests on trio; the clock jumps to the next deadline whenever every task waits."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.fixture
def clock() -> Callable[[], float]:
    """Return the test's wall clock: virtual, seconds since the epoch."""
    return lambda: EPOCH + trio.current_time()


DRAWINGS_KEPT = 256
DRAWN = {
    (module, name): lru_cache(DRAWINGS_KEPT)(getattr(module, name))
    for module, name in (
        (pictures, "compose_tryon"),
        (pictures, "scene"),
        (pictures, "stand_in"),
        (pictures, "video"),
        (sandbox, "_draw"),
    )
}


@pytest.fixture(autouse=True)
def drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the same picture once for all tests: drawing would be nine tenths of their time."""
    for (module, name), drawn in DRAWN.items():
        monkeypatch.setattr(module, name, drawn)

"""Fixtures for all tests: virtual time on trio."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

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

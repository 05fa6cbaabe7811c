"""Over very many calls memory, open files, threads and tasks stay what they were.

The calls are made in stages, and after each the load pauses. By the end of the first every bounded
memory is full: the ended jobs that are kept, the sessions that nobody ended, the caches of the SDK.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.soak.hosts import REVISIONS
from tests.soak.run import over_a_pipe, over_http

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.soak.hosts import Revision
    from tests.soak.watch import Held

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

BYTES_A_CALL = 25
SWING_BYTES = 3 * 1024**2
"""What RSS may be more by chance: where in the memory something lies, a picture under way."""

BLOCKS_A_CALL = 0.1
"""Whatever is kept of a call is at least one block; so is what is kept of every tenth."""

SWING_BLOCKS = 1_000
"""What a job or two more, under way at the moment, may take."""


def hold(marks: Sequence[Held], capsys: pytest.CaptureFixture[str]) -> None:
    """Show what was held after each stage, and hold the last to what was there before.

    Descriptors, threads and tasks are no more than they were, or the run would not have ended.
    """
    with capsys.disabled():
        sys.stdout.write("\n" + "".join(f"{each}\n" for each in marks))
    *earlier, last = marks
    for mark in earlier:
        calls = last.calls - mark.calls
        grown = 1024 * (last.rss_kib - mark.rss_kib)
        assert grown <= SWING_BYTES + BYTES_A_CALL * calls, f"{grown} bytes in {calls} calls"
        blocks = last.blocks - mark.blocks
        assert blocks <= SWING_BLOCKS + BLOCKS_A_CALL * calls, f"{blocks} blocks in {calls} calls"


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_calls_over_http_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marks = over_http(tmp_path, 100_000, stages=5)
    hold(marks, capsys)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("revision", REVISIONS)
def test_tens_of_thousands_of_calls_over_a_pipe_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], revision: Revision
) -> None:
    marks = over_a_pipe(tmp_path, revision, 25_000, stages=5)
    hold(marks, capsys)


@pytest.mark.slow
def test_thousands_of_calls_over_http_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marks = over_http(tmp_path, 6_000, stages=3)
    hold(marks, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("revision", REVISIONS)
def test_thousands_of_calls_over_a_pipe_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], revision: Revision
) -> None:
    marks = over_a_pipe(tmp_path, revision, 3_000, stages=3)
    hold(marks, capsys)

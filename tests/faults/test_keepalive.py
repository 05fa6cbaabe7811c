"""A provider that closes idle connections after 5 s makes no unknown job on a healthy network."""

from __future__ import annotations

import pytest

from tests.faults.keepalive import submissions

SUBMISSIONS = 1_000
SIDE_BY_SIDE = 100


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_thousand_submissions_to_a_server_with_a_short_keep_alive_lose_no_answer() -> None:
    submitted = await submissions(SUBMISSIONS, SIDE_BY_SIDE)
    assert submitted.lost == []
    assert submitted.answered == SUBMISSIONS
    assert submitted.connections == SUBMISSIONS  # each on a connection of its own

"""Histories of chance pay nothing twice and lose nothing that was paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.histories import SLOW, play

if TYPE_CHECKING:
    from hypothesis.strategies import DataObject


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=SLOW)
@given(data=st.data())
def test_no_history_pays_twice_or_loses_what_was_paid_for(data: DataObject) -> None:
    play(data)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(max_examples=10_000, deadline=None, suppress_health_check=SLOW)
@given(data=st.data())
def test_ten_thousand_histories_pay_nothing_twice_and_lose_nothing(data: DataObject) -> None:
    play(data)

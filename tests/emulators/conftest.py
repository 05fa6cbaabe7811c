"""Fixtures for the emulators' own tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def drawn_once() -> None:
    """Draw every picture anew: that is what is tested here."""

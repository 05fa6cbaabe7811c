"""Fixtures for the tests of the journal."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from darkroom.jobs.storage.sqlite import SqliteStore
from tests.jobs.rows import finish, inline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.sqlite"


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """Return the list to which every connection is added when it is opened."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def remember(path: Path, **options: Any) -> sqlite3.Connection:
        opened.append(connect(path, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", remember)
    return opened


@pytest.fixture
def store(path: Path, connections: list[sqlite3.Connection]) -> Iterator[SqliteStore]:
    assert connections == []
    opened = finish(SqliteStore.open(path, run=inline, holder="me"))
    yield opened
    finish(opened.close())

"""What a start costs here: turns to the store, and files of ours that it runs through."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio
import pytest

from darkroom.jobs.storage.sqlite import SqliteStore
from tests.engine.support import IMAGE, TRYON, Paid
from tests.harness import call, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from darkroom.config.settings import Settings
    from darkroom.jobs.store import Store

pytestmark = pytest.mark.anyio

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
EMULATORS = "tools/darkroom_tools/emulators/"

MOST_TURNS = 5
MOST_FILES = 63
"""Every file of which anything runs, the smallest helper and the provider's module included; it
should only shrink (planning polls by what is left of the rate added three, local files one,
states that come from sources one). The design wants 25."""


class Turns:
    """An executor that counts; a `Store` in a file that uses it."""

    def __init__(self, folder: Path) -> None:
        self.taken = 0
        self._folder = folder

    async def run(self, work: Callable[[], T], /) -> T:
        """Do blocking work in place."""
        self.taken += 1
        return work()

    async def open(self, _: Settings) -> Store:
        """Open a journal."""
        return await SqliteStore.open(self._folder / "journal.sqlite", run=self.run)


class Files:
    """The files of ours in which something ran."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Note where a function is called."""
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(ROOT):
            name = path.relative_to(ROOT).as_posix()
            if name.startswith(("server/", "tools/")) and not name.startswith(EMULATORS):
                self.names.add(name)


@pytest.mark.parametrize("paid", [IMAGE, TRYON], ids=str)
async def test_a_start_takes_few_turns_to_the_store_and_runs_through_few_files(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    turns, files = Turns(tmp_path), Files()
    server = rig(
        clock, tmp_path, open_store=turns.open, environment={"DARKROOM_JOBS__NEW_KEY": "new"}
    )
    async with server.client() as client:
        await call(client, paid.start, **paid.arguments)  # what is loaded at first use is loaded
        await anyio.sleep(0.1)
        before = turns.taken
        sys.setprofile(files)
        try:
            job = await call(client, paid.start, **paid.arguments, idempotency_key="another")
        finally:
            sys.setprofile(None)
        assert job["status"] == "running"
        assert 3 <= turns.taken - before <= MOST_TURNS  # written, marked as sent, accepted
        assert 10 < len(files.names) <= MOST_FILES, "\n".join(sorted(files.names))

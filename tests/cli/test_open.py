"""`darkroom open`: which file or folder is handed to the system's viewer."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom.cli.command_line import main
from darkroom.cli.open import viewer_for
from darkroom.jobs.storage.sqlite import SqliteStore
from darkroom.providers.values import Output
from darkroom.results import filenames
from tests.jobs.rows import a_job

if TYPE_CHECKING:
    from darkroom.jobs.model import Job

VIEWER = """#!{python}
import sys
open({seen!r}, "a").write(sys.argv[1] + "\\n")
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the results folder of a person whose system has a viewer that notes what it opens."""
    monkeypatch.setenv("DARKROOM_JOBS__STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("DARKROOM_RESULTS__FOLDER", str(tmp_path / "results"))
    viewer = tmp_path / "bin" / ("open" if sys.platform == "darwin" else "xdg-open")
    viewer.parent.mkdir()
    viewer.write_text(VIEWER.format(python=sys.executable, seen=str(tmp_path / "seen")))
    viewer.chmod(0o700)
    monkeypatch.setenv("PATH", str(viewer.parent))
    return tmp_path / "results"


def seen(home: Path) -> list[str]:
    path = home.parent / "seen"
    return path.read_text("utf-8").splitlines() if path.exists() else []


def put(home: Path, *jobs: Job) -> None:
    """Write jobs into the journal that the command reads."""

    async def write() -> None:
        store = await SqliteStore.open(home.parent / "state" / "journal.sqlite")
        for job in jobs:
            await store.create(job, [], identical_since=None)
        await store.close()

    anyio.run(write)


def file(home: Path, name: str, data: bytes = b"picture") -> Output:
    path = home / "2026-11-22" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    index = int(name.partition(".")[0][-1])
    return Output(index=index, file=str(path), sha256=hashlib.sha256(data).hexdigest())


def test_one_picture_is_opened_and_several_as_their_folder(home: Path) -> None:
    one, two = file(home, "a0.png"), file(home, "a1.png")
    put(
        home,
        a_job("one", status="completed", outputs=(one,), intent="1"),
        a_job("two", status="completed", outputs=(one, two), intent="2"),
    )
    assert main(["open", "one"]) == 0
    assert main(["open", "two"]) == 0
    assert seen(home) == [one.file, str(home / "2026-11-22")]


def test_a_batch_opens_its_folder(home: Path) -> None:
    put(home, a_job("batch_1", status="completed", folder="2026-11-22/spring", provider="batch"))
    assert main(["open", "batch_1"]) == 2  # nothing of it was saved yet
    (home / "2026-11-22" / "spring").mkdir(parents=True)
    assert main(["open", "batch_1"]) == 0
    assert seen(home) == [str(home / "2026-11-22" / "spring")]


def test_today_is_a_folder_and_the_default(home: Path) -> None:
    assert main(["open"]) == main(["open", "today"]) == 2
    home.mkdir()
    assert main(["open"]) == 0
    today = filenames.day_folder(home, time.time())
    today.mkdir()
    assert main(["open"]) == main(["open", "today"]) == 0
    assert seen(home) == [str(home), str(today), str(today)]


def test_what_is_not_the_file_that_was_downloaded_is_handed_to_no_viewer(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = file(home, "a0.png")
    put(home, a_job("one", status="completed", outputs=(output,)))
    Path(output.file or "").write_bytes(b"a program")
    assert main(["open", "one"]) == 2
    assert "has no file here" in capsys.readouterr().err
    assert main(["open", "nothing"]) == 2
    assert "no job or batch nothing" in capsys.readouterr().err
    assert seen(home) == []


def test_only_the_path_is_printed_where_that_is_wanted(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    assert main(["open", "--print"]) == 0
    assert capsys.readouterr().out.strip() == str(home)
    assert seen(home) == []
    monkeypatch.setenv("PATH", "")
    assert main(["open"]) == (0 if sys.platform == "win32" else 1)
    assert str(home) in capsys.readouterr().out


def test_windows_has_a_viewer_of_its_own(home: Path) -> None:
    viewer, path = viewer_for(home, "win32") or ["", ""]
    assert viewer.endswith("explorer.exe")
    assert path == str(home)

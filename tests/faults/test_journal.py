"""Journals that cannot be used, as a host and a chat meet them: through ``darkroom serve``."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from darkroom.jobs.storage.schema import STEPS
from tests.faults.real import (
    DEADLINE_SECONDS,
    ServerProcess,
    environment,
    sandbox_on_a_port,
    server,
)

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from darkroom_tools.emulators.sandbox import Sandbox

pytestmark = pytest.mark.slow

SMALL = {"width": 256, "height": 256}


def refusal(one: ServerProcess, prompt: str = "p") -> str:
    """Start an image, which must fail; return the text of its error."""
    result = one.raw("zsky_start_image", prompt=prompt, **SMALL)
    assert result["isError"], result
    return str(result["content"][0]["text"])


def asked(sandbox: Sandbox) -> int:
    """Count the paid requests that arrived."""
    return sum(r.operation == "generate_image" for r in sandbox.emulators["zsky"].requests)


def journal(folder: Path) -> Path:
    (folder / "state").mkdir(mode=0o700, exist_ok=True)
    return folder / "state" / "journal.sqlite"


@pytest.mark.parametrize("what", ["damaged", "foreign", "newer"])
def test_a_journal_that_is_not_ours_to_read_is_left_as_it_is_and_nothing_is_sent(
    tmp_path: Path, what: str
) -> None:
    path = journal(tmp_path)
    if what == "damaged":
        path.write_bytes(b"SQLite format 3\0" + b"\xff" * 8_192)
    else:
        database = sqlite3.connect(path)
        if what == "foreign":
            database.execute("CREATE TABLE recipes (title TEXT)")
        database.execute(f"PRAGMA user_version = {0 if what == 'foreign' else len(STEPS) + 1}")
        database.commit()
        database.close()
    before = path.read_bytes()
    with sandbox_on_a_port() as sandbox:
        with server(environment(sandbox, tmp_path)) as one:
            text = refusal(one)
            assert len(one.answer(one.ask("tools/list"))["tools"]) > 10
        assert text.startswith("[not_configured] ")
        assert str(path) in text
        assert "nothing was sent" in text
        assert "[jobs]" in text
        assert str(path) in one.errors
        assert asked(sandbox) == 0
    assert path.read_bytes() == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_says_so_and_nothing_is_sent(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o500)
    with sandbox_on_a_port() as sandbox:
        with server(environment(sandbox, tmp_path)) as one:
            text = refusal(one)
        assert text.startswith("[not_configured] ")
        assert str(state) in text
        assert str(state) in one.errors
        assert asked(sandbox) == 0


def test_a_folder_that_is_a_file_says_so_and_nothing_is_sent(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("not a folder")
    with sandbox_on_a_port() as sandbox:
        with server(environment(sandbox, tmp_path)) as one:
            text = refusal(one)
        assert text.startswith("[not_configured] ")
        assert str(tmp_path / "state") in text
        assert asked(sandbox) == 0
    assert (tmp_path / "state").read_text() == "not a folder"


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Generator[None]:
    """Mount a small file system at ``folder``, where this process may."""
    folder.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={kilobytes}k,mode=0700", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
    )
    if not done or done.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run([shutil.which("umount") or "umount", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    with path.open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(b"x" * 4_096)


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs")
def test_a_full_disk_sends_nothing_that_cannot_be_written_down(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "state", 1_024),
        sandbox_on_a_port() as sandbox,
        server(environment(sandbox, tmp_path)) as one,
    ):
        job = one.call("zsky_start_image", prompt="while there is room", **SMALL)
        fill(tmp_path / "state" / "filler")
        sent = asked(sandbox)
        texts = [refusal(one, f"no room {n}") for n in range(3)]
        assert asked(sandbox) == sent
        assert all("the disk is full" in text for text in texts)
        (tmp_path / "state" / "filler").unlink()
        until = time.monotonic() + DEADLINE_SECONDS
        while True:
            done = one.call("zsky_check_job", job_id=job["job_id"], wait_seconds=5)
            if done["status"] == "completed":
                break
            assert time.monotonic() < until, done
        again = one.call("zsky_start_image", prompt="room again", **SMALL)
        assert again["status"] in {"running", "queued", "completed"}


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs")
def test_a_full_disk_without_limits_that_are_shared_yet_kills_nobody(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "state", 1_024),
        sandbox_on_a_port() as sandbox,
        server(environment(sandbox, tmp_path)) as one,
    ):
        one.call("list_jobs")
        assert not (tmp_path / "state" / "pacing").exists()
        fill(tmp_path / "state" / "filler")
        assert one.call("zsky_get_usage")
        text = refusal(one)
        assert "limits of ZSky" in text
        assert "No space left on device" in text
        assert asked(sandbox) == 0
        (tmp_path / "state" / "filler").unlink()
        job = one.call("zsky_start_image", prompt="room again", **SMALL)
        assert job["status"] in {"running", "completed"}
        assert list((tmp_path / "state" / "pacing").iterdir())

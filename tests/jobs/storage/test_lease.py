"""A process is alive while it holds its lock, and not a moment longer."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from darkroom.core.errors import ConfigurationError
from darkroom.core.locks import try_lock
from darkroom.jobs.storage import lease as liveness
from darkroom.jobs.storage.lease import Lease, is_dead, others, sweep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLD = """
import pathlib, subprocess, sys
from darkroom.jobs.storage.lease import Lease
lease = Lease.take(pathlib.Path(sys.argv[1]))
child = subprocess.Popen([sys.executable, "-c", "input()"], close_fds=False)
print(lease.holder, flush=True)
input()
"""
"""A process that takes a lease, starts a child that shares its files, and stays."""


@pytest.fixture
def lease(tmp_path: Path) -> Iterator[Lease]:
    taken = Lease.take(tmp_path / "state")
    yield taken
    taken.release()


@pytest.fixture
def state_dir(lease: Lease, tmp_path: Path) -> Path:
    assert lease.holder
    return tmp_path / "state"


def lock_file(state_dir: Path, holder: str) -> Path:
    return state_dir / "holders" / f"{holder}.lock"


def leave_a_dead_one(state_dir: Path, holder: str) -> Path:
    lock_file(state_dir, holder).touch()
    return lock_file(state_dir, holder)


def test_a_holder_is_alive_until_its_release(lease: Lease, state_dir: Path) -> None:
    for _ in range(2):  # asking changes nothing
        assert not is_dead(state_dir, lease.holder)
    lease.release()
    lease.release()
    assert is_dead(state_dir, lease.holder)
    assert not lock_file(state_dir, lease.holder).exists()


def test_a_holder_without_a_file_is_dead(state_dir: Path, tmp_path: Path) -> None:
    assert is_dead(state_dir, "never-was")
    assert is_dead(tmp_path / "no such folder", "never-was")


def test_a_holder_whose_lock_is_free_is_dead(state_dir: Path) -> None:
    leave_a_dead_one(state_dir, "gone")
    for _ in range(2):
        assert is_dead(state_dir, "gone")


def test_asking_at_the_same_time_does_not_look_like_holding(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_a_dead_one(state_dir, "gone")
    answers: list[bool] = []
    close = os.close

    def ask_before_closing(descriptor: int) -> None:
        monkeypatch.setattr(os, "close", close)
        answers.append(is_dead(state_dir, "gone"))
        close(descriptor)

    monkeypatch.setattr(os, "close", ask_before_closing)
    answers.append(is_dead(state_dir, "gone"))
    assert answers == [True, True]


def test_in_doubt_a_holder_is_alive(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock_file(state_dir, "a-folder").mkdir()
    assert not is_dead(state_dir, "a-folder")
    leave_a_dead_one(state_dir, "gone")

    def no_locks(descriptor: int, *, shared: bool = False) -> bool:
        raise OSError(descriptor, f"no locks available, shared or not: {shared}")

    monkeypatch.setattr(liveness, "try_lock", no_locks)
    assert not is_dead(state_dir, "gone")


def test_others_are_the_living_ones(lease: Lease, state_dir: Path, tmp_path: Path) -> None:
    leave_a_dead_one(state_dir, "gone")
    second = Lease.take(state_dir)
    assert others(state_dir, lease.holder) == [second.holder]
    assert others(state_dir) == sorted([lease.holder, second.holder])
    second.release()
    assert others(state_dir, lease.holder) == []
    assert others(tmp_path / "no such folder") == []


def test_sweeping_removes_the_dead_and_keeps_the_rest(lease: Lease, state_dir: Path) -> None:
    gone, kept = (leave_a_dead_one(state_dir, holder) for holder in ("gone", "kept"))
    sweep(state_dir, {"kept"})
    assert not gone.exists()
    assert kept.exists()
    assert not is_dead(state_dir, lease.holder)


def test_a_file_swept_before_it_was_locked_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[str] = []

    def sweep_first(descriptor: int, *, shared: bool = False) -> bool:
        if not shared and not swept:
            swept.extend(path.stem for path in (tmp_path / "holders").iterdir())
            sweep(tmp_path)
        return try_lock(descriptor, shared=shared)

    monkeypatch.setattr(liveness, "try_lock", sweep_first)
    lease = Lease.take(tmp_path)
    assert swept
    assert lease.holder not in swept
    assert not is_dead(tmp_path, lease.holder)
    lease.release()


@pytest.mark.parametrize("locking", ["never works", "is always refused"])
def test_without_locks_the_start_is_refused_and_nothing_left(
    locking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int, *, shared: bool = False) -> bool:
        if locking == "never works":
            raise OSError(descriptor, f"no locks available, shared or not: {shared}")
        return False

    monkeypatch.setattr(liveness, "try_lock", broken)
    with pytest.raises(ConfigurationError, match=r"state_dir"):
        Lease.take(tmp_path)
    assert list((tmp_path / "holders").iterdir()) == []


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"file.*state_dir"):
        Lease.take(tmp_path / "file" / "state")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
def test_lock_files_are_for_the_person_only(lease: Lease, state_dir: Path) -> None:
    path = lock_file(state_dir, lease.holder)
    modes = [stat.S_IMODE(place.stat().st_mode) for place in (path, path.parent, state_dir)]
    assert modes == [0o600, 0o700, 0o700]


@pytest.mark.slow
def test_a_killed_process_is_dead_though_its_child_lives_on(state_dir: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(state_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        holder = process.stdout.readline().strip()
        assert not is_dead(state_dir, holder)
        assert holder in others(state_dir)
        process.kill()
        process.wait(timeout=10)
        # The child still waits on the pipe that it shares with its parent.
        assert is_dead(state_dir, holder)
        sweep(state_dir)
        assert not lock_file(state_dir, holder).exists()

"""Files of the person's own: made private, and refused where somebody else decides what they hold."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from darkroom.config.settings import load
from darkroom.core.errors import ConfigurationError
from darkroom.core.files import make_private_folder, trusted, write_private
from darkroom.jobs.storage.journal import connect
from darkroom.jobs.storage.lease import Lease
from darkroom.mcp.http import token as bearer
from darkroom_tools import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows keeps other rights")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def use_token(folder: Path) -> None:
    variables = {"DARKROOM_JOBS__STATE_DIR": str(folder)}
    bearer.token(load(CATALOGUE.providers, variables, tools=[t.name for t in CATALOGUE.tools]))


def use_journal(folder: Path) -> None:
    connect(folder / "journal.sqlite").close()


def use_state(folder: Path) -> None:
    Lease.take(folder).release()


USES = [
    (use_state, ""),
    (use_journal, ""),
    (use_journal, "journal.sqlite"),
    (use_journal, "journal.sqlite-wal"),
    (use_token, "http-token"),
]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a state folder with a journal and a token in it."""
    folder = tmp_path / "state"
    for use in (use_state, use_journal, use_token):
        use(folder)
    (folder / "journal.sqlite-wal").touch()
    return folder


@pytest.mark.parametrize(("use", "name"), USES)
def test_what_others_can_write_is_refused_by_name(
    state: Path, use: Callable[[Path], None], name: str
) -> None:
    for bit in (stat.S_IWGRP, stat.S_IWOTH):
        target = state / name
        if name.endswith("-wal"):
            target.touch(0o600)  # whoever closes the journal last removes it
        before = mode(target)
        target.chmod(before | bit)
        with pytest.raises(ConfigurationError, match=r"written by others.*chmod go-w") as refusal:
            use(state)
        assert str(target) in str(refusal.value)
        target.chmod(before)
        use(state)


@pytest.mark.parametrize(("use", "name"), USES)
def test_a_link_is_refused_by_name(state: Path, use: Callable[[Path], None], name: str) -> None:
    target = state / name
    elsewhere = target.with_name(f"{target.name}-elsewhere")
    target.rename(elsewhere)
    target.symlink_to(elsewhere)
    with pytest.raises(ConfigurationError, match="is a link") as refusal:
        use(state)
    assert str(target) in str(refusal.value)


@pytest.mark.parametrize(("use", "name"), USES)
def test_what_belongs_to_somebody_else_is_refused_by_name(
    state: Path, use: Callable[[Path], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = state / name
    real = os.lstat

    def owned(path: Path) -> os.stat_result:
        found = real(path)
        other = found.st_uid + (4_242 if path == target else 0)
        return os.stat_result((*found[:4], other, *found[5:10]))

    monkeypatch.setattr("darkroom.core.files.os.lstat", owned)
    with pytest.raises(ConfigurationError, match="belongs to somebody else") as refusal:
        use(state)
    assert str(target) in str(refusal.value)


def test_what_is_not_there_or_only_read_by_others_will_do(tmp_path: Path) -> None:
    trusted(tmp_path / "none", "the file")
    readable = tmp_path / "readable"
    readable.touch(0o644)
    trusted(readable, "the file")


def test_every_folder_that_is_made_is_private_and_others_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(0o755)
    make_private_folder(tmp_path / "there" / "a" / "b")
    assert [mode(tmp_path / "there" / name) for name in ("", "a", "a/b")] == [0o755, 0o700, 0o700]
    make_private_folder(tmp_path / "there" / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_private_folder(tmp_path / "file")


def test_a_file_is_replaced_whole_and_is_private(tmp_path: Path) -> None:
    target = tmp_path / "list.json"
    target.write_text("old")
    target.chmod(0o644)
    write_private(target, "é")
    assert (target.read_bytes(), mode(target)) == ("é".encode(), 0o600)
    with pytest.raises(UnicodeEncodeError):
        write_private(target, "\ud800")
    assert os.listdir(tmp_path) == ["list.json"]  # noqa: PTH208 -- the same

"""Files are written whole or not at all, with their permissions from the first moment on."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from darkroom.core import files
from darkroom.core.files import OWNER_ONLY, write_atomic, write_new
from darkroom.core.locks import lock, try_lock, unlock
from darkroom.core.names import COMPARED_CHARACTERS, nearest

if TYPE_CHECKING:
    from pathlib import Path

posix = pytest.mark.skipif(os.name != "posix", reason="permissions and folders as POSIX has them")


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    write_atomic(path, b"new", durable=True)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["write_new", "replace"])
def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if step == "write_new":
        monkeypatch.setattr(files.os, "fsync", full)
    else:
        monkeypatch.setattr(type(path), "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new", durable=True)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@posix
@pytest.mark.parametrize("mode", [OWNER_ONLY, 0o664, None])
def test_a_file_has_the_permissions_that_were_asked_for(tmp_path: Path, mode: int | None) -> None:
    path = tmp_path / "a"
    umask = os.umask(0o027)
    try:
        write_atomic(path, b"x", mode=mode)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == (0o640 if mode is None else mode)


def test_a_new_file_takes_no_name_that_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(FileExistsError):
        write_new(path, b"new")
    assert path.read_text() == "old"


def test_a_lock_is_held_by_one_until_it_is_freed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    one, two = (os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2))
    try:
        lock(one)
        assert not try_lock(two)
        unlock(one)
        assert try_lock(two)
    finally:
        os.close(one)
        os.close(two)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("zsky_start_imgae", "zsky_start_image"),
        ("ZSKY_START_IMAGE", "zsky_start_image"),
        ("bananas", None),
        ("zsky_start_image" * COMPARED_CHARACTERS, None),
    ],
)
def test_the_name_that_was_meant_is_found(name: str, meant: str | None) -> None:
    assert nearest(name, ["zsky_start_image", "claid_start_image_edit"]) == meant

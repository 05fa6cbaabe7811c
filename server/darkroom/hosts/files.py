"""A host's file: read, changed in one place, shown, and written with a copy of what was there."""

from __future__ import annotations

import difflib
import os
import re
import secrets
import shutil
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from darkroom.errors import ConfigurationError
from darkroom.hosts import jsonc, tomltext

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NEW_FILE_MODE = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a file holds and what it would hold."""

    path: Path
    before: str
    after: str
    existed: bool

    @property
    def needed(self) -> bool:
        """Tell whether anything would change."""
        return self.before != self.after

    def shown(self, secret_names: Iterable[str]) -> str:
        """Return the lines that go and come; values of secrets are masked, other lines not shown."""
        lines = difflib.unified_diff(
            self.before.splitlines(), self.after.splitlines(), lineterm="", n=0
        )
        text = "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))
        for name in secret_names:
            text = re.sub(rf'({re.escape(name)}"?\s*[:=]\s*)"(?!\$\{{)[^"]*"', r'\1"…"', text)
        return text

    def write(self) -> Path | None:
        """Write the file, whole or not at all; return the copy of what was there.

        Raises
        ------
        ConfigurationError: it cannot be written, or it has changed meanwhile.
        """
        path = self.path.resolve()
        try:
            if self.existed != path.exists() or _text(path) != self.before:
                raise ConfigurationError(f"{path}: it has changed meanwhile; nothing was written")
            path.parent.mkdir(parents=True, exist_ok=True)
            copy = _copy(path) if self.existed else None
            new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            try:
                with os.fdopen(
                    os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
                ) as f:
                    f.write(self.after.encode("utf-8"))
                    f.flush()
                    os.fsync(f.fileno())
                new.chmod(stat.S_IMODE(path.stat().st_mode) if self.existed else NEW_FILE_MODE)
                new.replace(path)
            finally:
                new.unlink(missing_ok=True)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ConfigurationError(f"{path}: cannot be written ({reason})") from None
        return copy


def _copy(path: Path) -> Path:
    """Keep a copy beside a file, under a name that is free."""
    number = 1
    while (copy := path.with_name(f"{path.name}.before-darkroom-{number}")).exists():
        number += 1
    shutil.copy2(path, copy)
    return copy


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8") if path.exists() else ""


def change(
    path: Path, where: tuple[str, str], entry: dict[str, Any] | None, *, toml: bool
) -> Change:
    """Return the change that puts an entry, or with None removes it.

    Raises
    ------
    ConfigurationError: the file cannot be read or understood; it is left as it is.
    """
    form = tomltext if toml else jsonc
    try:
        before = _text(path)
        old = form.read(before)
        after = form.remove(before, where) if entry is None else form.put(before, where, entry)
        _check(old, form.read(after), where, entry)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigurationError(f"{path}: cannot be read ({reason})") from None
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}; nothing was changed") from None
    return Change(path=path, before=before, after=after, existed=path.exists())


def _check(
    old: dict[str, Any], new: dict[str, Any], where: tuple[str, str], entry: dict[str, Any] | None
) -> None:
    """Raise ValueError unless exactly the entry has changed."""
    outer, inner = where
    sections = [dict(whole.get(outer) or {}) for whole in (old, new)]
    found = [section.pop(inner, None) for section in sections]
    rests = [{k: v for k, v in whole.items() if k != outer} for whole in (old, new)]
    if found[1] != entry or sections[0] != sections[1] or rests[0] != rests[1]:
        raise ValueError("the entry cannot be changed without changing the rest")

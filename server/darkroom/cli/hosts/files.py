"""Changes one entry of a host's configuration file, and keeps a copy of the old file."""

from __future__ import annotations

import difflib
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from darkroom.cli.hosts import jsonc
from darkroom.cli.hosts import toml as tomltext
from darkroom.cli.hosts import yaml as yamltext
from darkroom.core.errors import ConfigurationError
from darkroom.core.files import OWNER_ONLY, write_atomic, write_new

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

BYTE_ORDER_MARK = "\ufeff"

Entry = dict[str, Any]
Form = Literal["json", "toml", "yaml"]
FORMS = {"json": jsonc, "toml": tomltext, "yaml": yamltext}

_REFERENCE = re.compile(r"(Bearer )?(\$\{[^}]*\}|\{env:\w+\})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A planned change: the file before and after; ``old`` and ``new`` are only the entry."""

    path: Path
    where: tuple[str, str]
    form: Form
    before: str
    after: str
    existed: bool
    old: Entry | None
    new: Entry | None

    @property
    def needed(self) -> bool:
        """Tell whether anything would change."""
        return self.before != self.after

    def shown(self, plain: Callable[[str], bool]) -> str:
        """Return the difference of the entry, without the rest of the file.

        Values of variables are masked, except those whose names are in ``plain``.
        """
        old = _masked(self.old, plain, None)
        new = _masked(self.new, plain, self.old)
        gone, come = (alone(self.where, entry, form=self.form).splitlines() for entry in (old, new))
        lines = difflib.unified_diff(gone, come, lineterm="", n=max(len(gone), len(come)))
        return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))

    def holds(self, names: Collection[str]) -> list[str]:
        """Return which of these variables have a value in the old entry."""
        env = (self.old or {}).get("env")
        found = cast("dict[str, object]", env) if isinstance(env, dict) else {}
        return sorted(n for n in names if n in found and not _REFERENCE.fullmatch(str(found[n])))

    def write(self, *, private: bool = False) -> Path | None:
        """Write the file, whole or not at all; return the copy of what was there.

        ``private``: nobody else may read it or its copy from now on, whatever its mode was.

        Raises
        ------
        ConfigurationError: it cannot be written, or it has changed meanwhile.
        """
        path = self.path.resolve()
        try:
            if self.existed != path.exists() or _text(path) != self.before:
                raise ConfigurationError(f"{path}: it has changed meanwhile; nothing was written")
            mode = stat.S_IMODE(path.stat().st_mode) if self.existed else OWNER_ONLY
            if not mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
                raise ConfigurationError(f"{path}: it is read-only; nothing was written")
            if private:
                mode = OWNER_ONLY
            path.parent.mkdir(parents=True, exist_ok=True)
            copy = _copy(path, mode) if self.existed else None
            write_atomic(path, self.after.encode("utf-8"), mode=mode, durable=True)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ConfigurationError(f"{path}: cannot be written ({reason})") from None
        return copy


def alone(where: tuple[str, str], entry: Entry | None, *, form: Form) -> str:
    """Return the text of a file that contains only the entry."""
    return "" if entry is None else FORMS[form].put("", where, entry)


def _masked(entry: Entry | None, plain: Callable[[str], bool], other: Entry | None) -> Entry | None:
    """Return an entry with the values in its tables masked, because they may be secret.

    If a value is also masked in ``other``, the mask shows whether both are equal.
    """
    if entry is None:
        return None
    masked: Entry = {}
    for key, value in entry.items():
        if isinstance(value, dict):
            table, before = cast("Entry", value), (other or {}).get(key)
            earlier = cast("Entry", before) if isinstance(before, dict) else {}
            masked[key] = {
                name: each
                if plain(name) or _REFERENCE.fullmatch(str(each))
                else "… (another)"
                if earlier.get(name, each) != each
                else "…"
                for name, each in table.items()
            }
        else:
            masked[key] = value
    return masked


def _copy(path: Path, mode: int) -> Path:
    """Make a copy beside a file, under a free name."""
    number = 1
    while True:
        copy = path.with_name(f"{path.name}.before-darkroom-{number}")
        try:
            write_new(copy, path.read_bytes(), mode=mode, durable=True)
        except FileExistsError:
            number += 1
        else:
            return copy


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8") if path.exists() else ""


def change(
    path: Path,
    where: tuple[str, str],
    entry: Callable[[Entry], Entry] | None,
    *,
    form: Form,
) -> Change:
    """Return the change that sets an entry, or removes it if the new entry is None.

    ``entry`` makes the new entry from the old one (empty if there is none). Line ends, the byte
    order mark and everything outside the entry stay as they are.

    Raises
    ------
    ConfigurationError: the file cannot be read or understood; it is left as it is.
    """
    texts = FORMS[form]
    try:
        before = _text(path)
        mark = BYTE_ORDER_MARK if before.startswith(BYTE_ORDER_MARK) else ""
        ends = before.count("\n")
        end = "\r\n" if ends and ends == before.count("\r\n") else "\n"
        text = before.removeprefix(mark).replace(end, "\n")
        whole = texts.read(text)
        old = _found(whole, where)
        new = entry(old or {}) if entry is not None else None
        if new == old:
            after = before
        else:
            edited = texts.remove(text, where) if new is None else texts.put(text, where, new)
            _check(whole, texts.read(edited), where, new)
            after = mark + edited.replace("\n", end)
            after.encode("utf-8")  # an environment variable may contain any bytes
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: it is not UTF-8; nothing was changed") from None
    except UnicodeEncodeError:
        raise ConfigurationError(
            "a variable to be written holds bytes that are not UTF-8"
        ) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(f"{path}: cannot be read ({reason})") from None
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}; nothing was changed") from None
    return Change(
        path=path,
        where=where,
        form=form,
        before=before,
        after=after,
        existed=path.exists(),
        old=old,
        new=new,
    )


def _found(whole: Entry, where: tuple[str, str]) -> Entry | None:
    """Return the entry in a file; anything that is not an entry counts as an empty one."""
    outer, inner = where
    section = whole.get(outer)
    if not isinstance(section, dict) or inner not in section:
        return None
    found = cast("dict[str, object]", section)[inner]
    return cast("Entry", found) if isinstance(found, dict) else {}


def _check(old: Entry, new: Entry, where: tuple[str, str], entry: Entry | None) -> None:
    """Raise ValueError unless only the entry has changed."""
    outer, inner = where
    sections = [dict(whole.get(outer) or {}) for whole in (old, new)]
    found = [section.pop(inner, None) for section in sections]
    rests = [{k: v for k, v in whole.items() if k != outer} for whole in (old, new)]
    if found[1] != entry or sections[0] != sections[1] or rests[0] != rests[1]:
        raise ValueError(f"{outer}.{inner} has to be edited by hand: it stands there twice, or so")

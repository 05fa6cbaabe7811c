"""TOML: one table of a section is put or removed, the rest of the text stays as it is."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

_HEADER = re.compile(r"^[ \t]*\[")


class NotTomlError(ValueError):
    """The text cannot be read, or holds the table in a way that is better edited by hand."""


def read(text: str) -> dict[str, Any]:
    """Return the tables that the text holds.

    Raises
    ------
    NotTomlError: it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NotTomlError(str(error)) from None


def put(text: str, path: tuple[str, str], value: dict[str, Any]) -> str:
    """Return the text with ``value`` (strings, and lists and tables of them) at ``path``."""
    kept = remove(text, path)
    block = "\n".join(_table(path, value))
    before = f"{kept.rstrip()}\n\n" if kept.strip() else ""
    written = f"{before}{block}\n"
    section = read(kept).get(path[0], {})
    _refuse_unless(read(written) == read(kept) | {path[0]: {**section, path[1]: value}}, path)
    return written


def remove(text: str, path: tuple[str, str]) -> str:
    """Return the text without the table at ``path``; the same text if there is none."""
    wanted = read(text)
    section = wanted.get(path[0])
    if not isinstance(section, dict) or path[1] not in section:
        return text
    del section[path[1]]
    ours = _of(path)
    kept: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        if _HEADER.match(line):
            inside = ours.match(line) is not None
        elif inside and line.lstrip().startswith("#"):
            inside = False  # what is said from here on is said of what follows
        if not inside:
            kept.append(line)
    written = "".join(kept)
    if inside and written:
        written = written.rstrip("\n") + "\n"
    if not section:
        del wanted[path[0]]
    found = read(written)
    if found.get(path[0]) == {}:
        del found[path[0]]
    _refuse_unless(found == wanted, path)
    return written


def _of(path: tuple[str, str]) -> re.Pattern[str]:
    outer, inner = (f'(?:{re.escape(name)}|"{re.escape(name)}")' for name in path)
    return re.compile(rf"^[ \t]*\[[ \t]*{outer}[ \t]*\.[ \t]*{inner}[ \t]*[.\]]")


def _table(path: tuple[str, str], value: dict[str, Any]) -> list[str]:
    header = ".".join(path)
    lines = [f"[{header}]"]
    lines += [f"{k} = {_value(v)}" for k, v in value.items() if not isinstance(v, dict)]
    for key, inner in value.items():
        if isinstance(inner, dict):
            lines += ["", f"[{header}.{key}]"]
            lines += [f"{k} = {_value(v)}" for k, v in inner.items()]  # pyright: ignore[reportUnknownVariableType] -- tables of strings
    return lines


def _value(value: Any) -> str:
    """Write strings and lists of them: as JSON, which TOML reads the same way."""
    return json.dumps(value)


def _refuse_unless(same: bool, path: tuple[str, str]) -> None:  # noqa: FBT001 -- what was found out
    if not same:
        raise NotTomlError(f"it holds {'.'.join(path)} in a way that has to be edited by hand")

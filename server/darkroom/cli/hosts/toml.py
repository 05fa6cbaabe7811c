"""Sets or removes one table of a section in TOML; the rest of the text is unchanged."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any, cast

_HEADER = re.compile(r"^[ \t]*\[")
_LINES = re.compile(r"[^\n]*\n|[^\n]+")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


class NotTomlError(ValueError):
    """The text cannot be read, or the table is written in a way that must be edited by hand."""


def read(text: str) -> dict[str, Any]:
    """Return the tables in the text.

    Raises
    ------
    NotTomlError: it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NotTomlError(str(error)) from None


def put(text: str, path: tuple[str, str], value: dict[str, Any]) -> str:
    """Return the text with ``value`` at ``path``: in its old place, or at the end."""
    before, after = _around(text, _of(path))
    if not after and before.strip():
        before = f"{before.rstrip()}\n\n"
    block = "\n".join(_table(path, value))
    written = f"{before}{block}\n" + (f"\n{after}" if after else "")
    wanted = read(text)
    section = wanted.get(path[0], {})
    same = isinstance(section, dict) and read(written) == {
        **wanted,
        path[0]: {**section, path[1]: value},
    }
    _refuse_unless(same, path)
    return written


def remove(text: str, path: tuple[str, str]) -> str:
    """Return the text without the table at ``path``; the same text if there is none."""
    wanted = read(text)
    section = wanted.get(path[0])
    if not isinstance(section, dict) or path[1] not in section:
        return text
    del section[path[1]]
    before, after = _around(text, _of(path))
    written = before + after if after or not before.strip() else before.rstrip() + "\n"
    if not section:
        del wanted[path[0]]
    found = read(written)
    if found.get(path[0]) == {}:
        del found[path[0]]
    _refuse_unless(found == wanted, path)
    return written


def _around(text: str, ours: re.Pattern[str]) -> tuple[str, str]:
    """Return the text before the first table whose header matches, and the text after it.

    Comments at the end of such a table belong to the following table and stay.
    """
    before: list[str] = []
    after: list[str] = []
    kept, last, inside = before, list[str](), False
    for line in _LINES.findall(text):
        if _HEADER.match(line):
            inside = ours.match(line) is not None
            if inside:
                kept = after
            else:
                kept += last
            last = []
        if not inside:
            kept.append(line)
        elif line.lstrip().startswith("#") or (last and not line.strip()):
            last.append(line)
        else:
            last = []
    return "".join(before), "".join(after + last)


def _of(path: tuple[str, str]) -> re.Pattern[str]:
    outer, inner = (f'(?:{re.escape(name)}|"{re.escape(name)}")' for name in path)
    return re.compile(rf"^[ \t]*\[[ \t]*{outer}[ \t]*\.[ \t]*{inner}[ \t]*[.\]]")


def _table(path: tuple[str, ...], value: dict[str, Any]) -> list[str]:
    lines = [f"[{'.'.join(map(_key, path))}]"]
    lines += [f"{_key(k)} = {_value(v)}" for k, v in value.items() if not isinstance(v, dict)]
    for key, inner in value.items():
        if isinstance(inner, dict):
            lines += ["", *_table((*path, key), cast("dict[str, Any]", inner))]
    return lines


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _value(value: object) -> str:
    match value:
        case str():
            return _text(value)
        case list():
            return f"[{', '.join(map(_value, cast('list[object]', value)))}]"
        case dict():
            members = cast("dict[str, object]", value).items()
            return f"{{{', '.join(f'{_key(k)} = {_value(v)}' for k, v in members)}}}"
        case bool():
            return str(value).lower()
        case _:  # numbers, dates and times are written as Python writes them
            return str(value)


def _text(text: str) -> str:
    """Return a string as in JSON, with the one control character escaped that TOML requires."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _refuse_unless(same: bool, path: tuple[str, str]) -> None:  # noqa: FBT001 -- what was found out
    if not same:
        raise NotTomlError(f"it holds {'.'.join(path)} in a way that has to be edited by hand")

"""Changes one entry of a YAML file without a YAML library.

Only what such a file needs is understood: a mapping at the top level, with sections that are
mappings in block style. Everything else is refused. A new entry is written as JSON, which is YAML;
an entry in block style can be replaced or removed, but not read.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

Entry = dict[str, Any]

_KEY = re.compile(
    r"""(?P<indent> *)(?P<quote>["']?)(?P<key>[\w./-]+)(?P=quote):(?=\s|$)(?P<rest>.*)"""
)
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff]")
_PASSED = re.compile(r"\s*(#.*)?$|---\s*$")


def read(text: str) -> Entry:
    """Return the sections with their entries; what is not understood is kept as text.

    Raises
    ------
    ValueError: the file is not a mapping in block style.
    """
    lines, whole = text.split("\n"), Entry()
    for start, end, key, rest in _blocks(lines, 0, 0, len(lines)):
        if key in whole:
            raise ValueError(f"{key} stands there twice")
        section = Entry()
        inner = _indent(lines, start + 1, end)
        if rest or inner is None or _KEY.match(lines[_first(lines, start + 1, end)]) is None:
            whole[key] = "\n".join(_content(lines, start, end)) if rest or inner else None
            continue
        for at, to, name, value in _blocks(lines, inner, start + 1, end):
            if name in section:
                raise ValueError(f"{key}.{name} stands there twice")
            section[name] = _entry(value, _content(lines, at, to))
        whole[key] = section
    return whole


def put(text: str, where: tuple[str, str], entry: Entry) -> str:
    """Return the text with the entry set."""
    section, name = where
    lines = text.split("\n")
    found = _section(lines, section)
    if found is None:
        if section in read(text):
            raise ValueError(f"{section} is not a block of entries")
        body = text if not text or text.endswith("\n") else text + "\n"
        return f"{body}{section}:\n  {_line(name, entry)}\n"
    start, end, indent = found
    written = " " * indent + _line(name, entry)
    for at, to, key, _ in _blocks(lines, indent, start + 1, end):
        if key == name:
            return "\n".join([*lines[:at], written, *lines[at + len(_content(lines, at, to)) :]])
    last = start + len(_content(lines, start, end))
    return "\n".join([*lines[:last], written, *lines[last:]])


def remove(text: str, where: tuple[str, str]) -> str:
    """Return the text without the entry; a section without entries is removed, too."""
    section, name = where
    lines = text.split("\n")
    found = _section(lines, section)
    if found is None:
        return text
    start, end, indent = found
    blocks = list(_blocks(lines, indent, start + 1, end))
    for at, to, key, _ in blocks:
        if key == name:
            first = start if len(blocks) == 1 else at
            return "\n".join([*lines[:first], *lines[at + len(_content(lines, at, to)) :]])
    return text


def _line(name: str, entry: Entry) -> str:
    text = json.dumps(entry, ensure_ascii=False)
    return f"{name}: {_NOT_IN_YAML.sub(_escaped, text)}"


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _entry(value: str, content: list[str]) -> Entry:
    if len(content) == 1 and value.startswith("{"):
        try:
            found: object = json.loads(value)
        except ValueError:
            found = None
        if isinstance(found, dict):
            return cast("Entry", found)
    return {"…": {"text": "\n".join(content)}}  # a table: its values are never shown


def _section(lines: list[str], section: str) -> tuple[int, int, int] | None:
    """Return where a section begins and ends, and how far its entries are indented."""
    for start, end, key, rest in _blocks(lines, 0, 0, len(lines)):
        indent = _indent(lines, start + 1, end)
        if key == section and not rest and indent is not None:
            return start, end, indent
    return None


def _blocks(
    lines: list[str], indent: int, start: int, end: int
) -> Iterator[tuple[int, int, str, str]]:
    """Yield the first line, the line after the last, key and value of each key at an indentation."""
    begun: tuple[int, str, str] | None = None
    for at in range(start, end):
        line = lines[at]
        if _PASSED.match(line):
            continue
        depth = len(line) - len(line.lstrip(" "))
        if depth > indent and begun is not None:
            continue
        found = _KEY.match(line)
        if depth == indent and line.startswith("- ", depth) and begun and not begun[2]:
            continue  # a list may stand as far left as its key
        if found is None or depth != indent or line[depth] == "\t":
            raise ValueError(f"line {at + 1} is not understood")
        if begun is not None:
            yield begun[0], at, begun[1], begun[2]
        rest = (
            re.sub(r"(^|\s)#.*$", "", found["rest"]) if "{" not in found["rest"] else found["rest"]
        )
        begun = (at, found["key"], rest.strip())
    if begun is not None:
        yield begun[0], end, begun[1], begun[2]


def _first(lines: list[str], start: int, end: int) -> int:
    return next(at for at in range(start, end) if not _PASSED.match(lines[at]))


def _indent(lines: list[str], start: int, end: int) -> int | None:
    """Return the indentation of the first line with content; None if there is none."""
    for at in range(start, end):
        if not _PASSED.match(lines[at]):
            return len(lines[at]) - len(lines[at].lstrip(" ")) or None
    return None


def _content(lines: list[str], start: int, end: int) -> list[str]:
    """Return the lines of a block without the comments and blank lines after it."""
    while end > start + 1 and _PASSED.match(lines[end - 1]):
        end -= 1
    return lines[start:end]

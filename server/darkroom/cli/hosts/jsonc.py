"""Sets or removes one member in JSON with comments and trailing commas; the rest is unchanged."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

_GAP = re.compile(r"(?:\s+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_SCALAR = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"|[-+.\w]+')
_BESIDE = re.compile(r"[ \t]*(?://[^\n]*|/\*[^\n]*?\*/)")
_INDENT = re.compile(r"\n([ \t]+)\S")
DEEPEST = 100


class NotJsonError(ValueError):
    """The text cannot be read; the message says where."""


@dataclass
class _Node:
    """A value and its position; for an object also its members in order, by name."""

    start: int
    end: int
    value: Any
    members: list[_Member] = field(default_factory=list["_Member"])


@dataclass
class _Member:
    name: str
    start: int
    node: _Node


def read(text: str) -> dict[str, Any]:
    """Return the object in the text; an empty object for an empty text.

    Raises
    ------
    NotJsonError: the text does not contain an object.
    """
    return _root(text).value if text.strip() else {}


def put(text: str, path: tuple[str, str], value: Any) -> str:
    """Return the text with ``value`` at ``path``, two names deep."""
    outer, inner = path
    if not text.strip():
        return _written({outer: {inner: value}}, "  ", 0) + "\n"
    indent = found[1] if (found := _INDENT.search(text)) else "  "
    root = _root(text)
    section = _member(root, outer)
    if section is None:
        return _insert(text, root, outer, {inner: value}, indent, 1)
    if not isinstance(section.node.value, dict):
        raise NotJsonError(f"{outer} holds no object")
    old = _member(section.node, inner)
    if old is None:
        return _insert(text, section.node, inner, value, indent, 2)
    return text[: old.node.start] + _written(value, indent, 2) + text[old.node.end :]


def remove(text: str, path: tuple[str, str]) -> str:
    """Return the text without the member at ``path``; the same text if there is none."""
    if not text.strip():
        return text
    section = _member(_root(text), path[0])
    if section is None:
        return text
    old = _member(section.node, path[1])
    if old is None:
        return text
    members = section.node.members
    place = members.index(old)
    start, end = _line_start(text, old.start), old.node.end
    after = _gap(text, end)
    if text[after] == ",":
        end = after + 1
    elif place > 0:  # the last one goes with the comma before it
        before = members[place - 1].node.end
        comma = _gap(text, before)
        text, start, end = text[:comma] + text[comma + 1 :], start - 1, end - 1
    if start > 0 and text[start - 1] == "\n" and text[end : end + 1] == "\n":
        end += 1
    return text[:start] + text[end:]


def _line_start(text: str, at: int) -> int:
    """Return where the line begins, if only white space is before ``at`` in it."""
    start = text.rfind("\n", 0, at) + 1
    return start if not text[start:at].strip() else at


def _written(value: Any, indent: str, depth: int) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False).replace("\n", "\n" + indent * depth)


def _insert(text: str, node: _Node, name: str, value: Any, indent: str, depth: int) -> str:
    """Add a member at the end of an object."""
    member = f"\n{indent * depth}{json.dumps(name)}: {_written(value, indent, depth)}"
    if node.members:
        last = node.members[-1].node.end
        comma = _gap(text, last)
        if text[comma] == ",":
            place = _line_comment(text, comma + 1)
            return text[:place] + member + "," + text[place:]
        place = _line_comment(text, last)
        return text[:last] + "," + text[last:place] + member + text[place:]
    inside = text[node.start + 1 : node.end - 1].rstrip()
    closing = f"\n{indent * (depth - 1)}}}"
    return text[: node.start + 1] + inside + member + closing + text[node.end :]


def _line_comment(text: str, at: int) -> int:
    """Return the end of a comment that belongs to the text before it in the same line."""
    found = _BESIDE.match(text, at)
    return found.end() if found else at


def _member(node: _Node, name: str) -> _Member | None:
    """Return the last member with this name, because JSON readers use the last one."""
    return next((m for m in reversed(node.members) if m.name == name), None)


def _root(text: str) -> _Node:
    start = _gap(text, 0)
    node = _value(text, start, 0)
    if _gap(text, node.end) != len(text):
        raise NotJsonError(f"line {_line(text, node.end)}: something follows the object")
    if not isinstance(node.value, dict):
        raise NotJsonError("it holds no object")
    return node


def _gap(text: str, at: int) -> int:
    found = _GAP.match(text, at)
    return found.end() if found else at


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _value(text: str, at: int, depth: int) -> _Node:
    if depth > DEEPEST:
        raise NotJsonError("it is nested too deeply")
    opening = text[at : at + 1]
    if opening == "{":
        return _object(text, at, depth)
    if opening == "[":
        return _array(text, at, depth)
    found = _SCALAR.match(text, at)
    try:
        if found is None:
            raise ValueError  # noqa: TRY301 -- both mean the same
        return _Node(at, found.end(), json.loads(found[0]))
    except ValueError:
        raise NotJsonError(f"line {_line(text, at)}: no value can be read there") from None


def _object(text: str, at: int, depth: int) -> _Node:
    node = _Node(at, at, {})
    at = _gap(text, at + 1)
    while text[at : at + 1] != "}":
        name = _value(text, at, depth + 1)
        colon = _gap(text, name.end)
        if not isinstance(name.value, str) or text[colon : colon + 1] != ":":
            raise NotJsonError(f"line {_line(text, at)}: a name and a colon are missing")
        node.members.append(_Member(name.value, at, _value(text, _gap(text, colon + 1), depth + 1)))
        node.value[name.value] = node.members[-1].node.value
        at = _after(text, node.members[-1].node.end, "}")
    node.end = at + 1
    return node


def _array(text: str, at: int, depth: int) -> _Node:
    values: list[Any] = []
    node = _Node(at, at, values)
    at = _gap(text, at + 1)
    while text[at : at + 1] != "]":
        inner = _value(text, at, depth + 1)
        values.append(inner.value)
        at = _after(text, inner.end, "]")
    node.end = at + 1
    return node


def _after(text: str, at: int, closing: str) -> int:
    """Return where the next member, or the end, begins."""
    at = _gap(text, at)
    if text[at : at + 1] == ",":
        return _gap(text, at + 1)
    if text[at : at + 1] != closing:
        raise NotJsonError(f"line {_line(text, at)}: a comma or {closing} is missing")
    return at

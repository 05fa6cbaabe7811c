"""What others wrote, made fit to be shown: to a model as data, on a terminal as text.

A provider's object that is handed on whole takes one walk, `handed_on`; a single text of it is
shortened by `darkroom.core.errors.clean`; a name that our own sentences hold is an `identifier`;
and what a terminal would obey is written out by `printable`.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from darkroom.core.json_types import JsonObject, JsonValue

MOST_CHARACTERS = 16_384
"""Of JSON that a getter hands on."""

DEEPEST_SHOWN = 12
MOST_MEMBERS = 1_000
"""Of one list or object that are looked at."""

MOST_VALUES = 20_000
"""Of one answer that are looked at."""

NAME_CHARACTERS = 200
MOST_NOTES, NOTE_CHARACTERS = 12, 100
LEAST_SHARE = 24
"""Characters; what would get less room is left out whole."""

NOT_SHOWN = "not_shown"

_NOTES_ROOM = MOST_NOTES * (NOTE_CHARACTERS + 3) + 60

_IGNORABLE = frozenset(
    chr(code)
    for first, last in (
        (0x034F, 0x034F),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
        (0x2028, 0x2029),
        (0x2800, 0x2800),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFFA0, 0xFFA0),
        (0xE0100, 0xE01EF),
    )
    for code in range(first, last + 1)
)
"""Characters that show nothing, beside the categories C: fillers and variation selectors."""

_IDENTIFIER = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_NAME = re.compile(r"[A-Za-z0-9_.:/=+-]{1,200}")
_SIGNED = re.compile(r"https?://\S+[?@]\S*", re.IGNORECASE)
ADDRESS = "[address]"


def hidden(character: str) -> bool:
    """Tell whether a character shows nothing, or moves what stands around it.

    These are control, C1, bidirectional, zero-width, tag, surrogate and private characters,
    variation selectors and fillers.
    """
    return unicodedata.category(character).startswith("C") or character in _IGNORABLE


def identifier(text: str | None) -> str | None:
    """Return a provider's code or request id if it is one; None for anything that could be read."""
    return text if text is not None and _IDENTIFIER.fullmatch(text) else None


def is_name(text: str) -> bool:
    """Tell whether a text can stand for something in a question to the person: no sentence can."""
    return _NAME.fullmatch(text) is not None


def tame(text: str) -> str:
    """Return a text without characters that show nothing; line ends and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(each for each in text if each in "\n\t" or not hidden(each))


def printable(text: str) -> str:
    r"""Return a text with what a terminal would obey written out, as ``\u009b``; JSON stays JSON."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        json.dumps(each)[1:-1] if hidden(each) and each not in "\n\t" else each for each in text
    )


def handed_on(given: JsonObject, most: int = MOST_CHARACTERS) -> JsonObject:
    """Return a provider's object as a model may see it, in at most ``most`` characters of JSON.

    Hidden characters and addresses that open something by themselves are taken out. What does not
    fit is left out, the largest first, and named under ``not_shown``.
    """
    walk = _Walk()
    tamed = walk.value(given, "", 0)
    shown = tamed if isinstance(tamed, dict) else {}
    if _size(shown) + (_NOTES_ROOM if walk.notes else 0) > most:
        fitted = walk.fit(shown, max(most - _NOTES_ROOM, LEAST_SHARE), "")
        shown = fitted if isinstance(fitted, dict) else {}
    if walk.notes:
        notes: list[JsonValue] = [*walk.notes[:MOST_NOTES]]
        if len(walk.notes) > MOST_NOTES:
            notes[-1] = f"and {len(walk.notes) - MOST_NOTES + 1} more"
        shown[NOT_SHOWN] = notes
    return shown


class _Walk:
    """One walk over an answer; ``notes`` name what it left out."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._left = MOST_VALUES

    def value(self, given: JsonValue, path: str, depth: int) -> JsonValue:
        """Return a value without what may not be shown."""
        if isinstance(given, str):
            return ADDRESS if _SIGNED.fullmatch(given.strip()) else tame(given)
        if not isinstance(given, dict | list):
            return given
        if depth > DEEPEST_SHOWN:
            self._note(path, "too deep")
            return None
        if isinstance(given, list):
            return [
                self.value(each, f"{path}[{index}]", depth + 1)
                for index, each in enumerate(given[: self._room(path, len(given))])
            ]
        shown: JsonObject = {}
        for name in list(given)[: self._room(path, len(given))]:
            plain = tame(name)[:NAME_CHARACTERS]
            if plain != name and (plain in given or plain in shown):
                self._note(_under(path, plain), "a second member that looks the same")
            else:
                shown[plain] = self.value(given[name], _under(path, plain), depth + 1)
        return shown

    def _room(self, path: str, wanted: int) -> int:
        room = min(wanted, MOST_MEMBERS, self._left)
        self._left -= room
        if room < wanted:
            self._note(path, f"{wanted - room} of {wanted}")
        return room

    def fit(self, given: JsonValue, room: int, path: str) -> JsonValue:
        """Return a value in so many characters of JSON; None where nothing of it fits."""
        size = _size(given)
        if size <= room:
            return given
        if isinstance(given, str):
            kept = max(room - 3, 0)
            while kept and len(json.dumps(given[:kept], ensure_ascii=False)) + 1 > room:
                kept = kept * 9 // 10
            self._note(path, f"{len(given) - kept} of {len(given)} characters")
            return given[:kept] + "…"
        if isinstance(given, list):
            return self._fit_list(given, room, path)
        if isinstance(given, dict):
            return self._fit_object(given, room, path)
        return None

    def _fit_list(self, given: list[JsonValue], room: int, path: str) -> list[JsonValue]:
        """Keep the first entries that fit, one at least in part."""
        kept: list[JsonValue] = []
        left = room - 2
        for each in given:
            left -= _size(each) + 1
            if left < 0:
                break
            kept.append(each)
        if not kept and room > LEAST_SHARE:
            kept.append(self.fit(given[0], room - 3, f"{path}[0]"))
        if len(kept) < len(given):
            self._note(path, f"{len(given) - len(kept)} of {len(given)}; ask for fewer at a time")
        return kept

    def _fit_object(self, given: JsonObject, room: int, path: str) -> JsonObject:
        """Keep small members whole, and give the large ones equal shares of what is left."""
        sizes = {name: _size(name) + _size(value) + 2 for name, value in given.items()}
        shares: dict[str, int] = {}
        left = room - 2
        for number, name in enumerate(sorted(sizes, key=lambda name: sizes[name])):
            share = min(sizes[name], left // (len(sizes) - number))
            if share < min(sizes[name], _size(name) + LEAST_SHARE):
                continue
            shares[name] = share
            left -= share
        shown: JsonObject = {}
        for name, value in given.items():
            if name in shares:
                inner = shares[name] - _size(name) - 2
                shown[name] = self.fit(value, inner, _under(path, name))
        if len(shown) < len(given):
            self._note(path, f"{len(given) - len(shown)} of {len(given)} members")
        return shown

    def _note(self, path: str, what: str) -> None:
        self.notes.append(f"{path[: NOTE_CHARACTERS - len(what) - 2] or 'answer'}: {what}")


def _under(path: str, name: str) -> str:
    plain = name if _IDENTIFIER.fullmatch(name) else "…"
    return f"{path}.{plain}" if path else plain


def _size(value: JsonValue) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")))

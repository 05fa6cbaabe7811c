"""Taking a credential out of an answer that repeats it, however it is spelled there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from darkroom.core.json_types import JsonValue

CREDENTIAL = "[credential]"

_BETWEEN = r"[^ -~]*"
"""Characters that a display drops: a key is still a key with a zero-width space in it."""

V = TypeVar("V", bound="JsonValue")


def redacted(text: str, secret: str) -> str:
    r"""Return a text without a secret, written plainly or escaped (``\/``, ``\u002b``, ``%2B``)."""
    if not secret:
        return text
    text = text.replace(secret, CREDENTIAL)
    if is_plain(text):
        return text
    return re.sub(_BETWEEN.join(map(_spellings, secret)), CREDENTIAL, text)


def is_plain(text: str) -> bool:
    """Tell whether a text spells nothing in another way than by itself."""
    return "\\" not in text and "%" not in text and text.isascii() and text.isprintable()


def redacted_value(value: V, secret: str) -> V:
    """Return a JSON value without a secret in its texts and in the names of its members."""
    return cast("V", _walk(value, secret))


def _walk(value: JsonValue, secret: str) -> JsonValue:
    if isinstance(value, str):
        return redacted(value, secret)
    if isinstance(value, dict):
        return {redacted(name, secret): _walk(inner, secret) for name, inner in value.items()}
    if isinstance(value, list):
        return [_walk(inner, secret) for inner in value]
    return value


def _spellings(character: str) -> str:
    code = f"{ord(character):02x}"
    digits = "".join(f"[{d}{d.upper()}]" if d.isalpha() else d for d in code)
    return rf"(?:\\*{re.escape(character)}|\\+u00{digits}|%{digits})"

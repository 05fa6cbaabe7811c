"""Counts the tokens of a text in the encoding o200k."""

from __future__ import annotations

import json
import math
import re
import warnings
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from darkroom.core.json_types import JsonObject

_PIECE = re.compile(r"[A-Za-z]+|[0-9]+|[^\sA-Za-z0-9]+")
_LETTERS_PER_TOKEN = 8
_DIGITS_PER_TOKEN = 3
_BYTES_OF_SIGNS_PER_TOKEN = 4


def count(text: str) -> tuple[int, bool]:
    """Count the tokens of ``text``; the flag tells whether the count is exact.

    It is exact if ``bpe-openai`` is installed (the extra ``tokens``), otherwise an `estimate`.
    """
    encode = _encoder()
    return (estimate(text), False) if encode is None else (len(encode(text)), True)


def tool_tokens(name: str, description: str, schema: JsonObject) -> int:
    """Count the tokens of a listed tool: its name, description and compact input schema."""
    compact = json.dumps(schema, separators=(",", ":"), ensure_ascii=False)
    return sum(count(text)[0] for text in (name, description, compact))


def estimate(text: str) -> int:
    """Estimate the tokens of English text or JSON Schema, to within about a fifth.

    The text is split into runs: one token for every 8 Latin letters, every 3 digits, and every
    4 bytes of anything else except white space, rounded up for each run.
    """
    tokens = 0
    for piece in _PIECE.findall(text):
        length, per_token = len(piece), _LETTERS_PER_TOKEN
        if piece[0].isascii() and piece[0].isdigit():
            per_token = _DIGITS_PER_TOKEN
        elif not (piece[0].isascii() and piece[0].isalpha()):
            length, per_token = len(piece.encode()), _BYTES_OF_SIGNS_PER_TOKEN
        tokens += math.ceil(length / per_token)
    return tokens


@cache
def _encoder() -> Callable[[str], list[int]] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of how it reads its data
            import bpe_openai  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs] -- optional, loaded when needed; has no stubs

            return bpe_openai.get_encoding("o200k_base").encode_ordinary
    except ImportError:
        return None

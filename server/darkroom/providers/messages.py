"""What goes out to a provider and what comes back, in shapes that no transport knows."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

from darkroom.core.redaction import is_plain, redacted, redacted_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from darkroom.core.errors import Failure
    from darkroom.core.json_types import JsonObject, JsonValue
    from darkroom.providers.values import Cost, Output, Progress, Status

Method = Literal["GET", "POST", "DELETE"]

DEEPEST = 100
"""Levels of lists and objects in an answer; a result that is deeper than 255 could not be written."""

LARGEST_INTEGER = 2**63
"""From here on an integer is read as a float: SQLite holds no larger one."""

MOST_VALUES = 300_000
"""Lists, objects and commas of an answer: 1.3 million empty lists take seconds and 368 MB."""

_DIGITS = len(str(LARGEST_INTEGER))
_HALF_OF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to a provider, without credentials: path relative to the base address."""

    method: Method
    path: str
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    body: JsonValue = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A provider's answer, read to its end.

    ``body`` is the JSON value; text that is not JSON is a plain string, no body is None.
    Header names are lower case.
    """

    status: int
    body: JsonValue
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    received_at: float = 0.0
    """Seconds since the epoch."""

    @property
    def ok(self) -> bool:
        """Tell whether the status is 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004 -- the class of statuses

    @property
    def object(self) -> JsonObject:
        """The body as an object; an empty one where it is anything else."""
        return self.body if isinstance(self.body, dict) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a provider says of a job, in our words; the same from a poll, a list or a webhook."""

    status: Status
    provider_status: str | None = None
    outputs: tuple[Output, ...] = ()
    cost: Cost | None = None
    failure: Failure | None = None
    progress: Progress | None = None
    warnings: tuple[str, ...] = ()


class UnreadableError(Exception):
    """A reader raises this for an answer that it cannot understand; the text says what was wrong.

    ``ended`` is what the answer says if nothing better comes: the job is over, its result is
    missing. It is taken in once the provider has said so several times.
    """

    def __init__(self, text: str, *, ended: State | None = None) -> None:
        super().__init__(text)
        self.ended = ended


UNREADABLE = (
    UnreadableError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What readers raise for an answer that they do not understand."""


def read_row(text: str) -> JsonObject:
    """Read a row of the journal: an older version may have kept text that could be shown nowhere."""
    return cast("JsonObject", _valid(json.loads(text), text))


def read_json(text: str) -> JsonValue:
    """Read JSON that a provider wrote, such that all of it can be kept and shown.

    Text is valid Unicode, integers fit into 64 bits, and no number is infinite: one that is, or
    that is none (NaN), is read as text, so that nobody counts with it.

    Raises
    ------
    ValueError, RecursionError: it is no JSON, or too deep, or holds more than `MOST_VALUES`.
    """
    if sum(map(text.count, "[{,")) > MOST_VALUES:
        raise ValueError("too many values")
    read: object = json.loads(text, parse_int=_integer, parse_float=_finite, parse_constant=_finite)
    value = _valid(read, text)
    if text.count("[") + text.count("{") > DEEPEST and _depth(value) > DEEPEST:
        raise RecursionError
    return value


def read_body(body: bytes, secret: str = "") -> JsonValue:
    """Read the body of an answer: JSON, or else text; None where there is nothing.

    This is the one place where the bytes of a provider's answer become text. ``secret`` is taken
    out of it, wherever it stands once it can be read.
    """
    if not body:
        return None
    # not `json.loads(body)`: it would let halves of surrogate pairs through
    text = body.decode(json.detect_encoding(body), "replace")
    try:
        value = read_json(text)
    except (ValueError, RecursionError):
        return redacted(text, secret)
    if not secret or (is_plain(text) and secret not in text):
        return value  # no text of it can hold the secret
    return redacted_value(value, secret)


def _valid(value: object, text: str) -> JsonValue:
    """Return what was read from a text; half of a surrogate pair becomes ``?``."""
    if _HALF_OF_A_PAIR.search(text):
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return cast("JsonValue", value)


def _integer(text: str) -> float | str:
    if len(text) <= _DIGITS and abs(number := int(text)) < LARGEST_INTEGER:
        return number
    return _finite(text)


def _finite(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text[:_DIGITS]


def _depth(value: JsonValue) -> int:
    """Return how many levels of lists and objects there are; no more than need be looked at."""
    level, depth = [value], 0
    while level and depth <= DEEPEST:
        deeper: list[JsonValue] = []
        for each in level:
            if isinstance(each, dict):
                deeper.extend(each.values())
            elif isinstance(each, list):
                deeper.extend(each)
        level = [each for each in deeper if isinstance(each, dict | list)]
        depth += 1
    return depth

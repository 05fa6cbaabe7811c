"""Requests to a provider and its responses, independent of the transport."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, cast

from darkroom.core.redaction import is_plain, redacted, redacted_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from darkroom.core.errors import Failure
    from darkroom.core.json_types import JsonObject, JsonValue
    from darkroom.providers.values import Cost, Output, Progress, Status

Method: TypeAlias = str
"""``GET``, ``POST``, ``PUT``, ``PATCH`` or ``DELETE``."""

BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
"""The methods whose arguments go into a JSON body."""

DEEPEST = 100
"""Maximum nesting of a response; a result with more than 255 levels cannot be written as JSON."""

LARGEST_INTEGER = 2**63
"""Larger integers are read as floats, because SQLite cannot store them."""

MOST_VALUES = 300_000
"""Lists, objects and commas of an answer: 1.3 million empty lists take seconds and 368 MB."""

_DIGITS = len(str(LARGEST_INTEGER))
_HALF_OF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to a provider, without credentials: path relative to the base address.

    ``address`` takes the place of base address, path and query: one that the provider named in an
    earlier answer. It is used only if it is at the base address or at one of `Provider.hosts`.
    """

    method: Method
    path: str = ""
    address: str | None = None
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    body: JsonValue = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A complete response of a provider.

    ``body`` is the JSON value; a body that is not JSON is a string, an empty body is None.
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
        """The body if it is an object, otherwise an empty object."""
        return self.body if isinstance(self.body, dict) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What a provider says when it accepts a job; a module without more to say returns the id.

    ``cost`` is the cost that it names. ``addresses`` are those to use next, by a name that
    `Source.address` refers to; they are kept in the journal only. ``details``: see `State`.
    """

    id: str
    cost: Cost | None = None
    addresses: Mapping[str, str] = field(default_factory=dict[str, str])
    details: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a provider says about a job, in our terms; the same from a poll, a list or a webhook."""

    status: Status
    provider_status: str | None = None
    outputs: tuple[Output, ...] = ()
    cost: Cost | None = None
    failure: Failure | None = None
    progress: Progress | None = None
    warnings: tuple[str, ...] = ()
    details: JsonObject | None = None
    """Facts that only this provider has (a seed, a place in a queue); a check shows the first."""

    concluded: bool = False
    """The end is our conclusion, not the provider's word: it may still have news."""


class UnreadableError(Exception):
    """Raised by a reader for a response that it cannot understand; the text says what was wrong.

    ``ended`` is the state to accept if the provider repeats this response several times: the job
    has ended, and its result is missing.
    """

    def __init__(self, text: str, *, ended: State | None = None) -> None:
        super().__init__(text)
        self.ended = ended


class MissingError(UnreadableError):
    """Raised by a reader for a response that says, whatever its status, that there is no such job."""


UNREADABLE = (
    UnreadableError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""The exceptions that readers raise for a response that they do not understand."""


def read_row(text: str) -> JsonObject:
    """Read a row of the journal. Older versions may have stored text that is not valid Unicode."""
    return cast("JsonObject", _valid(json.loads(text), text))


def read_json(text: str) -> JsonValue:
    """Read a provider's JSON so that all of it can be stored and shown.

    Text is valid Unicode, and integers fit into 64 bits. Infinity and NaN are read as text, so that
    they are not used in calculations.

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
    # `json.loads(body)` would accept lone surrogates, which cannot be written as UTF-8.
    text = body.decode(json.detect_encoding(body), "replace")
    try:
        value = read_json(text)
    except (ValueError, RecursionError):
        return redacted(text, secret)
    if not secret or (is_plain(text) and secret not in text):
        return value  # no text of it can hold the secret
    return redacted_value(value, secret)


def _valid(value: object, text: str) -> JsonValue:
    """Return the value that was read from a text, with lone surrogates replaced by ``?``."""
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
    """Return how many levels of lists and objects there are, counting up to `DEEPEST` + 1."""
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

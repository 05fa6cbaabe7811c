"""Messages about mistakes in a call's arguments.

pydantic finds the mistakes. What was expected is taken from the schema that the model was shown, so
that nearly every message has the form ``path: expected <schema in words>, got <value>``.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias, cast, get_args

from pydantic_core import core_schema

from darkroom.core.errors import call_error, clean
from darkroom.core.names import COMPARED_CHARACTERS, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_core import ErrorDetails

    from darkroom.core.errors import CallError
    from darkroom.engine.arguments.schema import Schema

Path: TypeAlias = "tuple[str | int, ...]"
"""The path of a value in the arguments: names and positions."""

Errors: TypeAlias = "list[tuple[Path, ErrorDetails]]"
"""pydantic's errors, each with the rest of its location below the current path."""

MOST_EXPLAINED = 500
"""Errors beyond this number are not explained or counted, because that would take seconds."""

_LISTED_MISTAKES = 20
_LISTED_CHARACTERS = 3_200
_MISTAKE_CHARACTERS = 400
_PATH_CHARACTERS = 160
_SHOWN_CHARACTERS = 40
_SHOWN_BITS = 128
_LISTED_OPTIONS = 20
_PYDANTIC_TYPES = frozenset(get_args(core_schema.ErrorType))


def refusal(sentences: Sequence[str], total: int | None = None) -> CallError:
    """Return the error that names as many of the ``total`` mistakes as fit."""
    total = total or len(sentences)
    listed: list[str] = []
    room = _LISTED_CHARACTERS
    for sentence in sentences[:_LISTED_MISTAKES]:
        words = _shortened(sentence, _MISTAKE_CHARACTERS)
        room -= len(words)
        if room < 0:
            break
        listed.append(words)
    message = listed[0]
    if total > 1:
        numbered = " ".join(f"({number}) {words}" for number, words in enumerate(listed, 1))
        more = f" and {total - len(listed)} more" if total > len(listed) else ""
        message = f"{total} mistakes: {numbered}{more}"
    return call_error("invalid_argument", message, "correct the arguments and call again")


class Mistakes:
    """Mistakes by their path; of several at the same path the first is kept."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[Path, tuple[Path, str]] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, place: Path, words: str, *, within: Path | None = None) -> None:
        """Add a mistake; its message begins with its path, or with what it is ``within``."""
        self._found.setdefault(place, (place if within is None else within, words))

    def refusal(self) -> CallError:
        """Return the error that names all mistakes."""
        listed = islice(self._found.values(), _LISTED_MISTAKES)
        sentences = [f"{written(path)}: {words}" if path else words for path, words in listed]
        return refusal(sentences, len(self._found))

    def explain(self, errors: Errors, schema: Schema, value: object, path: Path = ()) -> None:
        """Add pydantic's errors at and below one path.

        Their locations also contain the branches of unions, by their Python names. These are not
        part of the path; the schema shows where there is a union.
        """
        if "anyOf" in schema:
            self._explain_union(errors, schema, value, path)
            return
        below: dict[str | int, Errors] = {}
        for location, error in errors:
            match location, error["type"]:
                case (name,), "extra_forbidden":
                    self._add_unknown(str(name), schema, path)
                case (name,), "missing":
                    self.add((*path, name), f"missing; expected {describe(member(schema, name))}")
                case (name, "[key]"), _:
                    self.add((*path, name), "is not a valid name here")
                case (key, *rest), _ if isinstance(value, (dict, list)):
                    below.setdefault(key, []).append((tuple(rest), error))
                case _:
                    self.add(path, _own_words(error) or _expected(schema, cast("object", value)))
        for key, inner in below.items():
            if isinstance(value, list) and isinstance(key, int):
                item = cast("list[object]", value)[key]
                self.explain(inner, schema.get("items", {}), item, (*path, key))
            elif isinstance(value, dict) and key in value:
                item = cast("dict[object, object]", value)[key]
                self.explain(inner, member(schema, key), item, (*path, key))
            else:  # a branch that the schema does not show
                self.explain(inner, schema, cast("object", value), path)

    def _explain_union(self, errors: Errors, schema: Schema, value: object, path: Path) -> None:
        """Explain one branch if the value is clearly meant for it, otherwise name all branches."""
        groups: dict[str | int, Errors] = {}
        for location, error in errors:
            if location:
                groups.setdefault(location[0], []).append((location[1:], error))
        branches: list[Schema] = schema["anyOf"]
        branch = likely_branch(branches, value)
        if branch is not None and groups:
            if len(groups) == len(branches):
                meant = list(groups.values())[branches.index(branch)]
            else:
                meant = min(groups.values(), key=len)
            if any(location for location, _ in meant):
                self.explain(meant, branch, value, path)
                return
        own = next((words for _, error in errors if (words := _own_words(error))), None)
        self.add(path, own or _expected(schema, value))

    def _add_unknown(self, name: str, schema: Schema, path: Path) -> None:
        names: list[str] = list(schema.get("properties", {}))
        words = f"unknown argument '{shown(name)}'; "
        if near := nearest(name, names):
            words += f"did you mean '{near}'?"
        else:
            words += f"valid are {', '.join(names)}" if names else "there are none"
        self.add((*path, name), words, within=path)


# --- following a schema ------------------------------------------------------------------------


def member(schema: Schema, name: object) -> Schema:
    """Return the schema of an object's member; an empty schema if there is none."""
    properties: Schema = schema.get("properties", {})
    if name in properties:
        return properties[cast("str", name)]
    return schema.get("additionalProperties") or {}


def likely_branch(branches: Sequence[Schema], value: object) -> Schema | None:
    """Return the alternative that a value most likely means: the one with most of its names."""
    fitting = [branch for branch in branches if _fits(branch, value)]
    if not isinstance(value, dict):
        return fitting[0] if fitting else None
    names = cast("dict[str, object]", value).keys()
    return max(
        fitting, key=lambda branch: len(names & branch.get("properties", {}).keys()), default=None
    )


def _fits(schema: Schema, value: object) -> bool:
    """Tell whether a value is of the schema's kind, constant members included."""
    kind = schema.get("type")
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        properties: Schema = schema.get("properties", {})
        return kind == "object" and all(
            members[name] == inner["const"]
            for name, inner in properties.items()
            if "const" in inner and name in members
        )
    if isinstance(value, list):
        return kind == "array"
    return kind not in {"object", "array"}


# --- what was expected -------------------------------------------------------------------------

_KINDS = {
    "string": ("a string", "minLength", "maxLength", "character"),
    "array": ("an array", "minItems", "maxItems", "item"),
    "object": ("an object", "minProperties", "maxProperties", "entry"),
    "integer": ("an integer", "minimum", "maximum", ""),
    "number": ("a number", "minimum", "maximum", ""),
    "boolean": ("true or false", "", "", ""),
}
"""For each type: its name, the keywords of its limits, and the unit of the limits."""


def describe(schema: Schema) -> str:
    """Return what a schema expects, in words: ``an integer from 1 to 40 or one of 'auto'``."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(describe(branch) for branch in schema["anyOf"]))
    if "const" in schema:
        return _literal(schema["const"])
    if "enum" in schema:
        options = ", ".join(map(_literal, schema["enum"][:_LISTED_OPTIONS]))
        return f"one of {options}{', ...' if len(schema['enum']) > _LISTED_OPTIONS else ''}"
    if schema.get("type") not in _KINDS:
        return "another value"
    noun, low_keyword, high_keyword, unit = _KINDS[schema["type"]]
    words = noun + _bounds(schema.get(low_keyword), schema.get(high_keyword), unit)
    for keyword, joint in (
        ("exclusiveMinimum", " above"),
        ("exclusiveMaximum", " below"),
        ("multipleOf", ", a multiple of"),
        ("pattern", " that matches"),
    ):
        if keyword in schema:
            words += f"{joint} {schema[keyword]}"
    return words


def _bounds(low: float | None, high: float | None, unit: str) -> str:
    if low is None and high is None:
        return ""
    if low is None:
        return f" of at most {_counted(high, unit)}"
    if high is None:
        return f" of at least {_counted(low, unit)}"
    if low == high:
        return f" of exactly {_counted(low, unit)}"
    return f" {'of' if unit else 'from'} {low} to {_counted(high, unit)}"


def _counted(count: float | None, unit: str) -> str:
    """Return a number with its unit: ``1 item``, ``3 entries``; without a unit only the number."""
    if unit and count != 1:
        unit = unit.removesuffix("y") + "ies" if unit.endswith("y") else f"{unit}s"
    return f"{count} {unit}".rstrip()


def _own_words(error: ErrorDetails) -> str | None:
    """Return the message of our own check; None for pydantic's, because the schema says more."""
    context = error.get("ctx", {})
    match error["type"]:
        case "value_error" | "assertion_error":
            return str(context["error"])
        case "string_too_long":  # the general limit for strings is in no schema
            length = len(cast("str", error["input"]))
            limit = context["max_length"]
            return f"expected a string of at most {limit} characters, got one of {length}"
        case kind:
            return None if kind in _PYDANTIC_TYPES else error["msg"]


def _expected(schema: Schema, value: object) -> str:
    words = f"expected {describe(schema)}, got {got(value)}"
    if isinstance(value, str) and (near := nearest(value, _options(schema))):
        words += f"; did you mean '{near}'?"
    return words


def _options(schema: Schema) -> list[str]:
    options: list[object] = []
    for branch in [schema, *schema.get("anyOf", ())]:
        options += branch.get("enum", [branch["const"]] if "const" in branch else [])
    return [option for option in options if isinstance(option, str)]


# --- what came ---------------------------------------------------------------------------------


def got(value: object) -> str:
    """Return what was given, in words."""
    match value:
        case None:
            return "null"
        case str() if len(value) > _SHOWN_CHARACTERS:
            return f"a string of {len(value)} characters, '{shown(value)}'"
        case str():
            return f"the string '{shown(value)}'"
        case list():
            return f"an array of {_counted(len(cast('list[object]', value)), 'item')}"
        case dict():
            return f"an object of {_counted(len(cast('dict[str, object]', value)), 'entry')}"
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity"
        case int() if value.bit_length() > _SHOWN_BITS:
            return "a very large number"
        case int() | float():
            return _literal(value)
        case _:
            return "something that is not JSON"


def written(path: Path) -> str:
    """Write a path as the model would: ``images[3].image_url``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{shown(part)}" for part in path)
    return _shortened("".join(parts).removeprefix("."), _PATH_CHARACTERS)


def _literal(value: object) -> str:
    """Write a scalar as JSON has it, strings in single quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{value}'"
    return _shortened(str(value), _SHOWN_CHARACTERS)


def shown(text: str) -> str:
    """Return a caller's text for a message: shortened, without control characters and addresses."""
    return _shortened(clean(text[:COMPARED_CHARACTERS]), _SHOWN_CHARACTERS)


def _shortened(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"

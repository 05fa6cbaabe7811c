"""From what a model sent to a valid `Params` object, or to one error that names every mistake.

pydantic decides what is valid. Before it sees the arguments they are scanned once for what no
schema forbids (depth, size, NaN, lone surrogates). Only when something is wrong are they walked a
second time, along the schema: integers that a JavaScript host sent as ``5.0`` and objects that a
model sent as JSON strings are put right, nulls are found, and `darkroom.mistakes` explains the
rest.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import ValidationError

from darkroom.mistakes import (
    MOST_EXPLAINED,
    Mistakes,
    Path,
    describe,
    got,
    likely_branch,
    member,
    refusal,
    written,
)
from darkroom.operation import Admitted, Params
from darkroom.schema import Schema, input_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from darkroom.errors import JsonObject

P = TypeVar("P", bound=Params)

DEEPEST_ARGUMENTS = 32
"""Levels of objects and arrays in one call's arguments."""

LARGEST_ARGUMENTS = 1_000_000
"""Characters of all names and strings together, with `_VALUE_CHARACTERS` for each value."""

_VALUE_CHARACTERS = 8
_LARGEST_INTEGER_BITS = 1023
"""Larger ones are beyond the numbers of JSON; most readers turn them into infinity."""


def validate(
    params: type[P],
    arguments: Mapping[str, object],
    *,
    admitted: Admitted,
    extra_mistakes: Callable[[P], Iterable[str]] | None = None,
) -> P:
    """Return the valid arguments; raise CallError (``invalid_argument``) with all mistakes.

    ``admitted`` are addresses let through though they are not public. ``extra_mistakes`` names, in
    our words, what no schema can express; it sees valid arguments only.
    """
    plain = arguments if isinstance(arguments, dict) else dict(arguments)
    context = {"admitted": admitted}
    mistakes = Mistakes()
    holds_null = _scan(plain, mistakes)
    valid: P | None = None
    if not holds_null and not mistakes:
        try:
            valid = params.model_validate(plain, context=context)
        except ValidationError:
            valid = None
    if valid is None:
        valid = _validate_repaired(params, plain, context, mistakes)
    if extra_mistakes is not None and (extra := list(extra_mistakes(valid))):
        raise refusal(extra)
    return valid


def canonical_arguments(params: Params) -> JsonObject:
    """Return what was given or defaulted, as JSON; the same intent is the same object.

    Without what was left out, and without ``idempotency_key``, which names an intent and is not
    part of it.
    """
    return params.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude={"idempotency_key"}
    )


def _validate_repaired(
    params: type[P], plain: dict[str, object], context: dict[str, Any], mistakes: Mistakes
) -> P:
    schema = cast("Schema", input_schema(params))
    repaired = cast("dict[str, object]", _repair(plain, schema, (), mistakes))
    _scan(repaired, mistakes)  # again: JSON strings have been opened
    if mistakes:
        repaired = cast("dict[str, object]", _legible_copy(repaired))
    try:
        valid = params.model_validate(repaired, context=context)
    except ValidationError as error:
        found = error.errors(include_url=False)[:MOST_EXPLAINED]
        mistakes.explain([(details["loc"], details) for details in found], schema, repaired)
    else:
        if not mistakes:
            return valid
    raise mistakes.refusal()


# --- what no schema forbids --------------------------------------------------------------------


def _scan(arguments: dict[str, object], mistakes: Mistakes) -> bool:
    """Look at every value once, without recursion; tell whether there is any null.

    What is too deep or too large is refused at once.
    """
    holds_null = False
    room = LARGEST_ARGUMENTS
    waiting: list[tuple[Path, object]] = [((), arguments)]
    while waiting:
        path, container = waiting.pop()
        if len(path) >= DEEPEST_ARGUMENTS:
            raise refusal(
                [f"{written(path[:1])}: is nested deeper than {DEEPEST_ARGUMENTS} levels"]
            )
        if isinstance(container, dict):
            members = cast("dict[object, object]", container)
            room -= _scan_names(members, path, mistakes)
            pairs = members.items()
        else:
            pairs = enumerate(cast("list[object]", container))
        for key, value in pairs:
            room -= _VALUE_CHARACTERS
            if isinstance(value, str):
                room -= len(value)
                if room > 0 and _has_surrogate(value):
                    mistakes.add((*path, _legible(key)), "holds half of a surrogate pair")
            elif isinstance(value, (dict, list)):
                waiting.append(((*path, _legible(key)), cast("object", value)))
            elif value is None:
                holds_null = True
            elif not isinstance(value, (int, float)):
                mistakes.add((*path, _legible(key)), "is not a JSON value")
            elif isinstance(value, float) and not math.isfinite(value):
                mistakes.add((*path, _legible(key)), f"must be a finite number, got {got(value)}")
            elif isinstance(value, int) and value.bit_length() > _LARGEST_INTEGER_BITS:
                mistakes.add((*path, _legible(key)), "is too large a number")
            if room < 0:
                raise refusal([f"the arguments are larger than {LARGEST_ARGUMENTS} characters"])
    return holds_null


def _scan_names(members: dict[object, object], path: Path, mistakes: Mistakes) -> int:
    """Return how many characters the names of an object have."""
    characters = 0
    for name in members:
        if not isinstance(name, str):
            mistakes.add((*path, "?"), "is a name that is not a string")
            continue
        characters += len(name)
        if _has_surrogate(name):
            mistakes.add((*path, _legible(name)), "the name holds half of a surrogate pair")
    return characters


def _has_surrogate(text: str) -> bool:
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _legible(key: object) -> str | int:
    """Return a name without surrogates, a position as it is."""
    if isinstance(key, int):
        return key
    if not isinstance(key, str):
        return "?"
    if key.isascii():
        return key
    return key.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _legible_copy(value: object) -> object:
    """Copy arguments (of limited depth) without surrogates, so that pydantic can read them."""
    if isinstance(value, str):
        return _legible(value)
    if isinstance(value, list):
        return [_legible_copy(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {
            _legible(name): _legible_copy(item)
            for name, item in cast("dict[object, object]", value).items()
            if isinstance(name, str)
        }
    return value


# --- what is put right -------------------------------------------------------------------------


def _repair(value: object, schema: Schema, path: Path, mistakes: Mistakes) -> object:
    """Follow the schema into a value; opaque objects are left alone."""
    branches: list[Schema] = schema.get("anyOf", [schema])
    if not all(branches):
        return value
    if value is None:
        mistakes.add(path, "must not be null; leave it out")
        return value
    types = {branch.get("type") for branch in branches}
    if isinstance(value, float):
        whole = "integer" in types and "number" not in types and value.is_integer()
        return int(value) if whole else value
    if isinstance(value, str):
        return _parse(value, schema, path, mistakes) if types & {"object", "array"} else value
    branch = likely_branch(branches, value)
    if branch is None or not isinstance(value, (dict, list)):
        return value
    if isinstance(value, list):
        items: Schema = branch.get("items", {})
        return [
            _repair(item, items, (*path, index), mistakes)
            for index, item in enumerate(cast("list[object]", value))
        ]
    return {
        name: _repair(item, member(branch, name), (*path, _legible(name)), mistakes)
        for name, item in cast("dict[object, object]", value).items()
    }


def _parse(text: str, schema: Schema, path: Path, mistakes: Mistakes) -> object:
    """Read an object or array that came as a JSON string."""
    takes_text = any(branch.get("type") == "string" for branch in schema.get("anyOf", ()))
    looks_like_json = text.lstrip().startswith(("{", "["))
    if takes_text and not looks_like_json:
        return text
    try:
        parsed: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        if looks_like_json and not takes_text:
            at = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
            mistakes.add(path, f"is a string of broken JSON{at}; give {describe(schema)} itself")
        return text
    if isinstance(parsed, (dict, list, str)):
        return _repair(cast("object", parsed), schema, path, mistakes)
    return text

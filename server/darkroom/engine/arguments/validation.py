"""From the arguments of a call to a valid `Params` object, or to an error with every mistake.

pydantic decides what is valid. Before that, the arguments are scanned once for what a schema cannot
forbid (depth, size, NaN, lone surrogates). Only if something is wrong or empty, the arguments are
corrected in a second pass along the schema, and validated again. `darkroom.engine.arguments.explain`
writes the messages.

These corrections make different ways to write a call equal:

- An argument that is null, ``""`` or ``[]`` counts as left out, and so does an optional ``{}``,
  also in nested objects. Exceptions are fields in which the schema allows an empty value
  (``minLength: 0``, see `darkroom.engine.arguments.schema`), and objects without a schema.
- Numbers, ``true`` and ``false`` may be strings, integers may be written ``5.0``, and objects and
  arrays may be JSON strings.
- Keys that hosts add for themselves (`HOSTS_OWN`) are ignored.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import ValidationError

from darkroom.engine.arguments.explain import (
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
from darkroom.engine.arguments.schema import Schema, input_schema
from darkroom.providers.params import Admitted, Params, References

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from darkroom.core.errors import CallError
    from darkroom.core.json_types import JsonObject

P = TypeVar("P", bound=Params)

HOSTS_OWN = frozenset({"toolCallId", "tool_call_id", "_meta"})
"""Keys that hosts add to the arguments for their own use."""

DEEPEST_ARGUMENTS = 32
"""Levels of objects and arrays in one call's arguments."""

LARGEST_ARGUMENTS = 1_000_000
"""Characters of all names and strings together, with `_VALUE_CHARACTERS` for each value."""

MOST_COUNTED = 20 * LARGEST_ARGUMENTS
"""Characters are counted only up to this number."""

_VALUE_CHARACTERS = 8
_LARGEST_INTEGER_BITS = 1023
"""Larger ones are beyond the numbers of JSON; most readers turn them into infinity."""


def validate(
    params: type[P],
    arguments: Mapping[str, object],
    *,
    admitted: Admitted,
    extra_mistakes: Callable[[P], Iterable[str]] | None = None,
    files: bool = False,
) -> P:
    """Return the valid arguments; raise CallError (``invalid_argument``) with all mistakes.

    ``admitted`` are addresses that are accepted although they are not public. ``extra_mistakes``
    returns mistakes that a schema cannot express; it is called only with valid arguments.
    ``files``: local files may stand for addresses; the caller takes them in.
    """
    ignored = HOSTS_OWN - params.model_fields.keys()
    plain = {name: value for name, value in arguments.items() if name not in ignored}
    context: dict[str, Any] = {"admitted": admitted}
    if files:
        context["references"] = References()
    mistakes = Mistakes()
    holds_empty = _scan(plain, mistakes)
    valid: P | None = None
    if not holds_empty and not mistakes:
        try:
            valid = params.model_validate(plain, context=context)
        except ValidationError:
            valid = None
    if valid is None:
        valid = _validate_repaired(params, plain, context, mistakes)
    if extra_mistakes is not None and (extra := list(extra_mistakes(valid))):
        raise refusal(extra)
    return valid


def unpacked(arguments: object) -> dict[str, object]:
    """Return a call's arguments as the object that they are: some hosts send it as a JSON string.

    Raises
    ------
    CallError: ``invalid_argument``; they are something else.
    """
    place, mistakes = ("arguments",), Mistakes()
    found: object = None
    if arguments is not None:
        found = _repair(arguments, {"type": "object"}, place, mistakes)
    if isinstance(found, dict) and not mistakes:
        return cast("dict[str, object]", found)
    if found in (None, "", []):
        return {}
    mistakes.add(place, f"expected an object, got {got(cast('object', found))}")
    raise mistakes.refusal()


def canonical_arguments(params: Params) -> JsonObject:
    """Return the arguments with their defaults as JSON; equal intents give equal objects.

    Absent arguments are left out, and so is ``idempotency_key``, which is not part of the intent.
    """
    return params.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude={"idempotency_key"}
    )


def _validate_repaired(
    params: type[P], plain: dict[str, object], context: dict[str, Any], mistakes: Mistakes
) -> P:
    schema = cast("Schema", input_schema(params))
    repaired = cast("dict[str, object]", _repair(plain, schema, (), mistakes))
    _scan(repaired, mistakes)  # again, because JSON strings have been read
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
    """Scan every value once, without recursion; tell whether any is null or empty.

    Arguments that are nested too deeply or too large are refused at once.
    """
    holds_empty = False
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
                holds_empty = holds_empty or not value
                if room > 0 and _has_surrogate(value):
                    mistakes.add((*path, _legible(key)), "holds half of a surrogate pair")
            elif isinstance(value, (dict, list)):
                waiting.append(((*path, _legible(key)), cast("object", value)))
                holds_empty = holds_empty or not value
            elif value is None:
                holds_empty = True
            elif not isinstance(value, (int, float)):
                mistakes.add((*path, _legible(key)), "is not a JSON value")
            elif isinstance(value, float) and not math.isfinite(value):
                mistakes.add((*path, _legible(key)), f"must be a finite number, got {got(value)}")
            elif isinstance(value, int) and value.bit_length() > _LARGEST_INTEGER_BITS:
                mistakes.add((*path, _legible(key)), "is too large a number")
            if room < 0:
                raise _too_large(arguments)
    return holds_empty


def _too_large(arguments: dict[str, object]) -> CallError:
    """Name the largest argument, how large it is, and what the limit is."""
    sizes = {name: len(name) + _size(value) for name, value in arguments.items()}
    largest = max(sizes, key=lambda name: sizes[name])
    counted = f"{'at least ' if sizes[largest] > MOST_COUNTED else ''}{sizes[largest]} characters"
    limit = f"all arguments together may have {LARGEST_ARGUMENTS}"
    return refusal([f"{written((_legible(largest),))}: is too large ({counted}); {limit}"])


def _size(value: object) -> int:
    """Count a value's characters as `_scan` does, up to a little more than `MOST_COUNTED`."""
    size, waiting = 0, [value]
    while waiting and size <= MOST_COUNTED:
        each = waiting.pop()
        size += _VALUE_CHARACTERS
        if isinstance(each, str):
            size += len(each)
        elif isinstance(each, dict):
            members = cast("dict[object, object]", each)
            size += sum(len(name) for name in members if isinstance(name, str))
            waiting.extend(members.values())
        elif isinstance(each, list):
            waiting.extend(cast("list[object]", each))
    return size


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
    """Correct a value along its schema; objects without a schema are not changed."""
    if _is_opaque(schema):
        return value
    branches: list[Schema] = schema.get("anyOf", [schema])
    if value is None:
        mistakes.add(path, "must not be null; leave it out")
        return value
    types = {branch.get("type") for branch in branches}
    if isinstance(value, float):
        whole = "integer" in types and "number" not in types and value.is_integer()
        return int(value) if whole else value
    if isinstance(value, str):
        return _read_text(value, schema, path, mistakes)
    branch = likely_branch(branches, value)
    if branch is None or not isinstance(value, (dict, list)):
        return value
    if isinstance(value, list):
        items: Schema = branch.get("items", {})
        return [
            _repair(item, items, (*path, index), mistakes)
            for index, item in enumerate(cast("list[object]", value))
        ]
    return _repair_members(cast("dict[object, object]", value), branch, path, mistakes)


def _repair_members(
    members: dict[object, object], schema: Schema, path: Path, mistakes: Mistakes
) -> dict[object, object]:
    """Correct the members of an object, and drop those that count as left out."""
    declared: Schema = schema.get("properties", {})
    required: list[str] = schema.get("required", [])
    kept: dict[object, object] = {}
    for name, given in members.items():
        inner = member(schema, name)
        if given is None and not _is_opaque(inner):
            continue
        value = _repair(given, inner, (*path, _legible(name)), mistakes)
        left_out = name in declared and _is_blank(value, inner)
        if not left_out or (name in required and isinstance(value, dict)):
            kept[name] = cast("object", value)
    return kept


def _is_opaque(schema: Schema) -> bool:
    """Tell whether a schema accepts everything, so that its value must not be changed."""
    return not all(schema.get("anyOf", [schema]))


def _is_blank(value: object, schema: Schema) -> bool:
    """Tell whether a value is empty: null, ``""``, ``[]``, or an object of empty values."""
    if _is_opaque(schema):
        return False
    branches: list[Schema] = schema.get("anyOf", [schema])
    match value:
        case None:
            return True
        case "":
            declares = "minLength"
        case []:
            declares = "minItems"
        case dict():
            members = cast("dict[object, object]", value)
            branch: Schema = likely_branch(branches, members) or {}
            inner: Schema = branch.get("properties", {})
            if not all(
                n in inner and _is_blank(v, inner[cast("str", n)]) for n, v in members.items()
            ):
                return False
            declares = "minProperties"
        case _:
            return False
    return all(branch.get(declares) != 0 for branch in branches)


def _read_text(text: str, schema: Schema, path: Path, mistakes: Mistakes) -> object:
    """Read a number, true, false, an object or an array that came as a string."""
    branches: list[Schema] = schema.get("anyOf", [schema])
    types = {branch.get("type") for branch in branches}
    if not any(_takes_text(branch, text) for branch in branches):
        lowered = text.lower()
        if "boolean" in types and lowered in _BOOLEANS:
            return _BOOLEANS[lowered]
        if "integer" in types and _INTEGER.fullmatch(text):
            return int(text.partition(".")[0])
        if "number" in types and _NUMBER.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
    return _parse(text, schema, path, mistakes) if types & {"object", "array"} else text


_BOOLEANS = {"true": True, "false": False}
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,307})(?:\.0{1,20})?")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,307})(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,3})?")


def _takes_text(schema: Schema, text: str) -> bool:
    """Tell whether the schema allows this string."""
    if schema.get("type") != "string" or text not in schema.get("enum", (text,)):
        return False
    pattern = schema.get("pattern")
    return pattern is None or re.search(pattern, text) is not None


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
    return text if parsed is not None else None

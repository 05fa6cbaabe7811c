"""Local files in the arguments of a start: taken in before anything is written or sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from darkroom.core.errors import CallError, call_error
from darkroom.engine.arguments.validation import canonical_arguments, validate
from darkroom.engine.batches.grammar import resolved
from darkroom.jobs.model import LOCAL_OWNER
from darkroom.jobs.uploads import local_files_in
from darkroom.providers.params import References, is_local_file, takes_of
from darkroom.results.intake import OTHER_FILE, RefusedFileError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from darkroom.core.json_types import JsonObject, JsonValue
    from darkroom.engine.batches.grammar import BatchItem
    from darkroom.engine.runtime import Runtime
    from darkroom.providers.operations import JobOperation
    from darkroom.providers.params import Params, StartParams, Takes
    from darkroom.providers.provider import Provider

_NAME = re.compile(r"(\"input:[0-9a-f]{64})/[^/\\\"]{1,100}(?=\")")


def files_in(
    runtime: Runtime, operation: JobOperation, params: StartParams
) -> tuple[JsonObject, dict[str, Takes]]:
    """Return the arguments, and the texts in them that stand for local files."""
    arguments = canonical_arguments(params)
    found = References()
    context = {"admitted": runtime.context.admitted, "references": found}
    operation.params.model_validate(arguments, strict=False, context=context)
    return arguments, {text: takes for text, takes in found.seen.items() if is_local_file(text)}


async def taken_in(
    runtime: Runtime,
    provider: Provider,
    operation: JobOperation,
    params: Params,
    owner: str,
) -> StartParams:
    """Return the arguments with each local file replaced by a reference to its content.

    Raises
    ------
    CallError: ``input_failed`` or ``not_configured``; every file that cannot be used is named.
    """
    given = cast("StartParams", params)
    arguments, texts = files_in(runtime, operation, given)
    if not texts:
        return given
    if (refusal := runtime.uploads.refusal(provider, operation, owner)) is not None:
        raise refusal
    references = References(addresses=await runtime.intake.take(texts))
    context = {"admitted": runtime.context.admitted, "references": references}
    made = operation.params.model_validate(arguments, strict=False, context=context)
    key = given.idempotency_key
    return cast("StartParams", made.model_copy(update={"idempotency_key": key}))


def said_of(runtime: Runtime, arguments: JsonObject) -> tuple[str, ...]:
    """Return what a job says of its local files: how they were changed so that they are taken."""
    return runtime.intake.said(list(dict.fromkeys(local_files_in(arguments))))


def nameless(text: str) -> str:
    """Return canonical arguments without the names of local files: their content tells them apart."""
    return _NAME.sub(r"\1", text)


Starts = Callable[[str], "tuple[Provider, JobOperation] | None"]
"""Returns a listed start tool by its name."""


async def batch_taken_in(
    runtime: Runtime, find: Starts, items: Sequence[BatchItem], owner: str
) -> tuple[list[BatchItem], dict[str, str]]:
    """Return the items of a batch with their local files replaced, and by what each was replaced.

    Every file is read once. An item with another mistake stays as it is: the plan refuses it.

    Raises
    ------
    CallError: ``input_failed`` or ``not_configured``; every file that cannot be used is named.
    """
    looked: dict[int, tuple[JobOperation, JsonObject, dict[str, Takes]]] = {}
    mistakes: list[str] = []
    wanted: dict[Takes, dict[str, Takes]] = {}
    stand_ins = {item.id: f"item{place}" for place, item in enumerate(items)}
    for place, item in enumerate(items):
        if (pair := find(item.tool)) is None:
            continue
        provider, operation = pair
        given = cast("JsonObject", resolved(item.arguments, stand_ins))
        try:
            params = validate(
                operation.params, given, admitted=runtime.context.admitted, files=True
            )
        except CallError:
            continue
        arguments, texts = files_in(runtime, operation, cast("StartParams", params))
        if not texts:
            continue
        if (refusal := runtime.uploads.refusal(provider, operation, owner)) is not None:
            raise refusal
        looked[place] = operation, arguments, texts
        for text, takes in texts.items():
            wanted.setdefault(takes, {})[text] = takes
    taken: dict[tuple[Takes, str], str] = {}
    for takes, texts in wanted.items():
        try:
            found = await runtime.intake.take(texts)
        except CallError as error:
            mistakes.append(error.failure.message)
            continue
        taken |= {(takes, text): reference for text, reference in found.items()}
    if mistakes:
        raise call_error("input_failed", "; ".join(mistakes), OTHER_FILE)
    made: list[BatchItem] = []
    for place, item in enumerate(items):
        if place not in looked:
            made.append(item)
            continue
        texts = looked[place][2]
        replaced = {text: taken[takes, text] for text, takes in texts.items()}
        made.append(replace(item, arguments=cast("JsonObject", put(item.arguments, replaced))))
    return made, {text: reference for (_, text), reference in taken.items()}


def put(value: JsonValue, replaced: Mapping[str, str]) -> JsonValue:
    """Return arguments with texts replaced."""
    if isinstance(value, str):
        return replaced.get(value, value)
    if isinstance(value, dict):
        return {name: put(inner, replaced) for name, inner in value.items()}
    if isinstance(value, list):
        return [put(inner, replaced) for inner in value]
    return value


def spread(
    runtime: Runtime,
    pair: tuple[Provider, JobOperation] | None,
    for_each: Mapping[str, Sequence[JsonValue]],
    owner: str,
) -> tuple[dict[str, list[JsonValue]], list[str], list[str]]:
    """Return the lists of a batch with folders and patterns as files; mistakes; what was left out."""
    lists: dict[str, list[JsonValue]] = {}
    mistakes: list[str] = []
    left_out: list[str] = []
    for name, values in for_each.items():
        taken = lists.setdefault(name, [])
        own = owner == LOCAL_OWNER
        takes = takes_of(pair[1].params, name) if pair is not None and own else None
        for value in values:
            found = None
            if takes is not None and isinstance(value, str) and not value.startswith(takes.also):
                try:
                    found = runtime.intake.expand(value)
                except RefusedFileError as error:
                    mistakes.append(f"for_each.{name}: {value[:80]}: {error}")
                    continue
            taken.extend([value] if found is None else found[0])
            left_out.extend([] if found is None else found[1])
    return lists, mistakes, left_out

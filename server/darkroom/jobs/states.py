"""Requests a job's state and reads it, in one or two requests: polls and renewed addresses do."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from darkroom.core.errors import CallError, clean
from darkroom.providers.client.http import LostError, NotSentError
from darkroom.providers.client.provider_client import no_answer
from darkroom.providers.messages import UNREADABLE, MissingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from darkroom.core.json_types import JsonObject, JsonValue
    from darkroom.jobs.model import Job
    from darkroom.providers.client.provider_client import ProviderClient
    from darkroom.providers.credentials import Key
    from darkroom.providers.messages import Request, Response, State
    from darkroom.providers.operations import JobOperation, Source

MOST_DETAILS = 8
DETAIL_CHARACTERS = 80
"""Limits of what a job keeps of a provider's own facts: a check shows all of it."""


class NotOkError(Exception):
    """The answer is no state; its status says why."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def request_for(source: Source, job: Job) -> Request:
    """Build the request for a job's state, or for its result."""
    return source.request(job.provider_job_id or "", job.arguments, job.addresses or {})


async def look(client: ProviderClient, request: Request, key: Key) -> Response:
    """Send a request for a state once, within a permit of the caller.

    Raises
    ------
    CallError: there was no answer.
    """
    try:
        return await client.http_client.send(request, key, once=False)
    except (NotSentError, LostError) as error:
        raise CallError(no_answer(client.provider, error)) from None


async def read(
    client: ProviderClient, operation: JobOperation, job: Job, response: Response, key: Key
) -> State:
    """Read a job's state from the answer to `request_for`, and request its result if it has one.

    Raises
    ------
    NotOkError: the status of an answer says why it is no state.
    CallError: the second request got no answer.
    UnreadableError, or another of `UNREADABLE`: an answer is not understood.
    """
    source = operation.state
    if response.ok:
        state = source.read(response)
    elif response.status in source.also_reads:
        state = _read_or_not_ok(source.read, response)
    else:
        raise NotOkError(response)
    if source.result is None or state.status != "completed" or state.outputs:
        return state
    permit = await client.limiter(key.fingerprint).permit("poll")
    try:
        second = await look(client, request_for(source.result, job), key)
    finally:
        permit.done()
    if second.ok:
        result = source.result.read(second)
    elif second.status in source.result.also_reads:
        result = _read_or_not_ok(source.result.read, second)
    else:
        raise NotOkError(second)
    return replace(
        result,
        provider_status=result.provider_status or state.provider_status,
        cost=result.cost or state.cost,
        details={**(state.details or {}), **(result.details or {})} or None,
    )


def _read_or_not_ok(read: Callable[[Response], State], response: Response) -> State:
    try:
        return read(response)
    except MissingError:
        raise
    except UNREADABLE:
        raise NotOkError(response) from None


def merged(job: Job, details: JsonObject | None) -> JsonObject | None:
    """Return what a job keeps of the provider's own facts: few, short, no hidden characters.

    Newer facts replace older ones; one that is null now is dropped.
    """
    kept: JsonObject = dict(job.details or {})
    for given, value in (details or {}).items():
        name = clean(given)[:DETAIL_CHARACTERS]
        if value is None:
            kept.pop(name, None)
        elif name in kept or len(kept) < MOST_DETAILS:
            kept[name] = _bounded(value)
    return kept or None


def _bounded(value: JsonValue) -> JsonValue:
    if isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value)
    return clean(text)[:DETAIL_CHARACTERS]

"""The request that an operation sends for valid arguments."""

from __future__ import annotations

from string import Formatter
from typing import TYPE_CHECKING
from urllib.parse import quote

from darkroom.providers.messages import BODY_METHODS, Request

if TYPE_CHECKING:
    from darkroom.core.json_types import JsonObject, JsonValue
    from darkroom.providers.operations import CallOperation, JobOperation
    from darkroom.providers.params import Params
    from darkroom.providers.settings import ProviderSettings


def build_request(
    operation: CallOperation | JobOperation, params: Params, settings: ProviderSettings
) -> Request:
    """Build the request that an operation sends for valid arguments.

    Arguments that the path names go into the path; the others go into the query of a GET or DELETE
    or into the JSON body of a POST, PUT or PATCH, which has none only if no argument was given.
    ``idempotency_key`` is for this server and is never sent.
    """
    if operation.prepare is not None:
        return operation.prepare(params, settings)
    given = params.model_dump(mode="json", exclude_none=True, exclude={"idempotency_key"})
    inside = {name for _, name, _, _ in Formatter().parse(operation.path) if name}
    path = operation.path.format(
        **{name: quote(str(given[name]), safe="") for name in inside if name in given}
    )
    rest: JsonObject = {name: value for name, value in given.items() if name not in inside}
    if operation.method in BODY_METHODS:
        return Request(method=operation.method, path=path, body=rest if given else None)
    query = {name: _query(value) for name, value in rest.items()}
    return Request(method=operation.method, path=path, query=query)


def _query(value: JsonValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

"""How the ZNYX emulator reads requests: validation errors in the shape of its web framework."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar, cast

from pydantic import BaseModel, ValidationError

from darkroom_tools.emulators.kit import ProviderError

if TYPE_CHECKING:
    from starlette.requests import Request

Model = TypeVar("Model", bound=BaseModel)
JsonObject = dict[str, object]

DAY_SECONDS = 86_400


async def read_body(request: Request, model: type[Model]) -> Model:
    """Return the body as a model; 422 when it is none."""
    raw = await request.body()
    if not raw:
        missing: JsonObject = {"type": "missing", "loc": ["body"], "msg": "Field required"}
        raise _invalid([{**missing, "input": None}])
    if not request.headers.get("content-type", "").startswith("application/json"):
        # the framework takes such a body for a text, and refuses that
        return validated(model, raw.decode(errors="replace"), "body")
    try:
        value: object = json.loads(raw)
    except json.JSONDecodeError as error:
        wrong: JsonObject = {"type": "json_invalid", "loc": ["body", error.pos]}
        wrong |= {"msg": "JSON decode error", "input": {}, "ctx": {"error": error.msg}}
        raise _invalid([wrong]) from None
    return validated(model, value, "body")


def validated(model: type[Model], value: object, where: str) -> Model:
    """Return the value as a model; 422 that says ``where`` in the request it is wrong."""
    try:
        return model.model_validate(value, from_attributes=True)
    except ValidationError as error:
        found = cast("list[JsonObject]", json.loads(error.json(include_url=False)))
        raise _invalid(
            [{**one, "loc": [where, *cast("list[object]", one["loc"])]} for one in found]
        ) from None


def timestamp(at: float) -> str:
    """Write a time as the introduction shows it: ISO 8601, UTC, whole seconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _invalid(errors: list[JsonObject]) -> ProviderError:
    return ProviderError(422, {"detail": errors})

"""The arguments of ZNYX's operations (https://pprd.znyx.ai/docs/api), and their defaults."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import quote

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from darkroom.providers import Params, Request, is_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from darkroom.providers import JsonObject
    from darkroom_tools.providers.znyx.provider import Settings

# --- arguments of evaluations ("Runtime API") ---

LONGEST_TEXT = 200_000
LONGEST_NAME = 200
MOST_CHUNKS = 1_000


def not_empty(value: str) -> str:
    """Accept only a name that can be in a path; in a schema this would cost tokens per tool."""
    if not 0 < len(value) <= LONGEST_NAME or set(value) <= {"."}:
        raise PydanticCustomError(
            "name", "expected a name of at most {longest} characters", {"longest": LONGEST_NAME}
        )
    return value


ENVIRONMENTS = ("dev", "staging", "prod")


def one_of_three(value: str) -> str:
    """Want an environment that ZNYX has; said here for the same reason."""
    if value not in ENVIRONMENTS:
        raise PydanticCustomError("environment", "expected one of 'dev', 'staging', 'prod'")
    return value


Name = Annotated[str, AfterValidator(not_empty)]


class Scope(Params):
    """The scope of an evaluation, and the ids with which its trace can be found."""

    tenant_id: str | None = None
    app_id: str | None = None
    agent_id: str | None = None
    env: str | None = None
    request_id: str | None = None
    session_id: str | None = None
    trace_id: str | None = None


class EvaluateText(Scope):
    """``POST /v1/evaluate/input`` and ``/output``."""

    text: Annotated[str, Field(min_length=0, max_length=LONGEST_TEXT)]
    metadata: dict[str, object] | None = None


class EvaluateTool(Scope):
    """``POST /v1/evaluate/tool``."""

    tool_name: Name
    tool_args: dict[str, object]
    tool_result: Annotated[str, Field(max_length=LONGEST_TEXT)] | None = None
    metadata: dict[str, object] | None = None


class EvaluateStream(Params):
    """``POST /v1/evaluate/stream``."""

    chunks: Annotated[list[str], Field(min_length=1, max_length=MOST_CHUNKS)]
    context: Literal["input", "output"] | None = None
    window_size: Annotated[int, Field(ge=50, le=2000)] | None = None
    overlap: Annotated[int, Field(ge=0, le=500)] | None = None


def scoped(params: Scope, settings: Settings, remembered: JsonObject) -> Scope:
    """Fill in the scope ("tenant_id = org_id and app_id = project_id") and a request id."""
    del remembered
    return params.model_copy(
        update={
            "tenant_id": params.tenant_id or settings.org_id,
            "app_id": params.app_id or settings.project_id,
            "request_id": params.request_id or str(uuid.uuid4()),
        }
    )


def stream_body(params: EvaluateStream, settings: Settings) -> JsonObject:
    """Build the request; for a stream the scope may be left out."""
    body: JsonObject = {"request_id": str(uuid.uuid4()), **params.model_dump(exclude_none=True)}
    scope = {"tenant_id": settings.org_id, "app_id": settings.project_id}
    return {**body, **{name: value for name, value in scope.items() if value is not None}}


def scope_missing(params: Scope, settings: Settings) -> Iterable[str]:
    """Yield the parts of the scope that are neither given nor configured."""
    if not (params.tenant_id or settings.org_id):
        yield missing("tenant_id", "ZNYX_ORG_ID")
    if not (params.app_id or settings.project_id):
        yield missing("app_id", "ZNYX_PROJECT_ID")


def missing(argument: str, variable: str) -> str:
    """Return a mistake that says how to give a missing argument."""
    return f"{argument}: missing; give it, or ask the person to set {variable}"


# --- arguments of everything else ---

Version = Annotated[int, Field(ge=1)]


class LatestBundle(Params):
    """``GET /v1/bundles/latest``."""

    refresh: bool = False


class OfOrg(Params):
    """Arguments of operations on an organisation."""

    org_id: Name | None = None


class OfProject(OfOrg):
    """Arguments of operations on a project."""

    project_id: Name | None = None


class OfEnv(OfProject):
    """``.../envs/{env}``: ``dev``, ``staging``, ``prod``."""

    env: Annotated[str, AfterValidator(one_of_three)]


class OfBundle(OfEnv):
    """``.../bundles/{version}``."""

    version: Version


class PublishBundle(OfEnv):
    """``POST .../bundles/publish``."""

    policies: dict[str, object]
    published_by: str | None = None


MOST_POLICIES_NAMED = 5


def policies_said(params: PublishBundle) -> str:
    """Say how many policies there are, how large they are, and what the first ones are called."""
    names = [name for name in params.policies if is_name(name)][:MOST_POLICIES_NAMED]
    size = len(json.dumps(params.policies, ensure_ascii=False, default=str))
    rest = len(params.policies) - len(names)
    named = [f'"{name}"' for name in names] + ([f"{rest} more"] if rest else [])
    return f"They are {size} characters: {', '.join(named) or 'no policy at all'}."


class ListTokens(OfOrg):
    """``GET /v1/orgs/{org_id}/tokens``."""

    project_id: Name | None = None
    key_type: Literal["runtime", "ci", "admin"] | None = None


class CreateToken(OfProject):
    """``POST /v1/orgs/{org_id}/tokens/{token_type}``; an admin token belongs to no project."""

    token_type: Literal["runtime", "ci", "admin"]
    environment_id: str | None = None
    expires_in_days: Annotated[int, Field(ge=1)] | None = None


class OfToken(OfOrg):
    """``.../tokens/{key_id}``."""

    key_id: Annotated[int, Field(ge=1, description="id from znyx_list_tokens")]


class ListTraces(OfOrg):
    """``GET /v1/orgs/{org_id}/traces``."""

    decision: str | None = None
    session_id: str | None = None
    detector_name: str | None = None
    days: Annotated[int, Field(ge=1)] | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    offset: Annotated[int, Field(ge=0)] = 0


class GetTrace(OfOrg):
    """``GET /v1/orgs/{org_id}/traces/{trace_id}``."""

    trace_id: Name


def placed(params: OfOrg, settings: Settings, remembered: JsonObject) -> OfOrg:
    """Fill in the organisation and, if the path has one, the project."""
    del remembered
    known = {"org_id": params.org_id or settings.org_id}
    if isinstance(params, OfProject):
        known["project_id"] = params.project_id or settings.project_id
    return params.model_copy(update=known)


def place_missing(params: OfOrg, settings: Settings) -> Iterable[str]:
    """Yield which of organisation and project are neither given nor configured."""
    if not (params.org_id or settings.org_id):
        yield missing("org_id", "ZNYX_ORG_ID")
    if isinstance(params, OfProject) and not (params.project_id or settings.project_id):
        yield missing("project_id", "ZNYX_PROJECT_ID")


WITHOUT_PROJECT = "admin"


def token_place_missing(params: CreateToken, settings: Settings) -> Iterable[str]:
    """Yield what is missing, and arguments that an admin token cannot have."""
    if params.token_type == WITHOUT_PROJECT:
        if params.environment_id is not None:
            yield "environment_id: an admin token has none; leave it out"
        if not (params.org_id or settings.org_id):
            yield missing("org_id", "ZNYX_ORG_ID")
    else:
        yield from place_missing(params, settings)


def creation(params: CreateToken, settings: Settings) -> Request:
    """Build the request that creates a token of the given kind."""
    del settings
    fields = (
        {"project_id", "environment_id"} if params.token_type != WITHOUT_PROJECT else set[str]()
    )
    return Request(
        method="POST",
        path=f"/v1/orgs/{quote(params.org_id or '', safe='')}/tokens/{params.token_type}",
        body=params.model_dump(include={"expires_in_days", *fields}, exclude_none=True),
    )

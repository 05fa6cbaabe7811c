"""ZNYX: policy checks of texts, tool calls and streams. Source: https://docs.znyx.ai (API reference)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from darkroom.operation import (
    CHANGES,
    READS,
    Call,
    Credential,
    Hints,
    Limits,
    OpaqueObject,
    Params,
    Provider,
    Request,
)
from darkroom.settings import ProviderSettings
from darkroom_tools import znyx_answers as answers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from darkroom.errors import JsonObject

NAME, TITLE = "znyx", "ZNYX"

# --- tokens ("Authentication"), the least powerful first ---

RUNTIME, CI, ADMIN = "ZNYX_RUNTIME_TOKEN", "ZNYX_CI_TOKEN", "ZNYX_ADMIN_TOKEN"
ANY = (RUNTIME, CI, ADMIN)


class Settings(ProviderSettings):
    """Whose policies they are."""

    org_id: str | None = Field(
        default=None, description="Organisation used where a call names none; ZNYX_ORG_ID gives it."
    )
    project_id: str | None = Field(
        default=None, description="Project used where a call names none; ZNYX_PROJECT_ID gives it."
    )


# --- limits ("Pagination", evaluate/stream) ---

MOST_TRACES = 200
TRACES = 50
MOST_CHUNKS = 1_000

# --- arguments ---

Id = Annotated[str, Field(max_length=200)]
Env = Annotated[str, Field(max_length=100)]
Version = Annotated[int, Field(ge=1)]


class Scope(Params):
    """Whom an evaluation is for: the policy's four names, and what its trace is found by."""

    tenant_id: str | None = None
    app_id: str | None = None
    agent_id: str | None = None
    env: str | None = None
    request_id: str | None = None
    session_id: str | None = None
    trace_id: str | None = None


class EvaluateText(Scope):
    """``POST /v1/evaluate/input`` and ``/output``."""

    text: Annotated[str, Field(max_length=200_000)]
    metadata: OpaqueObject | None = None

"""ZNYX's tokens: who may do what, and the operations of POST /v1/orgs/{org_id}/tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from darkroom_tools.emulators.kit import Clock, Handler, ProviderError
from darkroom_tools.emulators.znyx.requests import (
    DAY_SECONDS,
    JsonObject,
    read_body,
    timestamp,
    validated,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from darkroom_tools.emulators.znyx.bundles import Project

KeyType = Literal["runtime", "ci", "admin"]

SCOPES: dict[KeyType, tuple[str, ...]] = {
    # "evaluate", "bundle:publish", "org:admin" and "read" are named on the reference pages;
    # invented: "bundle:read", for what they call bundle fetch
    "runtime": ("evaluate", "bundle:read", "read"),
    "ci": ("bundle:publish", "read"),
    "admin": ("org:admin", "bundle:publish", "read"),
}
PREFIX_CHARACTERS = 10  # invented: how much of a key its record shows


class CreateScopedToken(BaseModel):
    """Body of create runtime token; invented: of create ci token too, whose page is not known."""

    project_id: str
    environment_id: str | None = None
    expires_in_days: int | None = None


class CreateAdminToken(BaseModel):
    """Body of create admin token."""

    expires_in_days: int | None = None


class KeyPath(BaseModel):
    """The path of one token: its id is a whole number."""

    key_id: int


@dataclass(slots=True, kw_only=True)
class Token:
    """A key of the organisation; only its creation and rotation show ``raw_key``."""

    id: int
    raw_key: str
    key_type: KeyType
    org_id: str
    created_at: float
    scopes: tuple[str, ...]
    project_id: str | None = None
    environment_id: str | None = None
    expires_at: float | None = None
    is_active: bool = True

    def alive(self, at: float) -> bool:
        """Tell whether the token opens anything at this time."""
        return self.is_active and (self.expires_at is None or at < self.expires_at)

    def shown(self) -> JsonObject:
        """Return the TokenResponse."""
        return {
            "id": self.id,
            "key_prefix": self.raw_key[:PREFIX_CHARACTERS],
            "key_type": self.key_type,
            "org_id": self.org_id,
            "project_id": self.project_id,
            "environment_id": self.environment_id,
            "scopes": list(self.scopes),
            "is_active": self.is_active,
            "expires_at": None if self.expires_at is None else timestamp(self.expires_at),
            "created_at": timestamp(self.created_at),
        }

    def with_key(self) -> JsonObject:
        """Return the TokenResponse with the key itself."""
        return {**self.shown(), "raw_key": self.raw_key}


class Tokens:
    """All tokens of the organisation; see ZnyxEmulator for the switches."""

    def __init__(
        self,
        *,
        org_id: str,
        clock: Clock,
        new_key: Callable[[], str],
        projects: Mapping[str, Project],
        scopes: Mapping[KeyType, tuple[str, ...]],
        other_org_status: int,
        rotation_keeps_id: bool,
    ) -> None:
        self._org_id = org_id
        self._clock = clock
        self._new_key = new_key
        self._projects = projects
        self._scopes = scopes
        self._other_org_status = other_org_status
        self._rotation_keeps_id = rotation_keeps_id
        self._issued: list[Token] = []

    def operations(self) -> list[tuple[str, str, str, Handler]]:
        """Return the operations on tokens; all want an admin token."""
        path = "/v1/orgs/{org_id}/tokens"
        return [
            ("POST", f"{path}/runtime", "tokens.createRuntime", self._create_scoped),
            ("POST", f"{path}/ci", "tokens.createCi", self._create_scoped),
            ("POST", f"{path}/admin", "tokens.createAdmin", self._create_admin),
            ("GET", path, "tokens.list", self._list),
            ("DELETE", path + "/{key_id}", "tokens.revoke", self._revoke),
            ("POST", path + "/{key_id}/rotate", "tokens.rotate", self._rotate),
        ]

    def caller(self, request: Request, scope: str) -> Token:
        """Return the token of a request that may do this; 401, 403 or 404 for all others."""
        key = request.headers.get("x-api-key")  # it goes first, as in the runtime
        authorization = request.headers.get("authorization", "")
        if not key and authorization.startswith("Bearer "):
            key = authorization.removeprefix("Bearer ")
        if not key:
            raise ProviderError(401, {"detail": "Missing Authorization header"})
        now = self._clock()
        token = next((one for one in self._issued if one.raw_key == key and one.alive(now)), None)
        if token is None:
            raise ProviderError(401, {"detail": "Invalid authentication token"})
        # invented: the organisation is looked at before the scope
        if request.path_params.get("org_id", token.org_id) != token.org_id:
            raise ProviderError(self._other_org_status, {"detail": "Organization not found"})
        if scope not in token.scopes:
            raise ProviderError(403, {"detail": f"Token lacks the {scope} scope"})
        return token

    def issue(
        self,
        key_type: KeyType,
        project_id: str | None = None,
        environment_id: str | None = None,
        *,
        days: int | None = None,
        raw_key: str | None = None,
    ) -> Token:
        """Make a token that lasts for so many days, or for ever."""
        now = self._clock()
        token = Token(
            id=len(self._issued) + 1,
            raw_key=raw_key or self._new_key(),
            key_type=key_type,
            org_id=self._org_id,
            created_at=now,
            scopes=self._scopes[key_type],
            project_id=project_id,
            environment_id=environment_id,
            expires_at=None if days is None else now + days * DAY_SECONDS,
        )
        self._issued.append(token)
        return token

    async def _create_scoped(self, request: Request) -> Response:
        self.caller(request, "org:admin")
        kind: KeyType = "runtime" if request.url.path.endswith("/runtime") else "ci"
        body = await read_body(request, CreateScopedToken)
        project = self._projects.get(body.project_id)
        if project is None:
            raise ProviderError(404, {"detail": "Project not found"})
        if body.environment_id is not None and project.by_id(body.environment_id) is None:
            raise ProviderError(404, {"detail": "Environment not found"})
        place = ("runtime", project.id, body.environment_id)
        now = self._clock()
        if kind == "runtime" and any(
            (one.key_type, one.project_id, one.environment_id) == place
            for one in self._issued
            if one.alive(now)  # invented: an expired key does not stand in the way
        ):
            conflict = {
                "error": "runtime_key_exists",
                "message": "A runtime key for this project/environment already exists.",
            }
            raise ProviderError(409, {"detail": conflict})
        token = self.issue(kind, project.id, body.environment_id, days=body.expires_in_days)
        return JSONResponse(token.with_key(), status_code=201)

    async def _create_admin(self, request: Request) -> Response:
        self.caller(request, "org:admin")
        body = await read_body(request, CreateAdminToken)
        return JSONResponse(
            self.issue("admin", days=body.expires_in_days).with_key(), status_code=201
        )

    async def _list(self, request: Request) -> Response:
        self.caller(request, "org:admin")
        project_id = request.query_params.get("project_id")
        key_type = request.query_params.get("key_type")
        # invented: revoked and expired tokens are listed too
        return JSONResponse(
            [
                token.shown()
                for token in self._issued
                if project_id in (None, token.project_id) and key_type in (None, token.key_type)
            ]
        )

    async def _revoke(self, request: Request) -> Response:
        self.caller(request, "org:admin")
        self._named(request).is_active = False
        return Response(status_code=204)

    async def _rotate(self, request: Request) -> Response:
        self.caller(request, "org:admin")
        old = self._named(request)
        if not old.is_active:
            raise ProviderError(404, {"detail": "Token not found"})  # invented
        if self._rotation_keeps_id:
            old.raw_key = self._new_key()
            return JSONResponse(old.with_key())
        old.is_active = False
        new = self.issue(old.key_type, old.project_id, old.environment_id)
        new.scopes, new.expires_at = old.scopes, old.expires_at
        return JSONResponse(new.with_key())

    def _named(self, request: Request) -> Token:
        key_id = validated(KeyPath, request.path_params, "path").key_id
        for token in self._issued:
            if token.id == key_id:
                return token
        raise ProviderError(404, {"detail": "Token not found"})

"""ZNYX's bundles: an environment's policies by version, published, activated and promoted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from darkroom_tools.emulators.kit import Clock, Handler, ProviderError
from darkroom_tools.emulators.znyx.evaluate import policy_hash
from darkroom_tools.emulators.znyx.requests import JsonObject, read_body, timestamp, validated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from darkroom_tools.emulators.znyx.tokens import Token, Tokens

PROMOTION = {"dev": "staging", "staging": "prod"}


class Publish(BaseModel):
    """Body of publish bundle."""

    policies: dict[str, object]
    published_by: str | None = None


class Promote(BaseModel):
    """Body of promote bundle."""

    promoted_by: str | None = None


class VersionPath(BaseModel):
    """The path of one bundle: its version is a whole number."""

    version: int


@dataclass(slots=True, kw_only=True)
class Bundle:
    """One published version of an environment's policies."""

    id: str
    version: int
    policies: JsonObject
    published_by: str | None
    published_at: float
    is_active: bool = False

    @property
    def hash(self) -> str:
        """Return the hash that names the content."""
        return policy_hash(self.policies)

    def shown(self) -> JsonObject:
        """Return the BundleResponse."""
        return {
            "id": self.id,
            "version": self.version,
            "policy_hash": self.hash,
            "is_active": self.is_active,
            "published_by": self.published_by,
            "published_at": timestamp(self.published_at),
        }


@dataclass(slots=True)
class Environment:
    """An environment of a project and the bundles published to it, oldest first."""

    id: str
    name: str
    bundles: list[Bundle] = field(default_factory=list[Bundle])

    @property
    def active(self) -> Bundle | None:
        """Return the bundle that evaluations go by."""
        return next((bundle for bundle in self.bundles if bundle.is_active), None)

    def activate(self, chosen: Bundle) -> None:
        """Make one bundle the active one."""
        for bundle in self.bundles:
            bundle.is_active = bundle is chosen


@dataclass(slots=True)
class Project:
    """A project with its environments by name."""

    id: str
    environments: dict[str, Environment]

    def by_id(self, environment_id: str | None) -> Environment | None:
        """Return the environment with this id."""
        return next((one for one in self.environments.values() if one.id == environment_id), None)


class Bundles:
    """The bundles of all projects; see ZnyxEmulator for the switches."""

    def __init__(
        self,
        *,
        clock: Clock,
        new_id: Callable[[], str],
        projects: Mapping[str, Project],
        tokens: Tokens,
        publish_activates: bool,
        versions: int | None,
        signing_fails: bool,
        quoted_etag: bool,
    ) -> None:
        self._clock = clock
        self._new_id = new_id
        self._projects = projects
        self._tokens = tokens
        self._publish_activates = publish_activates
        self._versions = versions
        self._signing_fails = signing_fails
        self._quoted_etag = quoted_etag

    def operations(self) -> list[tuple[str, str, str, Handler]]:
        """Return the operations on bundles."""
        environment = "/v1/orgs/{org_id}/projects/{project_id}/envs/{env_name}"
        bundles = environment + "/bundles"
        return [
            ("GET", "/v1/bundles/latest", "runtime.getLatestBundle", self._latest),
            ("POST", f"{bundles}/publish", "bundles.publish", self._publish),
            ("POST", bundles + "/{version}/activate", "bundles.activate", self._activate),
            ("POST", f"{environment}/promote", "bundles.promote", self._promote),
            ("GET", bundles, "bundles.list", self._list),
            ("GET", bundles + "/{version}", "bundles.get", self._get),
        ]

    def add(
        self, environment: Environment, policies: JsonObject, published_by: str | None = None
    ) -> Bundle:
        """Publish the next version; 422 when the environment holds all it may."""
        if self._versions is not None and len(environment.bundles) >= self._versions:
            raise ProviderError(422, {"detail": "Bundle version quota exceeded"})
        bundle = Bundle(
            id=self._new_id(),
            version=len(environment.bundles) + 1,
            policies=policies,
            published_by=published_by,
            published_at=self._clock(),
        )
        environment.bundles.append(bundle)
        return bundle

    async def _latest(self, request: Request) -> Response:
        token = self._tokens.caller(request, "bundle:read")
        project = self._projects[cast("str", token.project_id)]
        environment = project.by_id(token.environment_id)
        if environment is None or environment.active is None:
            raise ProviderError(404, {"detail": "No active bundle for the token's scope"})
        bundle = environment.active
        etag = f'"{bundle.hash}"' if self._quoted_etag else bundle.hash
        if request.headers.get("if-none-match") in (etag, bundle.hash):
            return Response(status_code=304, headers={"etag": etag})
        whole: JsonObject = {
            "version": 1,  # of the format, not of the bundle
            "bundle_id": bundle.id,
            "org_id": token.org_id,
            "project_id": project.id,
            "environment": environment.name,
            "published_at": timestamp(bundle.published_at),
            "policies": bundle.policies,
            "policy_hash": bundle.hash,
            "signature": None,  # invented: the sandbox signs nothing; the runtime knows null
            "scope": {"tenant_id": "", "app_id": "", "agent_id": "", "env": ""},
            "scope_policies": {},
            "signature_v2": None,
        }
        return JSONResponse(whole, headers={"etag": etag})

    async def _publish(self, request: Request) -> Response:
        token = self._tokens.caller(request, "bundle:publish")
        body = await read_body(request, Publish)
        environment = self._environment(request, changed_by=token)
        if self._signing_fails:
            raise ProviderError(500, {"detail": "Policy signing failed"})
        bundle = self.add(environment, body.policies, body.published_by)
        if self._publish_activates:
            environment.activate(bundle)
        return JSONResponse(bundle.shown())

    async def _activate(self, request: Request) -> Response:
        token = self._tokens.caller(request, "bundle:publish")
        environment = self._environment(request, changed_by=token)
        bundle = _named(request, environment)
        environment.activate(bundle)
        return JSONResponse(bundle.shown())

    async def _promote(self, request: Request) -> Response:
        token = self._tokens.caller(request, "bundle:publish")
        body = await read_body(request, Promote)
        source = self._environment(request, changed_by=token)
        if source.name not in PROMOTION:
            raise ProviderError(400, {"detail": f"{source.name} has no promotion target"})
        if source.active is None:
            raise ProviderError(404, {"detail": f"No active bundle in {source.name}"})
        project = self._projects[request.path_params["project_id"]]
        target = project.environments[PROMOTION[source.name]]
        bundle = self.add(target, source.active.policies, body.promoted_by)
        target.activate(bundle)  # invented: what is promoted is active at once
        return JSONResponse(bundle.shown())

    async def _list(self, request: Request) -> Response:
        self._tokens.caller(request, "read")
        environment = self._environment(request)
        # invented: newest first
        return JSONResponse([bundle.shown() for bundle in reversed(environment.bundles)])

    async def _get(self, request: Request) -> Response:
        self._tokens.caller(request, "read")
        bundle = _named(request, self._environment(request))
        return JSONResponse({**bundle.shown(), "policies_json": bundle.policies})

    def _environment(self, request: Request, changed_by: Token | None = None) -> Environment:
        project = self._projects.get(request.path_params["project_id"])
        if project is None:
            raise ProviderError(404, {"detail": "Project not found"})
        if changed_by is not None and changed_by.project_id not in (None, project.id):
            # invented: ci tokens are "project-scoped"; no page says what another project answers
            raise ProviderError(403, {"detail": "Token belongs to another project"})
        environment = project.environments.get(request.path_params["env_name"])
        if environment is None:
            raise ProviderError(404, {"detail": "Environment not found"})
        return environment


def _named(request: Request, environment: Environment) -> Bundle:
    version = validated(VersionPath, request.path_params, "path").version
    for bundle in environment.bundles:
        if bundle.version == version:
            return bundle
    raise ProviderError(404, {"detail": "Bundle version not found"})

"""A team over HTTP: a protected resource of an OpenID issuer (RFC 9728, RFC 6750).

Signing in, registering clients and giving out tokens are the issuer's. Here it is published which
issuer that is, and each request's token is checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp.server.auth.routes import build_resource_metadata_url
from mcp.shared.auth import ProtectedResourceMetadata
from pydantic import AnyHttpUrl
from starlette.authentication import AuthCredentials
from starlette.responses import JSONResponse, PlainTextResponse, Response

from darkroom.mcp.http.sign_in import (
    RETRY_SECONDS,
    IssuerKeys,
    IssuerUnreachableError,
    TokenError,
    Verifier,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Scope

    from darkroom.config.team import TeamSection
    from darkroom.mcp.http.links import Links

WELL_KNOWN = "/.well-known/oauth-protected-resource"


class TeamAccess:
    """Lets in whoever has a token of the issuer for this server.

    ``resource`` is the address of the MCP endpoint as clients reach it.
    """

    def __init__(
        self,
        team: TeamSection,
        resource: str,
        links: Links,
        keys: IssuerKeys | None = None,
    ) -> None:
        issuer = team.issuer or ""
        self.links: Links | None = links
        self._scopes = team.scopes
        self._verifier = Verifier(team, team.audiences or (resource,), keys or IssuerKeys(issuer))
        at = build_resource_metadata_url(AnyHttpUrl(resource))
        self._challenge = f'resource_metadata="{at}"'
        if self._scopes:
            self._challenge += f', scope="{" ".join(self._scopes)}"'
        about = ProtectedResourceMetadata(
            resource=AnyHttpUrl(resource),
            authorization_servers=[AnyHttpUrl(issuer)],
            scopes_supported=list(self._scopes) or None,
            resource_name="Darkroom",
        )
        document = about.model_dump(mode="json", exclude_none=True)
        # Clients compare the addresses as text, and a URL type may end one differently.
        self._document = {**document, "resource": resource, "authorization_servers": [issuer]}
        self._paths = frozenset({WELL_KNOWN, at.path or WELL_KNOWN})

    async def admit(self, scope: Scope, authorization: Sequence[bytes]) -> Scope | Response:
        """Let in who has a good token; the scope then says whose request it is."""
        scheme, _, given = (authorization[0] if authorization else b"").partition(b" ")
        if len(authorization) != 1 or scheme.lower() != b"bearer":
            return self._refusal(401, "sign in: a bearer token of the team's issuer is needed")
        try:
            user = await self._verifier.check(given.strip().decode("latin-1"))
        except TokenError as error:
            return self._refusal(401, f"the token is not good: {error.reason}", "invalid_token")
        except IssuerUnreachableError:
            wait = {"retry-after": f"{RETRY_SECONDS:.0f}"}
            return PlainTextResponse("the team's issuer cannot be reached\n", 503, wait)
        if missing := [each for each in self._scopes if each not in user.scopes]:
            reason = f"the token lacks the scope {missing[0]}"
            return self._refusal(403, reason, "insufficient_scope")
        return {**scope, "user": user, "auth": AuthCredentials(user.scopes)}

    def published(self, path: str) -> Response | None:
        """Return which issuer gives out tokens, at the two places where clients look."""
        if path.rstrip("/") not in self._paths:
            return None
        return JSONResponse(self._document, headers={"cache-control": "max-age=300"})

    def _refusal(self, status: int, reason: str, error: str | None = None) -> Response:
        said = f'error="{error}", error_description="{reason}", ' if error else ""
        challenge = f"Bearer {said}{self._challenge}"
        return PlainTextResponse(reason + "\n", status, {"www-authenticate": challenge})

"""Who may use the server over HTTP: whoever has the one token, or a team that signs in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from starlette.responses import PlainTextResponse, Response

from darkroom.mcp.http import token as bearer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Scope

    from darkroom.mcp.http.links import Links

UNAUTHORISED = "a bearer token is needed: `darkroom doctor` names the file that holds it\n"


class Access(Protocol):
    """Decides about each request to `PATH`, before anything of it is read.

    ``links`` make links to results, if those who have access are on other machines.
    """

    links: Links | None

    async def admit(self, scope: Scope, authorization: Sequence[bytes]) -> Scope | Response:
        """Return the scope to serve, with who sends the request, or a refusal."""
        ...

    def published(self, path: str) -> Response | None:
        """Return what stands at another path for everybody, for clients that have no token yet."""
        ...


class OneToken:
    """One person, whose hosts all have the same token."""

    links: Links | None = None

    def __init__(self, token: bytes) -> None:
        self._token = token

    async def admit(self, scope: Scope, authorization: Sequence[bytes]) -> Scope | Response:
        """Let in who has the token."""
        if len(authorization) == 1 and bearer.bears(authorization[0], self._token):
            return scope
        return PlainTextResponse(UNAUTHORISED, 401, {"www-authenticate": "Bearer"})

    def published(self, path: str) -> Response | None:
        """Return nothing: there is no issuer, and clients use their token."""
        del path
        return None

"""Whose request it is. Over HTTP in a team each person has their own jobs; otherwise there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_REQUEST

from darkroom.jobs.model import LOCAL_OWNER

if TYPE_CHECKING:
    from mcp.server.auth.provider import AccessToken
    from mcp.server.context import ServerRequestContext

    from darkroom.engine.engine import Engine


class TeamMember(AuthenticatedUser):
    """A person of a team, as the SDK carries it: sessions and questions are bound to it too."""

    def __init__(self, access: AccessToken, owner: str, *, admin: bool) -> None:
        super().__init__(access)
        self.owner = owner
        self.admin = admin


def member(request: Any = None) -> TeamMember | None:
    """Return the person who sends a request; None where there is no team.

    A session of 2025-11-25 runs in the context of the request that opened it, so its later
    requests are asked themselves.
    """
    scope: dict[str, Any] = getattr(request, "scope", {})
    for user in (scope.get("user"), auth_context_var.get()):
        if isinstance(user, TeamMember):
            return user
    return None


def owner_of(request: Any = None) -> str:
    """Return the owner of the jobs that a request may see."""
    found = member(request)
    return found.owner if found is not None else LOCAL_OWNER


def engine_for(context: ServerRequestContext[Engine, Any]) -> Engine:
    """Return the engine of whoever sends a request: nothing else is reached through it."""
    engine, user = context.lifespan_context, member(context.request)
    if user is None and not engine.local:
        raise MCPError(INVALID_REQUEST, "in a team nobody is served without having signed in")
    return engine if user is None else engine.of(user.owner, whole_account=user.admin)

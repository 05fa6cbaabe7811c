"""A team over HTTP: what is published, who is let in, and what a refusal says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from darkroom.config.team import TeamSection
from darkroom.mcp.http import server as web
from darkroom.mcp.http.links import Links
from darkroom.mcp.http.sign_in import IssuerKeys
from darkroom.mcp.http.team_access import TeamAccess
from tests.harness import rig
from tests.mcp.http.test_gate import JSON, LIST, MODERN
from tests.mcp.http.test_sign_in import AUDIENCE, ISSUER, Issuer, signed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

HOST = "pictures.example.com"
METADATA = f"https://{HOST}/.well-known/oauth-protected-resource/mcp"
INSPECTOR = "http://localhost:6274"


class Team:
    """The application of a team, asked without a socket."""

    def __init__(self, app: Any, issuer: Issuer) -> None:
        self.issuer = issuer
        self.client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url=f"https://{HOST}"
        )

    async def ask(self, token: str | None = None, **more: str) -> httpx2.Response:
        given = {**JSON, **MODERN, **more}
        if token is not None:
            given["authorization"] = f"Bearer {token}"
        return await self.client.post("/mcp", headers=given, json=LIST)


@pytest.fixture
async def team(clock: Callable[[], float], tmp_path: Path) -> Any:
    issuer = Issuer()
    server = rig(clock, tmp_path).server
    section = TeamSection(issuer=ISSUER, scopes=("pictures",))
    links = Links(f"https://{HOST}", b"s" * 32, clock)
    access = TeamAccess(section, AUDIENCE, links, IssuerKeys(ISSUER, issuer.get))
    app: Any = web.web_app(server, access, names=[HOST])  # pyright: ignore[reportArgumentType] -- a DarkroomServer
    async with server.session_manager.run():
        yield Team(app, issuer)


async def test_a_person_with_a_token_is_served(team: Team) -> None:
    answer = await team.ask(signed(scope="openid pictures"))
    assert answer.status_code == 200
    assert answer.json()["result"]["tools"]


async def test_a_client_without_token_learns_where_to_get_one(team: Team) -> None:
    answer = await team.ask()
    assert answer.status_code == 401
    challenge = answer.headers["www-authenticate"]
    assert challenge == f'Bearer resource_metadata="{METADATA}", scope="pictures"'
    for address in (METADATA, f"https://{HOST}/.well-known/oauth-protected-resource"):
        document = (await team.client.get(address)).json()
        assert document["resource"] == AUDIENCE
        assert document["authorization_servers"] == [ISSUER]
        assert document["scopes_supported"] == ["pictures"]


async def test_a_page_of_this_machine_may_read_it(team: Team) -> None:
    answer = await team.client.get(METADATA, headers={"origin": INSPECTOR})
    assert answer.headers["access-control-allow-origin"] == INSPECTOR
    assert (await team.client.get(METADATA, headers={"origin": "https://evil.test"})).is_error


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/oauth-authorization-server",
        "/register",
        "/authorize",
        "/token",
        "/.well-known",
    ],
)
async def test_this_server_gives_out_no_tokens(team: Team, path: str) -> None:
    assert (await team.client.get(path)).status_code == 404


async def test_a_token_that_is_not_good_is_named_so(team: Team) -> None:
    token = signed(aud="https://other.example.com/mcp", scope="pictures")
    answer = await team.ask(token)
    assert answer.status_code == 401
    challenge = answer.headers["www-authenticate"]
    assert 'error="invalid_token"' in challenge
    assert "another audience" in challenge
    assert METADATA in challenge
    assert token not in challenge + answer.text


async def test_a_missing_scope_can_be_asked_for(team: Team) -> None:
    answer = await team.ask(signed(scope="openid"))
    assert answer.status_code == 403
    challenge = answer.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert 'scope="pictures"' in challenge


async def test_an_issuer_that_is_away_is_no_fault_of_the_token(team: Team) -> None:
    team.issuer.away = True
    answer = await team.ask(signed(scope="pictures"))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("authorization", ["Basic YTpi", "Bearer", "", "Bearer a b", "bearer\tx"])
async def test_something_else_is_no_token(team: Team, authorization: str) -> None:
    assert (await team.ask(authorization=authorization)).status_code == 401


async def test_a_token_twice_is_none(team: Team) -> None:
    token = signed(scope="pictures")
    headers = [*{**JSON, **MODERN}.items(), *[("authorization", f"Bearer {token}")] * 2]
    answer = await team.client.post("/mcp", headers=headers, json=LIST)
    assert answer.status_code == 401

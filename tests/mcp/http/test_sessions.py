"""Sessions of 2025-11-25 over HTTP: room for a new host is made by ending who rested longest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest

from darkroom.config.team import TeamSection
from darkroom.mcp.http import server as web
from darkroom.mcp.http.access import OneToken
from darkroom.mcp.http.links import Links
from darkroom.mcp.http.sessions import Sessions
from darkroom.mcp.http.sign_in import IssuerKeys
from darkroom.mcp.http.team_access import TeamAccess
from tests.harness import rig
from tests.mcp.http.test_sign_in import AUDIENCE, ISSUER, Issuer, signed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from starlette.types import Message, Receive, Scope, Send

pytestmark = pytest.mark.anyio

TOKEN = b"a-token-of-enough-characters"
MOST = 3
HEADERS = {
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
}
HELLO: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


class Hosts:
    """Many hosts of one server, which has room for three."""

    def __init__(self, app: Any, sessions: dict[str, Any], token: str = TOKEN.decode()) -> None:
        self._client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app),
            base_url="http://127.0.0.1:8811",
            headers={**HEADERS, "authorization": f"Bearer {token}"},
        )
        self.sessions = sessions
        """What the SDK keeps."""

    async def post(self, method: str, session: str | None = None, **params: Any) -> httpx2.Response:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        headers = {} if session is None else {"mcp-session-id": session}
        return await self._client.post("/mcp", json=message, headers=headers)

    async def opens(self) -> str:
        answer = await self.post("initialize", **HELLO)
        assert answer.status_code == 200
        return answer.headers["mcp-session-id"]

    async def known(self, session: str) -> bool:
        answer = await self.post("ping", session)
        assert answer.status_code in {200, 404}
        return answer.status_code == 200

    async def ends(self, session: str) -> None:
        answer = await self._client.delete("/mcp", headers={"mcp-session-id": session})
        assert answer.status_code == 200


@pytest.fixture
async def hosts(clock: Callable[[], float], tmp_path: Path) -> AsyncGenerator[Hosts]:
    server = rig(clock, tmp_path).server
    app: Any = web.web_app(server, OneToken(TOKEN), most_sessions=MOST)  # pyright: ignore[reportArgumentType] -- a DarkroomServer
    manager = server.session_manager
    kept = manager._server_instances  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] -- what it holds is what is tested
    async with manager.run():
        yield Hosts(app, kept)


async def test_hosts_that_never_say_goodbye_leave_no_more_sessions_than_there_is_room(
    hosts: Hosts,
) -> None:
    opened = [await hosts.opens() for _ in range(5 * MOST)]
    assert list(hosts.sessions) == opened[-MOST:]
    assert not await hosts.known(opened[0])


async def test_who_rested_longest_goes_first(hosts: Hosts) -> None:
    first, second, third = [await hosts.opens() for _ in range(MOST)]
    assert await hosts.known(first)
    fourth = await hosts.opens()
    assert set(hosts.sessions) == {first, third, fourth}
    assert not await hosts.known(second)


async def test_a_session_that_its_host_ends_takes_no_room(hosts: Hosts) -> None:
    kept = [await hosts.opens() for _ in range(MOST - 1)]
    for _ in range(2 * MOST):
        await hosts.ends(await hosts.opens())
    assert [await hosts.known(session) for session in kept] == [True] * len(kept)


async def test_what_opens_no_session_ends_none(hosts: Hosts) -> None:
    kept = [await hosts.opens() for _ in range(MOST)]
    for _ in range(2 * MOST):
        assert (await hosts.post("tools/list")).status_code >= 400
        assert not await hosts.known("nobody's")
    assert set(hosts.sessions) == set(kept)


async def test_a_host_that_was_quiet_over_night_is_known(hosts: Hosts) -> None:
    session = await hosts.opens()
    await anyio.sleep(12 * 3600)
    assert await hosts.known(session)


class Held:
    """An application whose answers begin at once, and end when they are let go."""

    def __init__(self) -> None:
        self.sessions = Sessions(self, most=1)
        self.opened = 0
        self.ended: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {"type": "http.response.start", "status": 200, "headers": []}
        session = dict(scope["headers"]).get(b"mcp-session-id")
        if session is None:
            self.opened += 1
            start["headers"] = [(b"mcp-session-id", b"%d" % self.opened)]
        elif scope["method"] == "DELETE":
            self.ended.append(session)
        await send(start)
        await receive()

    async def ask(self, session: bytes | None = None, until: anyio.Event | None = None) -> None:
        headers = [] if session is None else [(b"mcp-session-id", session)]

        async def receive() -> Message:
            if until is not None:
                await until.wait()
            return {"type": "http.disconnect"}

        async def send(_: Message) -> None:
            """Take what is sent."""

        await self.sessions({"method": "POST", "headers": headers}, receive, send)


async def test_room_is_made_by_ending_a_session_of_whoever_opened_it(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    """The SDK lets nobody else end it, so that a team would fill up with what is not counted."""
    issuer = Issuer()
    team = TeamSection(issuer=ISSUER)
    links = Links("https://pictures.example.com", b"s" * 32, clock)
    access = TeamAccess(team, AUDIENCE, links, IssuerKeys(ISSUER, issuer.get))
    server = rig(clock, tmp_path).server
    app: Any = web.web_app(server, access, most_sessions=MOST)  # pyright: ignore[reportArgumentType] -- a DarkroomServer
    manager = server.session_manager
    kept: dict[str, Any] = manager._server_instances  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] -- what it holds is what is tested
    async with manager.run():
        anna, bert = (Hosts(app, kept, signed(sub=name)) for name in ("anna", "bert"))
        hers = [await anna.opens() for _ in range(MOST)]
        his = [await bert.opens() for _ in range(2)]
        assert set(kept) == {hers[-1], *his}
        assert await anna.known(hers[-1])
        assert await bert.known(his[0])


async def test_a_session_that_is_being_served_is_not_ended() -> None:
    held, gone = Held(), anyio.Event()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            await held.ask()
            tasks.start_soon(held.ask, b"1", gone)
            await anyio.wait_all_tasks_blocked()
            await held.ask()
            assert held.ended == []
            await held.ask()
            assert held.ended == [b"2"]
            gone.set()
        await held.ask()
        assert held.ended == [b"2", b"3", b"1"]


async def test_a_host_may_come_back_before_its_opening_has_been_answered_to_the_end() -> None:
    held, answered = Held(), anyio.Event()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(held.ask, None, answered)
            await anyio.wait_all_tasks_blocked()
            await held.ask(b"1")
            answered.set()
        await held.ask()
        assert held.ended == [b"1"]

"""Who is let in over HTTP, and where the token comes from. No socket: the application is called."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest

from darkroom.config.settings import load
from darkroom.core.errors import ConfigurationError
from darkroom.mcp.http import server as web
from darkroom.mcp.http import token as bearer
from darkroom.mcp.http.access import OneToken
from tests.harness import rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from darkroom.config.settings import Settings

pytestmark = pytest.mark.anyio

TOKEN = b"a-token-of-enough-characters"
RIGHT = {"authorization": f"Bearer {TOKEN.decode()}", "host": "127.0.0.1:8811"}
JSON = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
LIST: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/list",
    "params": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    },
}
MODERN = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list"}


def settings(folder: Path, **http: str) -> Settings:
    variables = {f"DARKROOM_HTTP__{key.upper()}": value for key, value in http.items()}
    return load((), {"DARKROOM_JOBS__STATE_DIR": str(folder), **variables})


class Asked:
    """The application, asked without a socket."""

    def __init__(self, app: Any) -> None:
        self.client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1:8811"
        )

    async def __call__(self, path: str = "/mcp", **headers: str) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {**JSON, **MODERN, **named}
        return await self.client.post(path, headers=given, json=LIST)


@pytest.fixture
async def asked(clock: Callable[[], float], tmp_path: Path) -> Any:
    server = rig(clock, tmp_path).server
    app: Any = web.web_app(server, OneToken(TOKEN))  # pyright: ignore[reportArgumentType] -- a DarkroomServer
    async with server.session_manager.run():
        yield Asked(app)


async def test_who_bears_the_token_is_served(asked: Asked) -> None:
    answer = await asked(**RIGHT)
    assert answer.status_code == 200
    assert answer.json()["result"]["tools"]


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        f"Basic {TOKEN.decode()}",
        TOKEN.decode(),
        f"Bearer {TOKEN.decode()} {TOKEN.decode()}",
    ],
)
async def test_nobody_else_is(asked: Asked, authorization: str | None) -> None:
    given = {} if authorization is None else {"authorization": authorization}
    answer = await asked(host="localhost", **given)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN.decode() not in answer.text
    assert "darkroom doctor" in answer.text


@pytest.mark.parametrize("host", ["evil.test", "evil.test:8811", "127.0.0.1.evil.test", "", "[::"])
@pytest.mark.parametrize("path", ["/mcp", "/healthz"])
async def test_a_name_that_is_not_ours_is_misdirected(asked: Asked, host: str, path: str) -> None:
    assert (await asked(path, **{**RIGHT, "host": host})).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8811"])
async def test_a_name_that_is_ours_is_known(asked: Asked, host: str) -> None:
    assert (await asked(**{**RIGHT, "host": host})).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.test", "null", "localhost", "file://localhost"])
async def test_a_foreign_page_is_forbidden(asked: Asked, origin: str) -> None:
    assert (await asked(**RIGHT, origin=origin)).status_code == 403


async def test_a_page_of_this_machine_may_ask(asked: Asked) -> None:
    assert (await asked(**RIGHT, origin="http://localhost:6274")).status_code == 200


async def test_health_needs_no_token(asked: Asked) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await asked(path, host="localhost")
        assert answer.status_code == 200
        assert len(answer.text) < 10


async def test_a_server_that_is_ending_or_cannot_work_is_not_ready(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async def broken(_: Any) -> Any:
        raise ConfigurationError("the journal is broken")

    for stops, open_store, expected in ((True, None, 503), (False, broken, 503)):
        server = rig(clock, tmp_path, open_store=open_store).server
        stopping = anyio.Event()
        app: Any = web.web_app(server, OneToken(TOKEN), stopping=stopping)  # pyright: ignore[reportArgumentType] -- as above
        async with server.session_manager.run():
            if stops:
                stopping.set()
            asked = Asked(app)
            assert (await asked("/healthz", host="localhost")).status_code == 200
            assert (await asked("/readyz", host="localhost")).status_code == expected


@pytest.mark.parametrize(
    ("bound", "name", "known"),
    [
        ("127.0.0.1", "10.0.0.7", False),
        ("0.0.0.0", "10.0.0.7", True),  # noqa: S104 -- not bound
        ("0.0.0.0", "evil.test", False),  # noqa: S104 -- as above
        ("::", "[fd00::7]:8811", True),
        ("10.0.0.7", "10.0.0.7:8811", True),
        ("10.0.0.7", "10.0.0.8:8811", False),
        ("127.0.0.1", "darkroom.example:443", True),
    ],
)
def test_names_follow_what_is_bound_and_configured(bound: str, name: str, known: bool) -> None:  # noqa: FBT001 -- a case
    assert web.Names(bound, ["darkroom.example"]).known(name) is known


@pytest.mark.parametrize(
    ("bound", "origin", "authority", "may"),
    [
        ("0.0.0.0", "http://192.0.2.7:8811", "192.0.2.7:8811", True),  # noqa: S104 -- compared
        ("0.0.0.0", "http://203.0.113.9", "192.0.2.7:8811", False),  # noqa: S104 -- compared
        ("::", "http://[2001:db8::9]", "[2001:db8::7]:8811", False),
        ("0.0.0.0", "http://localhost:6274", "192.0.2.7", True),  # noqa: S104 -- compared
        ("0.0.0.0", "http://", "", False),  # noqa: S104 -- compared
        ("", "http://", "", False),
        ("127.0.0.1", "http://192.0.2.7", "192.0.2.7", False),
    ],
)
def test_of_address_literals_only_the_page_of_the_very_one_may_ask(
    bound: str,
    origin: str,
    authority: str,
    may: bool,  # noqa: FBT001 -- a case
) -> None:
    assert web.Names(bound, []).origin(origin, authority) is may


# --- the token ---


def test_a_token_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    first = bearer.token(settings(tmp_path / "state"))
    assert bearer.token(settings(tmp_path / "state")) == first
    assert len(first) >= 40
    assert stat.S_IMODE((tmp_path / "state" / "http-token").stat().st_mode) == 0o600
    assert os.listdir(tmp_path / "state") == ["http-token"]  # noqa: PTH208 -- the same


def test_a_given_token_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "given"
    path.write_bytes(TOKEN + b"\n")
    assert bearer.token(settings(tmp_path, token_file=str(path))) == TOKEN


@pytest.mark.parametrize(
    "text", [None, b"", b"short", b"with a space in it, though long", b"\xff" * 30]
)
def test_what_is_no_token_is_refused(tmp_path: Path, text: bytes | None) -> None:
    path = tmp_path / "given"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(ConfigurationError, match="given"):
        bearer.token(settings(tmp_path, token_file=str(path)))


async def test_beyond_this_machine_only_with_a_given_token(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server: Any = rig(clock, tmp_path).server
    with pytest.raises(ConfigurationError, match="token_file"):
        await web.serve_http(server, settings(tmp_path), "0.0.0.0", 0, anyio.Event())  # noqa: S104 -- refused
    assert not (tmp_path / "http-token").exists()

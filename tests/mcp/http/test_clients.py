"""HTTP as clients use it: pages, odd headers, odd bodies. No socket: the application is called."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from darkroom.mcp.http import server as web
from darkroom.mcp.http.access import OneToken
from darkroom.mcp.http.clients import Clients
from tests.harness import rig
from tests.mcp.http.test_gate import LIST, MODERN, RIGHT, TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

ORIGIN = "http://localhost:6274"
BOTH = "application/json, text/event-stream"
GREETING: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


class Legacy:
    """A client of either revision that writes its requests by hand."""

    def __init__(self, app: Any) -> None:
        self.web = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1:8811"
        )
        del self.web.headers["accept"]
        self.session: dict[str, str] = {}

    async def post(self, body: Any, path: str = "/mcp", **headers: str) -> httpx2.Response:
        given = {"content-type": "application/json", **RIGHT, **self.session}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = httpx2.Request("POST", f"http://127.0.0.1:8811{path}", content=content)
        request.headers = httpx2.Headers(given)
        request.headers["content-length"] = str(len(content))
        return await self.web.send(request)

    async def greet(self) -> None:
        answer = await self.post(GREETING, accept=BOTH)
        self.session = {"mcp-session-id": answer.headers["mcp-session-id"]}
        ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        assert (await self.post(ready, accept=BOTH)).status_code == 202


@pytest.fixture
async def client(clock: Callable[[], float], tmp_path: Path) -> Any:
    server = rig(clock, tmp_path).server
    app: Any = web.web_app(server, OneToken(TOKEN))  # pyright: ignore[reportArgumentType] -- a DarkroomServer
    async with server.session_manager.run():
        yield Legacy(app)


def message(answer: httpx2.Response) -> Any:
    """Return the message of an answer in the form that its header names."""
    kind = answer.headers["content-type"].partition(";")[0]
    if kind == "application/json":
        return answer.json()
    assert kind == "text/event-stream"
    (data,) = [line[5:] for line in answer.text.splitlines() if line.startswith("data:")]
    return json.loads(data)


# --- pages ---


@pytest.mark.parametrize("asked", ["authorization,content-type,mcp-param-region", "", "x-other"])
async def test_a_browser_is_told_what_a_page_of_an_admitted_origin_may_send(
    client: Legacy, asked: str
) -> None:
    answer = await client.web.options(
        "/mcp",
        headers={
            "host": RIGHT["host"],
            "origin": ORIGIN,
            "access-control-request-method": "POST",
            "access-control-request-headers": asked,
        },
    )
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = set(answer.headers["access-control-allow-headers"].split(", "))
    needed = {"authorization", "content-type", "mcp-protocol-version", "mcp-session-id"}
    assert allowed >= needed | ({"mcp-param-region"} if "region" in asked else set())
    assert "x-other" not in allowed
    assert answer.headers["vary"] == "Origin"


async def test_a_foreign_page_is_told_nothing(client: Legacy) -> None:
    for origin in ("https://evil.test", "null"):
        headers = {"host": RIGHT["host"], "origin": origin}
        answer = await client.web.options("/mcp", headers=headers)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


async def test_a_page_can_read_answers_and_refusals(client: Legacy) -> None:
    served = await client.post(LIST, origin=ORIGIN, accept=BOTH, **MODERN)
    refused = await client.post(LIST, origin=ORIGIN, accept=BOTH, authorization="Bearer x")
    assert (served.status_code, refused.status_code) == (200, 401)
    for answer in (served, refused):
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "mcp-session-id" in answer.headers["access-control-expose-headers"]


# --- addresses ---


async def test_a_slash_at_the_end_changes_nothing(client: Legacy) -> None:
    answer = await client.post(LIST, "/mcp/", accept=BOTH, **MODERN)
    assert answer.status_code == 200
    assert message(answer)["result"]["tools"]


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-authorization-server",
        "/register",
        "/mcp/more",
        "/",
    ],
)
async def test_what_is_not_here_is_not_found_also_without_a_token(
    client: Legacy, path: str
) -> None:
    answer = await client.web.get(path, headers={"host": RIGHT["host"]})
    assert answer.status_code == 404
    assert (await client.web.get(path, headers={"host": "evil.test"})).status_code == 421


# --- what is accepted ---


@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json", "application/json"),
        ("application/*;q=0.9", "application/json"),
        ("text/event-stream", "text/event-stream"),
        ("Text/Event-Stream", "text/event-stream"),
        (None, None),
        ("*/*", None),
        (BOTH, None),
    ],
)
async def test_an_answer_is_in_what_is_accepted(
    client: Legacy, accept: str | None, kind: str | None, *, modern: bool
) -> None:
    given = {} if accept is None else {"accept": accept}
    if not modern:
        await client.greet()
    answer = await client.post(LIST, **given, **(MODERN if modern else {}))
    assert answer.status_code == 200
    assert kind is None or answer.headers["content-type"].partition(";")[0] == kind
    assert message(answer)["id"] == 1
    assert message(answer)["result"]["tools"]


async def test_who_accepts_neither_is_refused(client: Legacy) -> None:
    assert (await client.post(LIST, accept="text/html", **MODERN)).status_code == 406
    assert (await client.post(GREETING, accept="text/html")).status_code == 406


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream", BOTH])
async def test_a_whole_conversation_in_one_form(client: Legacy, accept: str) -> None:
    greeted = await client.post(GREETING, accept=accept)
    client.session = {"mcp-session-id": greeted.headers["mcp-session-id"]}
    assert message(greeted)["result"]["serverInfo"]["name"] == "darkroom"
    called = {
        "jsonrpc": "2.0",
        "id": "call-1",
        "method": "tools/call",
        "params": {"name": "list_jobs", "arguments": {}, "_meta": {"progressToken": 7}},
    }
    answer = message(await client.post(called, accept=accept))
    assert answer["id"] == "call-1"
    assert "result" in answer


@pytest.mark.parametrize("kind", ["Application/JSON", "application/json; Charset=UTF-8"])
async def test_the_case_of_a_content_type_does_not_matter(client: Legacy, kind: str) -> None:
    assert (await client.post(GREETING, accept=BOTH, content_type=kind)).status_code == 200


# --- bodies ---

MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize("modern", [True, False])
async def test_a_byte_order_mark_is_skipped(client: Legacy, *, modern: bool) -> None:
    body = MARK + json.dumps(LIST if modern else GREETING).encode()
    answer = await client.post(body, accept=BOTH, **(MODERN if modern else {}))
    assert answer.status_code == 200
    assert "result" in message(answer)


def start(prompt: str, encoding: str) -> bytes:
    body = {
        "jsonrpc": "2.0",
        "id": 5,
        "method": "tools/call",
        "params": {"name": "zsky_start_image", "arguments": {"prompt": prompt}},
    }
    return json.dumps(body, ensure_ascii=False).encode(encoding)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "cp1252"])
async def test_what_is_no_utf8_is_refused_and_nothing_is_sent(
    clock: Callable[[], float], tmp_path: Path, encoding: str
) -> None:
    over = rig(clock, tmp_path)
    app: Any = web.web_app(over.server, OneToken(TOKEN))  # pyright: ignore[reportArgumentType] -- as above
    async with over.server.session_manager.run():
        client = Legacy(app)
        await client.greet()
        answer = await client.post(start("a café", encoding), accept=BOTH)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == -32700
        assert "UTF-8" in answer.json()["error"]["message"]
        listed: dict[str, Any] = {
            **LIST,
            "method": "tools/call",
            "params": {"name": "list_jobs", "arguments": {}},
        }
        jobs = message(await client.post(listed, accept=BOTH))["result"]["structuredContent"]
        assert jobs["jobs"] == []
    assert over.sandbox.emulators["zsky"].requests == []


@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.parametrize("number", ["1.0", "1.5", "1e3", "null", "true", "{}", "[1]"])
async def test_an_id_that_cannot_be_answered_by_is_refused(
    client: Legacy, number: str, *, modern: bool
) -> None:
    if not modern:
        await client.greet()
    body = json.dumps({**LIST, "id": "NUMBER"}).replace('"NUMBER"', number).encode()
    answer = await client.post(body, accept=BOTH, **(MODERN if modern else {}))
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == -32600
    assert answer.json()["id"] is None


@pytest.mark.parametrize("modern", [True, False])
async def test_a_batch_is_refused(client: Legacy, *, modern: bool) -> None:
    if not modern:
        await client.greet()
    for batch in ([LIST, LIST], []):
        answer = await client.post(batch, accept=BOTH, **(MODERN if modern else {}))
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == -32600


async def test_a_body_without_end_is_refused_before_it_is_read() -> None:
    read, sent = 0, list[Any]()

    async def receive() -> Any:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"x" * 100, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    async def never(*_: Any) -> None:
        raise AssertionError

    scope: dict[str, Any] = {"type": "http", "method": "POST", "headers": []}
    await Clients(never, most_bytes=1_000)(scope, receive, send)
    assert sent[0]["status"] == 413
    assert read <= 12

"""HTTP as clients use it: a layer between the gate and the SDK's transport, which is strict.

A client is answered in what it accepts: the SDK chooses between JSON and an event stream, and here
its choice is turned into the other where the client takes only that.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from mcp.server.transport_security import DEFAULT_MAX_REQUEST_BODY_SIZE

from darkroom.mcp.frames import FrameError, checked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from darkroom.core.json_types import JsonObject

JSON, EVENTS = b"application/json", b"text/event-stream"
OK = 200

METHODS = b"GET, POST, DELETE, OPTIONS"
ALLOWED_HEADERS = (
    b"authorization, content-type, accept, last-event-id, mcp-protocol-version, mcp-session-id, "
    b"mcp-method, mcp-name"
)
EXPOSED_HEADERS = b"mcp-session-id, mcp-protocol-version, www-authenticate"
PREFLIGHT_SECONDS = b"600"
_TOKEN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")


def page_headers(origin: bytes) -> list[tuple[bytes, bytes]]:
    """Return what lets a page of an admitted origin read an answer."""
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", EXPOSED_HEADERS),
        (b"vary", b"Origin"),
    ]


def preflight_headers(asked: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """Return what a browser needs before it sends; ``asked`` are the headers that it names."""
    names = {name.strip().lower() for line in asked for name in line.split(b",")}
    more = sorted(name for name in names if name.startswith(b"mcp-") and _TOKEN.issuperset(name))
    known = ALLOWED_HEADERS.split(b", ")
    allowed = b", ".join([*known, *(name for name in more if name not in known)])
    return [
        (b"access-control-allow-methods", METHODS),
        (b"access-control-allow-headers", allowed),
        (b"access-control-max-age", PREFLIGHT_SECONDS),
    ]


class Clients:
    """Passes requests on as the SDK wants them, and answers as the client wants it."""

    def __init__(self, app: ASGIApp, most_bytes: int = DEFAULT_MAX_REQUEST_BODY_SIZE) -> None:
        self._app = app
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        accepted = _accepted(headers)
        if not accepted:
            await self._app(scope, receive, send)  # which refuses it
            return
        if scope["method"] != "POST":
            if len(accepted) > 1:
                scope = {**scope, "headers": [*_without(headers, b"accept"), (b"accept", EVENTS)]}
            await self._app(scope, receive, send)
            return
        kept = _without(headers, b"accept")
        kept = [(n, v.lower() if n == b"content-type" else v) for n, v in kept]
        scope = {**scope, "headers": [*kept, (b"accept", JSON + b", " + EVENTS)]}
        body = await self._body(receive)
        if body is None:  # the client has gone
            return
        if len(body) > self._most_bytes:
            await _answer(send, 413, b'{"error": "the body of the request is too large"}')
            return
        try:
            body = checked(body)
        except FrameError as error:
            await _answer(send, 400, error.answer.encode())
            return
        sends = send
        if len(accepted) == 1:
            sends = _Turned(send, EVENTS if EVENTS in accepted else JSON, body)
        await self._app(scope, _Replay(body, receive), sends)

    async def _body(self, receive: Receive) -> bytes | None:
        """Return the body, or as much of it as shows that it is too long; None if it did not come."""
        body = bytearray()
        while len(body) <= self._most_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        return bytes(body)


class _Replay:
    """Gives a body that was read, and then what else comes."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Turned:
    """An answer in the one form that the client takes."""

    def __init__(self, send: Send, wanted: bytes, request: bytes) -> None:
        self._send = send
        self._wanted = wanted
        self._request = request
        self._start: Message | None = None
        self._held = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            given = _value(message["headers"], b"content-type").partition(b";")[0].strip().lower()
            if message["status"] == OK and given in {JSON, EVENTS} and given != self._wanted:
                self._start = message
                return
        elif message["type"] == "http.response.body" and self._start is not None:
            self._held += message.get("body", b"")
            if not message.get("more_body", False):
                await self._finish(self._start)
            return
        await self._send(message)

    async def _finish(self, start: Message) -> None:
        held = bytes(self._held)
        if self._wanted == EVENTS:
            body = b"event: message\r\ndata: " + held + b"\r\n\r\n"
        else:
            body = _answer_in(held, self._request)
        kept = _without(_without(start["headers"], b"content-type"), b"content-length")
        length = (b"content-length", str(len(body)).encode())
        headers = [*kept, (b"content-type", self._wanted), length]
        await self._send({**start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def _answer_in(stream: bytes, request: bytes) -> bytes:
    """Return the answer that an event stream ends with; notifications before it are left out."""
    asked = json.loads(request).get("id")
    for event in stream.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
        data = b"\n".join(lines)
        if data:
            message = cast("JsonObject", json.loads(data))
            if "method" not in message and message.get("id") == asked:
                return data
    return b""


def _accepted(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Return which of JSON and event streams a client takes; both if it does not say."""
    given = [value for name, value in headers if name == b"accept"]
    ranges = {part.partition(b";")[0].strip().lower() for part in b",".join(given).split(b",")}
    ranges.discard(b"")
    if not ranges:
        return frozenset({JSON, EVENTS})
    return frozenset(
        kind for kind in (JSON, EVENTS) if ranges & {kind, kind.partition(b"/")[0] + b"/*", b"*/*"}
    )


def _value(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes:
    return next((value for name, value in headers if name.lower() == wanted), b"")


def _without(headers: Iterable[tuple[bytes, bytes]], unwanted: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name.lower() != unwanted]


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", JSON), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""Reach emulators without a socket: an httpx2 transport that can fail the way a network does."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import anyio
import httpx2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.types import ASGIApp, Message

BODY_LIMIT_BYTES = 256 * 1024 * 1024


class _EnoughError(Exception):
    """The application sent more than a transport would buffer for anybody."""


class EmulatorTransport(httpx2.AsyncBaseTransport):
    """Route requests by host name to ASGI applications in the same process.

    Honours the request's ``read`` timeout (a plain ASGI transport ignores timeouts). A host that
    is not in the table cannot be resolved: `httpx2.ConnectError`.
    """

    def __init__(self, apps: Mapping[str, ASGIApp]) -> None:
        self._apps = dict(apps)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer ``request`` from the application of its host, or fail as a network would."""
        app = self._apps.get(request.url.host)
        if app is None:
            msg = f"no such host in the sandbox: {request.url.host}"
            raise httpx2.ConnectError(msg, request=request)
        exchange = _Exchange(request)
        timeouts = cast("dict[str, float | None]", request.extensions.get("timeout", {}))
        with anyio.move_on_after(timeouts.get("read")) as scope:
            await exchange.run(app)
        if scope.cancelled_caught:
            msg = "the provider did not answer in time"
            raise httpx2.ReadTimeout(msg, request=request)
        return exchange.response()


class _Exchange:
    """One request to an application and what it sent back."""

    def __init__(self, request: httpx2.Request) -> None:
        self._request = request
        self._status: int | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._size = 0
        self._aborted: bool | None = None
        self._finished = False

    async def run(self, app: ASGIApp) -> None:
        body = await self._request.aread()
        url = self._request.url
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self._request.method,
            "headers": [(key.lower(), value) for key, value in self._request.headers.raw],
            "scheme": url.scheme,
            "path": url.path,
            "raw_path": url.raw_path.split(b"?")[0],
            "query_string": url.query,
            "server": (url.host, url.port or 443),
            "client": ("127.0.0.1", 1),
            "root_path": "",
            "state": {"abort": self._abort},
        }
        delivered = False

        async def receive() -> Message:
            nonlocal delivered
            if delivered:
                await anyio.sleep_forever()
            delivered = True
            return {"type": "http.request", "body": body, "more_body": False}

        try:
            await app(scope, receive, self._send)
        except _EnoughError:
            return

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = cast("int", message["status"])
            self._headers = cast("list[tuple[bytes, bytes]]", message.get("headers", []))
        elif message["type"] == "http.response.body":
            chunk = cast("bytes", message.get("body", b""))
            self._chunks.append(chunk)
            self._size += len(chunk)
            if self._size > BODY_LIMIT_BYTES:
                raise _EnoughError
            self._finished = not message.get("more_body", False)

    def _abort(self, refused: bool) -> None:  # noqa: FBT001 -- the shape that emulators call
        self._aborted = refused

    def response(self) -> httpx2.Response:
        if self._aborted is True:
            msg = "connection refused"
            raise httpx2.ConnectError(msg, request=self._request)
        if self._status is None:
            msg = "the provider closed the connection without an answer"
            raise httpx2.RemoteProtocolError(msg, request=self._request)
        return httpx2.Response(
            self._status,
            headers=self._headers,
            stream=_Body(self._request, self._chunks, broken=not self._finished),
            request=self._request,
        )


class _Body(httpx2.AsyncByteStream):
    """The chunks that were sent; breaks off where the connection did."""

    def __init__(self, request: httpx2.Request, chunks: list[bytes], *, broken: bool) -> None:
        self._request = request
        self._chunks = chunks
        self._broken = broken

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
        if self._broken:
            msg = "the provider closed the connection in the middle of its answer"
            raise httpx2.RemoteProtocolError(msg, request=self._request)

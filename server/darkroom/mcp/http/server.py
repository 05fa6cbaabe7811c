"""MCP over Streamable HTTP, in both revisions of the protocol, for clients with the token.

A request must have a known ``Host`` (against DNS rebinding), must not come from a foreign web page
(``Origin``), and must have the token. ``/healthz`` and ``/readyz`` need no token and reveal nothing
else.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from urllib.parse import urlsplit

import anyio
import uvicorn
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.transport_security import TransportSecuritySettings
from starlette.responses import PlainTextResponse, Response

from darkroom.core.errors import CallError, ConfigurationError
from darkroom.mcp.http import token as bearer
from darkroom.mcp.http.access import OneToken
from darkroom.mcp.http.clients import METHODS, Clients, page_headers, preflight_headers
from darkroom.mcp.http.connections import ACCEPTED_AT_ONCE, BEARS, OnceAMinute, watched
from darkroom.mcp.http.links import PATH as FILES
from darkroom.mcp.http.links import Files, Links
from darkroom.mcp.http.sessions import IDLE_SECONDS, MOST_SERVED, MOST_SESSIONS, Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from darkroom.config.settings import Settings
    from darkroom.mcp.http.access import Access
    from darkroom.mcp.server import DarkroomServer

PATH = "/mcp"
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8811
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

ANSWER_SECONDS = 10
"""Time for answering open calls during shutdown; requests that were sent have more time."""

KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep idle connections (httpx2: 5 s), so that the client closes them first. A
request on a connection that we are just closing would be lost, and the client could not know."""

READY_SECONDS = 5.0
BACKLOG = 1024


def loopback(host: str) -> bool:
    """Tell whether a server bound to ``host`` can be reached only from this computer."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


class Names:
    """The host names by which clients may reach this server.

    If the server is bound to all addresses, IP addresses are accepted too, because DNS rebinding
    needs a name.
    """

    def __init__(self, host: str, more: Iterable[str]) -> None:
        self._names = (LOOPBACK_NAMES | {host.lower()} | {name.lower() for name in more}) - {""}
        self._literals = host in {"0.0.0.0", "::", ""}  # noqa: S104 -- compared, not bound

    def known(self, authority: str) -> bool:
        """Tell whether ``name[:port]`` is one of our names."""
        name = _name(authority)
        if name in self._names:
            return True
        if self._literals:
            with suppress(ValueError):
                ipaddress.ip_address(name)
                return True
        return False

    def origin(self, origin: str, authority: str) -> bool:
        """Tell whether a page from ``origin`` may send requests to us as ``authority``.

        If its host is an IP address, it must be the same address that the request goes to.
        """
        scheme, found, where = origin.partition("://")
        if not found or scheme not in {"http", "https"}:
            return False
        name = _name(where)
        return name in self._names or (self._literals and name == _name(authority) != "")


def _name(authority: str) -> str:
    """Return the name in ``name[:port]``; nothing if there is none."""
    with suppress(ValueError):
        return urlsplit(f"//{authority}").hostname or ""
    return ""


Headers: TypeAlias = dict[bytes, list[bytes]]


def _gathered(scope: Scope) -> Headers:
    headers: Headers = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, []).append(value)
    return headers


def _readable(send: Send, origin: bytes) -> Send:
    """Return a ``send`` that lets a page of the origin read the answer."""

    async def sends(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *page_headers(origin)]}
        await send(message)

    return sends


class Gate:
    """Passes on requests with a known host and an accepted origin from who has access.

    ``mcp`` answers at `PATH`; ``app`` has the lifespan.
    """

    def __init__(
        self,
        app: ASGIApp,
        mcp: ASGIApp,
        names: Names,
        access: Access,
        ready: Callable[[], Any],
        files: Files | None,
    ) -> None:
        self._app = app
        self._mcp = mcp
        self._names = names
        self._access = access
        self._ready = ready
        self._files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""
        if scope["type"] == "http":
            headers = _gathered(scope)
            refusal = self._stranger(headers)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
            if origins := headers.get(b"origin"):
                send = _readable(send, origins[0])
            answer = await self._without_token(scope, headers)
            if answer is None:
                answer = await self._admitted(scope, headers)
            if isinstance(answer, Response):
                await answer(scope, receive, send)
                return
            await self._mcp({**answer, "path": PATH}, receive, send)
            return
        await self._app(scope, receive, send)

    def _stranger(self, headers: Headers) -> Response | None:
        """Refuse who does not know our name, or comes from a foreign page."""
        hosts = headers.get(b"host", [])
        if len(hosts) != 1 or not self._names.known(hosts[0].decode("latin-1")):
            return PlainTextResponse("no server of that name is here: see [http] hosts\n", 421)
        for origin in headers.get(b"origin", []):
            if not self._names.origin(origin.decode("latin-1"), hosts[0].decode("latin-1")):
                return PlainTextResponse("pages from there may not speak to this server\n", 403)
        return None

    async def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        """Answer what needs no token."""
        path = scope["path"]
        if path == "/healthz":
            return PlainTextResponse("ok\n")
        if path == "/readyz":
            ready = await self._ready()
            return PlainTextResponse("ready\n" if ready else "not ready\n", 200 if ready else 503)
        if (published := self._access.published(path)) is not None:
            return published
        if self._files is not None and path.startswith(FILES):
            return await self._files.answer(scope)
        if path.rstrip("/") != PATH:  # no issuer, no registration: clients then use their token
            return PlainTextResponse("there is nothing here\n", 404)
        if scope["method"] == "OPTIONS":
            response = Response(status_code=204, headers={"allow": METHODS.decode()})
            asked = headers.get(b"access-control-request-headers", [])
            if b"origin" in headers:
                response.raw_headers += preflight_headers(asked)
            return response
        return None

    async def _admitted(self, scope: Scope, headers: Headers) -> Scope | Response:
        """Return the scope of a request whose sender has access, or a refusal."""
        answer = await self._access.admit(scope, headers.get(b"authorization", []))
        bears = scope.get("state", {}).get(BEARS)
        if bears is not None and not isinstance(answer, Response):  # without a socket there is none
            bears()
        return answer


def web_app(
    server: DarkroomServer,
    access: Access,
    *,
    host: str = DEFAULT_HOST,
    names: Iterable[str] = (),
    stopping: anyio.Event | None = None,
    most_sessions: int = MOST_SESSIONS,
) -> ASGIApp:
    """Return the application: the SDK's transport behind the access checks."""

    async def ready() -> bool:
        engine = server.engine
        if engine is None or (stopping is not None and stopping.is_set()):
            return False
        with anyio.move_on_after(READY_SECONDS):
            try:
                await engine.runtime()
            except CallError:
                return False
            return True
        return False

    # Host and Origin have already been checked, more strictly than by the transport.
    unchecked = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        transport_security=unchecked,
        session_idle_timeout=IDLE_SECONDS,
        max_sessions=MOST_SERVED,
    )
    # Straight to the transport: the layers in between are for pages, which we have none of.
    mcp = Clients(Sessions(server.session_manager.handle_request, most_sessions))
    files = None
    if access.links is not None:
        server.links = access.links
        files = Files(access.links, lambda: server.engine)
    # What a request leaves behind (a session, a question) is bound to who sent it.
    return Gate(app, AuthContextMiddleware(mcp), Names(host, names), access, ready, files)


async def _begun() -> None:
    """Do nothing: the lifespan has begun."""


class _Uvicorn(uvicorn.Server):
    """Ends in order at the first signal, and at once at the second; does not begin without an engine."""

    def __init__(
        self, config: uvicorn.Config, server: DarkroomServer, begin_end: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._server = server
        self._begin_end = begin_end

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the engine before anybody is let in: a server without one answers nothing.

        Raises
        ------
        ConfigurationError: the engine cannot start.
        """
        await self.lifespan.startup()
        engine = self._server.engine
        if engine is not None and (problem := await engine.broken()) is not None:
            await self.lifespan.shutdown()
            raise ConfigurationError(str(problem))
        self.lifespan.startup = _begun  # which uvicorn calls next
        await super().startup(sockets)
        for each in sockets or ():
            each.listen(BACKLOG)  # more may wait than the event loop takes at once

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal; it is not raised again at the end, so that the exit status is 0."""
        del frame
        if self.should_exit:
            os._exit(128 + sig)
        self.should_exit = True
        self._begin_end()


async def serve_http(
    server: DarkroomServer, settings: Settings, host: str, port: int, stopping: anyio.Event
) -> None:
    """Serve until a signal comes, and return when everything is recorded.

    Raises
    ------
    ConfigurationError: the address cannot be used, or the token is missing.
    """
    issuer = settings.team.issuer
    if issuer is None and not loopback(host) and settings.http.token_file is None:
        raise ConfigurationError(
            f"{host} can be reached from other machines: put a token into a file and name it in "
            "[http] token_file (DARKROOM_HTTP__TOKEN_FILE)"
        )
    token = bearer.token(settings) if issuer is None else b""
    listening = _listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}{PATH}"
    access = OneToken(token) if issuer is None else team_access(settings, address)
    app = web_app(server, access, host=host, names=_names_of(settings), stopping=stopping)
    config = uvicorn.Config(
        cast("Any", app),
        http=cast("Any", watched()),
        backlog=ACCEPTED_AT_ONCE,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",  # do not log invalid requests: anybody can send them
        access_log=False,
        proxy_headers=False,  # a client is identified by its token, not by its address
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=ANSWER_SECONDS,
    )

    def begin_end() -> None:
        stopping.set()
        server.end_streams()

    logging.getLogger("asyncio").addFilter(OnceAMinute())
    with listening:
        who = f"token in {bearer.path_of(settings)}" if issuer is None else f"sign in at {issuer}"
        sys.stderr.write(f"darkroom: {address}, {who}\n")
        sys.stderr.flush()
        await _Uvicorn(config, server, begin_end).serve(sockets=[listening])


def _names_of(settings: Settings) -> list[str]:
    """Return the host names by which clients may reach the server."""
    public = settings.http.public_url
    return [*settings.http.hosts, *([urlsplit(public).hostname or ""] if public else [])]


def team_access(settings: Settings, address: str) -> Access:
    """Return the access of a team; ``address`` is where its clients reach the server by default."""
    # A server of one person pays nothing for checking signatures.
    from darkroom.mcp.http.team_access import TeamAccess  # noqa: PLC0415 -- see the comment

    base = settings.http.public_url or address.removesuffix(PATH)
    links = Links(base, secrets.token_bytes(32), time.time)
    return TeamAccess(settings.team, base + PATH, links)


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Its protocol is stated: the event loop sends small answers at once (TCP_NODELAY) only on sockets
    that say they are TCP, and otherwise each would wait 40 ms for the client's acknowledgement.
    """
    listening: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )[0]
        listening = socket.socket(family, kind, protocol)
        if os.name != "nt":  # on Windows this option would let two servers share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        if listening is not None:
            listening.close()
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(f"{host}:{port} cannot be listened on ({reason})") from None
    return listening

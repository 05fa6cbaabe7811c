"""Sessions of 2025-11-25 over HTTP: as many as there is room for; whoever rested longest goes first.

Few hosts end their sessions, and a script may open one for every call. The SDK would keep each for
half an hour, refuse new hosts once there are 10,000 (400 MB), and turn away one that comes back
after lunch. Here a new host is always let in, and one that was quiet over night is still known.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_SESSIONS = 256
"""Sessions kept, 40 KB each; those that are being served are never ended for another."""

MOST_SERVED = 1024
"""Sessions that may be served at once; the next host is answered 503."""

IDLE_SECONDS = 24 * 3600.0

SESSION = b"mcp-session-id"
FAILED = 400
GONE = 404


class Sessions:
    """Passes requests on to the SDK's transport, and ends a session when one too many is opened.

    It is ended as a host would do it, with a DELETE; a host that comes back is answered 404 and
    opens a new one, as the specification says.
    """

    def __init__(self, app: ASGIApp, most: int = MOST_SESSIONS) -> None:
        self._app = app
        self._most = most
        self._served: OrderedDict[bytes, int] = OrderedDict()
        """Session -> how many of its requests are being served; the last used at the end."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request."""
        session = _session(scope["headers"])
        known = session is not None and session in self._served
        opened: bytes | None = None

        async def watched(message: Message) -> None:
            nonlocal opened
            if message["type"] == "http.response.start":
                status: int = message["status"]
                if session is None and status < FAILED:
                    opened = _session(message["headers"])
                    if opened is not None:  # before the host can come back with it
                        self._served[opened] = 0
                elif status == GONE or (scope["method"] == "DELETE" and status < FAILED):
                    self._served.pop(session or b"", None)
            await send(message)

        if session is not None and known:
            self._use(session, 1)
        try:
            await self._app(scope, receive, watched)
        finally:
            if session is not None and known:
                self._use(session, -1)
        if opened is not None:
            await self._make_room(scope, opened)

    def _use(self, session: bytes, more: int) -> None:
        if session in self._served:
            self._served[session] += more
            self._served.move_to_end(session)

    async def _make_room(self, scope: Scope, opened: bytes) -> None:
        """End who rested longest, as long as the session that was just opened is one too many."""
        while len(self._served) > self._most:
            resting = (one for one, served in self._served.items() if not served and one != opened)
            longest = next(resting, None)
            if longest is None:
                return
            del self._served[longest]
            ending = {**scope, "method": "DELETE", "headers": [(SESSION, longest)]}
            await self._app(ending, _nothing, _nobody)


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _nobody(_: Message) -> None:
    """Tell nobody: the host has gone, or will see it."""


def _session(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    return next((value for name, value in headers if name == SESSION), None)

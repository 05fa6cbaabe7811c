"""Sessions of 2025-11-25 over HTTP: a limited number; the least recently used session is closed.

Few hosts end their sessions, and a script may open a session for every call. The SDK keeps each for
half an hour, refuses new hosts when there are 10,000 sessions (400 MB), and does not know a host
that comes back later. Here a new host is always accepted, and an idle session is kept for a day.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_SESSIONS = 256
"""Maximum number of sessions, 40 KB each; a session with an open request is never closed."""

MOST_SERVED = 1024
"""Maximum number of sessions with open requests; a further host is answered with 503."""

IDLE_SECONDS = 24 * 3600.0

SESSION = b"mcp-session-id"
FAILED = 400
GONE = 404


@dataclass(slots=True)
class _Session:
    """A session: who opened it, for the SDK lets nobody else end it, and its open requests."""

    user: Any
    served: int = 0


class Sessions:
    """Passes requests on to the SDK's transport, and closes a session if there are too many.

    It is closed with a DELETE, as a host would do it. If its host comes back, it is answered with
    404 and opens a new session, as the specification says.
    """

    def __init__(self, app: ASGIApp, most: int = MOST_SESSIONS) -> None:
        self._app = app
        self._most = most
        self._known: OrderedDict[bytes, _Session] = OrderedDict()
        """The sessions by their ids; the most recently used is the last."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request."""
        session = _session(scope["headers"])
        known = session is not None and session in self._known
        opened: bytes | None = None

        async def watched(message: Message) -> None:
            nonlocal opened
            if message["type"] == "http.response.start":
                status: int = message["status"]
                if session is None and status < FAILED:
                    opened = _session(message["headers"])
                    if opened is not None:  # before the host can come back with it
                        self._known[opened] = _Session(scope.get("user"))
                elif status == GONE or (scope["method"] == "DELETE" and status < FAILED):
                    self._known.pop(session or b"", None)
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
        if session in self._known:
            self._known[session].served += more
            self._known.move_to_end(session)

    async def _make_room(self, scope: Scope, opened: bytes) -> None:
        """Close the least recently used sessions while there are too many."""
        while len(self._known) > self._most:
            resting = (
                one for one, each in self._known.items() if not each.served and one != opened
            )
            longest = next(resting, None)
            if longest is None:
                return
            user = self._known.pop(longest).user
            ending = {**scope, "user": user, "method": "DELETE", "headers": [(SESSION, longest)]}
            await self._app(ending, _nothing, _nobody)


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _nobody(_: Message) -> None:
    """Tell nobody: the host has gone, or will see it."""


def _session(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    return next((value for name, value in headers if name == SESSION), None)

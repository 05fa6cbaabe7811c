"""Connections before the token: how long and how many, so that strangers cost next to nothing.

Requests are read by uvicorn's own parser, which bounds heads and trailers and does not read on while
a request is answered. The extra ``http`` brings an event loop in C.
"""

from __future__ import annotations

import logging
import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from darkroom.core.log import log

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    import uvicorn
    from uvicorn.server import ServerState

REQUEST_SECONDS = 10.0
"""For a head and its body together; who has borne the token has as long for each part that comes."""

MOST_STRANGERS = 256
"""Connections that have not borne the token. Beyond it the oldest is closed: whoever has a token sends
it at once."""

RESERVED_DESCRIPTORS = 96
"""Kept for the journal, providers, downloads and pictures of accepted work."""

ACCEPTED_AT_ONCE = 32
"""How many connections the event loop takes before it looks at them."""

FEWEST_CONNECTIONS = 16
USUAL_DESCRIPTORS = 512
"""Where the system does not say: what Windows opens."""

LOG_SECONDS = 60.0
BEARS = "darkroom.bears"
"""Under this name a request's state has the function that says that its connection bore the token."""


def event_loop() -> dict[str, bool]:
    """Return the options of anyio's loop."""
    return {"use_uvloop": find_spec("uvloop") is not None}


def most_connections() -> int:
    """Return how many connections may be open, so that descriptors are left for work."""
    descriptors = USUAL_DESCRIPTORS
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 -- not on every system

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        descriptors = soft if soft != resource.RLIM_INFINITY else 1 << 20
    return max(FEWEST_CONNECTIONS, descriptors - RESERVED_DESCRIPTORS - ACCEPTED_AT_ONCE)


class Strangers:
    """Counts connections, and closes the oldest that has not borne the token where there are too many.

    What they cause is logged in a line a minute.
    """

    def __init__(self, most: int, most_strangers: int, now: Callable[[], float]) -> None:
        self._most = most
        self._most_strangers = min(most_strangers, max(1, most // 2))
        self._now = now
        self._all: set[Watched] = set()
        self._strangers: dict[Watched, None] = {}
        self._caused = 0
        self._said = -LOG_SECONDS

    def opened(self, connection: Watched) -> None:
        """Count a new connection."""
        self._all.add(connection)
        self._strangers[connection] = None
        if len(self._strangers) > self._most_strangers or len(self._all) > self._most:
            oldest = next(iter(self._strangers))
            self.closed(oldest)
            oldest.cut_off()

    def borne(self, connection: Watched) -> None:
        """Count a connection no longer among strangers."""
        self._strangers.pop(connection, None)

    def closed(self, connection: Watched) -> None:
        """Forget a connection."""
        self._all.discard(connection)
        self._strangers.pop(connection, None)

    def note(self) -> None:
        """Say once a minute that connections were closed."""
        self._caused += 1
        if self._now() - self._said >= LOG_SECONDS:
            log.warning(
                "connections closed that sent no whole request in %g s, or were too many: %d",
                *(REQUEST_SECONDS, self._caused),
            )
            self._said, self._caused = self._now(), 0


class Watched(H11Protocol):
    """A connection with a deadline for each request."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        strangers: Strangers,
    ) -> None:
        super().__init__(config, server_state, {**app_state, BEARS: self.bears}, _loop)
        self._strangers_ = strangers
        self._known = False
        self._deadline: asyncio.TimerHandle | None = None

    def bears(self) -> None:
        """Note that a request of this connection bore the token."""
        self._known = True
        self._strangers_.borne(self)

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait()
        self._strangers_.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        self._strangers_.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came of a request."""
        if self._known:
            self._stop_waiting()
        if self._deadline is None:
            self._wait()
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Go on with the next request, which may be here already."""
        super().on_response_complete()
        self._look()

    def cut_off(self) -> None:
        """Close the connection without another word."""
        self._strangers_.note()
        self.transport.abort()

    def _look(self) -> None:
        """Stop waiting where the request is whole, or refused."""
        if self.conn.their_state not in {h11.IDLE, h11.SEND_BODY}:
            self._stop_waiting()

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self.cut_off)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def watched() -> Callable[..., asyncio.Protocol]:
    """Return uvicorn's option ``http``: what makes the connections of one server."""
    strangers = Strangers(most_connections(), MOST_STRANGERS, time.monotonic)

    class Connection(Watched):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named, strangers=strangers)

    return Connection


class OnceAMinute(logging.Filter):
    """Lets a record through once a minute, without its traceback.

    The event loop writes one for each connection that it cannot accept.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._said = -LOG_SECONDS

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is written."""
        if self._now() - self._said < LOG_SECONDS:
            return False
        self._said = self._now()
        record.exc_info = record.exc_text = None
        return True

"""What HTTP is read with: the extra ``http`` brings a parser and an event loop in C.

Without it everything works on uvicorn's own parser and asyncio, and costs about a quarter more.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

LONGEST_HEAD_BYTES = 65_536
"""Of a request, before it is refused. uvicorn's own parser has this limit, httptools has none, and
whoever sends a head has not shown a token yet."""


def event_loop() -> dict[str, bool]:
    """Return the options of anyio's loop."""
    return {"use_uvloop": find_spec("uvloop") is not None}


def parser() -> str | type[asyncio.Protocol]:
    """Return uvicorn's option ``http``."""
    return "h11" if find_spec("httptools") is None else _bounded()


def _bounded() -> type[asyncio.Protocol]:
    from uvicorn.protocols.http.httptools_impl import (  # noqa: PLC0415 -- only where it is installed
        HttpToolsProtocol,
    )

    class Bounded(HttpToolsProtocol):
        """Refuses a head that does not end, and takes values without the white space around them."""

        _in_head = True
        _head_bytes = 0

        def data_received(self, data: bytes) -> None:
            """Take what came, unless it is too much of a head."""
            if self._in_head:
                self._head_bytes += len(data)
            super().data_received(data)
            if self._in_head and self._head_bytes > LONGEST_HEAD_BYTES:
                self.send_400_response("The head of the request is too long.")

        def on_header(self, name: bytes, value: bytes) -> None:
            """Take a header; the parser leaves white space that is no part of the value behind it."""
            super().on_header(name, value.strip(b" \t"))

        def on_headers_complete(self) -> None:
            """Stop counting until the body is over."""
            self._in_head = False
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            """Count the next head from its first byte on."""
            self._in_head, self._head_bytes = True, 0
            super().on_message_complete()

    return Bounded

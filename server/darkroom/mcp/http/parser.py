"""The HTTP parser and event loop: with the extra ``http`` both are written in C.

Without it, uvicorn's own parser and asyncio are used, which take about a quarter more time.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

LONGEST_HEAD_BYTES = 65_536
"""Maximum size of a request's head. uvicorn's own parser has this limit and httptools has none; the
head is read before the token can be checked."""


def event_loop() -> dict[str, bool]:
    """Return the options of anyio's event loop."""
    return {"use_uvloop": find_spec("uvloop") is not None}


def parser() -> str | type[asyncio.Protocol]:
    """Return the value of uvicorn's option ``http``."""
    return "h11" if find_spec("httptools") is None else _bounded()


def _bounded() -> type[asyncio.Protocol]:
    from uvicorn.protocols.http.httptools_impl import (  # noqa: PLC0415 -- only where it is installed
        HttpToolsProtocol,
    )

    class Bounded(HttpToolsProtocol):
        """A parser that limits the size of the head and strips white space from header values."""

        _in_head = True
        _head_bytes = 0

        def data_received(self, data: bytes) -> None:
            """Parse received data, unless the head is too large."""
            if self._in_head:
                self._head_bytes += len(data)
            super().data_received(data)
            if self._in_head and self._head_bytes > LONGEST_HEAD_BYTES:
                self.send_400_response("The head of the request is too long.")

        def on_header(self, name: bytes, value: bytes) -> None:
            """Add a header without the white space after its value, which the parser leaves there."""
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

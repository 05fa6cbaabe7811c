"""Requests over HTTP as cheaply as they can be made: sockets that are kept, bytes made beforehand.

What a client costs would be measured too, so this one does nothing that is not needed.
"""

from __future__ import annotations

import json
import re
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.wire import HELLO, line, request

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from benchmarks.wire import Era

RECEIVE_BYTES = 65_536
SECONDS = 20.0
"""How long one answer may take."""

PATH = "/mcp"
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_SESSION = re.compile(rb"mcp-session-id: *(\S+)", re.IGNORECASE)
_FIRST_ID = 10


@dataclass
class Line:
    """One connection that is kept."""

    connection: socket.socket

    def send(self, data: bytes) -> None:
        """Send a request, whole."""
        self.connection.sendall(data)

    def receive(self) -> tuple[bytes, bytes]:
        """Return head and body of an answer; a body of events as it came, in its chunks."""
        data = b""
        while _END not in data:
            data += self._more()
        head, _, body = data.partition(_END)
        if (length := _LENGTH.search(head)) is not None:
            while len(body) < int(length[1]):
                body += self._more()
        else:
            while not body.endswith(b"0\r\n\r\n"):
                body += self._more()
        return head, body

    def ask(self, data: bytes) -> tuple[bytes, bytes]:
        """Send a request and return the answer.

        Raises
        ------
        ValueError: it was refused.
        """
        self.send(data)
        head, body = self.receive()
        if not head.startswith(b"HTTP/1.1 2"):
            raise ValueError((head + _END + body).decode(errors="replace"))
        return head, body

    def _more(self) -> bytes:
        data = self.connection.recv(RECEIVE_BYTES)
        if not data:
            raise EOFError("the server has hung up")
        return data


@dataclass(frozen=True)
class Listener:
    """A server that listens on loopback, and the tool of it that is called."""

    port: int
    tool: str
    arguments: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def calls(self, era: Era, count: int) -> list[bytes]:
        """Return ``count`` requests with ids of their own; each may be sent again and again."""
        headers = {**self.headers, "mcp-protocol-version": era}
        if era == "2025-11-25":
            headers["mcp-session-id"] = self._session()
        else:
            headers |= {"mcp-method": "tools/call", "mcp-name": self.tool}
        named = {"name": self.tool, "arguments": self.arguments}
        return [
            self._post(request(era, _FIRST_ID + number, "tools/call", **named), headers)
            for number in range(count)
        ]

    def _session(self) -> str:
        with self.lines(1) as (opening,):
            hello = line({"id": 1, "method": "initialize", "params": HELLO})
            head, _ = opening.ask(self._post(hello, self.headers))
            session = _SESSION.search(head)
            if session is None:
                raise ValueError(head)
            name = session[1].decode()
            ready = line({"method": "notifications/initialized"})
            opening.ask(self._post(ready, {**self.headers, "mcp-session-id": name}))
            return name

    def _post(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        named = {
            "host": f"127.0.0.1:{self.port}",
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
            "content-length": str(len(body)),
            **headers,
        }
        head = [f"POST {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items())]
        return "\r\n".join([*head, "", ""]).encode() + body

    @contextmanager
    def lines(self, count: int) -> Generator[list[Line]]:
        """Open connections."""
        opened: list[Line] = []
        try:
            for _ in range(count):
                connection = socket.create_connection(("127.0.0.1", self.port), SECONDS)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                opened.append(Line(connection))
            yield opened
        finally:
            for each in opened:
                each.connection.close()


def in_flight(lines: Sequence[Line], calls: Sequence[bytes], rounds: int) -> float:
    """Keep one call in flight on each connection; return the seconds that one call took."""
    began = time.perf_counter()
    for each, call in zip(lines, calls, strict=True):
        each.send(call)
    for _ in range(rounds - 1):
        for each, call in zip(lines, calls, strict=True):
            each.receive()
            each.send(call)
    for each in lines:
        each.receive()
    return (time.perf_counter() - began) / (rounds * len(lines))


def one_by_one(line_: Line, call: bytes, count: int) -> list[float]:
    """Return the seconds of each of ``count`` calls, one after the other."""
    samples: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        line_.send(call)
        line_.receive()
        samples.append(time.perf_counter() - began)
    return samples


def result(body: bytes) -> dict[str, Any]:
    """Return the result in an answer of 2026-07-28."""
    return json.loads(body)["result"]

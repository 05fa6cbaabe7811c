"""Hosts reduced to what cannot be left out: both transports, both revisions, written by hand."""

from __future__ import annotations

import http.client
import json
import time
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol, cast

from darkroom.mcp.tasks import IDENTIFIER

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping

    from tests.harness import Fields
    from tests.peers.shipped import Shipped

Revision = Literal["2025-11-25", "2026-07-28"]
REVISIONS: tuple[Revision, ...] = ("2025-11-25", "2026-07-28")

SECONDS = 60.0
STALE_SECONDS = 2.0
"""A connection that rested longer may be closed by the server at any moment (after 5 s)."""

CLIENT = {"name": "soak", "version": "1"}
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}
META: Fields = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {"extensions": {IDENTIFIER: {}}},
    "io.modelcontextprotocol/clientInfo": CLIENT,
}
NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
"""Methods of 2026-07-28 whose subject stands in a header too."""


class Host(Protocol):
    """One host and its server. ``calls``: how many requests it has made."""

    revision: Revision
    calls: int

    def ask(self, method: str, /, **params: Any) -> Fields:
        """Send a request; return the whole answer."""
        ...

    def begin_and_leave(self, method: str, /, **params: Any) -> Fields:
        """Send a request, and give it up when the first notification has come; return that."""
        ...

    def say_nonsense(self) -> None:
        """Send what is no JSON; it is refused."""
        ...

    def come_back(self) -> None:
        """Go, and come back as another."""
        ...

    def go(self) -> None:
        """End the connection, and the session if there is one."""
        ...


class HttpHost:
    """A host over HTTP with one connection that is kept."""

    def __init__(self, server: Shipped, revision: Revision) -> None:
        self.revision: Revision = revision
        self.calls = 0
        self._server = server
        self._connection = self._connect()
        self._used = -STALE_SECONDS
        self._session: str | None = None

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=SECONDS)

    def _request(
        self, verb: str, body: bytes | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        if time.monotonic() - self._used > STALE_SECONDS:
            self._connection.close()
        given = {
            "authorization": f"Bearer {self._server.token}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            **headers,
        }
        if self._session is not None:
            given |= {"mcp-session-id": self._session, "mcp-protocol-version": "2025-11-25"}
        self._connection.request(verb, "/mcp", body, given)
        answer = self._connection.getresponse()
        self._used = time.monotonic()
        return answer

    def _send(self, method: str, params: Fields) -> http.client.HTTPResponse:
        self.calls += 1
        headers: dict[str, str] = {}
        if self.revision == "2026-07-28":
            headers = {"mcp-protocol-version": self.revision, "mcp-method": method}
            if method in NAMED:
                headers["mcp-name"] = params[NAMED[method]]
            params = {**params, "_meta": {**META, **params.get("_meta", {})}}
        elif self._session is None and method != "initialize":
            self._open()
        message = {"jsonrpc": "2.0", "id": self.calls, "method": method, "params": params}
        return self._request("POST", json.dumps(message).encode(), headers)

    def _open(self) -> None:
        answer = self._send("initialize", HELLO)
        assert "result" in self._answer(answer)
        self._session = answer.headers["mcp-session-id"]
        ready = b'{"jsonrpc": "2.0", "method": "notifications/initialized"}'
        answer = self._request("POST", ready, {})
        assert answer.status == 202, answer.status
        answer.read()
        self.calls += 1

    def _answer(self, answer: http.client.HTTPResponse) -> Fields:
        data = answer.read()
        if answer.headers.get_content_type() == "text/event-stream":
            messages = [json.loads(line[5:]) for line in data.splitlines() if line[:5] == b"data:"]
        else:
            messages = [json.loads(data)]
        assert messages[-1]["id"] == self.calls, messages
        return messages[-1]

    def ask(self, method: str, /, **params: Any) -> Fields:
        """Send a request; return the whole answer."""
        return self._answer(self._send(method, params))

    def begin_and_leave(self, method: str, /, **params: Any) -> Fields:
        """Send a request, and close the connection when the first notification has come."""
        answer = self._send(method, params)
        assert answer.status == 200, (answer.status, answer.read())
        told = _first(answer)
        assert "method" in told, told
        left, number = self._connection, self.calls
        self._connection = self._connect()
        if self.revision == "2025-11-25":  # closing alone gives nothing up
            given_up = {
                "jsonrpc": "2.0",
                "method": "notifications/cancelled",
                "params": {"requestId": number},
            }
            accepted = self._request("POST", json.dumps(given_up).encode(), {})
            assert accepted.status == 202, accepted.status
            accepted.read()
            self.calls += 1
        answer.close()
        left.close()
        return told

    def say_nonsense(self) -> None:
        """Send what is no JSON; it is refused."""
        headers = {"mcp-protocol-version": self.revision, "mcp-method": "tools/list"}
        if self.revision == "2025-11-25" and self._session is None:
            self._open()
        answer = self._request("POST", b'{"jsonrpc": "2.0", "id": 1, "meth', headers)
        self.calls += 1
        assert answer.status == 400, answer.status
        assert json.loads(answer.read())["error"]["code"] == -32700

    def look_at_the_stream(self) -> None:
        """Open the stream of a session, and close it."""
        answer = self._request("GET", None, {})
        self.calls += 1
        assert answer.status == 200, answer.status
        answer.close()
        self._connection.close()

    def come_back(self) -> None:
        """Go, and come back as another."""
        self.go()

    def go(self) -> None:
        """End the session if there is one, and the connection."""
        if self._session is not None:
            answer = self._request("DELETE", None, {})
            assert answer.status == 200, answer.status
            answer.read()
            self.calls += 1
        self.vanish()

    def vanish(self) -> None:
        """End the connection, and leave the session to the server."""
        self._session = None
        self._connection.close()


def _first(answer: IO[bytes] | http.client.HTTPResponse) -> Fields:
    """Return the first message of a stream."""
    while line := answer.readline():
        if line.startswith(b"data:") and line[5:].strip():
            return json.loads(line[5:])
    raise EOFError("the stream has ended")


class PipeHost:
    """A host on the standard input and output of a server."""

    def __init__(self, process: subprocess.Popen[bytes], revision: Revision) -> None:
        self.revision: Revision = revision
        self.calls = 0
        self._process = process
        self._left: set[int] = set()
        """Requests that were given up; they may be answered all the same."""
        if revision == "2025-11-25":
            assert "result" in self.ask("initialize", **HELLO)
            self._write({"method": "notifications/initialized"})

    def _write(self, message: Mapping[str, object]) -> None:
        self._write_line(json.dumps({"jsonrpc": "2.0", **message}).encode())

    def _write_line(self, line: bytes) -> None:
        stdin = cast("IO[bytes]", self._process.stdin)
        stdin.write(line + b"\n")
        stdin.flush()

    def _messages(self) -> Iterator[Fields]:
        for line in cast("IO[bytes]", self._process.stdout):
            message = json.loads(line)
            assert message["jsonrpc"] == "2.0", message
            if message.get("id") not in self._left:
                yield message
        raise EOFError("the server has ended")

    def _send(self, method: str, params: Fields) -> None:
        self.calls += 1
        if self.revision == "2026-07-28":
            params = {**params, "_meta": {**META, **params.get("_meta", {})}}
        self._write({"id": self.calls, "method": method, "params": params})

    def ask(self, method: str, /, **params: Any) -> Fields:
        """Send a request; return the whole answer."""
        self._send(method, params)
        answer = next(message for message in self._messages() if "id" in message)
        assert answer["id"] == self.calls, answer
        return answer

    def begin_and_leave(self, method: str, /, **params: Any) -> Fields:
        """Send a request, and give it up when the first notification of it has come."""
        self._send(method, params)
        told = next(message for message in self._messages() if self._is_of_this(message))
        self._left = {self.calls}
        given_up = {"requestId": self.calls}
        self._write({"method": "notifications/cancelled", "params": given_up})
        return told

    def _is_of_this(self, message: Fields) -> bool:
        """Tell a request's first notification from what is still told of streams that were left."""
        assert "id" not in message, message
        return message["method"] not in {"notifications/resources/updated", "notifications/tasks"}

    def say_nonsense(self) -> None:
        """Send what is no JSON; the next request is answered."""
        self._write_line(b'{"jsonrpc": "2.0", "id": 1, "meth')
        self.calls += 1
        assert "result" in self.ask("tools/list")

    def come_back(self) -> None:
        """Do nothing: another host would have a server of its own."""

    def go(self) -> None:
        """Do nothing: the server ends with its input."""

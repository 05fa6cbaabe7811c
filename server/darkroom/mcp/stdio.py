"""MCP over standard input and output, with an orderly shutdown.

The SDK's transport can only be ended by the host, and drops the answers of open calls when the input
ends. Here, at the end of the input or at a signal, waits return, and requests that were sent are
recorded and answered before the process ends. A second signal ends the process at once.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, cast

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp_types import (
    INTERNAL_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
)
from pydantic_core import PydanticSerializationError, to_json

from darkroom.core.log import log
from darkroom.mcp.frames import FrameError, checked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp.server.mcpserver import MCPServer

ANSWER_SECONDS = 10.0
"""Time for answering open calls during shutdown; requests that were sent have more time."""

FLUSH_SECONDS = 2.0
"""Time for writing the last answers after everything is recorded."""

READ_BYTES = 65_536
UNWRITABLE = "[internal_error] the answer of this server cannot be written as JSON"
OPEN_ENDED = frozenset({"subscriptions/listen"})
"""Requests that are answered only when the host cancels them."""

if sys.platform == "win32":
    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
else:
    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def serve(server: MCPServer[Any], stopping: anyio.Event) -> None:
    """Serve one host until its end, and return when everything is recorded.

    ``stopping`` is set as soon as the shutdown begins.
    """
    requests = Requests()

    async def at_end() -> None:
        stopping.set()
        with anyio.move_on_after(ANSWER_SECONDS):
            await requests.all_answered()

    # A library that prints or reads must not write into the protocol or take input from it.
    lines = _Lines(_take(0, os.open(os.devnull, os.O_RDONLY)), at_end)
    out = _Out(_take(1, os.dup(2)))
    lowlevel = server._lowlevel_server  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] -- MCPServer has no public way to serve given streams
    async with anyio.create_task_group() as tasks:
        await tasks.start(_end_at_signals, lines.end)
        lines.begin()
        tasks.start_soon(_refuse, lines, out)
        try:
            with anyio.CancelScope() as flushing:
                async with stdio_server(cast("Any", lines), cast("Any", out)) as (reads, writes):
                    await lowlevel.run(
                        cast("Any", _Incoming(reads, requests)),
                        cast("Any", Outgoing(writes, requests)),
                        lowlevel.create_initialization_options(),
                    )
                    flushing.deadline = anyio.current_time() + FLUSH_SECONDS
        except* _HostGoneError:
            pass  # the host has stopped reading; what was sent has been recorded
        tasks.cancel_scope.cancel()


async def _refuse(lines: _Lines, out: _Out) -> None:
    """Answer lines that cannot be taken."""
    with suppress(_HostGoneError):
        async for answer in lines.refused:
            await out.write(answer + "\n")


def _take(descriptor: int, stand_in: int) -> int:
    """Return a private duplicate of a standard stream, and replace the stream by ``stand_in``."""
    private = os.dup(descriptor)
    os.dup2(stand_in, descriptor)
    os.close(stand_in)
    return private


async def _end_at_signals(
    end: Callable[[], None], *, task_status: anyio.abc.TaskStatus[None]
) -> None:
    """Call ``end`` at the first signal; end the process at the second."""
    seen = 0

    def take(number: int) -> None:
        nonlocal seen
        seen += 1
        if seen > 1:
            os._exit(128 + number)
        end()

    try:
        with anyio.open_signal_receiver(*SIGNALS) as signals:
            task_status.started()
            async for number in signals:
                take(number)
    except NotImplementedError:  # on Windows the event loop does not support signal handlers
        for number in SIGNALS:
            signal.signal(number, lambda number, _: take(number))
        task_status.started()


class _Lines:
    """The lines of the input, read by a thread that nothing has to wait for.

    At the end of the input, ``at_end`` is awaited before the end is passed on.
    """

    def __init__(self, descriptor: int, at_end: Callable[[], Awaitable[None]]) -> None:
        self._descriptor = descriptor
        self._at_end = at_end
        self._send, self._receive = anyio.create_memory_object_stream[str](math.inf)
        self._refusals, self.refused = anyio.create_memory_object_stream[str](math.inf)
        """What the senders of lines that cannot be taken are told."""

    def begin(self) -> None:
        """Start reading."""
        token = anyio.lowlevel.current_token()
        threading.Thread(target=self._read, args=(token,), name="stdin", daemon=True).start()

    def end(self) -> None:
        """Stop reading."""
        self._send.close()
        self._refusals.close()

    def _read(self, token: anyio.lowlevel.EventLoopToken) -> None:
        start: list[bytes] = []
        with suppress(RuntimeError):  # the event loop has ended
            while chunk := self._chunk():
                first, *rest = chunk.split(b"\n")
                start.append(first)
                if rest:
                    lines = [b"".join(start), *rest]
                    start = [lines.pop()]
                    anyio.from_thread.run_sync(self._put, lines, token=token)
            anyio.from_thread.run_sync(self._put, [b"".join(start)], token=token)
            anyio.from_thread.run_sync(self.end, token=token)

    def _chunk(self) -> bytes:
        with suppress(OSError):
            return os.read(self._descriptor, READ_BYTES)
        return b""

    def _put(self, lines: list[bytes]) -> None:
        with suppress(anyio.ClosedResourceError):  # ended by a signal
            for line in lines:
                if not line.strip():
                    continue
                try:
                    self._send.send_nowait(checked(line).decode())
                except FrameError as error:
                    self._refusals.send_nowait(error.answer)

    def __aiter__(self) -> _Lines:
        return self

    async def __anext__(self) -> str:
        try:
            return await self._receive.receive()
        except anyio.EndOfStream:
            await self._at_end()
            raise StopAsyncIteration from None


class _HostGoneError(Exception):
    """The host no longer reads our output."""


class _Out:
    """The output, as the SDK's transport writes it: a line at a time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._one_at_a_time = anyio.Lock()

    async def write(self, text: str) -> None:
        """Write a line in a thread, so that a host that does not read blocks nothing else."""
        try:
            async with self._one_at_a_time:
                await anyio.to_thread.run_sync(self._write, text.encode(), abandon_on_cancel=True)
        except OSError:
            raise _HostGoneError from None

    def _write(self, line: bytes) -> None:
        left = memoryview(line)
        while left:
            left = left[os.write(self._descriptor, left) :]

    async def flush(self) -> None:
        """Do nothing: every write is complete."""


class Requests:
    """The host's requests that have not been answered yet."""

    def __init__(self) -> None:
        self._open: set[object] = set()
        self._changed = anyio.Event()

    def read(self, item: SessionMessage | Exception) -> None:
        """Record a received message: a request, or the cancellation of one."""
        message = item.message if isinstance(item, SessionMessage) else None
        if isinstance(message, JSONRPCRequest) and message.method not in OPEN_ENDED:
            self._open.add(message.id)
        elif (
            isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled"
        ):
            given = (message.params or {}).get("requestId")
            if isinstance(given, str | int):  # the host may send any JSON value here
                self._close(given)

    def written(self, item: SessionMessage) -> None:
        """Record a message that was sent."""
        if isinstance(item.message, JSONRPCResponse | JSONRPCError):
            self._close(item.message.id)

    def _close(self, request_id: str | int | None) -> None:
        self._open.discard(request_id)
        if not self._open:
            self._changed.set()
            self._changed = anyio.Event()

    async def all_answered(self) -> None:
        """Wait until every received request is answered."""
        while self._open:
            await self._changed.wait()


class _Incoming:
    """The transport's messages; each is recorded when it is read."""

    def __init__(self, stream: Any, requests: Requests) -> None:
        self._stream = stream
        self._requests = requests

    @property
    def last_context(self) -> Any:
        return self._stream.last_context

    async def receive(self) -> SessionMessage | Exception:
        item = await self._stream.receive()
        self._requests.read(item)
        return item

    def __aiter__(self) -> _Incoming:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _sendable(item: SessionMessage) -> SessionMessage | None:
    """Return a message, or its replacement if it cannot be written as JSON.

    The SDK's transport would end the session. An answer is replaced by an error; a notification is
    dropped.
    """
    message = item.message
    try:
        match message:
            case JSONRPCResponse():
                to_json(message.result)
            case JSONRPCError():
                to_json(message.error)
            case _:
                to_json(message.params)
    except PydanticSerializationError:
        log.error("a message could not be written: %s", type(message).__name__)
        if isinstance(message, JSONRPCResponse | JSONRPCError):
            error = ErrorData(code=INTERNAL_ERROR, message=UNWRITABLE)
            return SessionMessage(JSONRPCError(jsonrpc="2.0", id=message.id, error=error))
        return None
    return item


class Outgoing:
    """The stream to the transport; each answer is recorded when the transport has it."""

    def __init__(self, stream: Any, requests: Requests) -> None:
        self._stream = stream
        self._requests = requests

    async def send(self, item: SessionMessage, /) -> None:
        """Send a message; one that cannot be written is replaced by an error."""
        sendable = _sendable(item)
        if sendable is not None:
            await self._stream.send(sendable)
        self._requests.written(item)

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

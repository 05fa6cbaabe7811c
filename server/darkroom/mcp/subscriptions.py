"""Notifies subscribers that a job's resource has changed, in both revisions of the protocol."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourceUpdated
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
)

from darkroom.core.log import log
from darkroom.jobs.view import job_uri

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp.server.connection import Connection
    from mcp.server.session import ServerSession

    from darkroom.engine.engine import Engine
    from darkroom.jobs.model import Job


MOST_WAITING = 256
"""Maximum number of waiting notifications for sessions of 2025-11-25; the oldest are dropped."""


MOST_ADDRESSES = 1_000
"""Maximum number of subscriptions of one connection of 2025-11-25."""


DELIVERY_SECONDS = 5.0
"""Time for a host to accept a notification before the next host gets its own."""


class Changes(InMemorySubscriptionBus):
    """Notifies subscribers that a job's resource has changed.

    In 2026-07-28 the SDK's listen streams subscribe here. Connections of 2025-11-25 are kept by the
    addresses that they have subscribed to.
    """

    def __init__(self) -> None:
        super().__init__()
        self._connections: dict[str, set[Connection]] = {}
        self._addresses: dict[Connection, set[str]] = {}

    def subscribed(self, uri: str, session: ServerSession) -> None:
        """Subscribe a session's connection to an address, until the connection ends.

        Raises
        ------
        MCPError: it has the maximum number of subscriptions.
        """
        connection = _connection(session)
        addresses = self._addresses.get(connection)
        if addresses is None:
            addresses = self._addresses[connection] = set()
            connection.exit_stack.callback(self._gone, connection)
        if uri not in addresses and len(addresses) >= MOST_ADDRESSES:
            raise MCPError(INVALID_PARAMS, f"{MOST_ADDRESSES} subscriptions: unsubscribe first")
        addresses.add(uri)
        self._connections.setdefault(uri, set()).add(connection)

    def unsubscribed(self, uri: str, session: ServerSession) -> None:
        """End the subscription of a session's connection to an address."""
        connection = _connection(session)
        self._addresses.get(connection, set()).discard(uri)
        self._forget(uri, connection)

    def _gone(self, connection: Connection) -> None:
        for uri in self._addresses.pop(connection, ()):
            self._forget(uri, connection)

    def _forget(self, uri: str, connection: Connection) -> None:
        connections = self._connections.get(uri, set())
        connections.discard(connection)
        if not connections:
            self._connections.pop(uri, None)

    @asynccontextmanager
    async def told_by(self, engine: Engine) -> AsyncGenerator[None]:
        """Pass on the changes of an engine's jobs while the context lasts."""
        send, receive = anyio.create_memory_object_stream[str](MOST_WAITING)

        def changed(job: Job) -> None:
            if not self._listeners and not self._connections:
                return
            uri = job_uri(job.job_id)
            for listener in list(self._listeners.values()):
                listener(ResourceUpdated(uri=uri))
            if uri in self._connections:
                try:
                    send.send_nowait(uri)
                except anyio.WouldBlock:
                    log.warning("a host does not take notifications")

        engine.watch(changed)
        async with anyio.create_task_group() as tasks, send, receive:
            tasks.start_soon(self._deliver, receive)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()

    async def _deliver(self, receive: Any) -> None:
        async for uri in receive:
            for connection in tuple(self._connections.get(uri, ())):
                with anyio.move_on_after(DELIVERY_SECONDS):
                    await connection.send_resource_updated(uri)


def _connection(session: ServerSession) -> Connection:
    """Return the connection behind a session object, which exists only during one request."""
    return session._connection  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] -- the SDK has no other way

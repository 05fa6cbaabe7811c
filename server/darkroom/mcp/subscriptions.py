"""Notifies subscribers that a job's resource has changed, in both revisions of the protocol."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourceUpdated
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
)

from darkroom.core.log import log
from darkroom.jobs.model import LOCAL_OWNER
from darkroom.jobs.view import job_uri
from darkroom.mcp.owner import owner_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from mcp.server.connection import Connection
    from mcp.server.session import ServerSession
    from mcp.server.subscriptions import ServerEvent

    from darkroom.engine.process import Process
    from darkroom.jobs.model import Job


MOST_WAITING = 256
"""Maximum number of waiting notifications for sessions of 2025-11-25; the oldest are dropped."""


MOST_ADDRESSES = 1_000
"""Maximum number of subscriptions of one connection of 2025-11-25."""


DELIVERY_SECONDS = 5.0
"""Time for a host to accept a notification before the next host gets its own."""


@dataclass(frozen=True)
class JobUpdated(ResourceUpdated):
    """A change of somebody's job."""

    owner: str = LOCAL_OWNER


Address: TypeAlias = tuple[str, str]
"""An owner and the address of a resource: others may subscribe to it, but hear nothing."""


class Changes(InMemorySubscriptionBus):
    """Notifies subscribers that a job's resource has changed: those whose job it is.

    In 2026-07-28 the SDK's listen streams subscribe here. Connections of 2025-11-25 are kept by the
    addresses that they have subscribed to.
    """

    def __init__(self) -> None:
        super().__init__()
        self._connections: dict[Address, set[Connection]] = {}
        self._addresses: dict[Connection, set[Address]] = {}

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Subscribe a stream of the person whose request opens it."""
        owner = owner_of()

        def own(event: ServerEvent) -> None:
            if not isinstance(event, JobUpdated) or event.owner == owner:
                listener(event)

        return super().subscribe(own)

    def subscribed(self, uri: str, owner: str, session: ServerSession) -> None:
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
        address = owner, uri
        if address not in addresses and len(addresses) >= MOST_ADDRESSES:
            raise MCPError(INVALID_PARAMS, f"{MOST_ADDRESSES} subscriptions: unsubscribe first")
        addresses.add(address)
        self._connections.setdefault(address, set()).add(connection)

    def unsubscribed(self, uri: str, owner: str, session: ServerSession) -> None:
        """End the subscription of a session's connection to an address."""
        connection = _connection(session)
        self._addresses.get(connection, set()).discard((owner, uri))
        self._forget((owner, uri), connection)

    def _gone(self, connection: Connection) -> None:
        for address in self._addresses.pop(connection, ()):
            self._forget(address, connection)

    def _forget(self, address: Address, connection: Connection) -> None:
        connections = self._connections.get(address, set())
        connections.discard(connection)
        if not connections:
            self._connections.pop(address, None)

    @asynccontextmanager
    async def told_by(self, process: Process) -> AsyncGenerator[None]:
        """Pass on the changes of a process's jobs while the context lasts."""
        send, receive = anyio.create_memory_object_stream[Address](MOST_WAITING)

        def changed(job: Job) -> None:
            if not self._listeners and not self._connections:
                return
            uri = job_uri(job.job_id)
            for listener in list(self._listeners.values()):
                listener(JobUpdated(uri=uri, owner=job.owner))
            address = job.owner, uri
            if address in self._connections:
                try:
                    send.send_nowait(address)
                except anyio.WouldBlock:
                    log.warning("a host does not take notifications")

        process.watch(changed)
        async with anyio.create_task_group() as tasks, send, receive:
            tasks.start_soon(self._deliver, receive)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()

    async def _deliver(self, receive: Any) -> None:
        async for address in receive:
            for connection in tuple(self._connections.get(address, ())):
                with anyio.move_on_after(DELIVERY_SECONDS):
                    await connection.send_resource_updated(address[1])


def _connection(session: ServerSession) -> Connection:
    """Return the connection behind a session object, which exists only during one request."""
    return session._connection  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] -- the SDK has no other way

"""Connects only to addresses that were checked: what a download reaches is public.

The check is made on the addresses that are then connected to, so that a second DNS answer cannot
bypass it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

from darkroom.core.errors import FetchError
from darkroom.core.urls import Origin, is_loopback_ip, is_public_ip

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Collection, Iterable

    import httpcore2

    Resolve = Callable[[str, int], Awaitable[Collection[str]]]

KEEPALIVE_SECONDS = 5


class GuardedTransport(httpx2.AsyncHTTPTransport):
    """The transport of httpx2, but with a pool of ours, which it does not take as an argument."""

    def __init__(self, pool: httpcore2.AsyncConnectionPool) -> None:
        # Not super().__init__(): without its own pool it cannot connect unguarded.
        self._pool = pool


def guarded_pool(
    context: ssl.SSLContext,
    admitted: Collection[Origin],
    resolve: Resolve,
    network: httpcore2.AsyncNetworkBackend | None,
) -> httpcore2.AsyncConnectionPool:
    """Make a pool that connects only to addresses it has checked; TLS verifies the host name."""
    import httpcore2  # noqa: PLC0415 -- tens of milliseconds that a start need not wait for

    loopback = {(origin.host, origin.port) for origin in admitted}
    dialler: httpcore2.AsyncNetworkBackend = network or httpcore2.AnyIOBackend()  # pyright: ignore[reportAssignmentType] -- its stand-in without anyio has no base

    class Guard(httpcore2.AsyncNetworkBackend):
        async def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,  # noqa: ASYNC109 -- the signature is httpcore2's
            local_address: str | None = None,
            socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
        ) -> httpcore2.AsyncNetworkStream:
            try:
                addresses = await resolve(host, port)
            except OSError:
                raise FetchError("the host is not known", code="provider_unavailable") from None
            allowed = is_loopback_ip if (host, port) in loopback else is_public_ip
            if not all(allowed(address) for address in addresses):
                reason = "the address leads to a host that is not public"
                raise FetchError(reason, code="forbidden")
            failure: Exception = httpcore2.ConnectError("no address")
            for address in addresses:
                try:
                    return await dialler.connect_tcp(
                        address, port, timeout, local_address, socket_options
                    )
                except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                    failure = error
            raise failure

    return httpcore2.AsyncConnectionPool(
        ssl_context=context,
        max_connections=None,  # callers limit how many run at once
        keepalive_expiry=KEEPALIVE_SECONDS,
        network_backend=Guard(),
    )

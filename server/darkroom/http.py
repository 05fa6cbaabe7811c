"""The only way out to a provider: authorisation, timeouts, what may be repeated, size limits.

Two errors tell what became of a request that got no answer: `NotSentError`, it certainly never
arrived; `LostError`, nobody can tell.
"""

from __future__ import annotations

import logging
from contextlib import aclosing
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import anyio
import httpx2

from darkroom.errors import DarkroomError
from darkroom.exchange import read_body
from darkroom.operation import Answer, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from darkroom.credentials import Key

CONNECT_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS = 25.0
WRITE_TIMEOUT_SECONDS = 10.0
DEADLINE_SECONDS = 30.0
"""For one request from connecting to the last byte."""

ANSWER_LIMIT_BYTES = 4 * 1024 * 1024
LONGEST_RETRY_AFTER_SECONDS = 24 * 3600.0
_FRESH = "darkroom.fresh"
log = logging.getLogger("darkroom")


class NotSentError(DarkroomError):
    """The request certainly never arrived: it may be sent again."""


class LostError(DarkroomError):
    """The request left, and no whole answer came; ``reason`` says how, in our words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Transport(httpx2.AsyncBaseTransport):
    """Keeps connections for reads; opens and closes one for each request that must not be repeated.

    A kept connection may have been closed by the provider: writing to it loses the request in a
    way that cannot be told from a request that arrived.
    """

    def __init__(self) -> None:
        context = httpx2.create_ssl_context()
        kept = httpx2.Limits(max_keepalive_connections=4, keepalive_expiry=4.0)
        none = httpx2.Limits(max_keepalive_connections=0)
        self._kept = httpx2.AsyncHTTPTransport(verify=context, limits=kept)
        self._fresh = httpx2.AsyncHTTPTransport(verify=context, limits=none)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send through the connections that the request asks for."""
        transport = self._fresh if request.extensions.get(_FRESH) else self._kept
        return await transport.handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._kept.aclose()
        await self._fresh.aclose()


class Outlet:
    """Sends requests to one base address. The client is built for the first of them."""

    def __init__(
        self,
        base_url: str,
        *,
        clock: Callable[[], float],
        transport: httpx2.AsyncBaseTransport | None = None,
        user_agent: str = "darkroom",
    ) -> None:
        self._base_url = base_url
        self._clock = clock
        self._transport = transport
        self._user_agent = user_agent
        self._client: httpx2.AsyncClient | None = None

    async def send(self, request: Request, key: Key, *, once: bool) -> Answer:
        """Send one request and read its answer.

        ``once``: the request changes or costs something, and leaves on a connection of its own.

        Raises
        ------
        NotSentError: it certainly never arrived.
        LostError: it left, and no whole answer came.
        """
        client = self._open()
        left = False
        try:
            with anyio.fail_after(DEADLINE_SECONDS):
                outgoing = client.build_request(
                    request.method,
                    self._base_url + request.path,
                    params=dict(request.query) or None,
                    json=request.body if request.body is not None else None,
                    headers={**request.headers, **key.credential.headers(key.secret)},
                    extensions={_FRESH: True} if once else None,
                )
                left = True
                response = await client.send(outgoing, stream=True)
                try:
                    body = _redacted(await self._read(response), key)
                finally:
                    with anyio.CancelScope(shield=True):
                        await response.aclose()
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise NotSentError(_kind(error)) from None
        except TimeoutError:
            if not left:
                raise NotSentError("no connection in time") from None
            raise LostError("no answer within the deadline") from None
        except httpx2.TimeoutException:
            raise LostError("no answer in time") from None
        except httpx2.DecodingError:
            raise LostError("the answer could not be decoded") from None
        except httpx2.HTTPError:
            raise LostError("the connection broke after the request left") from None
        except LostError:
            raise
        except Exception as error:  # noqa: BLE001 -- a request that left must not be without a fate
            log.error("a request failed: %s", type(error).__name__)
            if not left:
                raise NotSentError("it could not be built") from None
            raise LostError("sending it failed in this server") from None
        return Answer(
            status=response.status_code,
            body=read_body(body),
            headers={
                name.lower(): _redacted(value.encode(), key).decode()
                for name, value in response.headers.items()
            },
            received_at=self._clock(),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    def _open(self) -> httpx2.AsyncClient:
        if self._client is None:
            self._client = httpx2.AsyncClient(
                transport=self._transport if self._transport is not None else _Transport(),
                timeout=httpx2.Timeout(
                    READ_TIMEOUT_SECONDS,
                    connect=CONNECT_TIMEOUT_SECONDS,
                    write=WRITE_TIMEOUT_SECONDS,
                    pool=CONNECT_TIMEOUT_SECONDS,
                ),
                follow_redirects=False,
                headers={"user-agent": self._user_agent, "accept": "application/json"},
                trust_env=False,
            )
        return self._client

    @staticmethod
    async def _read(response: httpx2.Response) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async with aclosing(response.aiter_bytes()) as incoming:
            async for chunk in incoming:
                size += len(chunk)
                if size > ANSWER_LIMIT_BYTES:
                    raise LostError(f"the answer was larger than {ANSWER_LIMIT_BYTES >> 20} MiB")
                chunks.append(chunk)
        return b"".join(chunks)


def _redacted(body: bytes, key: Key) -> bytes:
    """Take the credential out of an answer that repeats it: no error may carry it on."""
    return body.replace(key.secret.get_secret_value().encode(), b"[credential]")


def _kind(error: Exception) -> str:
    return "connection timed out" if isinstance(error, httpx2.TimeoutException) else "no connection"


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that Retry-After (seconds or a date) or RateLimit-Reset asks to wait.

    At most a day; None where neither is there or can be understood.
    """
    for name in ("retry-after", "ratelimit-reset", "x-ratelimit-reset"):
        text = headers.get(name, "").strip()
        if not text:
            continue
        try:
            seconds = float(text)
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - now
            except (ValueError, TypeError, OverflowError):
                continue
        if seconds > now / 2:  # an instant, not a duration
            seconds -= now
        if seconds == seconds:  # noqa: PLR0124 -- false for NaN only
            return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)
    return None

"""Sends requests to providers: authorisation, timeouts and size limits. Nothing else does.

A request without a response ends in one of two errors: `NotSentError` if it certainly never
arrived, `LostError` if that is not known.
"""

from __future__ import annotations

import errno
import logging
from contextlib import aclosing
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal

import anyio
import httpx2

from darkroom.core.errors import DarkroomError
from darkroom.core.redaction import redacted
from darkroom.core.urls import SANDBOX_SUFFIX, Origin, is_loopback_host
from darkroom.providers.client.proxies import ProxyVariableError, proxy_for
from darkroom.providers.messages import Request, Response, read_body

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from darkroom.core.errors import Code
    from darkroom.providers.client.proxies import Proxy
    from darkroom.providers.credentials import Key

CONNECT_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS = 25.0
WRITE_TIMEOUT_SECONDS = 10.0
DEADLINE_SECONDS = 30.0
"""Time for one request, from connecting to the last byte of the response."""

HTTPS_PORT = 443
ANSWER_LIMIT_BYTES = 4 * 1024 * 1024
LONGEST_RETRY_AFTER_SECONDS = 3600.0
"""One header holds a credential no longer than this; then it is tried again."""

_FRESH = "darkroom.fresh"

BAD_CERTIFICATES = (
    "the certificates that connections are checked with cannot be read; "
    "SSL_CERT_FILE names their file, if it is set"
)
BAD_ADDRESS = "the base address is not valid"
FOREIGN_ADDRESS = "an address to ask next is not on one of its hosts"
BAD_KEY = "the key holds characters that cannot be sent"

Stage = Literal["client", "request", "connection", "sent"]
"""The stages of a request, in their order; in the last one bytes may have been sent."""

_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""Errors of the system that are temporary, and not caused by the configuration."""

log = logging.getLogger("darkroom")


class NotSentError(DarkroomError):
    """The request certainly never arrived; ``reason`` says why, in our own words.

    ``code`` is ``provider_unavailable`` if sending it again may help; otherwise it names the cause.
    """

    def __init__(self, reason: str, code: Code = "provider_unavailable") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code: Code = code


class LostError(DarkroomError):
    """The request was sent, and no complete response came; ``reason`` is our own text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Course:
    """The stage that a request has reached; before ``sent`` no byte of it has been sent."""

    def __init__(self) -> None:
        self.stage: Stage = "client"

    async def note(self, event: str, about: Mapping[str, object]) -> None:
        """Record an event of the connection (httpcore2's ``trace``).

        What asks a proxy for a connection is no request to the provider.
        """
        if getattr(about.get("request"), "method", None) == b"CONNECT":
            return
        if event.endswith("send_request_headers.started"):
            self.stage = "sent"


def _fate(error: Exception, stage: Stage) -> NotSentError | LostError:
    """Return the error for an exception of a request. This is decided only here."""
    if isinstance(error, (NotSentError, LostError)):
        return error
    if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)):
        return NotSentError(_kind(error))
    if isinstance(error, ProxyVariableError):
        return NotSentError(str(error), "not_configured")
    if isinstance(error, httpx2.ProxyError):
        return NotSentError(f"the proxy made no connection ({error})")
    if isinstance(error, httpx2.LocalProtocolError):  # h11 checks headers before it writes
        return NotSentError(BAD_KEY, "not_configured")
    if isinstance(error, (httpx2.InvalidURL, httpx2.UnsupportedProtocol)):
        return NotSentError(BAD_ADDRESS, "not_configured")
    if stage != "sent":
        return _not_sent(error, stage)
    if isinstance(error, TimeoutError):
        return LostError("no answer within the deadline")
    if isinstance(error, httpx2.TimeoutException):
        return LostError("no answer in time")
    if isinstance(error, httpx2.DecodingError):
        return LostError("the answer could not be decoded")
    if isinstance(error, httpx2.HTTPError):
        return LostError("the connection broke after the request left")
    log.error("a request failed: %s", type(error).__name__)
    return LostError("sending it failed in this server")


def _not_sent(error: Exception, stage: Stage) -> NotSentError:
    if isinstance(error, (OSError, httpx2.TransportError)):
        if stage == "client" and getattr(error, "errno", None) not in _PASSING:
            return NotSentError(f"{BAD_CERTIFICATES} ({type(error).__name__})", "not_configured")
        return NotSentError("no connection")
    log.error("a request could not be built: %s", type(error).__name__)
    return NotSentError("the request could not be built in this server", "internal_error")


def _headers(key: Key) -> Mapping[str, str]:
    """Return the headers that carry a credential."""
    headers = key.credential.headers(key.secret)
    if not all(value.isascii() and value.isprintable() for value in headers.values()):
        raise NotSentError(BAD_KEY, "not_configured")
    return headers


class _Transport(httpx2.AsyncBaseTransport):
    """Reuses connections for reads; uses a new one for each request that must not be repeated.

    The provider may have closed a reused connection. A request that is written to it then fails in
    the same way as one that arrived, and would be unknown although the network is healthy.
    """

    def __init__(self, *, proxy: Proxy | None) -> None:
        context = httpx2.create_ssl_context()
        via = httpx2.Proxy(proxy.url) if proxy is not None else None
        kept = httpx2.Limits(max_keepalive_connections=4, keepalive_expiry=4.0)
        none = httpx2.Limits(max_keepalive_connections=0)
        self._kept = httpx2.AsyncHTTPTransport(verify=context, limits=kept, proxy=via)
        self._fresh = httpx2.AsyncHTTPTransport(verify=context, limits=none, proxy=via)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send on a reused or a new connection, as the request requires."""
        transport = self._fresh if request.extensions.get(_FRESH) else self._kept
        return await transport.handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._kept.aclose()
        await self._fresh.aclose()


class HttpClient:
    """Sends requests to one base address. The HTTP client is built for the first request.

    ``environment``: the variables that may name a proxy; without them there is none.
    """

    def __init__(
        self,
        base_url: str,
        *,
        hosts: Collection[str] = (),
        clock: Callable[[], float],
        transport: httpx2.AsyncBaseTransport | None = None,
        environment: Mapping[str, str] | None = None,
        user_agent: str = "darkroom",
    ) -> None:
        self.base_url = base_url
        self._hosts = tuple(hosts)
        self._environment = environment or {}
        self._clock = clock
        self._transport = transport
        self._user_agent = user_agent
        self._client: httpx2.AsyncClient | None = None
        self.heard: Callable[[Request, Key, Response], None] | None = None
        """Told of every answer, whoever asked."""

    def admits(self, address: str) -> bool:
        """Tell whether a request with a credential may go to an address that an answer named."""
        try:
            origin, base = Origin.of(address), Origin.of(self.base_url)
        except ValueError:
            return False
        if origin == base:
            return True
        if is_loopback_host(base.host) or base.host.endswith(SANDBOX_SUFFIX):
            return False  # it stands for all hosts of the provider
        usual = origin.scheme == "https" and origin.port == HTTPS_PORT
        return usual and any(
            origin.host.endswith(host[1:]) if host.startswith("*.") else origin.host == host
            for host in self._hosts
        )

    async def send(self, request: Request, key: Key, *, once: bool) -> Response:
        """Send one request and read its response.

        ``once``: the request changes or costs something and gets a connection of its own.

        Raises
        ------
        NotSentError: it certainly never arrived.
        LostError: it was sent, and no complete response came.
        """
        course = _Course()
        try:
            client = self._open()
            course.stage = "request"
            with anyio.fail_after(DEADLINE_SECONDS):
                if request.address is not None and not self.admits(request.address):
                    raise NotSentError(FOREIGN_ADDRESS, "bad_response")  # noqa: TRY301 -- as any fate
                outgoing = client.build_request(
                    request.method,
                    request.address or self.base_url + request.path,
                    params=dict(request.query) or None,
                    json=request.body if request.body is not None else None,
                    headers={**request.headers, **_headers(key)},
                    extensions={"trace": course.note, **({_FRESH: True} if once else {})},
                )
                # A transport that was passed in reports no stages: the request may have been sent.
                course.stage = "connection" if self._transport is None else "sent"
                response = await client.send(outgoing, stream=True)
                try:
                    body = await self._read(response)
                finally:
                    with anyio.CancelScope(shield=True):
                        await response.aclose()
        except Exception as error:  # noqa: BLE001 -- no request may be without a fate
            raise _fate(error, course.stage) from None
        secret = key.secret.get_secret_value()
        answer = Response(
            status=response.status_code,
            body=read_body(body, secret),
            headers={
                redacted(name.lower(), secret): redacted(value, secret)
                for name, value in response.headers.items()
            },
            received_at=self._clock(),
        )
        if self.heard is not None:
            self.heard(request, key, answer)
        return answer

    async def aclose(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    def _open(self) -> httpx2.AsyncClient:
        if self._client is None:
            self._client = httpx2.AsyncClient(
                transport=self._transport
                if self._transport is not None
                else _Transport(proxy=proxy_for(self.base_url, self._environment)),
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


def _kind(error: Exception) -> str:
    return "connection timed out" if isinstance(error, httpx2.TimeoutException) else "no connection"


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds to wait, from Retry-After (seconds or a date) or RateLimit-Reset.

    At most `LONGEST_RETRY_AFTER_SECONDS`; None if neither header is present and valid.
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
        if seconds > now / 2:  # a point in time, not a duration
            seconds -= now
        if seconds == seconds:  # noqa: PLR0124 -- false for NaN only
            return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)
    return None

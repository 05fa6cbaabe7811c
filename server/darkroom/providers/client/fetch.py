"""Download an address that comes from outside, without trusting it.

- Only https is allowed, and every IP address of the host must be public. The network backend
  checks the IP addresses that it then connects to, so that a second DNS answer cannot bypass the
  check. Redirects are followed one by one, and each is checked again.
- There are two exact exceptions: origins that the operator configured (loopback emulators), and
  hosts under ``.sandbox.test``, which are answered in this process without the network.
- Size, time and media type are limited; the bytes decide about the type, not the header.

Cookies and credentials are not used; a proxy only where the person has set it (``proxies``).
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import socket
import tempfile
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx2

from darkroom.core.byte_budget import LARGEST_FILE_BYTES, ByteBudget
from darkroom.core.errors import FetchError
from darkroom.core.files import make_private_folder
from darkroom.core.media_ends import is_whole
from darkroom.core.media_types import PART_PREFIX, PART_SUFFIX, pixel_size, sniff_media_type
from darkroom.core.urls import SANDBOX_SUFFIX, Origin, address_fault
from darkroom.providers.client.decoding import Decoder
from darkroom.providers.client.guard import GuardedTransport, guarded_pool
from darkroom.providers.client.proxies import ProxyVariableError

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Awaitable,
        Callable,
        Collection,
    )

    import httpcore2

    from darkroom.providers.client.guard import Resolve
    from darkroom.providers.client.proxies import Proxy


MAX_BYTES = LARGEST_FILE_BYTES
DEADLINE_SECONDS = 120
IDLE_SECONDS = 20
CONNECT_SECONDS = 10
CLOSE_SECONDS = 1
MAX_REDIRECTS = 3
BLOCK_BYTES = 1024 * 1024
"""Bytes that are collected before they are written."""
HEAD_BYTES = 256 * 1024
"""Bytes in which the pixel size is searched; a JPEG may have a colour profile before it."""
PICTURES_AND_VIDEOS = ("image/", "video/")

_OK = 200
_SERVER_ERRORS = 500
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_DEAD = frozenset({401, 403, 404, 410})
_TOO_MANY_REQUESTS = 429
_HEADERS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "darkroom"}
_LENGTH = re.compile(r"[0-9]{1,18}")
_MEDIA_TYPE = re.compile(r"[a-z]{1,20}/[a-z0-9.+-]{1,60}")

T = TypeVar("T")


class Offload(Protocol):
    """Runs blocking file operations without blocking the event loop."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """Return what ``work`` returns."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A finished download: a temporary file (0600, synced) that the caller renames or removes."""

    path: Path
    bytes: int
    media_type: str
    sha256: str
    whole: bool = True
    """Whether the file has the end that its kind has; see `core.media_ends`."""

    width: int | None = None
    height: int | None = None


async def resolve_host(host: str, port: int) -> list[str]:
    """Return the IP addresses of ``host`` in the system's order of preference."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Fetcher:
    """Downloads pictures and videos; opens its connections at the first download.

    ``admitted``: loopback origins that the operator configured. ``sandbox``: answers
    ``*.sandbox.test``; without it these hosts are refused. ``resolve``, ``network`` and
    ``offload`` are for tests and for callers with a thread of their own. ``proxies`` tells which
    addresses are reached through a proxy: the proxy resolves their names, so that only addresses
    that are written as numbers are checked.
    """

    def __init__(
        self,
        *,
        admitted: Collection[Origin] = (),
        sandbox: httpx2.AsyncBaseTransport | None = None,
        resolve: Resolve = resolve_host,
        network: httpcore2.AsyncNetworkBackend | None = None,
        offload: Offload = anyio.to_thread.run_sync,
        proxies: Callable[[str], Proxy | None] = lambda _: None,
        max_bytes: int = MAX_BYTES,
        deadline_seconds: float = DEADLINE_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
        max_redirects: int = MAX_REDIRECTS,
    ) -> None:
        self._admitted = frozenset(admitted)
        self._sandbox = sandbox
        self._make_pool = partial(
            guarded_pool, admitted=self._admitted, resolve=resolve, network=network
        )
        self._offload = offload
        self._max_bytes = max_bytes
        self._deadline_seconds = deadline_seconds
        self._idle_seconds = idle_seconds
        self._max_redirects = max_redirects
        self._network: GuardedTransport | None = None
        self._proxies = proxies
        self._through: dict[str, httpx2.AsyncHTTPTransport] = {}

    async def aclose(self) -> None:
        """Close the connections; whoever passed the sandbox in closes it."""
        network, self._network = self._network, None
        through, self._through = list(self._through.values()), {}
        for transport in (*through, *([network] if network is not None else [])):
            await transport.aclose()

    async def download(
        self,
        address: str,
        into: Path,
        *,
        expected: Collection[str] = PICTURES_AND_VIDEOS,
        budget: ByteBudget | None = None,
    ) -> Download:
        """Stream ``address`` into a new file in the folder ``into``.

        ``expected`` contains media types or their beginnings. ``budget``: what this download may
        have together with others. Raises only FetchError. After an
        error or a cancellation no file is left.
        """
        try:
            with anyio.fail_after(self._deadline_seconds):
                async with self._open(address) as response:
                    given = budget or ByteBudget(self._max_bytes)
                    return await self._save(response, into, tuple(expected), given)
        except TimeoutError:
            raise FetchError("the download took too long", code="timeout") from None
        except httpx2.TimeoutException:
            raise FetchError("the connection took too long", code="timeout") from None
        except httpx2.ProxyError:
            raise FetchError("the proxy made no connection") from None
        except httpx2.ConnectError:
            raise FetchError("no secure connection was made", code="provider_unavailable") from None
        except httpx2.InvalidURL:
            raise FetchError("the address cannot be read", code="forbidden") from None
        except (httpx2.TransportError, OSError):
            raise FetchError("the connection broke off") from None

    @asynccontextmanager
    async def _open(self, address: str) -> AsyncGenerator[httpx2.Response]:
        for _ in range(self._max_redirects + 1):
            response = await self._send(address)
            try:
                if response.status_code not in _REDIRECTS:
                    _check_status(response.status_code)
                    yield response
                    return
                address = _redirected(address, response)
            finally:
                with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                    await response.aclose()
        raise FetchError(f"redirected more than {self._max_redirects} times", code="forbidden")

    async def _send(self, address: str) -> httpx2.Response:
        fault = address_fault(
            address,
            https_only=True,
            admitted=self._admitted,
            admitted_suffixes=(SANDBOX_SUFFIX,) if self._sandbox else (),
        )
        if fault is not None:
            raise FetchError(f"the address {fault}", code="forbidden")
        if self._sandbox is not None and Origin.of(address).host.endswith(SANDBOX_SUFFIX):
            transport = self._sandbox
        else:
            transport = await self._opened_network(self._proxy(address))
        timeout = httpx2.Timeout(self._idle_seconds, connect=CONNECT_SECONDS).as_dict()
        request = httpx2.Request("GET", address, headers=_HEADERS, extensions={"timeout": timeout})
        with anyio.fail_after(CONNECT_SECONDS + self._idle_seconds):
            return await transport.handle_async_request(request)

    def _proxy(self, address: str) -> Proxy | None:
        if Origin.of(address) in self._admitted:
            return None
        try:
            return self._proxies(address)
        except ProxyVariableError as error:
            raise FetchError(str(error), code="not_configured") from None

    async def _opened_network(self, proxy: Proxy | None) -> httpx2.AsyncHTTPTransport:
        if proxy is not None:
            if proxy.url not in self._through:
                context = await self._offload(httpx2.create_ssl_context)
                via = httpx2.AsyncHTTPTransport(verify=context, proxy=httpx2.Proxy(proxy.url))
                self._through.setdefault(proxy.url, via)
            return self._through[proxy.url]
        if self._network is None:
            # Reading the trusted certificates takes tens of milliseconds.
            context = await self._offload(httpx2.create_ssl_context)
            self._network = self._network or GuardedTransport(self._make_pool(context))
        return self._network

    async def _save(
        self, response: httpx2.Response, into: Path, expected: tuple[str, ...], budget: ByteBudget
    ) -> Download:
        length = _content_length(response)
        if length is not None and length > self._max_bytes:
            raise self._too_large()
        budget.need(length or 0)
        partial_file = _PartialFile(into, expected, response.headers.get("content-type", ""))
        try:
            await self._file_work(partial_file.open)
            received = await self._receive(response, partial_file, budget)
            _check_length(received, length)
            download = await self._file_work(partial_file.finish)
            await anyio.lowlevel.checkpoint_if_cancelled()  # then the file is removed below
        except BaseException:
            await self._file_work(partial_file.discard)
            raise
        return download

    async def _receive(
        self, response: httpx2.Response, partial_file: _PartialFile, budget: ByteBudget
    ) -> int:
        """Write the body; return how many bytes came over the wire."""
        if not isinstance(response.stream, httpx2.AsyncByteStream):
            raise TypeError("a transport answered with a body that cannot be awaited")
        chunks = aiter(response.stream)  # not aiter_raw(): that refuses bodies given as bytes
        decode = Decoder(response.headers.get("content-encoding", ""))
        block = bytearray()
        received = written = 0
        try:
            while True:
                with anyio.fail_after(self._idle_seconds):
                    chunk = await anext(chunks, None)
                received += len(chunk or b"")
                if received > self._max_bytes:
                    raise self._too_large()
                for piece in decode(chunk):
                    written += len(piece)
                    if written > self._max_bytes:
                        raise self._too_large()
                    budget.take(len(piece))
                    block += piece
                    if len(block) >= BLOCK_BYTES:
                        await self._file_work(partial(partial_file.write, block))
                        block = bytearray()
                if chunk is None:
                    break
        finally:
            if (close := getattr(chunks, "aclose", None)) is not None:
                with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                    await close()
        await self._file_work(partial(partial_file.write, block))
        return received

    async def _file_work(self, work: Callable[[], T]) -> T:
        try:
            # A thread cannot be cancelled: wait for the file that it makes, so that it is removed.
            with anyio.CancelScope(shield=True):
                return await self._offload(work)
        except OSError as error:
            reason = f"the file could not be written: {os.strerror(error.errno or 0)}"
            raise FetchError(reason, code="internal_error") from None
        raise RuntimeError("a scope that nobody holds was cancelled")

    def _too_large(self) -> FetchError:
        return FetchError(f"more than {self._max_bytes} bytes", code="bad_response")


class _PartialFile:
    """The file while it is being written; all methods block."""

    def __init__(self, folder: Path, expected: tuple[str, ...], declared: str) -> None:
        self._folder = folder
        self._expected = expected
        declared = declared.partition(";")[0].strip().lower()
        self._declared = declared if _MEDIA_TYPE.fullmatch(declared) else None
        self._media_type = ""
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None
        self._path = Path()
        self._bytes = 0

    def open(self) -> None:
        make_private_folder(self._folder)
        descriptor, path = tempfile.mkstemp(
            dir=self._folder, prefix=PART_PREFIX, suffix=PART_SUFFIX
        )
        self._path = Path(path)
        self._file = os.fdopen(descriptor, "w+b")

    def write(self, block: bytes | bytearray) -> None:
        if self._bytes == 0:
            self._media_type = self._expected_type(bytes(block[:HEAD_BYTES]))
        self._opened.write(block)
        self._hash.update(block)
        self._bytes += len(block)

    def finish(self) -> Download:
        file = self._opened
        file.flush()
        os.fsync(file.fileno())
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            whole = is_whole(data, self._media_type)
        file.seek(0)
        width, height = pixel_size(file.read(HEAD_BYTES), self._media_type) or (None, None)
        file.close()
        return Download(
            path=self._path,
            bytes=self._bytes,
            media_type=self._media_type,
            sha256=self._hash.hexdigest(),
            whole=whole,
            width=width,
            height=height,
        )

    def discard(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            with suppress(OSError):
                self._path.unlink()

    @property
    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise RuntimeError("the file is not open")
        return self._file

    def _expected_type(self, head: bytes) -> str:
        found = sniff_media_type(head)
        if found is not None and found.startswith(self._expected):
            return found
        expected = " or ".join(kind.rstrip("/") for kind in self._expected)
        declared = f", declared as {self._declared}" if self._declared else ""
        reason = f"expected {expected}, but the bytes are {found or 'of no known kind'}{declared}"
        raise FetchError(reason, code="bad_response")


def _check_length(received: int, announced: int | None) -> None:
    if announced is not None and received != announced:
        # Not the file's fault: the rest may come the next time.
        raise FetchError(f"{received} bytes came, {announced} were announced")


def _check_status(status: int) -> None:
    if status in _DEAD:
        reason = f"the address has expired or is not accessible (status {status})"
        raise FetchError(reason, code="expired", dead=True)
    if status == _TOO_MANY_REQUESTS:
        raise FetchError("too many downloads at once (status 429)", code="rate_limited")
    if status != _OK:
        code = "provider_error" if status >= _SERVER_ERRORS else "bad_response"
        raise FetchError(f"the host answered with status {status}", code=code)


def _redirected(address: str, response: httpx2.Response) -> str:
    location = response.headers.get("location")
    if not location:
        raise FetchError("redirected without saying where to", code="forbidden")
    return str(httpx2.URL(address).join(location))


def _content_length(response: httpx2.Response) -> int | None:
    length = response.headers.get("content-length")
    if length is None:
        return None
    if not _LENGTH.fullmatch(length):
        raise FetchError("the announced length is not a number", code="bad_response")
    return int(length)

"""Downloads of addresses that somebody else chose."""

from __future__ import annotations

import gc
import gzip
import hashlib
import io
import os
import ssl
import stat
import struct
import tracemalloc
import zlib
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.abc
import httpcore2
import httpx2
import pytest
from anyio.streams.tls import TLSListener
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from darkroom.core.byte_budget import ByteBudget
from darkroom.core.errors import FetchError
from darkroom.core.media_types import pixel_size, sniff_media_type
from darkroom.core.urls import Origin
from darkroom.providers.client.fetch import BLOCK_BYTES, MAX_BYTES, Fetcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
    from pathlib import Path

pytestmark = pytest.mark.anyio

T = TypeVar("T")
PUBLIC = "93.184.216.34"
ADDRESS = "https://cdn.example.com/x.png"
SANDBOXED = "https://zyng.sandbox.test/x.png"


def picture(kind: str, size: tuple[int, int] = (31, 17)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, kind)
    return file.getvalue()


PNG = picture("PNG")


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []


async def inline(work: Callable[[], T]) -> T:
    return work()


class Body(httpx2.AsyncByteStream):
    """A body that is made while it is read."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self.chunks = chunks
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self.chunks:
            yield chunk

    async def aclose(self) -> None:
        self.closed = True


class Endless(Body):
    """A body without an end, which knows whether its reader has left it properly."""

    left = False

    def __init__(self) -> None:
        super().__init__(self.zeros())

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self.chunks:
                yield chunk
        finally:
            self.left = True

    async def zeros(self) -> AsyncIterator[bytes]:
        yield PNG
        while True:
            yield bytes(BLOCK_BYTES)


class Sandbox(httpx2.AsyncBaseTransport):
    """Answers every request with the same response and remembers the requests."""

    def __init__(self, *answers: httpx2.Response) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return self.answers.pop(0)


class Stream(httpcore2.AsyncMockStream):
    """A connection that remembers how TLS was asked for and what was written."""

    def __init__(self, buffer: list[bytes], network: Network) -> None:
        super().__init__(buffer)
        self.network = network

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ASYNC109, ARG002 -- the signature is httpcore2's
    ) -> None:
        self.network.written += buffer

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109, ARG002 -- the signature is httpcore2's
    ) -> httpcore2.AsyncNetworkStream:
        verified = ssl_context.check_hostname and ssl_context.verify_mode is ssl.CERT_REQUIRED
        self.network.tls.append((server_hostname, verified))
        return self


class Network(httpcore2.AsyncNetworkBackend):
    """Names and connections: each dial of a known IP is answered with the next of its bytes."""

    def __init__(self, names: dict[str, list[list[str]]], answers: list[bytes]) -> None:
        self.names = names
        self.answers = answers
        self.unreachable: set[str] = set()
        self.dialled: list[tuple[str, int]] = []
        self.tls: list[tuple[str | None, bool]] = []
        self.written = b""

    async def resolve(self, host: str, _port: int) -> Collection[str]:
        turns = self.names.get(host)
        if not turns:
            raise OSError
        return turns.pop(0) if len(turns) > 1 else turns[0]

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109, ARG002 -- the signature is httpcore2's
        local_address: str | None = None,  # noqa: ARG002 -- the same
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,  # noqa: ARG002 -- the same
    ) -> httpcore2.AsyncNetworkStream:
        self.dialled.append((host, port))
        if host in self.unreachable:
            raise httpcore2.ConnectError
        return Stream([self.answers.pop(0)], self)

    def fetcher(self, admitted: Collection[Origin] = ()) -> aclosing[Fetcher]:
        return aclosing(
            Fetcher(resolve=self.resolve, network=self, offload=inline, admitted=admitted)
        )


def answer(body: bytes = PNG, status: str = "200 OK", **headers: str) -> bytes:
    fields = {"Content-Length": str(len(body)), **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode() + body


def redirect(location: str) -> bytes:
    return answer(b"", "302 Found", Location=location)


def sandboxed(answer: httpx2.Response, *, max_bytes: int = MAX_BYTES) -> Fetcher:
    return Fetcher(sandbox=Sandbox(answer), offload=inline, max_bytes=max_bytes)


async def refusal(fetcher: Fetcher, into: Path, address: str = SANDBOXED) -> FetchError:
    """Download, expect a refusal that does not hold the address, and nothing left behind."""
    with anyio.fail_after(1000), pytest.raises(FetchError) as caught:
        await fetcher.download(address, into)
    assert not files(into)
    assert "example.com" not in caught.value.reason
    assert "sandbox.test" not in caught.value.reason
    return caught.value


async def test_a_picture_arrives_whole_private_and_described(tmp_path: Path) -> None:
    into = tmp_path / "a" / "b"
    network = Network({"cdn.example.com": [[PUBLIC]]}, [answer(Content_Type="image/png")])
    async with network.fetcher() as fetcher:
        download = await fetcher.download(ADDRESS, into)
    assert download.path.read_bytes() == PNG
    assert download.path.parent == into
    assert download.path.name.startswith(".")
    assert stat.S_IMODE(download.path.stat().st_mode) == 0o600
    assert (download.bytes, download.media_type) == (len(PNG), "image/png")
    assert (download.width, download.height) == (31, 17)
    assert download.sha256 == hashlib.sha256(PNG).hexdigest()
    assert network.dialled == [(PUBLIC, 443)]
    assert network.tls == [("cdn.example.com", True)]


async def test_downloads_that_share_a_budget_stop_when_it_is_used_up(tmp_path: Path) -> None:
    network = Network(
        {"cdn.example.com": [[PUBLIC], [PUBLIC]]}, [answer(Connection="close"), answer()]
    )
    budget = ByteBudget(2 * len(PNG) - 1)
    async with network.fetcher() as fetcher:
        await fetcher.download(ADDRESS, tmp_path, budget=budget)
        assert budget.left == len(PNG) - 1
        with pytest.raises(FetchError, match="larger than they may be together"):
            await fetcher.download(ADDRESS, tmp_path, budget=budget)
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("left", [0, len(PNG) - 1])
async def test_a_body_of_untold_length_keeps_to_its_budget(tmp_path: Path, left: int) -> None:
    async def body() -> AsyncIterator[bytes]:
        for at in range(0, len(PNG), 16):
            yield PNG[at : at + 16]

    budget = ByteBudget(left)
    fetcher = sandboxed(httpx2.Response(200, content=body()))
    with pytest.raises(FetchError, match="larger than they may be together"):
        await fetcher.download(SANDBOXED, tmp_path, budget=budget)
    assert budget.left < 16
    assert not files(tmp_path)


async def test_a_request_carries_no_cookie_no_credential_and_uses_no_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    network = Network(
        {"cdn.example.com": [[PUBLIC]]},
        [answer(Set_Cookie="a=1", Connection="close"), answer()],
    )
    async with network.fetcher() as fetcher:
        await fetcher.download(ADDRESS, tmp_path)
        await fetcher.download(ADDRESS, tmp_path)
    assert network.dialled == [(PUBLIC, 443)] * 2
    names = {line.partition(b":")[0].lower() for line in network.written.split(b"\r\n")[1:]}
    assert names >= {b"host", b"accept-encoding", b"user-agent"}
    assert not names & {b"cookie", b"authorization", b"proxy-authorization"}


@pytest.mark.parametrize(
    "ips",
    [
        ["10.0.0.1"],
        [PUBLIC, "127.0.0.1"],
        ["::ffff:169.254.169.254"],
        ["2606:4700::1111", "fe80::1%eth0"],
        ["64:ff9b::10.0.0.1"],
        ["no address"],
    ],
)
async def test_a_host_with_any_address_that_is_not_public_is_never_dialled(
    tmp_path: Path, ips: list[str]
) -> None:
    network = Network({"cdn.example.com": [ips]}, [])
    async with network.fetcher() as fetcher:
        error = await refusal(fetcher, tmp_path, ADDRESS)
    assert error.code == "forbidden"
    assert network.dialled == []


async def test_a_name_that_turns_private_is_checked_again_for_each_connection(
    tmp_path: Path,
) -> None:
    network = Network(
        {"cdn.example.com": [[PUBLIC], ["127.0.0.1"]]}, [answer(Connection="close"), answer()]
    )
    async with network.fetcher() as fetcher:
        download = await fetcher.download(ADDRESS, tmp_path)
        download.path.unlink()
        await refusal(fetcher, tmp_path, ADDRESS)
    assert network.dialled == [(PUBLIC, 443)]


async def test_what_was_checked_is_what_is_dialled_without_resolving_twice(
    tmp_path: Path,
) -> None:
    network = Network({"cdn.example.com": [[PUBLIC], ["127.0.0.1"]]}, [answer()])
    async with network.fetcher() as fetcher:
        await fetcher.download(ADDRESS, tmp_path)
    assert network.dialled == [(PUBLIC, 443)]
    assert network.names["cdn.example.com"] == [["127.0.0.1"]]


async def test_the_next_address_of_a_host_is_tried_when_one_cannot_be_reached(
    tmp_path: Path,
) -> None:
    network = Network(
        {"cdn.example.com": [["2606:4700::1111", PUBLIC]]}, [answer(Connection="close")]
    )
    network.unreachable = {"2606:4700::1111"}
    async with network.fetcher() as fetcher:
        await fetcher.download(ADDRESS, tmp_path)
        network.unreachable.add(PUBLIC)
        other = await refusal(fetcher, tmp_path / "new", ADDRESS)
    assert other.code == "provider_unavailable"


@pytest.mark.parametrize("host", ["cdn.example.com", "www.example.com"])
async def test_a_host_that_nobody_knows_is_unavailable(tmp_path: Path, host: str) -> None:
    async with Network({host: [[]]}, []).fetcher() as fetcher:
        assert (await refusal(fetcher, tmp_path, ADDRESS)).code == "provider_unavailable"


@pytest.mark.parametrize(
    "address",
    [
        "http://cdn.example.com/x.png",
        "https://127.0.0.1/x.png",
        "https://2130706433/x.png",
        "https://0177.0.0.1/x.png",
        "https://[::ffff:127.0.0.1]/x.png",
        "https://user:word@cdn.example.com/x.png",
        "file:///etc/passwd",
        SANDBOXED,
    ],
)
async def test_a_forbidden_address_is_refused_directly_and_after_a_redirect(
    tmp_path: Path, address: str
) -> None:
    network = Network({"cdn.example.com": [[PUBLIC]]}, [redirect(address)])
    async with network.fetcher() as fetcher:
        assert (await refusal(fetcher, tmp_path, address)).code == "forbidden"
        assert network.dialled == []
        assert (await refusal(fetcher, tmp_path, ADDRESS)).code == "forbidden"
    assert network.dialled == [(PUBLIC, 443)]


async def test_a_redirect_to_a_host_that_resolves_to_a_private_address_is_refused(
    tmp_path: Path,
) -> None:
    network = Network(
        {"cdn.example.com": [[PUBLIC]], "inside.example.com": [["192.168.0.1"]]},
        [redirect("https://inside.example.com/")],
    )
    async with network.fetcher() as fetcher:
        assert (await refusal(fetcher, tmp_path, ADDRESS)).code == "forbidden"
    assert network.dialled == [(PUBLIC, 443)]


@pytest.mark.parametrize("location", ["", "https://exa mple.com:x/", "https://[::1/"])
async def test_a_redirect_that_leads_nowhere_is_refused(tmp_path: Path, location: str) -> None:
    network = Network({"cdn.example.com": [[PUBLIC]]}, [redirect(location)])
    async with network.fetcher() as fetcher:
        assert (await refusal(fetcher, tmp_path, ADDRESS)).code == "forbidden"


async def test_three_redirects_are_followed_and_the_fourth_is_not(tmp_path: Path) -> None:
    hops = [redirect(f"/{hop}.png") for hop in range(4)]
    async with Network({"cdn.example.com": [[PUBLIC]]}, [*hops[:3], answer()]).fetcher() as fetcher:
        assert (await fetcher.download(ADDRESS, tmp_path)).bytes == len(PNG)
    async with Network({"cdn.example.com": [[PUBLIC]]}, hops).fetcher() as fetcher:
        assert (await refusal(fetcher, tmp_path / "new", ADDRESS)).code == "forbidden"


async def test_an_admitted_origin_must_lead_to_this_machine(tmp_path: Path) -> None:
    admitted = [Origin("http", "localhost", 8080)]
    network = Network({"localhost": [["::1"], ["10.0.0.1"]]}, [answer(Connection="close")])
    async with network.fetcher(admitted) as fetcher:
        await fetcher.download("http://localhost:8080/x.png", tmp_path)
        await refusal(fetcher, tmp_path / "new", "http://localhost:8080/x.png")
        await refusal(fetcher, tmp_path / "new", "http://localhost:8081/x.png")
    assert network.dialled == [("::1", 8080)]
    assert network.tls == []


async def test_a_sandbox_address_never_reaches_the_network(tmp_path: Path) -> None:
    sandbox = Sandbox(httpx2.Response(200, content=PNG))
    network = Network({}, [])
    fetcher = Fetcher(sandbox=sandbox, resolve=network.resolve, network=network, offload=inline)
    download = await fetcher.download(SANDBOXED, tmp_path)
    assert download.path.read_bytes() == PNG
    assert [str(request.url) for request in sandbox.requests] == [SANDBOXED]
    assert network.dialled == []


@pytest.mark.parametrize(
    ("status", "code", "dead"),
    [
        (401, "expired", True),
        (403, "expired", True),
        (404, "expired", True),
        (410, "expired", True),
        (429, "rate_limited", False),
        (400, "bad_response", False),
        (206, "bad_response", False),
        (304, "bad_response", False),
        (500, "provider_error", False),
        (503, "provider_error", False),
    ],
)
async def test_a_status_says_whether_the_address_is_dead(
    tmp_path: Path, status: int, code: str, *, dead: bool
) -> None:
    error = await refusal(sandboxed(httpx2.Response(status, content=PNG)), tmp_path)
    assert (error.code, error.dead) == (code, dead)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x89PN",
        b"<!doctype html><title>Sign in</title>",
        b'{"error": "no"}',
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"BMW is a car maker, not a picture",
        b"PK\x03\x04" + bytes(64),
        b"\0\0\0\x18ftypM4A \0\0\0\0M4A isom",
        b"RIFF\0\0\0\0WAVEfmt ",
    ],
)
async def test_what_is_no_picture_or_video_is_refused_whatever_is_declared(
    tmp_path: Path, body: bytes
) -> None:
    headers = {"content-type": "image/png"}
    error = await refusal(sandboxed(httpx2.Response(200, content=body, headers=headers)), tmp_path)
    assert error.code == "bad_response"
    assert "expected image or video" in error.reason
    assert "declared as image/png" in error.reason


async def test_a_picture_that_is_declared_as_something_else_is_taken(
    tmp_path: Path,
) -> None:
    headers = {"content-type": "Application/Octet-Stream; charset=x"}
    fetcher = sandboxed(httpx2.Response(200, content=PNG, headers=headers))
    download = await fetcher.download(SANDBOXED, tmp_path)
    assert download.media_type == "image/png"


async def test_a_type_other_than_the_expected_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="expected video, but the bytes are image/png"):
        await sandboxed(httpx2.Response(200, content=PNG)).download(
            SANDBOXED, tmp_path, expected=["video/"]
        )
    assert not files(tmp_path)


@pytest.mark.parametrize(
    "announced", ["1", str(len(PNG) + 1), "-1", "many", "9" * 5000, f"{len(PNG)}, 1"]
)
async def test_a_length_that_does_not_match_what_came_is_refused(
    tmp_path: Path, announced: str
) -> None:
    headers = {"content-length": announced}
    error = await refusal(
        sandboxed(httpx2.Response(200, stream=once(PNG), headers=headers)), tmp_path
    )
    short = announced in {"1", str(len(PNG) + 1)}  # the rest may come the next time
    assert error.code == ("provider_error" if short else "bad_response")


RAW_DEFLATE = zlib.compressobj(wbits=-15)
RAW = RAW_DEFLATE.compress(PNG) + RAW_DEFLATE.flush()
ENCODED = {
    "gzip": ("gzip", gzip.compress(PNG)),
    "x-gzip": ("X-GZIP", gzip.compress(PNG)),
    "gzip in two members": ("gzip", gzip.compress(PNG[:20]) + gzip.compress(PNG[20:])),
    "gzip, then padding": ("gzip", gzip.compress(PNG) + bytes(8)),
    "deflate": ("deflate", zlib.compress(PNG)),
    "raw deflate": ("deflate", RAW),
    "twice": ("deflate, gzip", gzip.compress(zlib.compress(PNG))),
    "gzip, but it is not": ("gzip", PNG),
    "deflate, but it is not": ("deflate", PNG),
    "aws-chunked": ("aws-chunked", PNG),
    "aws-chunked and gzip": ("aws-chunked,gzip", gzip.compress(PNG)),
    "empty": ("", PNG),
    "a character set": ("utf-8", PNG),
    "br, but it is not": ("br", PNG),
}


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize(("word", "body"), ENCODED.values(), ids=ENCODED)
async def test_a_content_encoding_is_judged_by_the_bytes(
    tmp_path: Path, word: str, body: bytes, size: int
) -> None:
    headers = {"content-encoding": word, "content-length": str(len(body))}
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    response = httpx2.Response(200, stream=several(chunks), headers=headers)
    download = await sandboxed(response).download(SANDBOXED, tmp_path)
    assert download.path.read_bytes() == PNG
    assert (download.bytes, download.media_type) == (len(PNG), "image/png")
    assert download.sha256 == hashlib.sha256(PNG).hexdigest()


DAMAGED = {
    "gzip cut": ("gzip", gzip.compress(PNG)[:-9], "too early"),
    "gzip damaged": ("gzip", gzip.compress(PNG)[:30] + bytes(60), "damaged"),
    "deflate cut": ("deflate", zlib.compress(PNG)[:-5], "too early"),
    "br": ("br", b"\x0b\x02\x80" * 50, "no known kind"),
    "three times": ("gzip, gzip, gzip", gzip.compress(PNG), "too many times"),
    "a page": ("gzip", gzip.compress(b"<html>"), "no known kind"),
    "a bomb": ("gzip", gzip.compress(PNG + bytes(50 * BLOCK_BYTES)), "more than"),
    "once too often": ("gzip", gzip.compress(gzip.compress(PNG)), "no known kind"),
}


@pytest.mark.parametrize(("word", "body", "says"), DAMAGED.values(), ids=DAMAGED)
async def test_a_body_that_cannot_be_decoded_or_becomes_too_large_leaves_nothing_behind(
    tmp_path: Path, word: str, body: bytes, says: str
) -> None:
    response = httpx2.Response(200, stream=once(body), headers={"content-encoding": word})
    error = await refusal(sandboxed(response, max_bytes=2 * BLOCK_BYTES), tmp_path)
    assert error.code == "bad_response"
    assert says in error.reason


async def test_a_body_that_announces_too_much_is_not_read(tmp_path: Path) -> None:
    body = once(PNG)
    response = httpx2.Response(200, stream=body, headers={"content-length": "101"})
    assert (
        "more than 100 bytes"
        in (await refusal(sandboxed(response, max_bytes=100), tmp_path)).reason
    )
    assert body.closed


async def test_an_endless_body_is_cut_at_the_limit(tmp_path: Path) -> None:
    body = Endless()
    fetcher = sandboxed(httpx2.Response(200, stream=body), max_bytes=5 * BLOCK_BYTES)
    assert "more than" in (await refusal(fetcher, tmp_path)).reason
    assert body.left
    assert body.closed


@pytest.mark.parametrize(("pause", "ends_after"), [(25, 20), (15, 120)])
async def test_a_body_that_stalls_or_drips_is_given_up(
    tmp_path: Path, pause: float, ends_after: float
) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield PNG
        while True:
            await anyio.sleep(pause)
            yield b"\0"

    began = anyio.current_time()
    error = await refusal(sandboxed(httpx2.Response(200, stream=Body(slow()))), tmp_path)
    assert error.code == "timeout"
    assert anyio.current_time() - began == pytest.approx(ends_after)


async def test_a_host_that_never_answers_is_given_up(tmp_path: Path) -> None:
    class Silent(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            await anyio.sleep_forever()
            raise AssertionError(request)

    error = await refusal(Fetcher(sandbox=Silent(), offload=inline), tmp_path)
    assert error.code == "timeout"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (httpx2.ReadError("https://cdn.example.com"), "provider_error"),
        (httpx2.RemoteProtocolError("https://cdn.example.com"), "provider_error"),
        (httpx2.ReadTimeout("https://cdn.example.com"), "timeout"),
        (httpx2.ConnectError("https://cdn.example.com"), "provider_unavailable"),
    ],
)
async def test_a_body_that_breaks_off_is_refused(
    tmp_path: Path, fault: Exception, code: str
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield PNG + bytes(BLOCK_BYTES)
        raise fault

    assert (
        await refusal(sandboxed(httpx2.Response(200, stream=Body(broken()))), tmp_path)
    ).code == code


async def test_a_body_shorter_than_announced_on_the_wire_is_refused(tmp_path: Path) -> None:
    network = Network({"cdn.example.com": [[PUBLIC]]}, [answer(Content_Length="9999")])
    async with network.fetcher() as fetcher:
        assert (await refusal(fetcher, tmp_path, ADDRESS)).code == "provider_error"


async def test_a_folder_that_cannot_be_written_is_our_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FetchError, match="could not be written") as caught:
        await sandboxed(httpx2.Response(200, content=PNG)).download(SANDBOXED, tmp_path / "file")
    assert caught.value.code == "internal_error"


async def test_cancellation_leaves_no_file(tmp_path: Path) -> None:
    written = anyio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        yield PNG + bytes(BLOCK_BYTES)
        written.set()
        await anyio.sleep_forever()

    body = Body(stalled())
    fetcher = sandboxed(httpx2.Response(200, stream=body))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fetcher.download, SANDBOXED, tmp_path)
            await written.wait()
            assert [path.stat().st_size > 0 for path in files(tmp_path)] == [True]
            tasks.cancel_scope.cancel()
    assert not files(tmp_path)
    assert body.closed


async def test_cancellation_waits_for_work_on_the_file_and_leaves_none(tmp_path: Path) -> None:
    async def late(work: Callable[[], T]) -> T:
        await anyio.sleep(1)
        return work()

    for seconds in (0.5, 1.5, 2.5):
        sandbox = Sandbox(httpx2.Response(200, content=PNG))
        with anyio.move_on_after(seconds) as scope:
            await Fetcher(sandbox=sandbox, offload=late).download(SANDBOXED, tmp_path)
        assert scope.cancelled_caught
        assert not files(tmp_path)


async def test_a_finished_download_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []

    def fsync(file: int) -> None:
        synced.append(os.fstat(file).st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    await sandboxed(httpx2.Response(200, content=PNG)).download(SANDBOXED, tmp_path)
    assert synced == [len(PNG)]


async def test_a_large_body_needs_little_memory(tmp_path: Path) -> None:
    size = 20 * 1024 * 1024

    async def large() -> AsyncIterator[bytes]:
        yield PNG
        for _ in range(size // 65536):
            yield bytes(65536)

    fetcher = sandboxed(httpx2.Response(200, stream=Body(large())))
    gc.collect()
    tracemalloc.start()
    try:
        download = await fetcher.download(SANDBOXED, tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert download.bytes == len(PNG) + size
    assert peak < 8 * 1024 * 1024


@pytest.mark.parametrize(
    ("kind", "media_type", "sized"),
    [
        ("PNG", "image/png", True),
        ("JPEG", "image/jpeg", True),
        ("GIF", "image/gif", True),
        ("WEBP", "image/webp", True),
        ("AVIF", "image/avif", True),
        ("BMP", "image/bmp", False),
        ("TIFF", "image/tiff", False),
    ],
)
async def test_a_picture_is_known_by_its_bytes(kind: str, media_type: str, *, sized: bool) -> None:
    head = picture(kind)
    assert sniff_media_type(head) == media_type
    assert pixel_size(head, media_type) == ((31, 17) if sized else None)
    for length in range(32):
        pixel_size(head[:length], media_type)


async def test_all_forms_of_webp_and_a_jpeg_with_a_profile_state_their_size() -> None:
    for mode, options in (("RGB", {"lossless": True}), ("RGBA", {"exif": b"Exif\0\0"})):
        file = io.BytesIO()
        Image.new(mode, (300, 5)).save(file, "WEBP", **options)
        assert pixel_size(file.getvalue(), "image/webp") == (300, 5)
    file = io.BytesIO()
    Image.new("L", (5, 300)).save(file, "JPEG", icc_profile=bytes(100_000), progressive=True)
    assert pixel_size(file.getvalue(), "image/jpeg") == (5, 300)
    assert (
        pixel_size(b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 0, 9), "image/png")
        is None
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_width_and_height_are_those_of_the_picture_as_shown(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "a camera"
    exif[ExifTags.Base.Orientation] = orientation
    file = io.BytesIO()
    Image.new("RGB", (31, 17)).save(file, kind, exif=exif)
    with Image.open(file) as opened:
        shown = ImageOps.exif_transpose(opened).size
    data = file.getvalue()
    assert pixel_size(data, f"image/{kind.lower()}") == shown
    for length in range(len(data)):
        pixel_size(data[:length], f"image/{kind.lower()}")


@given(data=st.binary(max_size=200), kind=st.sampled_from(["jpeg", "png", "webp", "avif"]))
def test_no_orientation_upsets_the_reading_of_a_size(data: bytes, kind: str) -> None:
    begins = {
        "jpeg": b"\xff\xd8\xff\xe1\0\xa0Exif\0\0",
        "png": b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\1\0\0\0\1" + bytes(9) + b"\0\0\0\x40eXIf",
        "webp": b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(10) + b"EXIF\x40\0\0\0",
        "avif": b"\0\0\0\x14ispe\0\0\0\0\0\0\0\1\0\0\0\1\0\0\0\x09irot",
    }[kind]
    for order in (b"", b"MM\0*\0\0\0\x08", b"II*\0\x08\0\0\0"):
        pixel_size(begins + order + data, f"image/{kind}")


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "video/mp4"),
        (b"\0\0\0\x14ftypqt  \0\0\2\0qt  ", "video/quicktime"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "image/heic"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "image/avif"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\x82\x84webm", "video/webm"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\x82\x88matroska", None),
        (b"\0\0\0\x14ftypzzzz\0\0\0\0zzzz", None),
    ],
)
async def test_a_video_is_known_by_its_bytes(head: bytes, media_type: str | None) -> None:
    assert sniff_media_type(head) == media_type


def once(body: bytes) -> Body:
    return several([body])


def several(bodies: Sequence[bytes]) -> Body:
    async def chunks() -> AsyncIterator[bytes]:
        for body in bodies:
            yield body

    return Body(chunks())


def port_of(listener: anyio.abc.Listener[anyio.abc.SocketStream]) -> int:
    return listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 -- not a database


async def serve(
    listener: anyio.abc.Listener[anyio.abc.ByteStream],
    answers: bytes,
    test: Callable[[], Awaitable[None]],
) -> None:
    """Run ``test`` while every connection to ``listener`` is answered with ``answers``."""

    async def handle(stream: anyio.abc.ByteStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(answers)

    with anyio.fail_after(30):
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, handle)
            await test()
            tasks.cancel_scope.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_over_a_real_socket_an_admitted_emulator_answers_and_others_are_refused(
    tmp_path: Path,
) -> None:
    body = PNG + bytes(3 * BLOCK_BYTES)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = port_of(listener)
    address = f"http://127.0.0.1:{port}/x.png"
    emulator = [Origin.of(address)]

    async def test() -> None:
        async with aclosing(Fetcher(admitted=emulator)) as fetcher:
            download = await fetcher.download(address, tmp_path)
            assert download.path.read_bytes() == body
            await refusal(fetcher, tmp_path / "new", f"http://localhost:{port}/x.png")
        async with aclosing(Fetcher()) as fetcher:
            await refusal(fetcher, tmp_path / "new", address)

    await serve(listener, answer(body, Connection="close"), test)


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_over_a_real_socket_a_body_broken_off_in_the_middle_is_refused(
    tmp_path: Path,
) -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    address = f"http://127.0.0.1:{port_of(listener)}/x.png"

    async def test() -> None:
        async with aclosing(Fetcher(admitted=[Origin.of(address)])) as fetcher:
            assert (await refusal(fetcher, tmp_path / "new", address)).code == "provider_error"

    await serve(listener, answer(PNG + bytes(2 * BLOCK_BYTES))[:-1000], test)


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("named", "trusted", "fine"),
    [("127.0.0.1", True, True), ("127.0.0.2", True, False), ("127.0.0.1", False, False)],
)
async def test_over_tls_only_a_trusted_certificate_of_the_very_host_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, *, trusted: bool, fine: bool
) -> None:
    pem = tmp_path / "certificate.pem"
    pem.write_bytes(certificate(IPv4Address(named)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    address = f"https://127.0.0.1:{port_of(listener)}/x.png"

    async def test() -> None:
        async with aclosing(Fetcher(admitted=[Origin.of(address)])) as fetcher:
            if fine:
                assert (await fetcher.download(address, tmp_path)).bytes == len(PNG)
            else:
                error = await refusal(fetcher, tmp_path / "new", address)
                assert error.code == "provider_unavailable"

    tls = TLSListener(listener, context, standard_compatible=False)
    await serve(tls, answer(Connection="close"), test)


def certificate(ip: IPv4Address) -> bytes:
    """Return a key and a certificate for ``ip`` that it signs itself, valid for an hour."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip)]), critical=True)
        .sign(key, hashes.SHA256())
    )
    return signed.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )

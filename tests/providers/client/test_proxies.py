"""Requests through a proxy: which one, what it is told, and what becomes of them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.abc import SocketAttribute
from pydantic import SecretStr

from darkroom.core.errors import FetchError
from darkroom.providers.client.fetch import Fetcher
from darkroom.providers.client.http import HttpClient, LostError, NotSentError
from darkroom.providers.client.proxies import Proxy, ProxyVariableError, proxy_for
from darkroom.providers.credentials import Key
from darkroom.providers.messages import Request
from darkroom.providers.provider import Credential

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from anyio.abc import SocketStream

API = "https://api.provider.test"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    ("address", "variables", "expected"),
    [
        (API, {}, None),
        (API, {"HTTPS_PROXY": "http://proxy.test:3128"}, "http://proxy.test:3128"),
        (API, {"https_proxy": "proxy.test:3128"}, "http://proxy.test:3128"),
        (API, {"https_proxy": "http://a.test", "HTTPS_PROXY": "http://b.test"}, "http://a.test"),
        (API, {"ALL_PROXY": "http://all.test"}, "http://all.test"),
        (API, {"HTTP_PROXY": "http://plain.test"}, None),
        ("http://znyx.test", {"HTTP_PROXY": "http://plain.test"}, "http://plain.test"),
        (API, {"HTTPS_PROXY": "  "}, None),
    ],
)
def test_the_variables_name_the_proxy(
    address: str, variables: dict[str, str], expected: str | None
) -> None:
    found = proxy_for(address, variables)
    assert (found.url if found is not None else None) == expected


@pytest.mark.parametrize(
    ("without", "direct"),
    [
        ("*", True),
        ("provider.test", True),
        (".provider.test", True),
        ("*.provider.test", True),
        ("API.Provider.test", True),
        ("other.test, provider.test", True),
        ("provider.test:443", True),
        ("provider.test:8443", False),
        ("vider.test", False),
        ("other.test", False),
        ("10.0.0.0/8", False),
        (",", False),
    ],
)
def test_no_proxy_names_who_is_reached_directly(without: str, *, direct: bool) -> None:
    variables = {"HTTPS_PROXY": "http://proxy.test", "NO_PROXY": without}
    assert (proxy_for(API, variables) is None) is direct


def test_networks_and_loopback_are_left_out() -> None:
    variables = {"HTTPS_PROXY": "http://proxy.test", "NO_PROXY": "10.0.0.0/8,2001:db8::/32"}
    assert proxy_for("https://10.1.2.3", variables) is None
    assert proxy_for("https://[2001:db8::1]", variables) is None
    assert proxy_for("https://11.1.2.3", variables) is not None
    every = {"HTTP_PROXY": "http://proxy.test", "HTTPS_PROXY": "http://proxy.test"}
    for host in ("localhost", "127.0.0.1:8765", "[::1]:8765", "a.localhost"):
        assert proxy_for(f"http://{host}", every) is None


@pytest.mark.parametrize("value", ["socks5://proxy.test", "http://", "http://proxy.test:port"])
def test_what_is_no_proxy_is_said_by_name_and_nothing_is_sent(value: str) -> None:
    with pytest.raises(ProxyVariableError, match="HTTPS_PROXY names no http or https proxy"):
        proxy_for(API, {"HTTPS_PROXY": value})
    with pytest.raises(NotSentError, match="HTTPS_PROXY") as refused:
        anyio.run(send, API, {"HTTPS_PROXY": value})
    assert refused.value.code == "not_configured"


def test_a_proxys_password_is_not_shown() -> None:
    proxy = Proxy("http://me:secret@[2001:db8::1]:3128", "HTTPS_PROXY")
    assert "secret" not in repr(proxy) + proxy.shown
    assert proxy.shown == "http://[2001:db8::1]:3128"


# --- a real proxy on loopback ---


async def send(base: str, variables: dict[str, str]) -> int:
    """Send one paid request; return the status of the answer."""
    client = HttpClient(base, clock=lambda: 0.0, environment=variables)
    key = Key(Credential(variable="ZSKY_API_KEY"), SecretStr("zsky_live_x"), "f", "ZSKY_API_KEY")
    try:
        with anyio.fail_after(20):
            request = Request(method="POST", path="/v1/start", body={"prompt": "p"})
            return (await client.send(request, key, once=True)).status
    finally:
        await client.aclose()


@asynccontextmanager
async def proxy(answer: Any) -> AsyncGenerator[tuple[dict[str, str], list[str]]]:
    """Serve a proxy; give the variables that name it, and the first lines that it gets."""
    lines: list[str] = []

    async def handle(stream: SocketStream) -> None:
        async with stream:
            head = b""
            while b"\r\n\r\n" not in head:
                head += await stream.receive()
            lines.append(head.split(b"\r\n")[0].decode())
            await answer(stream)

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, handle)
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 -- not Django's
        url = f"http://127.0.0.1:{port}"
        yield {"HTTPS_PROXY": url, "HTTP_PROXY": url}, lines
        tasks.cancel_scope.cancel()


async def agrees(stream: SocketStream) -> None:
    await stream.send(OK)


async def refuses(stream: SocketStream) -> None:
    await stream.send(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")


async def hangs_up(stream: SocketStream) -> None:
    del stream


async def breaks_the_tunnel(stream: SocketStream) -> None:
    await stream.send(b"HTTP/1.1 200 Connection established\r\n\r\n")


@pytest.mark.parametrize("answer", [refuses, hangs_up, breaks_the_tunnel])
def test_what_a_proxy_does_not_hand_on_was_certainly_not_sent(answer: Any) -> None:
    async def check() -> None:
        async with proxy(answer) as (variables, lines):
            with pytest.raises(NotSentError) as error:
                await send(API, variables)
            assert error.value.code == "provider_unavailable"
            assert lines == ["CONNECT api.provider.test:443 HTTP/1.1"]

    anyio.run(check)


def test_a_request_over_plain_http_goes_through_and_its_loss_is_a_loss() -> None:
    async def check() -> None:
        async with proxy(agrees) as (variables, lines):
            assert await send("http://znyx.test", variables) == 200
            assert lines == ["POST http://znyx.test/v1/start HTTP/1.1"]
        async with proxy(hangs_up) as (variables, _):
            with pytest.raises(LostError):
                await send("http://znyx.test", variables)

    anyio.run(check)


def test_a_download_goes_through_a_proxy_only_where_it_was_given(tmp_path: Path) -> None:
    async def check() -> None:
        async with proxy(refuses) as (variables, lines):

            async def unknown(host: str, port: int) -> list[str]:
                raise OSError(host, port)

            direct = Fetcher(resolve=unknown)
            with pytest.raises(FetchError, match="the host is not known"):
                await direct.download("https://files.example.com/a.png", tmp_path)
            assert lines == []
            through = Fetcher(resolve=unknown, proxies=lambda a: proxy_for(a, variables))
            with pytest.raises(FetchError, match="the proxy made no connection"):
                await through.download("https://files.example.com/a.png", tmp_path)
            assert lines == ["CONNECT files.example.com:443 HTTP/1.1"]
            with pytest.raises(FetchError, match=r"not public|private|forbidden"):
                await through.download("https://10.0.0.1/a.png", tmp_path)
            await direct.aclose()
            await through.aclose()

    anyio.run(check)

"""Requests that cannot leave: nothing was sent, and what they had reserved is free at once."""

from __future__ import annotations

import errno
import gc
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import pytest
from pydantic import SecretStr

from darkroom.core.errors import ConfigurationError
from darkroom.mcp.build import build_server
from darkroom.providers.client import http
from darkroom.providers.client.http import HttpClient, LostError, NotSentError
from darkroom.providers.credentials import Credentials, Key
from darkroom.providers.messages import Request
from darkroom.providers.provider import Credential
from darkroom_tools import CATALOGUE
from tests.engine.batches.support import prompts
from tests.engine.support import IMAGE, TRYON, Paid, asked, received
from tests.harness import call, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mcp.server.mcpserver import MCPServer

    from darkroom.core.errors import Code
    from darkroom.core.json_types import JsonValue
    from darkroom.engine.engine import Engine
    from tests.harness import Rig

pytestmark = pytest.mark.anyio

PAID = pytest.mark.parametrize("paid", [IMAGE, TRYON], ids=str)
REAL_TIME = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
KEY = "live_0123456789"
CAPS = {
    "DARKROOM_SPENDING__ZSKY_IMAGES_PER_DAY": "1",
    "DARKROOM_SPENDING__ZUPERTRY_CREDITS_PER_DAY": "1",
}


def on_the_network(dependencies: Rig) -> MCPServer[Engine]:
    """Return the server with the connections that it has outside of tests."""
    return build_server(
        dependencies.settings, [CATALOGUE], replace(dependencies.dependencies, transport=None)
    )


@PAID
async def test_certificates_that_cannot_be_read_leave_nothing_sent_and_the_cap_and_slot_free(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    dependencies = rig(clock, tmp_path, environment=CAPS)
    dependencies = replace(dependencies, server=on_the_network(dependencies))
    async with dependencies.client() as client:
        with anyio.fail_after(1):
            for _ in range(5):  # more than there are slots
                text = await refused(client, paid.start, **paid.arguments)
                assert text.startswith("[not_configured] ")
                assert "SSL_CERT_FILE" in text
                assert "nothing was sent" in text
        jobs = (await call(client, "list_jobs"))["jobs"]
        assert {job["status"] for job in jobs} == {"failed"}
        monkeypatch.delenv("SSL_CERT_FILE")

        def emulated(*, proxy: object) -> object:
            assert proxy is None
            return dependencies.sandbox.transport()

        monkeypatch.setattr(http, "_Transport", emulated)
        with anyio.fail_after(20):
            job = await call(client, paid.start, **paid.arguments)
    assert job["status"] == "running"
    assert received(dependencies, paid) == 1


async def test_a_read_and_a_batch_meet_unreadable_certificates_in_the_same_way(
    clock: Callable[[], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path))
    dependencies = rig(clock, tmp_path)
    dependencies = replace(dependencies, server=on_the_network(dependencies))
    async with dependencies.client() as client:
        with anyio.fail_after(60):
            text = await refused(client, "zupertry_get_account")
            assert text.startswith("[not_configured] ")
            batch = await call(client, "start_batch", **prompts(3))
            asked_for = {"batch_id": batch["batch_id"], "wait_seconds": 40}
            while (report := await call(client, "check_batch", **asked_for))["status"] == "running":
                pass
    assert report["counts"] == {"failed": 3}
    assert asked(dependencies, "zsky") == asked(dependencies, "zupertry") == []


@PAID
async def test_a_system_out_of_descriptors_is_no_fault_of_the_configuration(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, monkeypatch: pytest.MonkeyPatch
) -> None:
    dependencies = rig(clock, tmp_path)
    dependencies = replace(dependencies, server=on_the_network(dependencies))
    tries: list[None] = []

    def transport(*, proxy: object) -> object:
        assert proxy is None
        tries.append(None)
        if len(tries) == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return dependencies.sandbox.transport()

    monkeypatch.setattr(http, "_Transport", transport)
    async with dependencies.client() as client:
        with anyio.fail_after(20):
            job = await call(client, paid.start, **paid.arguments)
    assert job["status"] == "running", "it was tried again"
    assert received(dependencies, paid) == 1


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "a..test"])
async def test_a_base_address_that_no_name_server_can_know_is_refused(
    clock: Callable[[], float], tmp_path: Path, host: str
) -> None:
    dependencies = rig(clock, tmp_path, environment={"ZSKY_BASE_URL": f"https://{host}"})
    zsky = next(provider for provider in CATALOGUE.providers if provider.name == "zsky")
    with pytest.raises(ConfigurationError, match="ZSKY_BASE_URL"):
        Credentials(dependencies.environment, dependencies.settings).base_url(zsky)


# --- the one place that tells what never left from what is lost ---


async def fate(
    address: str, *, secret: str = KEY, body: JsonValue = None
) -> NotSentError | LostError | None:
    """Return the error of a paid request to this address."""
    credential = Credential(variable="KEY", header="x-api-key")
    key = Key(credential, SecretStr(secret), "fingerprint", "KEY")
    http_client = HttpClient(address, clock=lambda: 0.0)
    request = Request(method="POST", path="/submit", body=body)
    try:
        with anyio.fail_after(20):
            await http_client.send(request, key, once=True)
    except (NotSentError, LostError) as error:
        return error
    finally:
        await http_client.aclose()
    return None


@REAL_TIME
@pytest.mark.parametrize(
    ("address", "secret", "body", "code"),
    [
        ("https://[::1", KEY, None, "not_configured"),
        ("ftp://provider.test", KEY, None, "not_configured"),
        ("http://127.0.0.1:9", "clé", None, "not_configured"),
        ("http://127.0.0.1:9", "two\nlines", None, "not_configured"),
        ("http://127.0.0.1:9", KEY, "\ud83d", "internal_error"),
        ("http://127.0.0.1:9", KEY, None, "provider_unavailable"),
    ],
)
async def test_what_fails_before_the_first_byte_was_not_sent(
    address: str, secret: str, body: JsonValue, code: Code
) -> None:
    error = await fate(address, secret=secret, body=body)
    assert isinstance(error, NotSentError)
    assert error.code == code
    assert secret not in error.reason


@REAL_TIME
@pytest.mark.parametrize("heard", [False, True])
async def test_a_connection_that_breaks_once_bytes_may_have_left_is_lost(*, heard: bool) -> None:
    arrived: list[bytes] = []

    async def hang_up(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            if heard:
                arrived.append(await stream.receive())

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 -- no Django here
    error = None
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, hang_up)
        error = await fate(f"http://127.0.0.1:{port}")
        tasks.cancel_scope.cancel()
    assert isinstance(error, LostError)
    assert bool(arrived) is heard
    if heard:
        assert arrived[0].startswith(b"POST /submit ")


@REAL_TIME
@pytest.mark.parametrize("secure", [False, True])
async def test_a_deadline_tells_a_connection_that_never_was_from_an_answer_that_never_came(
    monkeypatch: pytest.MonkeyPatch, *, secure: bool
) -> None:
    monkeypatch.setattr(http, "DEADLINE_SECONDS", 1.0)

    async def say_nothing(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await anyio.sleep_forever()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 -- no Django here
    error = None
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, say_nothing)
        error = type(await fate(f"{'https' if secure else 'http'}://127.0.0.1:{port}"))
        tasks.cancel_scope.cancel()
    with warnings.catch_warnings():
        # The HTTP library leaves the socket of an interrupted handshake to the collector.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    assert error is (NotSentError if secure else LostError)

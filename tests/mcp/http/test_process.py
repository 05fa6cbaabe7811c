"""`darkroom serve --http` as a process: an orderly end, connections, what it runs on."""

from __future__ import annotations

import select
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
from mcp.client.streamable_http import streamable_http_client

from darkroom.cli.command_line import main
from mcp import Client
from tests.harness import ERAS, Era, call
from tests.peers.shipped import Shipped, serving, variables, without

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SECONDS = 60.0
END_SECONDS = 5.0
CLIENTS_KEEP_SECONDS = 5.0
"""httpx2's default."""
CHUNK_BYTES, MOST_CHUNKS = 65_536, 1_000
"""A head without end: 64 MB, if nobody stops it."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def connect(server: Shipped, era: Era) -> AsyncGenerator[Client]:
    headers = {"authorization": f"Bearer {server.token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(SECONDS)) as web:
        transport: Any = streamable_http_client(server.url, http_client=web)
        async with Client(transport, mode=era) as client:
            yield client


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("era", ERAS)
async def test_a_signal_lets_a_wait_answer_and_ends_in_order(
    tmp_path: Path, era: Era, number: signal.Signals
) -> None:
    with serving(tmp_path, "--sandbox") as server, anyio.fail_after(SECONDS):
        async with connect(server, era) as client:
            job = await call(client, "zsky_start_video", prompt="Waves")

            async def end() -> None:
                await anyio.sleep(0.5)
                server.process.send_signal(number)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(end)
                with anyio.fail_after(END_SECONDS):
                    waited = await call(client, "zsky_check_job", job_id=job["job_id"])
                assert waited["status"] == "running"
        assert await anyio.to_thread.run_sync(server.process.wait, SECONDS) == 0


@pytest.mark.parametrize("missing", [(), ("uvloop",)])
@pytest.mark.parametrize("era", ERAS)
async def test_it_serves_with_the_extra_and_without(
    tmp_path: Path, era: Era, missing: tuple[str, ...]
) -> None:
    stack = without(tmp_path / "site", *missing)
    with serving(tmp_path, "--sandbox", environment=stack) as server, anyio.fail_after(SECONDS):
        async with connect(server, era) as client:
            job = await call(client, "zsky_start_image", prompt="A boat")
            ended = await call(client, "zsky_check_job", job_id=job["job_id"])
        assert ended["status"] == "completed"
        with socket.create_connection(("127.0.0.1", server.port), SECONDS) as raw:
            raw.settimeout(SECONDS)
            raw.sendall(
                b"GET /healthz HTTP/1.1\r\nHost: \tlocalhost \t \r\nConnection: close\r\n\r\n"
            )
            with raw.makefile("rb") as answer:
                assert answer.read().endswith(b"ok\n")
        with socket.create_connection(("127.0.0.1", server.port), SECONDS) as raw:
            raw.settimeout(SECONDS)
            raw.sendall(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nX: ")
            with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012 -- which send fails is the network's choice
                for _ in range(MOST_CHUNKS):
                    raw.sendall(b"x" * CHUNK_BYTES)


def test_a_connection_is_kept_longer_than_clients_keep_theirs(tmp_path: Path) -> None:
    ask = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with (
        serving(tmp_path, "--sandbox") as server,
        socket.create_connection(("127.0.0.1", server.port), SECONDS) as raw,
    ):
        for _ in range(2):
            answer = b""
            raw.sendall(ask)
            while not answer.endswith(b"ok\n"):
                more = raw.recv(65_536)
                assert more, answer
                answer += more
            hung_up, _, _ = select.select([raw], [], [], CLIENTS_KEEP_SECONDS + 1)
            assert not hung_up


def test_an_address_that_is_taken_is_said_in_a_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "darkroom", "serve", "--http", "--sandbox", f"--port={port}"],
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env=variables(tmp_path),
        )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert f"127.0.0.1:{port} cannot be listened on" in line


def test_host_and_port_belong_to_http(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", "1"]) == 2
    assert "--http" in capsys.readouterr().err

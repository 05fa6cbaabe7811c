"""Progress and giving up on a check, in real processes: both transports, both eras."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from mcp import Client
from tests.harness import ERAS, Era, call
from tests.peers.shipped import serving, variables

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SECONDS = 60.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def connect(transport: str, folder: Path, era: Era) -> AsyncGenerator[Client]:
    """Start a server in a process of its own, and connect to it."""
    if transport == "stdio":
        command = StdioServerParameters(
            command=sys.executable,
            args=["-m", "darkroom", "serve", "--sandbox"],
            env=variables(folder),
        )
        async with Client(stdio_client(command), mode=era) as client:
            yield client
        return
    with serving(folder, "--sandbox") as server:
        headers = {"authorization": f"Bearer {server.token}"}
        async with httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(SECONDS)) as web:
            streams: Any = streamable_http_client(server.url, http_client=web)
            async with Client(streams, mode=era) as client:
                yield client


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_wait_tells_its_progress_and_may_be_given_up(
    tmp_path: Path, transport: str, era: Era
) -> None:
    told = anyio.Event()

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        del progress, total
        assert message == "zsky_start_image: running"
        told.set()

    with anyio.fail_after(SECONDS):
        async with connect(transport, tmp_path, era) as client:
            job = await call(client, "zsky_start_image", prompt="A boat")
            async with anyio.create_task_group() as giving_up:

                async def check() -> None:
                    arguments = {"job_id": job["job_id"]}
                    await client.call_tool("zsky_check_job", arguments, progress_callback=tell)

                giving_up.start_soon(check)
                await told.wait()
                giving_up.cancel_scope.cancel()
            ended = await call(client, "zsky_check_job", job_id=job["job_id"])
            assert ended["status"] == "completed"

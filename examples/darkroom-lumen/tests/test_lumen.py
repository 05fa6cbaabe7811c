"""Lumen through a whole server: its emulator behind it, an hour in a millisecond."""

from __future__ import annotations

import io
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest
import trio
import trio.testing
from mcp_types import CallToolResult
from PIL import Image

from darkroom.config.settings import load
from darkroom.engine.dependencies import Dependencies
from darkroom.mcp.build import build_server
from darkroom_lumen import CATALOGUE, PROVIDER
from darkroom_lumen.emulator import KEY, LumenEmulator
from darkroom_tools.emulators.kit import Fault
from darkroom_tools.emulators.transport import EmulatorTransport
from mcp import Client

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

T = TypeVar("T")

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


async def a_photo(address: str) -> bytes:
    del address
    written = io.BytesIO()
    Image.new("RGB", (30, 20), "orange").save(written, "PNG")
    return written.getvalue()


def emulator() -> LumenEmulator:
    base_url = "https://lumen.sandbox.test"
    return LumenEmulator(clock=trio.current_time, base_url=base_url, fetch=a_photo)


async def in_place(work: Callable[[], T], /) -> T:
    return work()


@asynccontextmanager
async def client_of(lumen: LumenEmulator, folder: Path) -> AsyncGenerator[Client]:
    environment = {
        "LUMEN_API_KEY": KEY,
        "LUMEN_BASE_URL": lumen.base_url,
        "DARKROOM_JOBS__STORE": "memory",
        "DARKROOM_JOBS__STATE_DIR": str(folder / "state"),
        "DARKROOM_RESULTS__FOLDER": str(folder / "results"),
    }
    way = EmulatorTransport({"lumen.sandbox.test": lumen.app})
    dependencies = Dependencies(
        environment=environment,
        clock=trio.current_time,
        run=in_place,
        transport=way,
        sandbox=way,
    )
    server = build_server(load([PROVIDER], environment), [CATALOGUE], dependencies)
    async with Client(server) as client:
        yield client


async def call(client: Client, tool: str, **arguments: object) -> dict[str, Any]:
    result = await client.call_tool(tool, dict(arguments))
    assert isinstance(result, CallToolResult)
    assert not result.is_error, result.content
    return cast("dict[str, Any]", result.structured_content)


async def test_a_picture_is_enlarged_and_saved(tmp_path: Path) -> None:
    lumen = emulator()
    async with client_of(lumen, tmp_path) as client:
        photo = "https://photos.example/orange.png"
        started = await call(client, "lumen_start_upscale", image_url=photo, factor=4)
        ended = await call(client, "lumen_check_upscale", job_id=started["job_id"])
        assert ended["status"] == "completed"
        assert ended["cost"] == {"amount": 3, "unit": "credits", "basis": "exact"}
        (output,) = ended["outputs"]
        assert (output["width"], output["height"]) == (120, 80)
        assert await call(client, "lumen_get_balance") == {"credits": 97}


async def test_a_lost_answer_is_not_paid_for_twice(tmp_path: Path) -> None:
    lumen = emulator()
    lumen.faults.add("submit", Fault(kind="drop_after"))
    async with client_of(lumen, tmp_path) as client:
        photo = "https://photos.example/orange.png"
        first = await call(client, "lumen_start_upscale", image_url=photo)
        again = await call(client, "lumen_start_upscale", image_url=photo)
    assert first["status"] == "unknown"
    assert again["job_id"] == first["job_id"]
    assert len(lumen.charges) == 1

"""Addresses of results that are not quite as they should be: mended, or said; never in the way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio
import httpx2
import pytest

from darkroom.core.urls import mended
from darkroom_tools.emulators.sandbox import Sandbox
from tests.engine.support import HOUR, IMAGE, TRYON, Paid, ended
from tests.harness import call, rig
from tests.results.support import file_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from darkroom.core.json_types import JsonValue

pytestmark = pytest.mark.anyio

BASE = "https://provider.example/api"
FIELDS = ("result_url", "output_url")


class Spoiling(httpx2.AsyncBaseTransport):
    """Changes the addresses of results on their way from the emulators."""

    def __init__(self, sandbox: Sandbox, spoil: Callable[[str], JsonValue]) -> None:
        self._inner = sandbox.transport()
        self._spoil = spoil

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        if "json" not in response.headers.get("content-type", ""):
            return response
        fields: JsonValue = json.loads(await response.aread())
        for name in FIELDS:
            if isinstance(fields, dict) and isinstance(url := fields.get(name), str):
                fields[name] = self._spoil(url)
        return httpx2.Response(response.status_code, json=fields)


def at_root(url: str) -> str:
    return "/" + url.split("/", 3)[3]


MENDED: dict[str, Callable[[str], JsonValue]] = {
    "white space": lambda url: f" \t{url}\r\n",
    "a line break inside": lambda url: url[:30] + "\n" + url[30:],
    "a blank": lambda url: f"{url}&name=my picture.png",
    "capitals": lambda url: url.replace("https://", "HTTPS://"),
    "no scheme": lambda url: url.removeprefix("https:"),
    "relative": at_root,
    "relative, without a slash": lambda url: at_root(url)[1:],
}
USELESS: dict[str, Callable[[str], JsonValue]] = {
    "a host that is none": lambda _: "https://[",
    "another scheme": lambda url: url.replace("https", "ftp"),
    "a user": lambda url: url.replace("https://", "https://user:pass@"),
    "no host": lambda _: "https:///picture.png",
    "a blank in the host": lambda url: url.replace("sandbox", "sand box"),
    "too long": lambda url: f"{url}&pad={'x' * 5_000}",
}
NOTHING: dict[str, Callable[[str], JsonValue]] = {
    "null": lambda _: None,
    "blank": lambda _: "  ",
    "a number": lambda _: 7,
}
PAID = pytest.mark.parametrize("paid", [IMAGE, TRYON], ids=str)


@PAID
@pytest.mark.parametrize("spoil", MENDED.values(), ids=MENDED)
async def test_an_address_is_mended_as_browsers_do_and_the_result_is_there(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, spoil: Callable[[str], JsonValue]
) -> None:
    sandbox = Sandbox(clock=clock)
    dependencies = rig(clock, tmp_path, sandbox=sandbox, transport=Spoiling(sandbox, spoil))
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            done = await ended(client, paid.check, job["job_id"])
    assert done["status"] == "completed"
    assert "warnings" not in done
    assert file_of(done).stat().st_size > 0


@PAID
@pytest.mark.parametrize("spoil", [*USELESS.values(), *NOTHING.values()], ids=[*USELESS, *NOTHING])
async def test_an_address_that_cannot_be_used_leaves_the_job_completed_with_a_warning(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, spoil: Callable[[str], JsonValue]
) -> None:
    sandbox = Sandbox(clock=clock)
    dependencies = rig(clock, tmp_path, sandbox=sandbox, transport=Spoiling(sandbox, spoil))
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            done = await ended(client, paid.check, job["job_id"])
            again = await call(client, paid.check, job_id=job["job_id"], include_url=True)
    assert done["status"] == "completed"
    (warning,) = done["warnings"]
    assert "cannot be had: the address" in warning or "gives no result" in warning
    assert "user:pass" not in str(again)
    assert not any("url" in output for output in again.get("outputs", []))


async def test_jobs_without_a_usable_address_hold_no_slot(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    sandbox = Sandbox(clock=clock)
    way = Spoiling(sandbox, NOTHING["null"])
    dependencies = rig(clock, tmp_path, sandbox=sandbox, transport=way)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            jobs = [
                await call(client, IMAGE.start, prompt=f"number {number}") for number in range(5)
            ]
            assert jobs[-1]["queued_for"] == "slot"
            for job in jobs:
                assert (await ended(client, IMAGE.check, job["job_id"]))["status"] == "completed"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://cdn.example.com/a?b=%20c#d", "https://cdn.example.com/a?b=%20c#d"),
        ("  https://cdn.example.com/a b.png ", "https://cdn.example.com/a%20b.png"),
        ("HttpS://cdn.example.com/A", "https://cdn.example.com/A"),
        ("HTTP://cdn.example.com/A", "http://cdn.example.com/A"),
        ("//cdn.example.com/a", "https://cdn.example.com/a"),
        ("/files/a.png", "https://provider.example/files/a.png"),
        ("files/a b.png", "https://provider.example/api/files/a%20b.png"),
        ("https://cdn.example.com/\u202ea", "https://cdn.example.com/%E2%80%AEa"),
        ("https://cdn.example.com/é", "https://cdn.example.com/é"),
        ("https://cdn.example.com/\ud800", "https://cdn.example.com/%3F"),
    ],
)
def test_what_an_address_is_read_as(given: str, read: str) -> None:
    assert mended(given, BASE) == read
    assert mended(read, BASE) == read


@pytest.mark.parametrize("given", ["", " ", "data:image/png;base64,AA", "C:/a.png", "https://["])
def test_what_no_address_can_be_read_from(given: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has|does|contains) "):
        mended(given, BASE)

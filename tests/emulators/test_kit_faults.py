"""Every planned fault, as a client meets it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import httpx2
import pytest
import trio
from starlette.responses import JSONResponse, Response

from darkroom_tools.emulators.kit import (
    Emulator,
    Fault,
    FaultKind,
    FetchFailedError,
    Handler,
    never_finishes,
)
from darkroom_tools.emulators.sandbox import Sandbox, serve
from darkroom_tools.emulators.transport import EmulatorTransport

if TYPE_CHECKING:
    from starlette.requests import Request

    from darkroom_tools.emulators.kit import Clock

pytestmark = pytest.mark.anyio

TIMEOUT_SECONDS = 10.0


async def fetch(address: str) -> bytes:
    raise FetchFailedError(address)


class Counter(Emulator):
    """Counts how often it acted."""

    name = "counter"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock, base_url="https://counter.test", fetch=fetch)
        self.acted = 0
        self.never_ending = 0

    def operations(self) -> list[tuple[str, str, str, Handler]]:
        return [
            ("POST", "/count", "count", self._count),
            ("GET", "/count", "read", self._read),
        ]

    async def _count(self, request: Request) -> Response:
        self.acted += 1
        self.never_ending += never_finishes(request)
        return JSONResponse({"count": self.acted, "name": "counter", "list": [1], "of": {"a": 1}})

    async def _read(self, request: Request) -> Response:
        del request
        return JSONResponse({"count": self.acted})


@pytest.fixture
def counter(clock: Clock) -> Counter:
    return Counter(clock)


def client(counter: Counter) -> httpx2.AsyncClient:
    transport = EmulatorTransport({"counter.test": counter.app})
    return httpx2.AsyncClient(
        transport=transport, base_url="https://counter.test", timeout=TIMEOUT_SECONDS
    )


@pytest.mark.parametrize(
    ("kind", "error", "acted"),
    [
        ("refuse", httpx2.ConnectError, 0),
        ("drop_before", httpx2.RemoteProtocolError, 0),
        ("drop_after", httpx2.RemoteProtocolError, 1),
        ("drop_during", httpx2.RemoteProtocolError, 1),
        ("hang_before", httpx2.ReadTimeout, 0),
        ("hang_after", httpx2.ReadTimeout, 1),
    ],
)
async def test_a_broken_connection_is_an_error_of_its_kind(
    counter: Counter, kind: FaultKind, error: type[Exception], acted: int
) -> None:
    counter.faults.add("count", Fault(kind=kind))
    async with client(counter) as http:
        with pytest.raises(error):
            await http.post("/count", content=b"body")
    [asked] = counter.requests
    assert (counter.acted, asked.acted) == (acted, bool(acted))
    assert (asked.fault, asked.status) == (kind, None)
    assert asked.body == (b"" if kind == "refuse" else b"body")


async def test_a_hang_lasts_as_long_as_the_read_timeout(counter: Counter) -> None:
    counter.faults.add("count", Fault(kind="hang_before"))
    started = trio.current_time()
    async with client(counter) as http:
        with pytest.raises(httpx2.ReadTimeout):
            await http.post("/count")
    assert trio.current_time() - started == TIMEOUT_SECONDS


async def test_an_answer_that_breaks_off_has_begun(counter: Counter) -> None:
    counter.faults.add("count", Fault(kind="drop_during"))
    async with client(counter) as http, http.stream("POST", "/count") as answer:
        assert answer.status_code == 200
        read = bytearray()

        async def read_all() -> None:
            async for chunk in answer.aiter_bytes():
                read.extend(chunk)

        with pytest.raises(httpx2.RemoteProtocolError):
            await read_all()
    assert read.startswith(b'{"count":1')
    assert not read.endswith(b"}")


async def test_a_delay_is_as_long_as_planned(counter: Counter) -> None:
    counter.faults.add("count", Fault(kind="delay", seconds=7))
    started = trio.current_time()
    async with client(counter) as http:
        assert (await http.post("/count")).json()["count"] == 1
    assert trio.current_time() - started == 7


@pytest.mark.parametrize(("kind", "acted"), [("status", 0), ("status_after", 1)])
async def test_a_planned_status_comes_with_and_without_acting(
    counter: Counter, kind: FaultKind, acted: int
) -> None:
    fault = Fault(kind=kind, status=503, retry_after="5", body=b'{"x":1}', headers={"x-a": "b"})
    counter.faults.add("count", fault)
    async with client(counter) as http:
        answer = await http.post("/count")
    assert (answer.status_code, answer.content) == (503, b'{"x":1}')
    assert (answer.headers["retry-after"], answer.headers["x-a"]) == ("5", "b")
    assert counter.acted == acted
    assert counter.requests[0].status == 503


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("malformed", b"<html>It works!"),
        ("truncated", b'{"count":1,"name":"counter",'),
        (
            "wrong_types",
            b'{"count": "wrong", "name": [7], "list": {"0": [1]}, "of": {"a": "wrong"}}',
        ),
        ("empty", b""),
    ],
)
async def test_a_damaged_body_keeps_its_status(
    counter: Counter, kind: FaultKind, expected: bytes
) -> None:
    counter.faults.add("count", Fault(kind=kind))
    async with client(counter) as http:
        answer = await http.post("/count")
    assert answer.status_code == 200
    if kind == "truncated":
        assert b'{"count":1,"name":"counter","list":[1],"of":{"a":1}}'.startswith(answer.content)
        assert 0 < len(answer.content) < 50
    else:
        assert answer.content == expected
    assert counter.acted == 1


async def test_a_huge_body_is_as_large_as_planned(counter: Counter) -> None:
    counter.faults.add("count", Fault(kind="huge", size=1_000_001))
    async with client(counter) as http:
        assert len((await http.post("/count")).content) == 1_000_001
    assert counter.acted == 1


async def test_a_redirect_leads_elsewhere_without_acting(counter: Counter) -> None:
    counter.faults.add("count", Fault(kind="redirect", location="https://evil.example/"))
    async with client(counter) as http:
        answer = await http.post("/count")
    assert (answer.status_code, answer.headers["location"]) == (302, "https://evil.example/")
    assert counter.acted == 0


async def test_a_job_that_never_finishes_is_made_all_the_same(counter: Counter) -> None:
    counter.faults.add("count", Fault(kind="never_finish"))
    async with client(counter) as http:
        for _ in range(2):
            assert (await http.post("/count")).status_code == 200
    assert (counter.acted, counter.never_ending) == (2, 1)


async def test_faults_meet_their_operation_as_often_as_planned(counter: Counter) -> None:
    counter.faults.add("count", Fault(kind="status", status=500), times=2)
    counter.faults.add("*", Fault(kind="status", status=502))
    async with client(counter) as http:
        seen = [(await http.post("/count")).status_code for _ in range(2)]
        seen.append((await http.get("/count")).status_code)
        seen.append((await http.post("/count")).status_code)
        counter.faults.add("read", Fault(kind="status", status=404), times=None)
        seen += [(await http.get("/count")).status_code for _ in range(3)]
        counter.faults.clear()
        seen.append((await http.get("/count")).status_code)
    assert seen == [500, 500, 502, 200, 404, 404, 404, 200]


async def test_a_host_that_is_not_there_cannot_be_resolved(counter: Counter) -> None:
    async with client(counter) as http:
        with pytest.raises(httpx2.ConnectError):
            await http.get("https://elsewhere.test/")


async def test_every_request_is_recorded_with_time_and_answer(
    counter: Counter, clock: Clock
) -> None:
    async with client(counter) as http:
        await anyio.sleep(5)
        await http.post("/count?why=not", content=b"x")
        await http.get("/nowhere")
    [asked] = counter.requests
    assert (asked.at, asked.operation, asked.method) == (clock(), "count", "POST")
    assert (asked.path, asked.body, asked.status) == ("/count?why=not", b"x", 200)


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("kind", "acted"),
    [
        ("refuse", 0),
        ("drop_before", 0),
        ("drop_after", 1),
        ("drop_during", 1),
        ("hang_after", 1),
    ],
)
async def test_connections_break_on_a_real_socket_too(
    anyio_backend: str, kind: FaultKind, acted: int
) -> None:
    del anyio_backend
    sandbox = Sandbox(time_scale=0.0)
    zsky = sandbox.emulators["zsky"]
    started = anyio.Event()
    headers = {"x-api-key": sandbox.environment()["ZSKY_API_KEY"]}
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: serve(sandbox, ready=lambda _: started.set()))
            await started.wait()
            address = f"{zsky.base_url}/v1/images/generate"
            async with httpx2.AsyncClient(headers=headers, timeout=0.5) as http:
                zsky.faults.add("generate_image", Fault(kind=kind))
                with pytest.raises(httpx2.TransportError) as raised:
                    await http.post(address, json={"prompt": "a lake"})
                again = await http.post(address, json={"prompt": "a lake"})
            assert isinstance(raised.value, httpx2.ReadTimeout) == (kind == "hang_after")
            assert again.status_code == 200
            assert len(zsky.charges) == 1 + acted
            assert [each.acted for each in zsky.requests] == [bool(acted), True]
            tasks.cancel_scope.cancel()

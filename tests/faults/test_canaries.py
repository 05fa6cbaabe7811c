"""Canaries: every key that the process knows is planted, and then looked for everywhere.

So are the addresses that a provider signs: they may stand in the journal and in the results of
their owner, and nowhere else.
"""

from __future__ import annotations

import gc
import io
import logging
import re
import traceback
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import anyio
import httpx2
import pytest

from darkroom.cli.context import prepare
from darkroom.core.errors import CallError
from darkroom_tools.emulators.kit import Fault
from darkroom_tools.emulators.sandbox import Sandbox
from darkroom_tools.emulators.zsky.emulator import OTHER_KEY
from darkroom_tools.emulators.zsky.emulator import TEST_KEY as ZSKY_KEY
from tests.faults.playing import DRAWN
from tests.faults.process import Process, Yes, process
from tests.faults.scenarios import FAULTS, SCENARIOS, TRYON

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Mapping

    from darkroom.providers.credentials import Key
    from tests.faults.scenarios import Scenario

pytestmark = pytest.mark.anyio

SECRETS = (
    "ZYNG_API_KEY",
    "ZUPERTRY_API_KEY",
    "ZSKY_API_KEY",
    "CLAID_API_KEY",
    "ZNYX_RUNTIME_TOKEN",
    "ZNYX_CI_TOKEN",
    "ZNYX_ADMIN_TOKEN",
)
SIGNED = ("X-Amz-Signature", "X-Goog-Signature", "Signature=")


class Echo(httpx2.AsyncBaseTransport):
    """A provider that repeats the key it was sent: in headers, in the body, in a redirect."""

    def __init__(self, way: httpx2.AsyncBaseTransport) -> None:
        self._way = way
        self.where: str | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer as the emulator does, and add the key to it."""
        response = await self._way.handle_async_request(request)
        sent = request.headers.get("x-api-key") or request.headers.get("authorization", "")
        key = sent.removeprefix("Bearer ")
        if self.where is None or not key:
            return response
        headers = {
            "x-request-id": f"id-{key}",
            "retry-after": "1",
            "x-echo": key,
            "content-type": "application/json",
        }
        text = f'"Bearer {key} is not good; {key}"'
        body = f'{{"error":{text},"detail":{text},"message":{text},"job_id":null}}'
        match self.where:
            case "redirect":
                return httpx2.Response(
                    302, headers={**headers, "location": f"https://e.test/?k={key}"}
                )
            case "text":
                return httpx2.Response(500, headers=headers, text=f"Traceback: key={key}")
            case "success":
                return httpx2.Response(200, headers=headers, text=body)
            case status:
                return httpx2.Response(int(status), headers=headers, text=body)


ECHOES = ("400", "401", "404", "422", "429", "500", "redirect", "text", "success")


class Planted:
    """The canaries, everything that was seen, and where one was found."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = dict(values)
        self.seen: list[tuple[str, str]] = []

    def see(self, where: str, what: object) -> None:
        """Keep what somebody could read."""
        self.seen.append((where, what if isinstance(what, str) else repr(what)))

    def found(self) -> Iterator[str]:
        """Name every place where a canary was seen."""
        for where, text in self.seen:
            for name, value in self.values.items():
                if value in text:
                    at = text.index(value)
                    yield f"{name} in {where}: {text[max(0, at - 60) : at + 20]}"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Catch every line that anything logs, at every level."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def planted(folder: Path, sandbox: Sandbox) -> tuple[Planted, dict[str, str]]:
    """Return the canaries, and the variables of a process that holds them in files."""
    values = {name: sandbox.environment()[name] for name in SECRETS}
    variables: dict[str, str] = {}
    secrets = folder / "secrets"
    secrets.mkdir()
    for name, value in values.items():
        path = secrets / name
        path.write_text(value)
        variables |= {name: "", f"{name}_FILE": str(path)}
    return Planted(values), variables


async def look_everywhere(one: Process, canaries: Planted, log: io.StringIO) -> None:
    """See everything that is written or shown anywhere but in the files meant for secrets."""
    canaries.see("the log", log.getvalue())
    runtime = await one.engine.runtime()
    for what in (
        one.settings,
        one.engine,
        one.engine.credentials,
        runtime,
        runtime.context,
        *runtime.context.registry,
    ):
        canaries.see(f"repr of {type(what).__name__}", repr(what))
        canaries.see(f"str of {type(what).__name__}", str(what))
    for provider in one.engine.providers.values():
        for credential in provider.credentials:
            key = cast("Key", one.engine.credentials.look(credential))
            canaries.see("repr of a key", f"{key!r} {key} {key.secret!r} {key.masked}")

    def read() -> None:
        for path in one.settings.state_dir.parent.rglob("*"):
            if path.is_file() and path.parent.name not in {"secrets", "keys"}:
                canaries.see(str(path), path.read_bytes().decode("latin-1"))

    read()


async def attempt(
    one: Process, canaries: Planted, tool: str, arguments: Mapping[str, object]
) -> None:
    """Call a tool and see whatever comes of it, crash reports included."""
    desk = one._desks[tool]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- the text beside the object is looked at too
    try:
        result = await desk.run(one.engine, arguments, Yes())
        canaries.see(f"result of {tool}", result)
    except CallError as error:
        canaries.see(f"error of {tool}", error.text)
        report = traceback.TracebackException.from_exception(error, capture_locals=False)
        canaries.see(f"crash report of {tool}", "".join(report.format()))


@asynccontextmanager
async def planted_everywhere(
    clock: Callable[[], float], folder: Path, more: Mapping[str, str] | None = None
) -> AsyncGenerator[tuple[Process, Planted, Echo, Sandbox]]:
    """Run a process that holds a canary for every secret."""
    sandbox = Sandbox(clock=clock, offload=DRAWN)
    canaries, variables = planted(folder, sandbox)
    one = process(
        sandbox,
        folder,
        clock,
        {
            **variables,
            "DARKROOM_ZYNG__TIER": "3",
            "DARKROOM_JOBS__IDENTICAL_WINDOW_SECONDS": "0",
            "DARKROOM_JOBS__NEW_KEY": "new",
            **(more or {}),
        },
    )
    echo = Echo(one.way)
    one = Process(one.settings, one.environment, clock, echo)
    async with anyio.create_task_group() as tasks:
        one.begin(tasks)
        try:
            yield one, canaries, echo, sandbox
        finally:
            with anyio.CancelScope(shield=True):
                await one.stop()


OF_THE_ACCOUNT = {401, 402, 403, 423}
"""After these statuses nothing is sent for the credential for a while."""

ACCOUNT_SECONDS = 25 * 3_600


@pytest.mark.parametrize("where", ECHOES)
async def test_a_provider_that_repeats_the_key_teaches_it_to_nobody(
    clock: Callable[[], float], tmp_path: Path, log: io.StringIO, where: str
) -> None:
    async with planted_everywhere(clock, tmp_path) as (one, canaries, echo, sandbox):
        prepared: list[tuple[Scenario, dict[str, object]]] = []
        for scenario in SCENARIOS:
            if scenario.tool == "zsky_rotate_key" or scenario.note == "(an image)":
                continue
            more = await scenario.before(one, sandbox) if scenario.before else {}
            prepared.append((scenario, {**scenario.arguments, **more}))
        echo.where = where
        for scenario, arguments in prepared:
            if "wait_seconds" in arguments:
                arguments["wait_seconds"] = 1
            await attempt(one, canaries, scenario.tool, arguments)
        await attempt(one, canaries, "list_jobs", {"limit": 100})
        await anyio.sleep(120)
        echo.where = None
        await look_everywhere(one, canaries, log)
        assert list(canaries.found()) == []


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
async def test_no_fault_brings_a_key_or_a_signed_address_to_light(
    clock: Callable[[], float], tmp_path: Path, log: io.StringIO, scenario: Scenario
) -> None:
    async with planted_everywhere(clock, tmp_path) as (one, canaries, _, sandbox):
        for serial, (_, planned) in enumerate(FAULTS.items()):
            more = await scenario.before(one, sandbox) if scenario.before else {}
            if planned is not None and planned[1] is not None:
                sandbox.emulators[scenario.emulator].faults.add(scenario.operation, planned[0])
            arguments = {**scenario.arguments, **more}
            if scenario.check_tool:
                arguments["idempotency_key"] = str(serial)
            await attempt(one, canaries, scenario.tool, arguments)
            if scenario.tool == "zsky_rotate_key":
                keys = sandbox.emulators["zsky"].keys  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType] -- ZSky's own
                canaries.values |= {
                    f"rotated {n}": key for n, key in enumerate(cast("list[str]", keys))
                }
                newest = next(k for k in cast("list[str]", keys) if k != OTHER_KEY)
                Path(one.environment["ZSKY_API_KEY_FILE"]).write_text(newest)  # noqa: ASYNC240 -- virtual time
            sandbox.emulators[scenario.emulator].faults.clear()
            refused = planned is not None and planned[0].status in OF_THE_ACCOUNT
            await anyio.sleep(ACCOUNT_SECONDS if refused else 60)
        for path in (tmp_path / "keys").glob("*"):
            for number, key in enumerate(re.findall(r"gr_\w{12,}", path.read_text())):
                canaries.values[f"{path.name} {number}"] = key
        await look_everywhere(one, canaries, log)
        assert list(canaries.found()) == []
        signed = [
            (where, text)
            for where, text in canaries.seen
            if any(mark in text for mark in SIGNED) and "journal.sqlite" not in where
        ]
        owners = ("result of zsky_check_job", "result of zyng_check", "result of claid_check",
                  "result of zupertry_check", "result of zupertry_list_tryons")  # fmt: skip
        assert [
            w for w, _ in signed if not w.startswith(owners) and not w.startswith("repr of Live")
        ] == []


async def test_an_address_that_is_signed_stands_in_no_log_list_or_sidecar(
    clock: Callable[[], float], tmp_path: Path, log: io.StringIO
) -> None:
    downloads = {"DARKROOM_RESULTS__DOWNLOAD": "always"}
    async with planted_everywhere(clock, tmp_path, downloads) as (one, canaries, _, sandbox):
        for fault in (None, Fault(kind="status", status=403), Fault(kind="drop_during")):
            if fault is not None:
                sandbox.emulators["zupertry"].faults.add("download", fault, times=9)
            job = await one.call("zupertry_start_tryon", **TRYON)
            await one.call("zupertry_check_tryon", job_id=job["job_id"], wait_seconds=40)
            sandbox.emulators["zupertry"].faults.clear()
        await attempt(one, canaries, "list_jobs", {})
        await look_everywhere(one, canaries, log)
        for where, text in canaries.seen:
            if "journal.sqlite" not in where:
                assert not [mark for mark in SIGNED if mark in text], where


async def test_no_object_that_is_alive_shows_a_key_in_its_repr(
    clock: Callable[[], float], tmp_path: Path, log: io.StringIO
) -> None:
    async with planted_everywhere(clock, tmp_path) as (one, canaries, _, _):
        await one.call("zsky_start_image", prompt="p")
        setting = prepare(sandbox=True, environment={})  # as commands have it, while they run
        assert ZSKY_KEY in setting.environment.values()
        for thing in gc.get_objects():
            if type(thing).__module__.startswith("darkroom.") and not isinstance(thing, type):
                canaries.see(f"repr of {type(thing).__qualname__}", repr(thing))
        assert ZSKY_KEY in canaries.values.values()
        assert list(canaries.found()) == []
        assert log is not None

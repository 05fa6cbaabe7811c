"""`darkroom serve` as a real process: how it ends, and that no attempt is left unrecorded."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast
from urllib.request import Request, urlopen

import anyio
import pytest

from darkroom.jobs.model import LOCAL_OWNER
from darkroom.jobs.storage.sqlite import SqliteStore
from darkroom.jobs.store import Query
from tests.cli.support import PROCESS_SECONDS, environment, spawned

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from darkroom.jobs.model import Attempt, Job

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them"),
]

Message: TypeAlias = dict[str, Any]
"""A frame of the protocol, as loosely typed as JSON is in a test."""

DELAY_SECONDS = 1.5
"""How long the provider keeps its answer back: the end comes meanwhile."""


@dataclass(frozen=True)
class Provider:
    """The emulators on a loopback port, in a process of their own."""

    index: str
    variables: dict[str, str]

    def plan(self, operation: str, **fault: object) -> None:
        """Let the next request of a ZSky operation meet a fault."""
        body = json.dumps({"emulator": "zsky", "operation": operation, **fault}).encode()
        with urlopen(Request(f"{self.index}_control/faults", body), timeout=10):  # noqa: S310 -- loopback
            pass

    def asked(self, operation: str) -> list[Message]:
        """Return the requests of an operation that arrived at ZSky."""
        with urlopen(f"{self.index}_control/requests", timeout=10) as answer:  # noqa: S310 -- loopback
            record = cast("Message", json.load(answer))
        return [each for each in record["zsky"] if each["operation"] == operation]

    def wait_for(self, operation: str) -> None:
        """Return once a request of an operation has arrived."""
        deadline = time.monotonic() + PROCESS_SECONDS
        while not self.asked(operation):
            assert time.monotonic() < deadline, f"{operation} never arrived"


@pytest.fixture
def provider(tmp_path: Path) -> Generator[Provider]:
    arguments = ("sandbox", "--port", "0", "--control", "--time-scale", "0.1")
    with spawned(*arguments, variables=environment(tmp_path)) as process:
        out = cast("IO[bytes]", process.stdout)
        heading = out.readline().decode()
        index = next(word for word in heading.split() if word.startswith("http://"))
        variables: dict[str, str] = {}
        while (line := out.readline().decode().strip()).startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            variables[name] = value
        yield Provider(index, variables)
        process.send_signal(signal.SIGINT)
        assert process.wait(PROCESS_SECONDS) == 0


class Host:
    """A host at the other end of the pipes, which writes frames by hand."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.input = cast("IO[bytes]", process.stdin)
        self.output = cast("IO[bytes]", process.stdout)
        self._serial = 0

    def ask(self, method: str, **params: object) -> int:
        self._serial += 1
        frame = {"jsonrpc": "2.0", "id": self._serial, "method": method, "params": params}
        self.input.write(json.dumps(frame).encode() + b"\n")
        self.input.flush()
        return self._serial

    def call(self, tool: str, **arguments: object) -> int:
        return self.ask("tools/call", name=tool, arguments=arguments)

    def answer(self) -> Message:
        frame = cast("Message", json.loads(self.output.readline()))
        assert "result" in frame, frame
        return frame

    def greet(self) -> None:
        self.ask(
            "initialize",
            protocolVersion="2025-11-25",
            capabilities={},
            clientInfo={"name": "test", "version": "1"},
        )
        assert self.answer()["result"]["serverInfo"]["name"] == "darkroom"
        self.input.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
        self.input.flush()

    def ended(self) -> tuple[int, str]:
        """Return the exit status and what was said on stderr."""
        status = self.process.wait(PROCESS_SECONDS)
        return status, cast("IO[bytes]", self.process.stderr).read().decode()


@contextmanager
def hosted(variables: dict[str, str], *options: str) -> Generator[Host]:
    with spawned("serve", *options, variables=variables) as process:
        host = Host(process)
        host.greet()
        yield host


def journal(folder: Path, prompt: str = "A red boat") -> tuple[Job, list[Attempt]]:
    """Return the one job of the journal with this prompt, and its attempts."""

    async def look() -> tuple[Job, list[Attempt]]:
        store = await SqliteStore.open(folder / "state" / "journal.sqlite")
        jobs = await store.list(Query(owner="local"))
        (job,) = (each for each in jobs if each.arguments["prompt"] == prompt)
        attempts = await store.attempts(LOCAL_OWNER, job.job_id)
        await store.close()
        return job, attempts

    return anyio.run(look)


def assert_recorded(folder: Path, provider: Provider) -> None:
    """The job that the provider has is in the journal, with its id."""
    job, (attempt,) = journal(folder)
    assert (job.status, attempt.state) == ("running", "accepted")
    assert job.provider_job_id
    assert len(provider.asked("generate_image")) == 1


def start_delayed(host: Host, provider: Provider) -> int:
    """Start a job whose answer the provider keeps back; return once the request has arrived."""
    provider.plan("generate_image", kind="delay", seconds=DELAY_SECONDS)
    request = host.call("zsky_start_image", prompt="A red boat")
    provider.wait_for("generate_image")
    return request


def test_the_end_of_the_input_lets_an_open_attempt_be_recorded_and_answered(
    provider: Provider, tmp_path: Path
) -> None:
    with hosted(environment(tmp_path, **provider.variables)) as host:
        request = start_delayed(host, provider)
        host.input.close()
        answer = host.answer()
        assert answer["id"] == request
        assert answer["result"]["structuredContent"]["status"] == "running"
        assert host.ended()[0] == 0
    assert_recorded(tmp_path, provider)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_lets_an_open_attempt_be_recorded_and_answered(
    number: signal.Signals, provider: Provider, tmp_path: Path
) -> None:
    with hosted(environment(tmp_path, **provider.variables)) as host:
        start_delayed(host, provider)
        host.process.send_signal(number)
        assert host.answer()["result"]["structuredContent"]["status"] == "running"
        assert host.ended()[0] == 0
    assert_recorded(tmp_path, provider)


def test_the_end_of_the_input_and_one_signal_are_not_two_signals(
    provider: Provider, tmp_path: Path
) -> None:
    with hosted(environment(tmp_path, **provider.variables)) as host:
        start_delayed(host, provider)
        host.input.close()
        host.process.terminate()  # as the SDK's client does
        assert host.ended()[0] == 0
    assert_recorded(tmp_path, provider)


def test_a_host_that_reads_no_more_leaves_no_attempt_unrecorded(
    provider: Provider, tmp_path: Path
) -> None:
    with hosted(environment(tmp_path, **provider.variables)) as host:
        start_delayed(host, provider)
        host.output.close()
        status, said = host.ended()
        assert status == 0, said
        assert "Traceback" not in said
    assert_recorded(tmp_path, provider)


def test_a_second_signal_ends_the_process_at_once_and_the_attempt_stays_written_down(
    provider: Provider, tmp_path: Path
) -> None:
    provider.plan("generate_image", kind="hang_after")
    with hosted(environment(tmp_path, **provider.variables)) as host:
        host.call("zsky_start_image", prompt="A red boat")
        provider.wait_for("generate_image")
        # A wait returns as soon as the first signal was taken, and the open attempt goes on.
        provider.plan("generate_image", kind="never_finish")
        host.call("zsky_start_image", prompt="A green boat")
        followed = host.answer()["result"]["structuredContent"]["job_id"]
        waiting = host.call("zsky_check_job", job_id=followed, wait_seconds=40)
        provider.wait_for("get_job")
        host.process.terminate()
        assert host.answer()["id"] == waiting
        host.process.send_signal(signal.SIGINT)
        assert host.ended()[0] == 128 + signal.SIGINT  # 0 would be the orderly end
    job, (attempt,) = journal(tmp_path)
    assert (job.status, attempt.state) == ("submitting", "sent")


def test_waits_return_when_the_end_has_come(provider: Provider, tmp_path: Path) -> None:
    provider.plan("generate_image", kind="never_finish")
    with hosted(environment(tmp_path, **provider.variables)) as host:
        host.call("zsky_start_image", prompt="A red boat")
        job = host.answer()["result"]["structuredContent"]["job_id"]
        request = host.call("zsky_check_job", job_id=job, wait_seconds=40)
        provider.wait_for("get_job")
        host.process.terminate()
        answer = host.answer()
        assert answer["id"] == request
        assert answer["result"]["structuredContent"]["status"] == "running"
        assert host.ended()[0] == 0


def test_what_is_piped_in_is_answered_to_its_last_line(tmp_path: Path) -> None:
    with hosted(environment(tmp_path), "--sandbox") as host:
        requests = {host.ask("tools/list"), host.call("zsky_get_usage")}
        host.input.write(b'{"jsonrpc":"2.0","id":"last","method":"ping"}')  # no newline
        host.input.close()
        assert {host.answer()["id"] for _ in range(3)} == requests | {"last"}
        assert host.output.read() == b""
        assert host.ended() == (0, "")


PRINTING = """
import os, sys
from darkroom.cli.command_line import main
from darkroom.catalogue.dispatch import ToolHandler
answer = ToolHandler.run
async def run(self, *given):
    print("a library says hello")
    os.write(1, b"and so does its C code\\n")
    assert sys.stdin.read() == "", "a library took a frame"
    return await answer(self, *given)
ToolHandler.run = run
sys.exit(main(["serve", "--sandbox"]))
"""


def test_what_a_library_prints_does_not_get_into_the_protocol(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PRINTING],
        env=environment(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        host = Host(process)
        host.greet()
        host.call("zsky_get_usage")
        assert host.answer()["result"]["structuredContent"]["images_left"] == 1000
        host.input.close()
        assert host.output.read() == b""
        status, said = host.ended()
        assert status == 0
        assert "and so does its C code" in said


def test_a_template_that_was_not_filled_in_is_reported_at_the_start(tmp_path: Path) -> None:
    with hosted(environment(tmp_path, ZSKY_API_KEY="${ZSKY_API_KEY}")) as host:
        host.input.close()
        status, said = host.ended()
    assert status == 0
    assert "ZSKY_API_KEY holds a template that was not filled in" in said

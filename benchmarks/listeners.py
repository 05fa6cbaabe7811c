"""Servers over HTTP, each in a process of its own: ours, the SDK's bare one, and a provider."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import TYPE_CHECKING

from benchmarks.http_load import Listener
from benchmarks.seeding import job_id
from benchmarks.wire import BARE, HERE, OURS, ROOT

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

READY_SECONDS = 20.0
STOP_SECONDS = 20.0
CHECK = "zsky_check_job"
GIVEN = {"job_id": job_id(0)}

UNLIMITED = (sys.executable, str(HERE / "unlimited_server.py"), "serve")
PROVIDER = (sys.executable, str(HERE / "patient_provider.py"))

_ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)/mcp")


@contextmanager
def _process(
    command: Sequence[str], variables: Mapping[str, str]
) -> Generator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command,
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.communicate(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def ours(
    variables: Mapping[str, str], state: Path, command: Sequence[str] = OURS
) -> Generator[Listener]:
    """Run ``darkroom serve --http``; the call is the check of the journal's first job."""
    with _process((*command, "--http", "--port", "0"), variables) as process:
        said = process.stderr.readline() if process.stderr is not None else ""
        found = _ADDRESS.search(said)
        if found is None:
            raise RuntimeError(said)
        token = (state / "http-token").read_text("utf-8").strip()
        yield Listener(int(found[1]), CHECK, GIVEN, {"authorization": f"Bearer {token}"})


@contextmanager
def bare(variables: Mapping[str, str], payload: Path) -> Generator[Listener]:
    """Run a server of the SDK whose only tool answers with ``payload``."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with _process((*BARE, str(payload), "dict", str(port)), variables):
        _wait_for(port)
        yield Listener(port, "check", GIVEN)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), READY_SECONDS).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


@dataclass(frozen=True)
class Provider:
    """The provider whose jobs never end."""

    port: int

    @property
    def address(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def asked(self) -> int:
        """Return how often it was asked for the state of a job."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=READY_SECONDS)
        try:
            connection.request("GET", "/asked")
            return int(connection.getresponse().read())
        finally:
            connection.close()


@contextmanager
def patient_provider() -> Generator[Provider]:
    """Run a provider; see `benchmarks.patient_provider`."""
    with _process(PROVIDER, os.environ) as process:
        said = process.stdout.readline() if process.stdout is not None else ""
        yield Provider(int(said))


def with_root(variables: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which the benchmarks themselves can be imported, too."""
    return {**variables, "PYTHONPATH": os.pathsep.join((variables["PYTHONPATH"], str(ROOT)))}


def without(variables: Mapping[str, str], folder: Path, *modules: str) -> dict[str, str]:
    """Return an environment in which modules seem not to be installed."""
    folder.mkdir()
    lines = [f"sys.modules[{module!r}] = None\n" for module in modules]
    (folder / "sitecustomize.py").write_text("import sys\n" + "".join(lines))
    return {**variables, "PYTHONPATH": os.pathsep.join((str(folder), variables["PYTHONPATH"]))}

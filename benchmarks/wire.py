"""A host reduced to what cannot be left out: a process, two pipes, lines written by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

HERE = Path(__file__).parent
ROOT = HERE.parent
BARE = (sys.executable, str(HERE / "bare_server.py"))
OURS = (sys.executable, str(HERE / "our_server.py"), "serve")

Era = Literal["2025-11-25", "2026-07-28"]
ERAS: tuple[Era, ...] = ("2025-11-25", "2026-07-28")

_CLIENT = {"name": "benchmark", "version": "1"}
_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": _CLIENT,
}
HELLO: dict[str, Any] = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": _CLIENT}

LIST_ID = 2

KEY = "benchmark" * 4
"""Every credential, but for its prefix."""


def line(message: Mapping[str, Any]) -> bytes:
    """Return a message as it goes over the pipe."""
    return json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":")).encode() + b"\n"


def request(era: Era, number: int, method: str, **params: Any) -> bytes:
    """Return a request as it goes over the pipe."""
    meta = {"_meta": _META} if era == "2026-07-28" else {}
    return line({"id": number, "method": method, "params": {**params, **meta}})


def opening(era: Era) -> bytes:
    """Return all that a host sends to see the tools, in one piece."""
    listing = request(era, LIST_ID, "tools/list")
    if era == "2026-07-28":
        return listing
    hello = line({"id": 1, "method": "initialize", "params": HELLO})
    return hello + line({"method": "notifications/initialized"}) + listing


def environment(state: Path, **more: str) -> dict[str, str]:
    """Return an environment with a credential for every provider; no request ever leaves."""
    from darkroom_tools import CATALOGUE  # noqa: PLC0415 -- the catalogue says which there are

    keys = {
        credential.variable: f"{next(iter(credential.modes), '')}{KEY}"
        for provider in CATALOGUE.providers
        for credential in provider.credentials
    }
    if not entry_points(group="darkroom.catalogue"):
        _announce(state)
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "DARKROOM_", "COVERAGE_"))
    }
    return {
        **inherited,
        "PYTHONPATH": os.pathsep.join((str(ROOT / "server"), str(ROOT / "tools"), str(state))),
        **keys,
        "DARKROOM_JOBS__STATE_DIR": str(state / "state"),
        "DARKROOM_RESULTS__FOLDER": str(state / "results"),
        **more,
    }


def _announce(folder: Path) -> None:
    """Announce our catalogue in ``folder``, as an installation would."""
    entry = folder / "darkroom_benchmark-0.dist-info"
    entry.mkdir(parents=True, exist_ok=True)
    (entry / "METADATA").write_text("Metadata-Version: 2.1\nName: darkroom-benchmark\nVersion: 0\n")
    (entry / "entry_points.txt").write_text(
        "[darkroom.catalogue]\ndarkroom-tools = darkroom_tools:CATALOGUE\n"
    )


class Host:
    """One server process and the pipes to it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    def send(self, message: bytes) -> None:
        """Write to the server."""
        if self._process.stdin is None:
            raise TypeError
        self._process.stdin.write(message)
        self._process.stdin.flush()

    def read(self) -> bytes:
        """Read one line of the server."""
        if self._process.stdout is None:
            raise TypeError
        answer = self._process.stdout.readline()
        if not answer:
            raise EOFError("the server has ended")
        return answer

    def answer(self, number: int) -> dict[str, Any]:
        """Read until the answer to a request has come; return its result."""
        while True:
            message: dict[str, Any] = json.loads(self.read())
            if message.get("id") == number:
                if "result" not in message:
                    raise ValueError(message)
                return message["result"]

    def tools(self, era: Era) -> list[dict[str, Any]]:
        """Open the conversation and return the tools."""
        self.send(opening(era))
        return self.answer(LIST_ID)["tools"]

    def seconds(self, message: bytes) -> float:
        """Return the seconds from a request to its answer."""
        began = time.perf_counter()
        self.send(message)
        self.read()
        return time.perf_counter() - began


@contextmanager
def host(command: Sequence[str], variables: Mapping[str, str]) -> Generator[Host]:
    """Run a server."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(variables)
    ) as process:
        try:
            yield Host(process)
        finally:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

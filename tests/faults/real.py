"""Real server processes over stdio, and the emulators on a loopback socket."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from anyio.from_thread import start_blocking_portal

from darkroom_tools.emulators.sandbox import Sandbox, serve

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from tests.harness import Fields

DEADLINE_SECONDS = 60.0
"""How long a test waits for what must come at once; generous, for slow machines."""

ROOTS = os.pathsep.join(str(Path(__file__).parents[2] / name) for name in ("server", "tools"))


@contextmanager
def sandbox_on_a_port(time_scale: float = 0.05) -> Generator[Sandbox]:
    """Serve the emulators on a free port, in a thread with an event loop of its own."""
    sandbox = Sandbox(time_scale=time_scale)
    ready = threading.Event()
    with start_blocking_portal("asyncio") as portal:
        served = portal.start_task_soon(lambda: serve(sandbox, ready=lambda _: ready.set()))
        assert ready.wait(DEADLINE_SECONDS)
        try:
            yield sandbox
        finally:
            served.cancel()


def environment(sandbox: Sandbox, folder: Path, **more: str) -> dict[str, str]:
    """Return the variables of a server whose journal is in ``folder``."""
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ},
        **sandbox.environment(),
        "PYTHONPATH": ROOTS,
        "DARKROOM_JOBS__STATE_DIR": str(folder / "state"),
        "DARKROOM_RESULTS__FOLDER": str(folder / "results"),
        **more,
    }


class ServerProcess:
    """``darkroom serve`` as a host starts it, spoken to in the era of 2025-11-25."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "darkroom", "serve"],
            env=dict(variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.errors = ""
        self._ids = itertools.count(1)
        self._answers: dict[int, Any] = {}
        self._news = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        began = self.ask(
            "initialize",
            protocolVersion="2025-11-25",
            capabilities={},
            clientInfo={"name": "test", "version": "1"},
        )
        self.answer(began)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def _read(self) -> None:
        for line in cast("IO[bytes]", self.process.stdout):
            message = json.loads(line)
            with self._news:
                if "id" in message:
                    self._answers[message["id"]] = message
                self._news.notify_all()
        with self._news:
            self._closed = True
            self._news.notify_all()

    def _read_errors(self) -> None:
        for line in cast("IO[bytes]", self.process.stderr):
            self.errors += line.decode(errors="replace")

    def _send(self, message: Mapping[str, object]) -> None:
        stdin = cast("IO[bytes]", self.process.stdin)
        with suppress(BrokenPipeError):
            stdin.write(json.dumps(message).encode() + b"\n")
            stdin.flush()

    def ask(self, method: str, **params: object) -> int:
        """Send a request; return its id."""
        number = next(self._ids)
        self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        return number

    def answer(self, number: int) -> Any:
        """Return the answer to a request."""
        with self._news:
            arrived = self._news.wait_for(
                lambda: number in self._answers or self._closed, DEADLINE_SECONDS
            )
            assert arrived, f"no answer; stderr: {self.errors}"
            assert number in self._answers, f"the server ended; stderr: {self.errors}"
            return self._answers[number]["result"]

    def begin(self, tool: str, **arguments: object) -> int:
        """Call a tool, and do not wait for its answer."""
        return self.ask("tools/call", name=tool, arguments=arguments)

    def raw(self, tool: str, **arguments: object) -> Any:
        """Call a tool; return the whole result."""
        return self.answer(self.begin(tool, **arguments))

    def call(self, tool: str, **arguments: object) -> Fields:
        """Call a tool that must succeed; return its structured content."""
        result = self.raw(tool, **arguments)
        assert not result.get("isError"), result
        return cast("Fields", result["structuredContent"])

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self._end()

    def stop(self) -> None:
        """Close its input and wait for its end."""
        with suppress(BrokenPipeError):
            cast("IO[bytes]", self.process.stdin).close()
        self._end()

    def _end(self) -> None:
        self.process.wait(DEADLINE_SECONDS)
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with suppress(BrokenPipeError):
                cast("IO[bytes]", stream).close()


@contextmanager
def server(variables: Mapping[str, str]) -> Generator[ServerProcess]:
    """Run a server, and end it whatever happens."""
    one = ServerProcess(variables)
    try:
        yield one
    finally:
        if one.process.poll() is None:
            one.stop()

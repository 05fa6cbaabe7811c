"""Anything at all on standard input: the process lives, and writes nothing but protocol."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.fuzz.frames import WRONG, call, frame, mutations, written
from tests.peers.shipped import variables

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

pytestmark = pytest.mark.slow

SECONDS = 60.0
MUTATIONS = 400
IN_FLIGHT = 1_000
MARK = "after all that"
"""The id of the request that is sent last: it has to be answered."""


class Served:
    """A server, and what it wrote."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.lines: list[bytes] = []
        self._answered: dict[object, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            message = json.loads(line)
            with self._changed:
                self._answered[str(message.get("id"))] = message
                self._changed.notify_all()

    def send(self, *frames: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(each + b"\n" for each in frames))
        self.process.stdin.flush()

    def answer(self, number: object) -> dict[str, Any]:
        with self._changed:
            assert self._changed.wait_for(lambda: str(number) in self._answered, SECONDS), number
            return self._answered[str(number)]

    def end(self) -> None:
        """Close the input; the process ends in order."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(SECONDS) == 0
        self._reader.join(SECONDS)
        for line in self.lines:
            assert json.loads(line)["jsonrpc"] == "2.0"


@contextmanager
def serving(folder: Path) -> Generator[Served]:
    with subprocess.Popen(
        [sys.executable, "-m", "darkroom", "serve", "--sandbox"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=variables(folder),
    ) as process:
        try:
            yield Served(process)
        finally:
            if process.poll() is None:
                process.kill()


def initialize() -> bytes:
    client = {"name": "fuzz", "version": "1"}
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
    return written({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})


INITIALIZED = b'{"jsonrpc": "2.0", "method": "notifications/initialized"}'


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_wrong_frames_do_not_keep_right_ones_from_being_answered(tmp_path: Path, era: str) -> None:
    opening = {
        "modern": [written(frame("server/discover", 0))],
        "legacy": [initialize(), INITIALIZED],
    }

    def right(number: int) -> bytes:
        asked = frame("tools/list", f"{MARK} {number}")
        return written(asked if era == "modern" else {**asked, "params": {}})

    with serving(tmp_path) as served:
        served.send(*opening[era])
        assert "result" in served.answer(0)
        for number, wrong in enumerate(WRONG.values()):
            served.send(wrong, right(number))
        for number, name in enumerate(WRONG):
            assert "result" in served.answer(f"{MARK} {number}"), name
        served.end()


def test_wrong_frames_may_come_first(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        served.send(*(wrong for wrong in WRONG.values() if not wrong.startswith(b'{"jsonrpc')))
        served.send(written(frame("tools/list", MARK)))
        assert "result" in served.answer(MARK)
        served.end()


def test_calls_before_the_handshake_are_errors(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        bare = {"jsonrpc": "2.0", "id": 5, "method": "tools/list"}
        served.send(written(bare), initialize(), INITIALIZED, written({**bare, "id": 6}))
        assert "error" in served.answer(5)
        assert "result" in served.answer(6)
        served.end()


def test_mutated_frames_do_no_harm(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        served.send(written(frame("server/discover", 0)))
        served.answer(0)
        served.send(*mutations(7, MUTATIONS), written(frame("tools/list", MARK)))
        assert "result" in served.answer(MARK)
        served.end()


def test_a_thousand_calls_in_flight_are_all_answered(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        calls = [written(call("list_jobs", f"n{number}")) for number in range(IN_FLIGHT)]
        served.send(*calls)
        for number in range(IN_FLIGHT):
            assert "result" in served.answer(f"n{number}")
        served.end()


def test_half_a_line_and_then_nothing_ends_in_order(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        served.send(written(frame("tools/list", 1)))
        served.answer(1)
        assert served.process.stdin is not None
        served.process.stdin.write(b'{"jsonrpc": "2.0", "id": 2, "method": "too')
        served.end()


def test_a_host_that_stops_reading_and_goes_ends_the_process(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "darkroom", "serve", "--sandbox"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=variables(tmp_path),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(written(frame("tools/list", 1)) + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(b"".join(written(frame("tools/list", n)) + b"\n" for n in range(50)))
        process.stdin.flush()
        process.stdin.close()
        assert process.wait(SECONDS) == 0

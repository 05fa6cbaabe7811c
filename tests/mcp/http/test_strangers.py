"""Who has no token costs next to nothing: a real process, and a count of its own without one."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httpx2
import pytest

from darkroom.mcp.http.connections import OnceAMinute, Strangers, most_connections
from tests.peers.shipped import ADDRESS, ROOT, variables

if TYPE_CHECKING:
    from collections.abc import Generator

    from darkroom.mcp.http import connections

SECONDS = 60.0
DESCRIPTORS = 256
SILENT = 400
HEAD = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n"

SERVE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({descriptors}, {descriptors}))
from darkroom.mcp.http import connections
connections.REQUEST_SECONDS = {seconds}
from darkroom.cli.command_line import main
sys.exit(main(["serve", "--http", "--port", "0", "--sandbox"]))
"""


class Served:
    """A server that may open few descriptors."""

    def __init__(self, port: int, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self.process = process
        self.folder = folder
        self.stderr = folder / "stderr"

    @property
    def token(self) -> str:
        return (self.folder / "state" / "http-token").read_text("utf-8").strip()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), SECONDS)

    def memory(self) -> float:
        """Return the resident memory in MB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text("ascii").split()[1])
        return pages * resource.getpagesize() / 1e6

    def list_jobs(self) -> Any:
        meta: dict[str, Any] = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params: dict[str, Any] = {"name": "list_jobs", "arguments": {}, "_meta": meta}
        headers = {
            "authorization": f"Bearer {self.token}",
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": "tools/call",
            "mcp-name": "list_jobs",
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        url = f"http://127.0.0.1:{self.port}/mcp"
        answer = httpx2.post(url, json=body, headers=headers, timeout=SECONDS)
        assert answer.status_code == 200, answer.text
        return answer.json()["result"]


@contextmanager
def serving(folder: Path, *, seconds: float, **environment: str) -> Generator[Served]:
    program = SERVE.format(descriptors=DESCRIPTORS, seconds=seconds)
    errors = folder / "stderr"
    with (
        errors.open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            env={**variables(folder), **environment},
        ) as process,
    ):
        try:
            deadline = time.monotonic() + SECONDS
            while (found := ADDRESS.search(errors.read_text("utf-8"))) is None:
                assert process.poll() is None, errors.read_text("utf-8")
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield Served(int(found[1]), folder, process)
        finally:
            process.kill()


def closed(connection: socket.socket) -> bool:
    """Wait until the other side has closed; tell whether it did."""
    connection.settimeout(SECONDS)
    with suppress(ConnectionError):
        while connection.recv(65_536):
            pass
    return True


@pytest.mark.slow
def test_silent_connections_leave_the_server_at_work_and_its_log_short(tmp_path: Path) -> None:
    with serving(tmp_path, seconds=2.0) as server, ExitStack() as open_:
        for _ in range(SILENT):  # from the first moment on, before anything was asked
            open_.enter_context(server.connect())
        for _ in range(3):
            assert server.list_jobs()["structuredContent"]["jobs"] == []
        for _ in range(SILENT):
            open_.enter_context(server.connect())
        assert server.list_jobs()["structuredContent"]["jobs"] == []
        said = server.stderr.read_text("utf-8")
    assert len(said) < 2_000, said
    assert "Traceback" not in said
    assert said.count("connections closed") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /mcp HTTP/1.1\r\nHost: loc",
        HEAD + b"Content-Length: 99\r\n\r\n{",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: 1\r\n",
    ],
)
def test_a_request_that_does_not_end_is_given_up(tmp_path: Path, sent: bytes) -> None:
    with serving(tmp_path, seconds=1.0) as server, server.connect() as silent:
        silent.sendall(sent)
        assert closed(silent)
        assert server.list_jobs()


@pytest.mark.slow
def test_who_bears_the_token_may_be_slow_as_long_as_something_comes(tmp_path: Path) -> None:
    with serving(tmp_path, seconds=1.0) as server, server.connect() as raw:
        ask = (
            f"GET /nothing HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.token}\r\n"
        )
        raw.sendall(ask.replace("/nothing", "/mcp").encode() + b"Accept: text/html\r\n\r\n")
        with raw.makefile("rb", buffering=0) as answer:
            while b"Not Acceptable" not in answer.read(65_536):
                pass
        for part in (ask.encode(), *[b"X: y\r\n"] * 6, b"\r\n"):
            raw.sendall(part)
            time.sleep(0.4)
        came = b""  # the rest of the first answer may come before
        while b"HTTP/1.1 404" not in came:
            came += (piece := raw.recv(65_536))
            assert piece, came


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(
    ("first", "then"),
    [
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: " + b"x" * 61 + b"\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"x" * 64),
        (b"", HEAD + b"Content-Length: 0\r\n\r\n"),
        (HEAD, b"X: " + b"x" * 61 + b"\r\n"),
        (HEAD + b"Content-Length: 99999999\r\n\r\n", b"x" * 64),
    ],
    ids=["trailers", "one trailer", "pipelined", "headers", "a body"],
)
def test_no_token_no_memory(tmp_path: Path, first: bytes, then: bytes) -> None:
    with serving(tmp_path, seconds=5.0) as server, server.connect() as raw:
        server.list_jobs()
        before = server.memory()
        raw.settimeout(1.0)
        with suppress(OSError):  # it hangs up, or reads no further
            raw.sendall(first)
            for _ in range(10):
                raw.sendall(then * (1_000_000 // len(then)))
        assert server.memory() - before < 8
        assert server.list_jobs()


@pytest.mark.slow
def test_a_server_whose_engine_cannot_start_ends(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(0o700)
    (tmp_path / "state" / "journal.sqlite").write_bytes(b"this is no database" * 100)
    done = subprocess.run(
        [sys.executable, "-m", "darkroom", "serve", "--http", "--port", "0"],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**variables(tmp_path), "ZSKY_API_KEY": "zsky_live_0123456789"},
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert "journal" in done.stderr
    assert "Traceback" not in done.stderr


# --- counting ---


class Connection:
    """As much of a connection as is counted."""

    def __init__(self) -> None:
        self.cut = False

    def cut_off(self) -> None:
        self.cut = True


def open_some(strangers: Strangers, count: int) -> list[Connection]:
    made = [Connection() for _ in range(count)]
    for each in made:
        strangers.opened(cast("connections.Watched", each))
    return made


def test_the_oldest_stranger_makes_room_and_nobody_who_bore_the_token() -> None:
    strangers = Strangers(10, 3, lambda: 0.0)
    first = open_some(strangers, 3)
    for each in first:
        strangers.borne(cast("connections.Watched", each))
    second = open_some(strangers, 4)
    assert [each.cut for each in first] == [False] * 3
    assert [each.cut for each in second] == [True, False, False, False]
    strangers.closed(cast("connections.Watched", second[1]))
    assert not open_some(strangers, 1)[0].cut
    assert not second[2].cut


def test_beyond_all_descriptors_a_newcomer_is_closed() -> None:
    strangers = Strangers(4, 5, lambda: 0.0)
    for _ in range(4):
        (each,) = open_some(strangers, 1)
        strangers.borne(cast("connections.Watched", each))
    assert [each.cut for each in open_some(strangers, 2)] == [True, True]


def test_descriptors_are_left_for_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, most in ((256, 128), (1_024, 896), (64, 16)):

        def limits(_: int, soft: int = soft) -> tuple[int, int]:
            return soft, soft

        monkeypatch.setattr(resource, "getrlimit", limits)
        assert most_connections() == most


def test_what_strangers_cause_is_a_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    times = iter((0.0, 0.0, 1.0, 59.0, 61.0, 61.0))
    strangers = Strangers(10, 3, lambda: next(times))
    for _ in range(4):
        strangers.note()
    assert [record.getMessage().rpartition(" ")[2] for record in caplog.records] == ["1", "3"]
    once = OnceAMinute(lambda: 61.0)
    record = caplog.records[0]
    record.exc_info = (OSError, OSError(), None)
    assert [once.filter(record), once.filter(record), record.exc_info] == [True, False, None]

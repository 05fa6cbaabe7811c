"""The shipped server over HTTP, as a process, and a proxy that adds the token for who cannot."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 20.0
CHUNK_BYTES = 65_536
ADDRESS = re.compile(r"http://[\w.]+:(\d+)/mcp")


def variables(folder: Path) -> dict[str, str]:
    """Return an environment in which nothing of the caller's is configured."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    return {
        **kept,
        "HOME": str(folder),
        "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("server", "tools", ".")),
        "DARKROOM_JOBS__STATE_DIR": str(folder / "state"),
        "DARKROOM_RESULTS__FOLDER": str(folder / "results"),
    }


def without(folder: Path, *modules: str) -> dict[str, str]:
    """Return what makes ``serving`` run as if packages were not installed."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"sys.modules[{module!r}] = None\n" for module in modules]
    (folder / "sitecustomize.py").write_text("import sys\n" + "".join(lines))
    return {"PYTHONPATH": os.pathsep.join((str(folder), variables(folder)["PYTHONPATH"]))}


@dataclass(frozen=True)
class Shipped:
    """A server that listens: its port, its token, its process and what it wrote to stderr."""

    port: int
    token: str
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """Where MCP is."""
        return f"http://127.0.0.1:{self.port}/mcp"


@contextmanager
def serving(
    folder: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    module: str = "darkroom",
) -> Generator[Shipped]:
    """Run ``darkroom serve --http`` on a free port; end it in order.

    ``module`` runs the command. Raises AssertionError when it does not end in order.
    """
    command = [sys.executable, "-m", module, "serve", "--http", "--port", "0", *options]
    with _listening(command, {**variables(folder), **(environment or {})}, quiet=True) as (
        port,
        process,
    ):
        token = folder / "state" / "http-token"  # a team has none
        yield Shipped(port, token.read_text("utf-8").strip() if token.exists() else "", process)


@contextmanager
def _listening(
    command: Sequence[str], environment: Mapping[str, str], *, quiet: bool
) -> Generator[tuple[int, subprocess.Popen[str]]]:
    """Run a server that says on stderr where it listens."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        stderr = process.stderr
        assert stderr is not None
        said: list[str] = []
        for line in stderr:
            said.append(line)
            if found := ADDRESS.search(line):
                break
        else:
            raise RuntimeError("".join(said))
        drain = threading.Thread(target=lambda: said.extend(stderr), daemon=True)
        drain.start()
        try:
            yield int(found[1]), process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                status = process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            drain.join(STOP_SECONDS)
        assert status == 0, "".join(said)
        assert not quiet or said[1:] == [], "".join(said[1:])


@contextmanager
def listening(module: str, folder: Path) -> Generator[int]:
    """Run a test's own server, a module that takes port 0; yield its port."""
    with _listening([sys.executable, "-m", module], variables(folder), quiet=False) as (port, _):
        yield port


@contextmanager
def adding_token(port: int, token: str) -> Generator[int]:
    """Run a proxy that adds the token to each request; yield its port."""
    loop = asyncio.new_event_loop()

    async def serve() -> asyncio.Server:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _pass_on(reader, writer, port, token)

        return await asyncio.start_server(handle, "127.0.0.1", 0)

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(serve(), loop).result()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:

        async def stop() -> None:
            server.close()
            await asyncio.sleep(0)  # a connection that was accepted just now becomes a task
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)
            await server.wait_closed()

        asyncio.run_coroutine_threadsafe(stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, token: str
) -> None:
    """Pass on one request of a connection, and its answer to the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        writer.close()
        return
    lines = [
        line for line in head.split(b"\r\n")[:-2] if not line.lower().startswith(b"connection:")
    ]
    lines += [b"Authorization: Bearer " + token.encode(), b"Connection: close", b"", b""]
    their_reader, their_writer = await asyncio.open_connection("127.0.0.1", port)
    their_writer.write(b"\r\n".join(lines))
    sending = asyncio.ensure_future(_pipe(reader, their_writer))
    try:
        await _pipe(their_reader, writer)
    finally:
        sending.cancel()
        writer.close()
        their_writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        return
    finally:
        writer.close()

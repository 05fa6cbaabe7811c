"""Decoding pictures of strangers in child processes, with limits of time and memory.

A child exists only while pictures are made: it serves one call, and ends with it. One that exceeds
a limit is killed, and only its picture is lost.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, cast

import anyio
import anyio.lowlevel

from darkroom.core.errors import DarkroomError
from darkroom.results.problems import NoPictureError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from PIL.Image import Image

    from darkroom.core.executor import Executor
    from darkroom.results.preview import SaveFormat

LONGEST_SECONDS = 10.0
"""For one picture, the start of the process included."""

CALL_SECONDS = 12.0
"""For all pictures of a call; beyond it each may take `LEAST_SECONDS`, in which a sound one is made."""

LEAST_SECONDS = 1.0
LAST_SECONDS = 18.0
"""After so long no further picture of the call is decoded, so that the call answers in time."""

MOST_AT_ONCE = 4
"""Pictures that are decoded at the same time; further ones wait their turn."""

COPY_BYTES = 256 * 1024
PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from darkroom.results.picture_child import main; main()"
)
INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMPDIR")
"""Variables that a child needs to start. It gets no others, so that it knows no key."""

ENDED = "decoding it ended its process (too much memory, or a damaged file)"
NO_TIME = "other pictures of this call took too long: ask for it alone"
NOT_STARTED = "no process can be started to decode it"


class Child:
    """One process. Its methods block: they are called in a worker thread, one at a time."""

    def __init__(self) -> None:
        path = json.dumps([os.path.abspath(each or os.curdir) for each in sys.path])  # noqa: PTH100 -- entries are text
        try:
            self._process = subprocess.Popen(  # noqa: S603 -- this interpreter and a fixed program
                [sys.executable, "-I", "-c", PROGRAM, path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in INHERITED if name in os.environ},
            )
        except (OSError, ValueError):
            raise NoPictureError(NOT_STARTED) from None
        self.usable = True
        self.pid = self._process.pid

    def ask(
        self, request: dict[str, object], file: BinaryIO, seconds: float
    ) -> tuple[dict[str, object], bytes]:
        """Send a request with a file; return the answer and its bytes, within so many seconds.

        Raises
        ------
        NoPictureError: the file is no picture, or it exceeded a limit (then the child is gone).
        """
        late = threading.Event()

        def end() -> None:
            late.set()
            self.kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            answer, data = self._exchange(request, file)
        except (OSError, ValueError, EOFError):
            self.kill()
            too_slow = f"decoding it takes more than {seconds:.3g} seconds"
            raise NoPictureError(too_slow if late.is_set() else ENDED) from None
        except BaseException:
            self.kill()
            raise
        finally:
            timer.cancel()
        if problem := answer.get("problem"):
            raise NoPictureError(str(problem))
        return answer, data

    def _exchange(
        self, request: dict[str, object], file: BinaryIO
    ) -> tuple[dict[str, object], bytes]:
        sink, source = cast("BinaryIO", self._process.stdin), cast("BinaryIO", self._process.stdout)
        left = cast("int", request["bytes"])
        sink.write(json.dumps(request).encode() + b"\n")
        while left:
            block = file.read(min(left, COPY_BYTES))
            if not block:
                raise EOFError
            sink.write(block)
            left -= len(block)
        sink.flush()
        line = source.readline()
        if not line:
            raise EOFError
        answer = cast("dict[str, object]", json.loads(line))
        length = cast("int", answer["bytes"])
        data = source.read(length)
        if len(data) != length:
            raise EOFError
        return answer, data

    def kill(self) -> None:
        """End the process now; what waits for it goes on. Any thread may call this."""
        self.usable = False
        self._process.kill()

    def close(self) -> None:
        """End the process, and wait until the system has taken it back."""
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):  # what was not sent is not needed
                    stream.close()
        self._process.wait()


class Decoder:
    """Hands pictures to children, so that none holds up another's."""

    def __init__(self, executor: Executor, start: Callable[[], Child] = Child) -> None:
        self._executor = executor
        self._start = start
        self._permits = anyio.Semaphore(MOST_AT_ONCE)

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[Session]:
        """Give a child for a call: it starts with the first picture, and ends with the block."""
        session = Session(self._executor, self._start, self._permits)
        try:
            yield session
        finally:
            with anyio.CancelScope(shield=True):
                await session.close()


class Session:
    """The pictures of one call, one after the other."""

    def __init__(
        self, executor: Executor, start: Callable[[], Child], permits: anyio.Semaphore
    ) -> None:
        self._executor = executor
        self._start = start
        self._permits = permits
        self._child: Child | None = None
        self._used = 0.0
        """Seconds that pictures of this call took; the child's time is real also in tests."""

    async def thumbnail(
        self, open_file: Callable[[], BinaryIO], media_type: str, side: int
    ) -> Image:
        """Return a picture, or a film's first frame, at most ``side`` pixels long.

        Raises
        ------
        NoPictureError: it cannot be decoded within the limits. And what ``open_file`` raises.
        """
        from PIL import Image  # noqa: PLC0415 -- loads at the first picture

        answer, data = await self._ask(
            {"do": "thumbnail", "media_type": media_type, "side": side}, open_file
        )
        width, height = cast("tuple[int, int]", answer["size"])
        if not 0 < width <= side or not 0 < height <= side or len(data) != width * height * 3:
            raise NoPictureError(ENDED)
        return Image.frombytes("RGB", (width, height), data)

    async def convert(self, open_file: Callable[[], BinaryIO], to: SaveFormat) -> bytes:
        """Return the whole picture in another format; raises as `thumbnail`."""
        _, data = await self._ask({"do": "convert", "to": to}, open_file)
        return data

    async def prepare(
        self, open_file: Callable[[], BinaryIO], wanted: dict[str, object]
    ) -> tuple[dict[str, object], bytes]:
        """Return a file as it may be sent; see `darkroom.results.preparing.prepare`."""
        return await self._ask({"do": "prepare", **wanted}, open_file)

    async def _ask(
        self, request: dict[str, object], open_file: Callable[[], BinaryIO]
    ) -> tuple[dict[str, object], bytes]:
        """Ask the child in a worker thread; where the caller is cancelled, the child is killed."""
        if self._used > LAST_SECONDS:
            raise NoPictureError(NO_TIME)

        def ask() -> tuple[dict[str, object], bytes]:
            with open_file() as file:
                length = file.seek(0, os.SEEK_END)
                file.seek(0)
                if self._child is None or not self._child.usable:
                    self._end()
                    self._child = self._start()
                began = time.monotonic()
                seconds = min(LONGEST_SECONDS, max(LEAST_SECONDS, CALL_SECONDS - self._used))
                try:
                    return self._child.ask({**request, "bytes": length}, file, seconds)
                finally:
                    self._used += time.monotonic() - began

        asked = False

        async def kill_when_cancelled() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                if not asked and self._child is not None:
                    self._child.kill()

        problem: BaseException | None = None
        made: tuple[dict[str, object], bytes] | None = None
        async with self._permits, anyio.create_task_group() as tasks:
            tasks.start_soon(kill_when_cancelled)
            try:
                made = await self._executor(ask)
            except DarkroomError as error:
                problem = error
            asked = True
            tasks.cancel_scope.cancel()
        # A caller who went away is the reason, not what that did to the child.
        await anyio.lowlevel.checkpoint_if_cancelled()
        if problem is not None:
            raise problem
        if made is None:
            raise NoPictureError(ENDED)
        return made

    async def close(self) -> None:
        """End the child."""
        if self._child is not None:
            await self._executor(self._end)

    def _end(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

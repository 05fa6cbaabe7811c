"""A provider that closes idle connections after 5 s, and chats that submit 1 to 120 s apart.

Scaled twenty-fold, on real sockets: the server closes a connection that was idle for 0.25 s, and
submissions leave 0.05 to 6 s apart.
"""

from __future__ import annotations

import random
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from pydantic import SecretStr

from darkroom.providers.client.http import HttpClient, LostError, NotSentError
from darkroom.providers.credentials import Key
from darkroom.providers.messages import Request
from darkroom.providers.provider import Credential

if TYPE_CHECKING:
    from collections.abc import Generator

SCALE = 20
KEEP_ALIVE_SECONDS = 5 / SCALE
APART_SECONDS = (1, 120)
"""Before they are scaled."""

LONGEST_SECONDS = 300
BODY = b'{"job_id":"x"}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
KEY = Key(Credential(variable="K"), SecretStr("not-a-real-key"), "fingerprint", "K")


@contextmanager
def impatient_server() -> Generator[tuple[str, list[int]]]:
    """Answer requests on kept connections, and close each once it was idle; count them."""
    counts = [0, 0]
    stopping = threading.Event()

    def talk(connection: socket.socket) -> None:
        counts[0] += 1
        with connection:
            connection.settimeout(LONGEST_SECONDS)  # as servers do: idle is who was answered
            pending = b""
            while not stopping.is_set():
                try:
                    chunk = connection.recv(65_536)
                except TimeoutError:
                    return
                except OSError:
                    return
                if not chunk:
                    return
                pending += chunk
                if pending.endswith(b"}"):
                    counts[1] += 1
                    pending = b""
                    connection.sendall(ANSWER % (len(BODY), BODY))
                    connection.settimeout(KEEP_ALIVE_SECONDS)

    def accept(listener: socket.socket) -> None:
        while not stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        thread = threading.Thread(target=accept, args=(listener,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", counts
        finally:
            stopping.set()
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


@dataclass(frozen=True, slots=True)
class Submitted:
    """What came of submissions: how many were answered, and which the client believes lost."""

    answered: int
    lost: list[str]
    connections: int


async def submissions(count: int, side_by_side: int) -> Submitted:
    """Submit ``count`` times from ``side_by_side`` chats, each at its own pace, all through one client."""
    chance = random.Random(5)  # noqa: S311 -- repeatable, not secret
    lost: list[str] = []
    with impatient_server() as (address, counts):
        http_client = HttpClient(address, clock=lambda: 0.0)

        async def chat(pauses: list[float]) -> None:
            for pause in pauses:
                await anyio.sleep(pause)
                request = Request(method="POST", path="/submit", body={"prompt": "p"})
                try:
                    answer = await http_client.send(request, KEY, once=True)
                except (LostError, NotSentError) as error:
                    lost.append(repr(error))
                else:
                    assert answer.object == {"job_id": "x"}

        with anyio.fail_after(LONGEST_SECONDS):
            async with anyio.create_task_group() as tasks:
                for _ in range(side_by_side):
                    pauses = [
                        chance.uniform(*APART_SECONDS) / SCALE for _ in range(count // side_by_side)
                    ]
                    tasks.start_soon(chat, pauses)
        await http_client.aclose()
    connections, answered = counts
    return Submitted(answered, lost, connections)

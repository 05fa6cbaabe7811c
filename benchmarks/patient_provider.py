"""A provider in a process of its own: every job that it is asked about is still on its way.

Run as a script. It says on standard output where it listens; ``GET /asked`` says how often it was
asked. It costs as little as a server of HTTP in Python can, because others are measured beside it.
"""

from __future__ import annotations

import asyncio
import json

ANSWER = (
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
)
COUNT = "/asked"

asked = 0


class Provider(asyncio.Protocol):
    """Answers requests without a body, one after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport
        self._pending = b""

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        global asked  # noqa: PLW0603 -- the one thing that this process knows
        *heads, self._pending = (self._pending + data).split(b"\r\n\r\n")
        for head in heads:
            path = head.split(b" ", 2)[1].decode()
            if path == COUNT:
                body = json.dumps(asked)
            else:
                asked += 1
                job = {"job_id": path.rpartition("/")[2], "status": "processing"}
                body = json.dumps(job)
            answer = ANSWER.format(length=len(body), body=body)
            if isinstance(self._transport, asyncio.WriteTransport):
                self._transport.write(answer.encode())


async def main() -> None:
    """Listen until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

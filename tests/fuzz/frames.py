"""Frames that are wrong in one way or another; each is one line of bytes without its end."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MEGABYTES_5 = 5 * 1024 * 1024
DEEP = 20_000
META: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


def frame(method: str, number: Any = 1, /, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": {"_meta": META, **params}}


def call(tool: str, number: Any = 1, /, **arguments: Any) -> dict[str, Any]:
    return frame("tools/call", number, name=tool, arguments=arguments)


def written(value: Any) -> bytes:
    return json.dumps(value).encode()


WRONG: dict[str, bytes] = {
    "no json": b"hello",
    "half an object": b'{"jsonrpc": "2.0", "id": 1, "meth',
    "bytes that are no text": b"\xff\xfe\x00\xc3\x28",
    "nothing but white space": b"  \t ",
    "null": b"null",
    "a number": b"1e999",
    "a list": b"[1, 2]",
    "a batch": written([frame("tools/list", 1), frame("tools/list", 2)]),
    "nested too deeply": b"[" * DEEP,
    "an object nested too deeply": b'{"a":' * DEEP,
    "an id that is an object": written(frame("tools/list", {})),
    "an id that is null": written(frame("tools/list", None)),
    "an id that is huge": written(frame("tools/list", 10**30)),
    "no method": b'{"jsonrpc": "2.0", "id": 1}',
    "an unknown method": written(frame("tools/nonsense")),
    "another protocol": b'{"jsonrpc": "1.0", "id": 1, "method": "tools/list"}',
    "params that are a list": b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": []}',
    "an answer to nothing": b'{"jsonrpc": "2.0", "id": 77, "result": {}}',
    "an error to nothing": b'{"jsonrpc":"2.0","id":7,"error":{"code":-1,"message":"x"}}',
    "a notification of nothing": b'{"jsonrpc": "2.0", "method": "notifications/nonsense"}',
    "giving up on nothing": b'{"jsonrpc": "2.0", "method": "notifications/cancelled", '
    b'"params": {"requestId": 99}}',
    "giving up on a list": b'{"jsonrpc": "2.0", "method": "notifications/cancelled", '
    b'"params": {"requestId": [1]}}',
    "giving up on an object": b'{"jsonrpc": "2.0", "method": "notifications/cancelled", '
    b'"params": {"requestId": {}}}',
    "an unknown tool": written(call("nonsense")),
    "no arguments": written(frame("tools/call", name="zsky_start_image")),
    "arguments that are a list": written(frame("tools/call", name="list_jobs", arguments=[])),
    "a lone surrogate": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":'
    b'"zsky_check_job","arguments":{"job_id":"\\ud800"}}}',
    "a name twice": b'{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/list","method":"ping"}',
    "five megabytes": written(call("zsky_start_image", prompt="x" * MEGABYTES_5)),
    "a number that is none": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":'
    b'"list_jobs","arguments":{"limit":NaN}}}',
}


def mutations(seed: int, count: int) -> Iterator[bytes]:
    """Yield right frames with something wrong done to their bytes, the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 -- repeatable, not secret
    right = [
        written(frame("tools/list")),
        written(frame("server/discover")),
        written(call("list_jobs", limit=5)),
        written(call("zsky_check_job", job_id="zsky_x", wait_seconds=0)),
        written(frame("resources/read", uri="darkroom://jobs")),
        written(frame("completion/complete", ref={"type": "ref/prompt", "name": "variants"})),
        written(frame("tasks/get", taskId="zsky_x")),
        written(frame("prompts/get", name="spending")),
    ]
    for _ in range(count):
        data = bytearray(chance.choice(right))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data))
            match chance.randrange(4):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    del data[at : at + chance.randint(1, 12)]
                case 2:
                    data[at:at] = chance.choice([b"{", b"}", b"null", b"[]", b'"', b"\\u0000"])
                case _:
                    data[at:at] = data[at : at + chance.randint(1, 40)]
            if not data:
                data = bytearray(b"x")
        yield bytes(data).replace(b"\n", b" ")

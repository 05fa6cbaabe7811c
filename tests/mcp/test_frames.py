"""Messages that the SDK is not trusted with, and the two ways in which they come."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.mcp.frames import FrameError, checked
from tests.cli.support import PROCESS_SECONDS, environment, spawned

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

MARK = b"\xef\xbb\xbf"
PING = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}'
LATIN = '{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"caf\xe9"}}'.encode("latin-1")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (LATIN, -32700),
        (PING.decode().encode("utf-16"), -32700),
        (b"\xed\xa0\x80", -32700),
        (b" [" + PING + b"]", -32600),
        (b"[]", -32600),
        (PING.replace(b"1,", b"1.0,"), -32600),
        (PING.replace(b"1,", b"-1e3,"), -32600),
        (PING.replace(b"1,", b"null,"), -32600),
        (PING.replace(b"1,", b"true,"), -32600),
        (MARK + PING.replace(b"1,", b"{},"), -32600),
    ],
)
def test_a_message_that_nobody_could_rely_on_is_refused(frame: bytes, code: int) -> None:
    with pytest.raises(FrameError) as refusal:
        checked(frame)
    answer = json.loads(refusal.value.answer)
    assert (answer["id"], answer["error"]["code"]) == (None, code)


@pytest.mark.parametrize(
    "frame",
    [
        PING,
        PING.replace(b"1,", b"-7,"),
        PING.replace(b"1,", b'"1.0",'),
        PING.replace(b'"id": 1,', b""),
        b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"id": null, "more": {"id": 1.5}}}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"x"}}',
        b'{"id": null, "half',
        b"no json",
        b"",
    ],
)
def test_any_other_is_passed_on_as_it_is(frame: bytes) -> None:
    assert checked(frame) == frame
    assert checked(MARK + frame) == frame


@given(st.binary())
def test_any_bytes_are_text_afterwards(frame: bytes) -> None:
    with suppress(FrameError):
        checked(frame).decode()


@pytest.mark.slow
def test_each_is_answered_over_standard_input_and_the_session_goes_on(tmp_path: Path) -> None:
    greeting: dict[str, Any] = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    first = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": greeting}
    start = {"name": "zsky_start_image", "arguments": {"prompt": "a café"}}
    paid = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": start}
    listed: dict[str, Any] = {"name": "list_jobs", "arguments": {}}
    last: dict[str, Any] = {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": listed}
    lines = [
        MARK + json.dumps(first).encode(),
        b'{"jsonrpc": "2.0", "method": "notifications/initialized"}',
        json.dumps(paid, ensure_ascii=False).encode("latin-1"),
        b"[" + PING + b"]",
        PING.replace(b"1,", b"1.0,"),
        MARK + PING,
    ]
    with spawned("serve", "--sandbox", variables=environment(tmp_path)) as process:
        source, sink = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        source.write(b"\n".join(lines) + b"\n")
        source.flush()
        answers = [json.loads(sink.readline()) for _ in range(5)]
        source.write(json.dumps(last).encode() + b"\n")
        source.flush()
        answers.append(json.loads(sink.readline()))
        source.close()
        assert process.wait(PROCESS_SECONDS) == 0
    by_id = {answer["id"]: answer for answer in answers if answer["id"] is not None}
    assert set(by_id) == {0, 1, 3}
    refused = sorted(answer["error"]["code"] for answer in answers if answer["id"] is None)
    assert refused == [-32700, -32600, -32600]
    assert by_id[3]["result"]["structuredContent"]["jobs"] == []

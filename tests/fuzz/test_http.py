"""Anything at all over HTTP: an answer with a status, and the next request is served."""

from __future__ import annotations

import json
import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import httpx2
import pytest

from tests.fuzz.frames import WRONG, call, frame, mutations
from tests.peers.shipped import Shipped, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

URL = "/mcp"
SECONDS = 60.0
MUTATIONS = 300
TOO_LARGE = 413
JSON = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
RAW = {
    "no http": b"hello\r\n\r\n",
    "half a head": b"POST /mcp HTTP/1.1\r\nHost: local",
    "half a body": b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{",
    "two lengths": b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
    b"Content-Length: 2\r\n\r\n{}",
    "a length below nothing": b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "no host": b"POST /mcp HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "a head without end": b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000,
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shipped]:
    with serving(tmp_path_factory.mktemp("fuzz"), "--sandbox") as server:
        yield server


@pytest.fixture
def client(served: Shipped) -> Iterator[httpx2.Client]:
    headers = {**JSON, "authorization": f"Bearer {served.token}"}
    with httpx2.Client(
        base_url=served.url.removesuffix(URL), headers=headers, timeout=SECONDS
    ) as client:
        yield client


def modern(message: Any) -> dict[str, str]:
    fields = cast("dict[str, Any]", message) if isinstance(message, dict) else {}
    method = re.sub(r"[^\w/]", "?", str(fields.get("method", "tools/list")), flags=re.ASCII)
    return {"mcp-protocol-version": "2026-07-28", "mcp-method": method}


def parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def assert_serves(client: httpx2.Client) -> None:
    right = frame("tools/list")
    answer = client.post(URL, json=right, headers=modern(right))
    assert answer.status_code == 200
    assert answer.json()["result"]["tools"]


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_frame_is_answered(client: httpx2.Client, name: str) -> None:
    data = WRONG[name]
    for headers in (modern(parsed(data)), {}):
        answer = client.post(URL, content=data, headers=headers)
        assert answer.status_code < 500, answer.text
    if name == "five megabytes":
        assert client.post(URL, content=data).status_code == TOO_LARGE
    assert_serves(client)


def test_mutated_frames_do_no_harm(client: httpx2.Client) -> None:
    for data in mutations(11, MUTATIONS):
        answer = client.post(URL, content=data, headers=modern(parsed(data)))
        assert answer.status_code < 500, (data, answer.text)
    assert_serves(client)


@pytest.mark.parametrize("name", RAW)
def test_what_is_hardly_http_keeps_nobody_else_from_being_served(
    served: Shipped, client: httpx2.Client, name: str
) -> None:
    said = b""
    with socket.create_connection(("127.0.0.1", served.port), SECONDS) as raw:
        raw.sendall(RAW[name])
        assert_serves(client)
        with suppress(OSError):  # it may have hung up
            raw.shutdown(socket.SHUT_WR)
            said = raw.recv(65_536)
    assert said == b"" or said.startswith(b"HTTP/1.1 4")


def test_a_stream_that_is_left_in_the_middle_leaves_the_server_well(
    served: Shipped, client: httpx2.Client
) -> None:
    job = call("zsky_start_image", prompt="A boat")
    started = client.post(
        URL, json=job, headers={**modern(job), "mcp-name": "zsky_start_image"}
    ).json()["result"]["structuredContent"]
    wait = call("zsky_check_job", job_id=started["job_id"])
    wait["params"]["_meta"] = {**wait["params"]["_meta"], "progressToken": 1}
    headers = {**modern(wait), "mcp-name": "zsky_check_job"}
    for _ in range(20):
        with client.stream("POST", URL, json=wait, headers=headers) as stream:
            assert stream.status_code == 200
            next(stream.iter_bytes())
    assert served.process.poll() is None
    assert_serves(client)

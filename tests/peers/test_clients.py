"""The demo's walk with other people's clients, on stdio and over HTTP, in both eras."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.peers import fastmcp
from tests.peers.node import installed, node
from tests.peers.shipped import serving, variables

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = pytest.mark.slow

WALKS = Path(__file__).parent / "walks"
WALK_SECONDS = 120.0
ERAS = ("modern", "legacy")
CHECKS = {"zupertry_check_tryon", "zsky_check_job"}


@contextmanager
def server(kind: str, folder: Path) -> Generator[list[str]]:
    """Yield how a walk reaches a server: URL and token, or the command to run."""
    if kind == "stdio":
        yield [sys.executable, "-m", "darkroom", "serve", "--sandbox"]
        return
    with serving(folder, "--sandbox") as shipped:
        yield [shipped.url, shipped.token]


def walk(command: list[str], transport: str, folder: Path) -> dict[str, Any]:
    with server(transport, folder) as reached:
        done = subprocess.run(
            [*command, *reached],
            check=False,
            capture_output=True,
            text=True,
            timeout=WALK_SECONDS,
            env=variables(folder),
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def judge(seen: dict[str, Any]) -> None:
    assert len(seen["tools"]) > 40
    assert "look_book" in seen["prompts"]
    assert [job["status"] for job in seen["jobs"]] == ["completed"] * 3
    for job in seen["jobs"]:
        assert all(Path(output["file"]).stat().st_size > 0 for output in job["outputs"])
    assert "did you mean 'seed'?" in seen["wrong"]
    assert seen["pictures"] >= 2


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_the_typescript_sdks_client_walks_it(tmp_path: Path, transport: str, era: str) -> None:
    command = [node(), str(WALKS / "typescript.mjs"), str(installed()), era]
    seen = walk(command, transport, tmp_path)
    judge(seen)
    assert seen["protocol"] == {"modern": "2026-07-28", "legacy": "2025-11-25"}[era]
    assert seen["progress"] > 0


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_fastmcps_client_walks_it(tmp_path: Path, transport: str, era: str) -> None:
    command = [fastmcp.python(), str(WALKS / "fastmcp_client.py"), "client", era]
    seen = walk(command, transport, tmp_path)
    judge(seen)
    assert set(seen["calls"]) >= CHECKS
    assert seen["progress"] > 0


@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_fastmcps_tasks_client_walks_it(tmp_path: Path, transport: str) -> None:
    command = [fastmcp.python(), str(WALKS / "fastmcp_client.py"), "tasks", "modern"]
    seen = walk(command, transport, tmp_path)
    judge(seen)  # each start was followed as a task, so that nothing had to be checked
    assert seen["handled"] == ["cancelled"]
    assert not CHECKS & set(seen["calls"])

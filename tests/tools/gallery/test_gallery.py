"""The gallery under the official `AppBridge` in headless Chromium, over a real server.

The npm packages are installed below ``.cache`` at the first run, from the lock beside this file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

import pytest

from tests.peers.node import installed, node

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
BUILD = ROOT / ".cache" / "gallery"
MINUTES = 6
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

pytestmark = pytest.mark.slow


class Outcome(TypedDict):
    name: str
    error: str | None


def scenarios() -> list[str]:
    """Return the names that the runner gives its scenarios."""
    source = (HERE / "check.mjs").read_text("utf-8")
    return re.findall(r'^  async "(.+?)"\(\)', source, re.MULTILINE)


def needed(*names: str) -> str:
    """Return the path of the first of some programs that is there."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail(f"the gallery is tested with {names[0]}: install it")
    return found


def built() -> Path:
    """Install the packages, unless that was done for this lock, and bundle the host."""
    installed(HERE, BUILD)
    shutil.copy(HERE / "host.mjs", BUILD / "host.mjs")
    esbuild = BUILD / "node_modules" / "esbuild" / "bin" / "esbuild"
    subprocess.run(
        [
            node(),
            esbuild,
            "host.mjs",
            "--bundle",
            "--format=iife",
            "--outfile=host.js",
            "--platform=browser",
            "--log-level=error",
        ],
        cwd=BUILD,
        check=True,
    )
    return BUILD


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """Run every scenario once, in one browser."""
    paths = (ROOT / "server", ROOT / "tools", ROOT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    screenshot = os.environ.get("DARKROOM_GALLERY_SCREENSHOT")
    run = subprocess.run(
        [
            node(),
            HERE / "check.mjs",
            built(),
            sys.executable,
            tmp_path_factory.mktemp("gallery"),
            needed(*BROWSERS),
            *([screenshot] if screenshot else []),
        ],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=MINUTES * 60,
        check=False,
    )
    found: list[Outcome] = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.returncode == 0, run.stdout
    return {outcome["name"]: outcome["error"] for outcome in found}


@pytest.mark.parametrize("scenario", scenarios())
def test_the_gallery(outcomes: dict[str, str | None], scenario: str) -> None:
    assert outcomes[scenario] is None

"""A provider from a package of its own is installed, found and called like ours.

The example's own tests stand beside it, in examples/darkroom-lumen/tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from darkroom.catalogue.loading import names_of
from darkroom_lumen import CATALOGUE as LUMEN
from darkroom_tools import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "examples" / "darkroom-lumen"
SECONDS = 120


def run(*command: str, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_takes_no_name_of_ours() -> None:
    assert not names_of(LUMEN) & names_of(CATALOGUE)


def test_nothing_of_ours_knows_the_example() -> None:
    sources = [path for folder in ("server", "tools") for path in (ROOT / folder).rglob("*.py")]
    assert [path for path in sources if "lumen" in path.read_text("utf-8").lower()] == []


@pytest.mark.slow
def test_an_installed_provider_is_found_by_its_entry_point(tmp_path: Path) -> None:
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    run("pip", "install", *offline, "--target", str(tmp_path), str(PACKAGE))
    paths = (tmp_path, ROOT / "server", ROOT / "tools")
    environment = {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "HOME": str(tmp_path),
        "LUMEN_API_KEY": "a-key",
    }
    listed = run("darkroom", "tools", "--json", env=environment)
    names = {tool["name"] for tool in json.loads(listed)}
    assert names >= {"lumen_start_upscale", "lumen_check_upscale", "lumen_get_balance"}

"""The tree is formatted, free of lint and typed: what `make check` looks at, in `make test` too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SECONDS = 300


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "format", "--check", "."),
        ("ruff", "check", "."),
        ("pyright", "--pythonpath", sys.executable),
    ],
    ids=["format", "lint", "types"],
)
def test_the_tree_passes(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=ROOT,
    )
    sys.stdout.write(done.stdout + done.stderr)
    assert done.returncode == 0


def test_imports_go_one_way() -> None:
    command = (str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache")
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=SECONDS, cwd=ROOT
    )
    sys.stdout.write(done.stdout + done.stderr)
    assert done.returncode == 0

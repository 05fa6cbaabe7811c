"""fastmcp's clients, in an environment of their own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
ENVIRONMENT = HERE.parents[2] / ".cache" / "fastmcp"
INSTALL_SECONDS = 300.0


def python() -> str:
    """Return the interpreter of the pinned environment; make it when it is absent or outdated."""
    interpreter = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    made_from = ENVIRONMENT / "made-from"
    pins = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if made_from.exists() and made_from.read_text("utf-8") == pins:
        return str(interpreter)
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    install = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pinned = ["--no-deps", "--require-hashes", "-r", str(REQUIREMENTS)]  # the pins are complete
    subprocess.run([*install, *pinned], check=True, timeout=INSTALL_SECONDS)
    made_from.write_text(pins, "utf-8")
    return str(interpreter)

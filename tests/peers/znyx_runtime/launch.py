"""Run ZNYX's open-source runtime on loopback, from an environment of its own.

It never calls home: local mode, telemetry off, no variable of the caller's is handed on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2

if TYPE_CHECKING:
    from collections.abc import Generator

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
POLICIES = HERE / "policies.yaml"
ENVIRONMENT = HERE.parents[2] / ".cache" / "znyx-runtime"
API_KEY = "not-a-secret"

START_SECONDS = 30.0  # it takes less than one on an idle machine
STOP_SECONDS = 10.0
LOOK_SECONDS = 0.1


@contextmanager
def running() -> Generator[str]:
    """Yield the address of a runtime that is ready, without a trailing slash.

    Raises subprocess.CalledProcessError when its environment cannot be made, and RuntimeError with
    the runtime's own log when it does not become ready.
    """
    python = _python()
    with tempfile.TemporaryDirectory(prefix="znyx-runtime-") as home:
        port = _free_port()
        base_url = f"http://127.0.0.1:{port}"
        log = Path(home) / "log.txt"
        command = [str(python), "-m", "znyx_runtime.cli", "serve"]
        with (
            log.open("wb") as output,
            subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port)],
                cwd=home,
                env=_variables(home),
                stdout=output,
                stderr=subprocess.STDOUT,
            ) as process,
        ):
            try:
                _wait_until_ready(process, base_url, log)
                yield base_url
            finally:
                _stop(process)


def _python() -> Path:
    """Return the interpreter of the pinned environment; make it when it is absent or outdated."""
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    made_from = ENVIRONMENT / "made-from"
    pins = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if made_from.exists() and made_from.read_text() == pins:
        return python
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--no-deps", "--require-hashes", "-r", str(REQUIREMENTS)], check=True)
    made_from.write_text(pins)
    return python


def _variables(home: str) -> dict[str, str]:
    system = {key: os.environ[key] for key in ("SYSTEMROOT",) if key in os.environ}
    return system | {
        "HOME": home,  # it keeps a state file there
        "USERPROFILE": home,
        "PYTHON_DOTENV_DISABLED": "1",  # else it reads any .env above its installation
        "ZNYX_MODE": "local",
        "ZNYX_ENVIRONMENT": "test",
        "ZNYX_POLICY_PATH": str(POLICIES),
        "ZNYX_CACHE_DIR": str(Path(home) / "cache"),
        "ZNYX_TELEMETRY": "false",
        "ZNYX_TELEMETRY_ENABLED": "false",
        "ZNYX_JUDGE_AUDIT": "false",
        "RUNTIME_API_KEY": API_KEY,
    }


def _wait_until_ready(process: subprocess.Popen[bytes], base_url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx2.get(f"{base_url}/readyz", timeout=LOOK_SECONDS * 10).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        try:
            process.wait(LOOK_SECONDS)  # a runtime that ends will never be ready
        except subprocess.TimeoutExpired:
            continue
    msg = f"the runtime is not ready: {log.read_text(errors='replace')}"
    raise RuntimeError(msg)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

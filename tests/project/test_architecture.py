"""What must not drift in the shape of the code: who may import whom, at what cost, and how long."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from darkroom.core import deadlines
from darkroom_tools import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SERVER, TOOLS = ROOT / "server", ROOT / "tools"
PROVIDERS = TOOLS / "darkroom_tools" / "providers"

MACHINERY_FOR_PROVIDERS = {"darkroom.providers", "darkroom.providers.reading"}
"""What a provider's module may know of the server."""

LINES = 450
"""No file of the server or the tools is longer; one that is about to be is split by purpose."""
HEAVY = ("sqlite3", "PIL", "uvicorn", "trio", "platformdirs")
"""What a server that lists its tools has no use for yet."""


def files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def name_of(path: Path) -> str:
    root = SERVER if path.is_relative_to(SERVER) else TOOLS
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path) for path in files(SERVER, TOOLS)}


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports anywhere in it, for types too."""
    package = name_of(path).split(".")[: None if path.stem == "__init__" else -1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            inside = {f"{base}.{alias.name}" for alias in node.names}
            found.update(inside & MODULES or {base})
    return found


def ours(path: Path, package: str) -> set[str]:
    return {name for name in imports(path) if name == package or name.startswith(f"{package}.")}


# --- what a provider module may do; who may import whom is held by import-linter ---


def provider_modules() -> list[Path]:
    """Return the modules that declare providers."""
    return [path for path in files(PROVIDERS) if path.stem != "__init__"]


def test_there_are_provider_modules() -> None:
    assert {"zsky", "zupertry"} <= {path.stem for path in provider_modules()}


@pytest.mark.parametrize("path", provider_modules(), ids=lambda path: path.stem)
def test_a_provider_declares_and_does_not_act(path: Path) -> None:
    assert ours(path, "darkroom") <= MACHINERY_FOR_PROVIDERS
    siblings = {name_of(sibling) for sibling in provider_modules()}
    assert ours(path, "darkroom_tools") <= siblings
    acting = {"anyio", "asyncio", "httpx2", "mcp", "os", "random", "socket", "sqlite3", "time"}
    assert not {name.partition(".")[0] for name in imports(path)} & acting


# --- what can go wrong ---


def test_the_tree_of_errors_names_every_error_with_its_base_and_its_module() -> None:
    errors = {"DarkroomError": ("", "core.errors")}
    classes = [
        (node, name_of(path).removeprefix("darkroom."))
        for path in files(SERVER)
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef)
    ]
    while new := {
        node.name: (base.id, module)
        for node, module in classes
        for base in node.bases
        if isinstance(base, ast.Name) and base.id in errors and node.name not in errors
    }:
        errors |= new
    drawn, above = {"DarkroomError": ("", "core.errors")}, ["DarkroomError"]
    for line in (SERVER / "darkroom/core/errors.py").read_text("utf-8").splitlines():
        if match := re.match(r"([│ ]*)[├└]── (\w+) +(?:([\w.]+): )?", line):
            depth = len(match[1]) // 4 + 1
            drawn[match[2]] = (above[depth - 1], module_named(match[3]))
            above[depth:] = [match[2]]
    assert drawn == errors


def module_named(text: str | None) -> str:
    """Return the module that a line of the tree names; without one it is where the tree stands."""
    return text if text is not None and f"darkroom.{text}" in MODULES else "core.errors"


# --- one home for every rule ---


@pytest.mark.parametrize(
    ("word", "home"),
    [
        ("get_close_matches", "core/names.py"),
        ("flock", "core/locks.py"),
        ("LK_NBLCK", "core/locks.py"),
        ('== "submitting"', "jobs/model.py"),
    ],
)
def test_a_rule_stands_in_one_module(word: str, home: str) -> None:
    found = {path for path in files(SERVER, TOOLS) if word in path.read_text("utf-8")}
    assert found == {SERVER / "darkroom" / home}


def test_every_share_of_a_call_ends_before_the_call_must_answer() -> None:
    shares = {name: value for name, value in vars(deadlines).items() if name.endswith("_SECONDS")}
    assert shares.pop("CALL_SECONDS") == 45
    assert len(shares) > 5
    assert max(shares.values()) == shares["ANSWER_SECONDS"] < 45


# --- at what cost ---


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": f"{SERVER}:{TOOLS}"},
    )
    return set(done.stdout.split())


def test_building_a_server_loads_nothing_that_only_a_job_needs() -> None:
    before = loaded_after("import mcp.server.mcpserver")
    after = loaded_after("import darkroom.mcp.build, darkroom_tools")
    added = after - before
    assert not added & set(HEAVY)
    assert not {name for name in added if name.startswith("darkroom_tools.emulators")}
    deferred = {each.module.partition(":")[0] for each in CATALOGUE.deferred}
    assert deferred
    assert not added & deferred


def test_importing_a_module_starts_nothing() -> None:
    for path in files(SERVER, TOOLS):
        if path.stem == "__main__":
            continue
        for node in ast.parse(path.read_text("utf-8")).body:
            called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
            loops = isinstance(node, (ast.For, ast.While, ast.With))
            assert not called, f"{path}:{node.lineno}: a call for its effect"
            assert not loops, f"{path}:{node.lineno}: work at import"


def test_no_global_is_rebound() -> None:
    for path in files(SERVER, TOOLS):
        rebound = [
            n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Global)
        ]
        assert rebound == [], path


# --- how long ---


@pytest.mark.parametrize("path", files(SERVER, TOOLS), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_short_enough_to_read_in_one_go(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= LINES


# --- what stands nowhere in the tree ---


MADE = {"__pycache__", "build", "demo-output", "dist", "node_modules"}
"""Folders that are no part of the tree, beside those whose name begins with a dot."""


def tree(folder: Path = ROOT) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_file() and path.name != ".git":  # a file in a worktree
            yield path
        elif path.name == ".ci" or (path.name not in MADE and not path.name.startswith(".")):
            yield from tree(path)


MACHINE_PATH = re.compile(rf"(?<![\w.])(?:/root|/work|/opt|{re.escape(str(Path.home()))})/[\w.-]+")
REGISTRY = re.compile(r"(?:pypi|pythonhosted|npmjs|yarnpkg)\.(?:org|com)|index-url")


def test_nothing_in_the_tree_names_a_machines_paths_or_a_package_registry() -> None:
    contents = {path: path.read_bytes() for path in tree() if path.name != Path(__file__).name}
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path, content in contents.items()
        if b"\0" not in content
        for pattern in (MACHINE_PATH, REGISTRY)
        for match in pattern.finditer(content.decode())
    ]
    assert found == []

"""What a stranger installs: the wheel's contents, and the command from a hostile folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from darkroom import __version__
from tests.snapshots import every_tool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
INSTALL_SECONDS = 300
ANSWER_SECONDS = 60
DIST_INFO = f"darkroom_mcp-{__version__}.dist-info"


def run(command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(part) for part in command],
        check=False,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT])
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel with what it asks for, and nothing else; return its console script."""
    folder = tmp_path_factory.mktemp("clean")
    pins = folder / "pins.txt"  # the same versions, without the hashes that a new wheel cannot have
    pins.write_text(
        "\n".join(
            line.rstrip("\\ ")
            for line in (ROOT / "constraints.txt").read_text().splitlines()
            if "==" in line
        )
    )
    run([sys.executable, "-m", "venv", folder / "env"])
    scripts = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
    run([scripts / "python", "-m", "pip", "install", "--quiet", "-c", pins, wheel])
    return scripts / "darkroom"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Return a person's project whose files have the names that ours could be mistaken for."""
    for name in ("server", "darkroom", "darkroom_tools", "json", "anyio", "mcp"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the wrong {name}')\n")
    for name in ("tools", "server"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('the wrong {name}')\n")
    (tmp_path / "config.toml").write_text("this is not ours\n")
    return tmp_path


def variables(home: Path, **more: str) -> Mapping[str, str]:
    kept = {key: os.environ[key] for key in ("PATH", "SYSTEMROOT") if key in os.environ}
    return {**kept, "HOME": str(home), "USERPROFILE": str(home), **more}


def test_the_wheel_holds_the_two_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = archive.read(f"{DIST_INFO}/entry_points.txt").decode()
        metadata = archive.read(f"{DIST_INFO}/METADATA").decode()
    assert {name.partition("/")[0] for name in names} == {"darkroom", "darkroom_tools", DIST_INFO}
    sources = {
        path.relative_to(root).as_posix()
        for root in (ROOT / "server", ROOT / "tools")
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if not name.startswith(DIST_INFO)} == sources
    assert {"darkroom/py.typed", "darkroom_tools/py.typed"} <= names
    assert f"{DIST_INFO}/licenses/LICENSE" in names
    assert "darkroom = darkroom.cli:main" in entry_points
    assert "darkroom-tools = darkroom_tools:CATALOGUE" in entry_points
    assert re.search(r"^Requires-Python: >=3\.11$", metadata, re.MULTILINE)
    extra = dict(re.findall(r"^Requires-Dist: ([\w-]+).*extra == '(\w+)'", metadata, re.MULTILINE))
    assert extra == {"bpe-openai": "tokens", "obstore": "s3", "uvloop": "http"}


def test_the_command_says_its_version_outside_any_folder_of_ours(
    command: Path, hostile: Path
) -> None:
    done = run([command, "--version"], cwd=hostile, env=variables(hostile))
    assert done.stdout == f"darkroom {__version__}\n"


def test_the_tools_are_listed_from_a_hostile_folder(command: Path, hostile: Path) -> None:
    done = run([command, "tools", "--sandbox", "--json"], cwd=hostile, env=variables(hostile))
    assert set(re.findall(r'"name": ?"(\w+)"', done.stdout)) >= every_tool().keys() - {"get_setup"}


FRAMES: tuple[dict[str, Any], ...] = (
    {
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    },
    {"method": "notifications/initialized"},
    {"id": 2, "method": "tools/list"},
)


@pytest.mark.parametrize("path", ["", "."], ids=["bare", "PYTHONPATH=."])
def test_a_host_is_served_from_a_hostile_folder(command: Path, hostile: Path, path: str) -> None:
    if (
        path
    ):  # then the folder comes first on the path: only names that are not ours may stand there
        for name in ("darkroom", "darkroom_tools", "json", "anyio", "mcp"):
            (hostile / f"{name}.py").unlink()
    environment = variables(hostile, **({"PYTHONPATH": path} if path else {}))
    with subprocess.Popen(
        [str(command), "serve", "--sandbox"],
        cwd=hostile,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for frame in FRAMES:
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **frame}) + "\n")
        process.stdin.flush()
        answers = [cast("dict[str, Any]", json.loads(process.stdout.readline())) for _ in range(2)]
        rest, complaints = process.communicate(timeout=ANSWER_SECONDS)
    assert answers[0]["result"]["serverInfo"]["name"] == "darkroom"
    listed = {tool["name"] for tool in answers[1]["result"]["tools"]}
    assert listed == every_tool().keys() - {"get_setup"}
    assert (rest, complaints, process.returncode) == ("", "", 0)

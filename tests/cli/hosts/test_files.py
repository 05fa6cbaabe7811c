"""Hosts' files as they are found: any platform, any line end, and what others have put there."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.cli.command_line import HOST_NAMES, main
from darkroom.cli.hosts import toml as tomltext
from darkroom.cli.hosts.known import HOSTS
from tests.cli.hosts.test_install import (
    CODEX,
    KEY,
    alone_at,
    entry,
    file_of,
    parsed,
    sample,
)
from tests.project.documents import NOTHING

OTHER_KEY = "ghp_somebodyelses"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    alone_at(tmp_path, monkeypatch)
    return tmp_path


def put(name: str, home: Path, text: str) -> Path:
    path = file_of(name, home)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))
    return path


MAC = "Library/Application Support"
CODE = "Code/User/mcp.json"
DESKTOP = "Claude/claude_desktop_config.json"


@pytest.mark.parametrize(
    ("name", "platform", "variables", "expected"),
    [
        ("claude-desktop", "darwin", {"HOME": "h"}, f"h/{MAC}/{DESKTOP}"),
        ("claude-desktop", "linux", {"HOME": "h"}, f"h/.config/{DESKTOP}"),
        ("claude-desktop", "win32", {"APPDATA": "r", "LOCALAPPDATA": "l"}, f"r/{DESKTOP}"),
        ("claude-desktop", "win32", {"USERPROFILE": "h"}, f"h/AppData/Roaming/{DESKTOP}"),
        ("claude-code", "darwin", {"HOME": "h"}, "h/.claude.json"),
        ("claude-code", "win32", {"USERPROFILE": "h", "HOME": "x"}, "h/.claude.json"),
        ("claude-code", "linux", {"HOME": "h", "CLAUDE_CONFIG_DIR": "c"}, "c/.claude.json"),
        ("cursor", "darwin", {"HOME": "h"}, "h/.cursor/mcp.json"),
        ("cursor", "win32", {"USERPROFILE": "h"}, "h/.cursor/mcp.json"),
        ("vscode", "darwin", {"HOME": "h"}, f"h/{MAC}/{CODE}"),
        ("vscode", "linux", {"HOME": "h"}, f"h/.config/{CODE}"),
        ("vscode", "linux", {"HOME": "h", "XDG_CONFIG_HOME": "x"}, f"x/{CODE}"),
        ("vscode", "win32", {"APPDATA": "r"}, f"r/{CODE}"),
        ("codex", "linux", {"HOME": "h"}, "h/.codex/config.toml"),
        ("codex", "win32", {"USERPROFILE": "h"}, "h/.codex/config.toml"),
        ("codex", "darwin", {"HOME": "h", "CODEX_HOME": "c"}, "c/config.toml"),
        ("gemini-cli", "linux", {"HOME": "h"}, "h/.gemini/settings.json"),
        ("gemini-cli", "win32", {"USERPROFILE": "h"}, "h/.gemini/settings.json"),
        ("opencode", "linux", {"HOME": "h"}, "h/.config/opencode/opencode.json"),
        ("opencode", "darwin", {"HOME": "h"}, "h/.config/opencode/opencode.json"),
        ("opencode", "win32", {"USERPROFILE": "h"}, "h/.config/opencode/opencode.json"),
        ("opencode", "linux", {"HOME": "h", "OPENCODE_CONFIG": "o.json"}, "o.json"),
        ("windsurf", "darwin", {"HOME": "h"}, "h/.codeium/windsurf/mcp_config.json"),
        ("zed", "darwin", {"HOME": "h", "XDG_CONFIG_HOME": "x"}, "h/.config/zed/settings.json"),
        ("zed", "linux", {"HOME": "h", "XDG_CONFIG_HOME": "x"}, "x/zed/settings.json"),
        ("zed", "win32", {"APPDATA": "r"}, "r/Zed/settings.json"),
        ("lm-studio", "win32", {"USERPROFILE": "h"}, "h/.lmstudio/mcp.json"),
        ("goose", "linux", {"HOME": "h"}, "h/.config/goose/config.yaml"),
        ("goose", "win32", {"APPDATA": "r"}, "r/Block/goose/config/config.yaml"),
        ("continue", "linux", {"HOME": "h"}, "h/.continue/mcpServers/darkroom.json"),
        ("continue", "linux", {"CONTINUE_GLOBAL_DIR": "c"}, "c/mcpServers/darkroom.json"),
    ],
)
def test_every_platform_has_its_file(
    name: str, platform: str, variables: dict[str, str], expected: str
) -> None:
    assert HOSTS[name].file(variables, platform) == Path(expected)


@pytest.mark.parametrize("name", HOST_NAMES)
def test_the_page_names_every_hosts_files(name: str) -> None:
    page = (Path(__file__).parents[3] / "docs" / "hosts.md").read_text("utf-8")
    (row,) = (line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
    _, _, own, project, _, _ = row.split("|")
    assert HOSTS[name].file({"HOME": "h"}, "linux").name in own
    assert (HOSTS[name].project_file or NOTHING) in project


def test_claude_as_a_windows_package_has_a_folder_of_its_own(tmp_path: Path) -> None:
    variables = {"APPDATA": str(tmp_path / "roaming"), "LOCALAPPDATA": str(tmp_path)}
    left, used = (
        tmp_path / "Packages" / package / "LocalCache" / "Roaming"
        for package in ("Claude_a", "Claude_b")
    )
    left.mkdir(parents=True)
    assert HOSTS["claude-desktop"].file(variables, "win32") == left / DESKTOP
    (used / DESKTOP).parent.mkdir(parents=True)
    (used / DESKTOP).write_text("{}", "utf-8")
    assert HOSTS["claude-desktop"].file(variables, "win32") == used / DESKTOP


@pytest.mark.parametrize("name", HOST_NAMES)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_mark_stay(home: Path, name: str, mark: str) -> None:
    host = HOSTS[name]
    text = sample(host)
    before = mark + text.replace("\n", "\r\n")
    path = put(name, home, before)
    assert main(["install", name, "--yes"]) == 0
    after = path.read_bytes().decode("utf-8")
    assert after.count("\n") == after.count("\r\n") > before.count("\n")
    assert after.startswith(mark)
    assert "darkroom" in parsed(name, after.removeprefix(mark))[host.section]
    assert main(["uninstall", name, "--yes"]) == 0
    assert path.read_bytes().decode("utf-8") == before


@pytest.mark.parametrize("name", HOST_NAMES)
def test_what_stands_beside_the_entry_is_not_shown(
    home: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    host = HOSTS[name]
    others = {host.section: {"gh": {"command": "gh", "env": {"GH_TOKEN": OTHER_KEY}}}}
    line = f'{host.section} = {{gh = {{command = "gh", env = {{GH_TOKEN = "{OTHER_KEY}"}}}}}}\n'
    table = line.replace(f"{host.section} = {{gh = ", f"{host.section}.gh = ").replace("}}}", "}}")
    block = f"{host.section}:\n  gh:\n    cmd: gh\n    envs:\n      GH_TOKEN: {OTHER_KEY}\n"
    texts = {"json": json.dumps(others), "toml": table, "yaml": block}
    path = put(name, home, texts[host.form])
    assert main(["install", name, "--yes"]) == 0
    assert main(["uninstall", name, "--yes"]) == 0
    assert OTHER_KEY in path.read_text("utf-8")
    assert OTHER_KEY not in "".join(capsys.readouterr())


@pytest.mark.parametrize("name", ["cursor", "codex"])
def test_what_a_person_has_added_to_the_entry_stays(
    home: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = """# mine
[mcp_servers.darkroom] # the entry
command = "/old/darkroom"
# long jobs
tool_timeout_sec = 90
enabled = false
args = [
    # why not
    "serve",
]
since = 2026-01-02

[mcp_servers.darkroom.env]
HTTPS_PROXY = "https://proxy.test"
ZSKY_API_KEY = "zsky_live_oldoldoldold"

[mcp_servers.darkroom.tools.zsky_start_video]
approval_mode = "prompt"

# the other
[mcp_servers.other]
command = "other"
"""
    old = tomllib.loads(toml)["mcp_servers"]["darkroom"]
    entry_of_json = {k: v for k, v in old.items() if k != "since"}
    path = put(
        name,
        home,
        toml if name == "codex" else json.dumps({"mcpServers": {"darkroom": entry_of_json}}),
    )
    assert main(["install", name, "--yes", "--read-only"]) == 0
    found = entry(name, home)
    assert found["args"] == ["serve", "--read-only"]
    assert found["command"] != "/old/darkroom"
    for key in ("tool_timeout_sec", "enabled", "tools"):
        assert found[key] == old[key]
    assert found["env"]["HTTPS_PROXY"] == "https://proxy.test"
    assert "oldold" not in path.read_text("utf-8")
    said = capsys.readouterr().err
    assert "oldold" not in said
    assert "with ZSKY_API_KEY in it" in said
    if name == "codex":
        assert found["since"] == old["since"]
        text = path.read_text("utf-8")
        assert (
            text.index("# mine") < text.index("[mcp_servers.darkroom]") < text.index("# the other")
        )
    assert main(["install", name, "--yes", "--read-only"]) == 0
    assert "nothing to change" in capsys.readouterr().err
    assert main(["uninstall", name, "--yes"]) == 0
    assert "darkroom" not in parsed(name, path.read_text("utf-8"))[HOSTS[name].section]


def test_an_entry_of_another_kind_is_replaced(home: Path) -> None:
    put("cursor", home, '{"mcpServers": {"darkroom": {"url": "http://x.test", "headers": {}}}}')
    assert main(["install", "cursor", "--yes"]) == 0
    assert entry("cursor", home).keys() == {"type", "command", "args", "env"}


def test_a_key_that_was_replaced_is_said_to_be_another(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del home
    assert main(["install", "cursor", "--yes", "--with-keys"]) == 0
    monkeypatch.setenv("ZSKY_API_KEY", "zsky_live_secondsecond")
    capsys.readouterr()
    assert main(["install", "cursor", "--yes", "--with-keys"]) == 0
    said = capsys.readouterr().err
    assert "… (another)" in said
    assert "zsky_live" not in said


@pytest.mark.parametrize("name", HOST_NAMES)
def test_a_file_that_is_read_only_is_left_alone(
    home: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(name, home, "")
    path.chmod(stat.S_IRUSR)
    assert main(["install", name, "--yes"]) == 2
    assert "read-only" in capsys.readouterr().err
    assert path.read_bytes() == b""
    assert list(path.parent.glob("*.before-darkroom-*")) == []


def test_a_link_stays_a_link(home: Path) -> None:
    real = home / "dotfiles" / "cursor.json"
    real.parent.mkdir()
    real.write_text("{}", "utf-8")
    link = file_of("cursor", home)
    link.parent.mkdir()
    link.symlink_to(real)
    assert main(["install", "cursor", "--yes"]) == 0
    assert link.is_symlink()
    assert "darkroom" in json.loads(real.read_text("utf-8"))["mcpServers"]
    assert [path.name for path in real.parent.glob("*.before-darkroom-*")]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("cursor", b"\xff\xfe{\x00}\x00", "not UTF-8"),
        ("cursor", b'{"mcpServers": {"darkroom": {}, "darkroom": {}}}', "by hand"),
        ("codex", b"model = \xff", "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_changed_safely_is_left_alone(
    home: Path, capsys: pytest.CaptureFixture[str], name: str, data: bytes, says: str
) -> None:
    path = put(name, home, "")
    path.write_bytes(data)
    assert main(["uninstall", name, "--yes"]) == 2
    assert path.read_bytes() == data
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--providers=zskie"], "did you mean 'zsky'?"),
        (["--tools=zsky_start_imag"], "did you mean 'zsky_start_image'?"),
        (["--exclude=lists_jobs"], "did you mean 'list_jobs'?"),
    ],
)
def test_a_server_that_would_not_start_is_not_installed(
    home: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    for more in ([], ["--print"]):
        assert main(["install", "cursor", "--yes", *options, *more]) == 2
        said = capsys.readouterr()
        assert says in said.err
        assert said.out == ""
    assert not file_of("cursor", home).exists()


def test_a_wrong_setting_is_not_installed(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DARKROOM_ZSKY__API_KEY", KEY)
    assert main(["install", "cursor", "--yes"]) == 2
    assert not file_of("cursor", home).exists()
    said = capsys.readouterr().err
    assert "DARKROOM_ZSKY__API_KEY" in said
    assert KEY not in said


def test_paths_in_settings_hold_in_any_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("DARKROOM_RESULTS__FOLDER", "Bilder 🎞")
    monkeypatch.setenv("DARKROOM_FILES__ROOTS", '["out", "~/more"]')
    monkeypatch.setenv("DARKROOM_HTTP__TOKEN_FILE", "token")
    monkeypatch.setenv("DARKROOM_SERVE__EXCLUDE", '["list_jobs"]')
    assert main(["install", "codex", "--yes"]) == 0
    env = entry("codex", home)["env"]
    assert env["DARKROOM_RESULTS__FOLDER"] == str(home / "Bilder 🎞")
    assert json.loads(env["DARKROOM_FILES__ROOTS"]) == [str(home / "out"), str(home / "more")]
    assert env["DARKROOM_HTTP__TOKEN_FILE"] == str(home / "token")
    assert env["DARKROOM_SERVE__EXCLUDE"] == '["list_jobs"]'


def test_a_template_is_no_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZSKY_API_KEY", "${ZSKY_API_KEY}")
    assert main(["install", "claude-code", "--yes", "--with-keys"]) == 0
    assert "env" not in entry("claude-code", home)


def test_a_variable_that_is_no_text_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZYNG_API_KEY_FILE", os.fsdecode(b"/keys/\xff"))
    assert main(["install", "cursor", "--yes"]) == 2
    assert "not UTF-8" in capsys.readouterr().err
    assert not file_of("cursor", home).exists()


@pytest.mark.parametrize("name", HOST_NAMES)
def test_print_says_beside_the_entry_what_to_know(
    home: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["install", name, "--print", "--with-keys"]) == 0
    said = capsys.readouterr()
    assert (
        parsed(name, said.out)[HOSTS[name].section]["darkroom"][HOSTS[name].env]["ZSKY_API_KEY"]
        == KEY
    )
    assert "readable: ZSKY_API_KEY" in said.err
    assert main(["install", name, "--print"]) == 0
    said = capsys.readouterr()
    assert ("NAME_FILE" in said.err) == (HOSTS[name].handing == "none")
    assert list(home.iterdir()) == []


TOML_TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
TOML_VALUES: st.SearchStrategy[Any] = st.recursive(
    TOML_TEXT | st.booleans() | st.integers(-99, 99) | st.floats(-9, 9) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TOML_TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(value=st.dictionaries(TOML_TEXT, TOML_VALUES, max_size=4))
def test_any_entry_is_written_as_toml_and_goes_again(value: dict[str, Any]) -> None:
    where = ("mcp_servers", "darkroom")
    written = tomltext.put(CODEX, where, value)
    assert tomllib.loads(written)["mcp_servers"]["darkroom"] == value
    again = tomltext.put(written, where, {"command": "x"})
    assert tomllib.loads(again)["mcp_servers"]["darkroom"] == {"command": "x"}
    assert tomltext.remove(again, where) == CODEX

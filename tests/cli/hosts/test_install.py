"""`darkroom install` and `uninstall`: one entry comes and goes, all else stays as it is."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.cli.command_line import HOST_NAMES, main
from darkroom.cli.hosts import jsonc
from darkroom.cli.hosts import toml as tomltext
from darkroom.cli.hosts import yaml as yamltext
from darkroom.cli.hosts.known import HOSTS

if TYPE_CHECKING:
    from pathlib import Path

    from darkroom.cli.hosts.known import Host

KEY = "zsky_live_canarycanarycanary"

JSONC = """// servers of this person
{
    // the first
    "mcpServers": {
        "other": { "command": "other", "env": {"TOKEN": "theirs"} }, // keep me
    },
    "theme": "dark", /* and me */
}
"""
CODEX = """# my own settings
model = "large"

[mcp_servers.other]
command = "other"  # keep me

# about profiles
[profiles.fast]
model = "small"
"""


GOOSE = """# settings of this person
GOOSE_MODEL: large
extensions:
  # the first
  developer:
    enabled: true
    type: builtin   # keep me
    envs:
      TOKEN: theirs

# after
slash: [a, "b"]
"""


def sample(host: Host) -> str:
    """Return a file of a person who has other servers, in the host's form."""
    samples = {"json": JSONC.replace("mcpServers", host.section), "toml": CODEX, "yaml": GOOSE}
    return samples[host.form]


def alone_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every host keep its files in one folder, and let nothing but one key be set."""
    for name in os.environ:
        if name.startswith(("DARKROOM_", "ZYNG_", "ZUPERTRY_", "ZSKY_", "CLAID_", "ZNYX_")):
            monkeypatch.delenv(name)
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    for variable in ("OPENCODE_CONFIG", "CONTINUE_GLOBAL_DIR"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("HOME", "USERPROFILE", "APPDATA", "XDG_CONFIG_HOME", "CODEX_HOME"):
        monkeypatch.setenv(variable, str(folder))
    monkeypatch.setenv("ZSKY_API_KEY", KEY)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    alone_at(tmp_path, monkeypatch)
    return tmp_path


def file_of(name: str, home: Path) -> Path:
    folder = {"HOME": home, "USERPROFILE": home, "APPDATA": home, "XDG_CONFIG_HOME": home}
    return HOSTS[name].file(
        {key: str(path) for key, path in folder.items()} | {"CODEX_HOME": str(home)}
    )


def parsed(name: str, text: str) -> dict[str, Any]:
    readers = {"json": jsonc.read, "toml": tomllib.loads, "yaml": yamltext.read}
    return readers[HOSTS[name].form](text)


def entry(name: str, home: Path) -> dict[str, Any]:
    text = file_of(name, home).read_text("utf-8")
    return parsed(name, text)[HOSTS[name].section]["darkroom"]


@pytest.mark.parametrize("name", HOST_NAMES)
def test_the_hosts_of_the_command_are_those_that_are_known(name: str) -> None:
    assert tuple(HOSTS) == HOST_NAMES
    assert HOSTS[name].name == name


@pytest.mark.parametrize("name", HOST_NAMES)
def test_an_entry_comes_into_a_new_file_and_goes_again(
    home: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["install", name, "--yes", "--read-only", "--providers=zsky"]) == 0
    written = entry(name, home)
    started = written.get("args") or written["command"]
    assert started[-3:] == ["serve", "--providers=zsky", "--read-only"]
    assert stat.S_IMODE(file_of(name, home).stat().st_mode) == 0o600
    assert main(["install", name, "--yes", "--read-only", "--providers=zsky"]) == 0
    assert "nothing to change" in capsys.readouterr().err
    assert main(["uninstall", name, "--yes"]) == 0
    left = file_of(name, home).read_text("utf-8")
    assert not left.strip() or not parsed(name, left).get(HOSTS[name].section)
    assert main(["uninstall", name, "--yes"]) == 0


@pytest.mark.parametrize("name", HOST_NAMES)
def test_the_rest_of_a_file_and_its_comments_stay(home: Path, name: str) -> None:
    host = HOSTS[name]
    before = sample(host)
    path = file_of(name, home)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(before, "utf-8")
    path.chmod(0o640)
    assert main(["install", name, "--yes"]) == 0
    after = path.read_text("utf-8")
    if host.form == "toml":
        assert after.startswith(before)
    else:
        assert [line for line in before.splitlines() if line not in after.splitlines()] == []
    assert entry(name, home)[host.command]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    (copy,) = path.parent.glob("*.before-darkroom-*")
    assert copy.read_text("utf-8") == before
    assert main(["uninstall", name, "--yes"]) == 0
    assert path.read_text("utf-8") == (before.rstrip() + "\n" if host.form == "toml" else before)


@pytest.mark.parametrize("name", HOST_NAMES)
def test_no_key_is_written_or_shown_unless_it_is_asked_for(
    home: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["install", name, "--yes"]) == 0
    assert KEY not in file_of(name, home).read_text("utf-8")
    assert main(["install", name, "--print"]) == 0
    assert KEY not in "".join(capsys.readouterr())
    assert main(["install", name, "--yes", "--with-keys"]) == 0
    assert entry(name, home)[HOSTS[name].env]["ZSKY_API_KEY"] == KEY
    said = capsys.readouterr()
    assert "readable: ZSKY_API_KEY" in said.err
    assert KEY not in said.err + said.out
    assert main(["uninstall", name, "--yes"]) == 0
    assert KEY not in "".join(capsys.readouterr())


def test_a_key_is_referred_to_where_the_host_can_hand_it_on(home: Path) -> None:
    for name in HOST_NAMES:
        assert main(["install", name, "--yes"]) == 0
    assert entry("cursor", home)["env"]["ZSKY_API_KEY"] == "${env:ZSKY_API_KEY}"
    assert entry("vscode", home)["env"]["ZSKY_API_KEY"] == "${env:ZSKY_API_KEY}"
    assert "ZSKY_API_KEY" in entry("codex", home)["env_vars"]
    assert "ZSKY_API_KEY" not in entry("claude-code", home).get("env", {})


def test_who_gets_no_variables_is_told_the_way_out(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del home
    assert main(["install", "claude-desktop", "--yes"]) == 0
    assert "NAME_FILE" in capsys.readouterr().err


def test_paths_and_addresses_come_along(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("ZSKY_API_KEY_FILE", "keys/zsky")
    monkeypatch.setenv("ZSKY_BASE_URL", "https://zsky.test")
    monkeypatch.setenv("DARKROOM_JOBS__KEEP_DAYS", "3")
    assert main(["install", "claude-desktop", "--yes"]) == 0
    assert entry("claude-desktop", home)["env"] == {
        "ZSKY_API_KEY_FILE": str(home / "keys" / "zsky"),
        "ZSKY_BASE_URL": "https://zsky.test",
        "DARKROOM_JOBS__KEEP_DAYS": "3",
    }


def test_a_projects_file_never_holds_a_key(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    assert main(["install", "claude-code", "--project", "--yes", "--with-keys"]) == 2
    assert "--with-keys" in capsys.readouterr().err
    assert main(["install", "claude-code", "--project", "--yes"]) == 0
    written = json.loads((home / ".mcp.json").read_text("utf-8"))
    assert written["mcpServers"]["darkroom"]["type"] == "stdio"
    assert main(["install", "codex", "--project", "--yes"]) == 0
    assert KEY not in (home / ".codex" / "config.toml").read_text("utf-8")
    assert main(["install", "claude-desktop", "--project", "--yes"]) == 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps other rights")
@pytest.mark.parametrize("before", [0o644, 0o664, 0o600, None])
@pytest.mark.usefixtures("home")
def test_a_file_with_keys_is_private_whatever_it_was(before: int | None) -> None:
    path = HOSTS["cursor"].file(dict(os.environ))
    if before is not None:
        path.parent.mkdir()
        path.write_text(JSONC)
        path.chmod(before)
    assert main(["install", "cursor", "--with-keys", "--yes"]) == 0
    assert KEY in path.read_text()
    modes = {stat.S_IMODE(each.stat().st_mode) for each in path.parent.glob("mcp.json*")}
    assert modes == {0o600}


@pytest.mark.parametrize("linked", ["file", "folder", "file within"])
def test_no_link_is_followed_out_of_a_project(
    home: Path, monkeypatch: pytest.MonkeyPatch, linked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    project = home / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    victim = home / "outside" / "mcp.json"
    victim.parent.mkdir()
    victim.write_text("{}")
    if linked == "folder":
        (project / ".cursor").symlink_to(victim.parent)
    else:
        (project / ".cursor").mkdir()
        inside = project / "other.json"
        inside.write_text("{}")
        (project / ".cursor" / "mcp.json").symlink_to(victim if linked == "file" else inside)
    assert main(["install", "cursor", "--project", "--yes"]) == 2
    assert "leads out of the project, or is a link" in capsys.readouterr().err
    assert victim.read_text() == "{}"


def test_a_projects_entry_keeps_nothing_that_decides_what_runs_or_whom_it_asks(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = home / "project"
    (project / ".cursor").mkdir(parents=True)
    monkeypatch.chdir(project)
    foreign = {
        "LD_PRELOAD": "/steal.so",
        "DYLD_INSERT_LIBRARIES": "/steal.dylib",
        "PYTHONPATH": "/steal",
        "PYTHONSTARTUP": "/steal.py",
        "ZSKY_BASE_URL": "https://steal.test",
        "DARKROOM_CONFIG": "/steal.toml",
        "DARKROOM_HTTP__HOSTS": "steal.test",
    }
    old = {"command": "darkroom", "env": {**foreign, "LANG": "de"}, "timeout": 90, "cwd": "/steal"}
    path = project / ".cursor" / "mcp.json"
    path.write_text(json.dumps({"mcpServers": {"darkroom": {**old, "envFile": "/steal"}}}))
    assert main(["install", "cursor", "--project", "--yes"]) == 0
    text = path.read_text()
    assert "steal" not in text
    entry = json.loads(text)["mcpServers"]["darkroom"]
    assert (entry["timeout"], entry["env"]["LANG"], "cwd" in entry) == (90, "de", False)


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("\n", 1), ("no\n", 1), ("", 1)])
def test_nothing_is_written_without_a_yes(
    home: Path, monkeypatch: pytest.MonkeyPatch, answer: str, status: int
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert main(["install", "cursor"]) == status
    assert file_of("cursor", home).exists() == (status == 0)


def test_without_a_terminal_nobody_is_asked_and_nothing_written(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert main(["install", "cursor"]) == 2
    assert not file_of("cursor", home).exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cursor", "{"),
        ("cursor", "[]"),
        ("cursor", '{"mcpServers": []}'),
        ("cursor", '{"a": 1 "b": 2}'),
        ("cursor", "{" * 5_000),
        ("codex", "model = "),
        ("codex", 'mcp_servers = {darkroom = {command = "x"}}'),
        ("codex", 'mcp_servers.darkroom.command = "x"'),
        ("codex", 'note = """\n[mcp_servers.darkroom]\n"""\n[mcp_servers.darkroom]\ncommand = "x"'),
    ],
)
def test_a_file_that_is_not_understood_is_left_alone(
    home: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    path = file_of(name, home)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    assert main(["install", name, "--yes"]) == 2
    assert path.read_text("utf-8") == text
    assert str(path) in capsys.readouterr().err


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
SECTIONS = st.dictionaries(NAMES, VALUES, max_size=3)


@given(
    whole=st.dictionaries(NAMES, VALUES, max_size=3),
    section=SECTIONS | st.none(),
    indent=st.sampled_from([None, 1, 2, 4, "\t"]),
    value=VALUES,
)
def test_any_json_changes_in_one_place_only(
    whole: dict[str, Any], section: dict[str, Any] | None, indent: Any, value: Any
) -> None:
    whole.pop("s", None)
    if section is not None:
        section.pop("n", None)
        whole["s"] = section
    before = json.dumps(whole, indent=indent)
    after = jsonc.put(before, ("s", "n"), value)
    assert json.loads(after) == whole | {"s": (section or {}) | {"n": value}}
    again = jsonc.put(after, ("s", "n"), "other")
    assert json.loads(again) == whole | {"s": (section or {}) | {"n": "other"}}
    assert json.loads(jsonc.remove(after, ("s", "n"))) == whole | {"s": section or {}}


@given(text=st.text(st.sampled_from('{}[]",:/*\n\\ at1'), max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        jsonc.read(text)
    except jsonc.NotJsonError:
        return
    assert jsonc.read(jsonc.put(text, ("s", "n"), 1))["s"]["n"] == 1 if _may_hold(text) else True


def _may_hold(text: str) -> bool:
    return isinstance(jsonc.read(text).get("s", {}), dict)


def test_a_table_with_tables_inside_goes_as_a_whole() -> None:
    value: dict[str, Any] = {"command": "x", "args": ["serve"], "env": {"A": "b"}}
    put = tomltext.put(CODEX, ("mcp_servers", "darkroom"), value)
    moved = put.replace("[profiles.fast]", "[profiles.quick]") + "\n# last\n[tail]\nx = 1\n"
    removed = tomltext.remove(moved, ("mcp_servers", "darkroom"))
    assert tomllib.loads(removed) == tomllib.loads(
        CODEX.replace("[profiles.fast]", "[profiles.quick]") + "\n[tail]\nx = 1\n"
    )
    assert "# last" in removed

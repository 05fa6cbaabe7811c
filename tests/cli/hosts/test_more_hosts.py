"""`darkroom install`: servers over HTTP, keys that are asked for, programs in a cache, YAML."""

from __future__ import annotations

import getpass
import io
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import pytest

from darkroom.cli import install
from darkroom.cli.command_line import HOST_NAMES, main
from darkroom.cli.hosts import yaml as yamltext
from darkroom.cli.hosts.known import HOSTS, TOKEN_VARIABLE
from tests.cli.hosts.test_install import GOOSE, alone_at, entry, file_of

if TYPE_CHECKING:
    from collections.abc import Iterator

URL = "http://127.0.0.1:8811/mcp"
TYPED = "claid_typedtypedtyped"
WITHOUT_HTTP = {"claude-desktop"}
OVER_HTTP = [name for name in HOST_NAMES if name not in WITHOUT_HTTP]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    alone_at(tmp_path, monkeypatch)

    def own(name: str, *, appauthor: bool) -> Path:
        assert (name, appauthor) == ("darkroom", False)
        return tmp_path / "own"

    monkeypatch.setattr(platformdirs, "user_config_path", own)
    monkeypatch.setenv("DARKROOM_JOBS__STATE_DIR", str(tmp_path / "state"))
    return tmp_path


# --- over HTTP ---


@pytest.mark.parametrize("name", OVER_HTTP)
def test_a_server_over_http_is_named_with_the_variable_of_its_token(
    home: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["install", name, "--http", "--yes"]) == 0
    written = entry(name, home)
    assert URL in written.values()
    assert HOSTS[name].command not in written
    assert TOKEN_VARIABLE in repr(written)
    assert "TOKEN" in capsys.readouterr().err or HOSTS[name].handing == "none"
    assert not (home / "state" / "http-token").exists()
    assert main(["install", name, "--yes"]) == 0  # back to a program: nothing of it is left
    assert URL not in repr(entry(name, home))


@pytest.mark.parametrize("name", OVER_HTTP)
def test_the_token_is_written_only_if_it_is_asked_for_and_then_for_the_person_alone(
    home: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["install", name, "--http", "--with-keys", "--yes"]) == 0
    token = (home / "state" / "http-token").read_text("utf-8").strip()
    assert f"Bearer {token}" in repr(entry(name, home))
    assert token not in "".join(capsys.readouterr())
    if os.name == "posix":
        assert stat.S_IMODE(file_of(name, home).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["claude-desktop", "--http"], "no servers over HTTP"),
        (["cursor", "--http", "127.0.0.1:8811"], "expected an http or https address"),
        (["cursor", "--http", "--read-only"], "belong to the server that runs"),
        (["cursor", "--http", "--project", "--with-keys"], "--with-keys"),
    ],
)
def test_what_cannot_be_reached_over_http_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["install", *arguments, "--yes"]) == 2
    assert said in capsys.readouterr().err
    assert not file_of("cursor", home).exists()


# --- keys ---


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def typed(monkeypatch: pytest.MonkeyPatch, **keys: str) -> list[str]:
    """Answer the questions for these keys; return the prompts as they come."""
    prompts: list[str] = []

    def ask(prompt: str, stream: object) -> str:
        assert stream is sys.stderr
        prompts.append(prompt)
        return next((key for name, key in keys.items() if name in prompt), "")

    monkeypatch.setattr(getpass, "getpass", ask)
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    return prompts


@pytest.mark.parametrize("name", HOST_NAMES)
def test_a_key_that_is_asked_for_stands_in_a_private_file_that_the_entry_names(
    home: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = typed(monkeypatch, CLAID_API_KEY=f"  {TYPED} ")
    assert main(["install", name, "--ask-keys"]) == 0
    assert not any("ZSKY_API_KEY" in prompt for prompt in prompts), "it is set already"
    assert sum("CLAID_API_KEY" in prompt for prompt in prompts) == 1
    path = home / "own" / "keys" / "CLAID_API_KEY"
    assert entry(name, home)[HOSTS[name].env]["CLAID_API_KEY_FILE"] == str(path)
    assert path.read_text("utf-8").strip() == TYPED
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert TYPED not in "".join(capsys.readouterr()) + file_of(name, home).read_text("utf-8")


@pytest.mark.parametrize(
    ("answer", "key", "status", "said"),
    [
        ("n\n", TYPED, 1, "Nothing was written"),
        ("y\n", "two words", 2, "characters that no key has"),
    ],
)
def test_no_key_is_kept_that_was_not_wanted(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
    key: str,
    status: int,
    said: str,
) -> None:
    typed(monkeypatch, CLAID_API_KEY=key)
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert main(["install", "cursor", "--ask-keys"]) == status
    shown = capsys.readouterr().err
    assert said in shown
    assert key not in shown
    assert not (home / "own").exists()
    assert not file_of("cursor", home).exists()


def test_without_a_terminal_no_key_is_asked_for(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("key\n"))
    assert main(["install", "cursor", "--ask-keys", "--yes"]) == 2
    assert "at a terminal" in capsys.readouterr().err
    assert not file_of("cursor", home).exists()


@pytest.mark.parametrize("name", HOST_NAMES)
def test_who_has_no_key_is_told_where_in_the_host_one_belongs(
    home: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["install", name, "--yes"]) == 0
    assert "No key is set" not in capsys.readouterr().err
    monkeypatch.delenv("ZSKY_API_KEY")
    assert main(["install", name, "--yes"]) == 0
    said = capsys.readouterr().err
    assert str(file_of(name, home)) in said
    assert f"{HOSTS[name].section} > darkroom > {HOSTS[name].env}" in said
    assert "--ask-keys" in said
    assert main(["install", name, "--yes", "--sandbox"]) == 0
    assert "No key is set" not in capsys.readouterr().err


# --- programs in a cache ---


@pytest.mark.parametrize(
    ("prefix", "uvx", "expected"),
    [
        ("/home/me/.cache/uv/archive-v0/Xy12", True, ["uvx", "darkroom-mcp"]),
        ("/home/me/.cache/uv/builds-v0/.tmpAb", True, ["uvx", "darkroom-mcp"]),
        ("/home/me/.cache/uv/environments-v2/script-1", False, ["uvx", "darkroom-mcp"]),
        ("/data/UV_CACHE/Archive-v0/Xy12", True, ["uvx", "darkroom-mcp"]),
        ("/home/me/.cache/pipx/4d9b", True, ["uvx", "darkroom-mcp"]),
        ("/home/me/.cache/pipx/4d9b", False, ["pipx", "run", "darkroom-mcp"]),
        ("/home/me/.local/pipx/.cache/4d9b", False, ["pipx", "run", "darkroom-mcp"]),
        ("/home/me/.local/share/pipx/venvs/darkroom-mcp", True, None),
        ("/home/me/.local/share/uv/tools/darkroom-mcp", True, None),
        ("/home/me/project/.venv", True, None),
    ],
)
@pytest.mark.usefixtures("home")
def test_an_entry_never_names_a_program_in_a_cache(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    prefix: str,
    expected: list[str] | None,
    *,
    uvx: bool,
) -> None:
    monkeypatch.setattr(sys, "prefix", prefix)
    folder = tmp_path / "bin"
    folder.mkdir()
    if uvx:
        (folder / "uvx").write_text("")
        (folder / "uvx").chmod(0o700)
    monkeypatch.setenv("PATH", str(folder))
    program = install.this_program()
    assert program == (expected or program)
    if expected is None:
        assert Path(program[0]).is_absolute()
        return
    assert main(["install", "cursor", "--yes"]) == 0
    written = entry("cursor", tmp_path)
    assert [written["command"], *written["args"]] == [*expected, "serve"]


# --- YAML ---


def test_an_entry_comes_into_a_yaml_section_and_goes_again() -> None:
    where = ("extensions", "darkroom")
    value = {
        "cmd": "uvx",
        "args": ["darkroom-mcp", "serve"],
        "envs": {"A": "b # {c}", "B": "\x7f\u2028é"},
    }
    with_it = yamltext.put(GOOSE, where, value)
    assert yamltext.read(with_it)["extensions"]["darkroom"] == value
    assert [line for line in GOOSE.split("\n") if line not in with_it.split("\n")] == []
    again = yamltext.put(with_it, where, {"cmd": "other"})
    assert yamltext.read(again)["extensions"]["darkroom"] == {"cmd": "other"}
    assert again.count("darkroom:") == 1
    assert yamltext.remove(again, where) == GOOSE


def test_an_entry_that_the_host_wrote_anew_is_replaced_and_removed_as_a_whole() -> None:
    where = ("extensions", "darkroom")
    block = "  darkroom:\n    cmd: x\n    args:\n    - serve\n    envs:\n      A: secret\n"
    text = GOOSE.replace("\n# after", f"{block}\n# after")
    assert "secret" in repr(yamltext.read(text)["extensions"]["darkroom"])
    put = yamltext.put(text, where, {"cmd": "new"})
    assert "secret" not in put
    assert (
        yamltext.read(put)["extensions"]["developer"]
        == yamltext.read(GOOSE)["extensions"]["developer"]
    )
    assert yamltext.remove(text, where) == GOOSE


def strange() -> Iterator[str]:
    yield "- a\n- b\n"
    yield "{extensions: {}}\n"
    yield "extensions: {developer: {enabled: true}}\n"
    yield "extensions:\n- one\n"
    yield "extensions:\n\tdeveloper: 1\n"
    yield "extensions: 3\n"
    yield "extensions:\n  a: 1\n a: 2\n"
    yield "extensions:\n  a: {}\n  a: {}\n"
    yield "extensions:\n  a: {}\nextensions:\n  b: {}\n"
    yield "just words\n"


@pytest.mark.parametrize("text", list(strange()))
def test_yaml_that_is_not_understood_is_left_alone(
    home: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    path = file_of("goose", home)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    assert main(["install", "goose", "--yes"]) == 2
    assert path.read_text("utf-8") == text
    assert str(path) in capsys.readouterr().err

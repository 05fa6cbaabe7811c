"""The command line itself: help, and what cannot be understood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from darkroom import __version__
from darkroom.cli.command_line import main, parser
from darkroom.cli.context import given_settings, prepare
from darkroom.config.settings import load
from darkroom.providers.credentials import templates
from darkroom_tools import CATALOGUE

if TYPE_CHECKING:
    import argparse

SCREEN_LINES = 24


def actions(of: argparse.ArgumentParser) -> list[argparse.Action]:
    return of._actions  # noqa: SLF001 -- argparse shows them nowhere else


def commands() -> dict[str, argparse.ArgumentParser]:
    (choices,) = (action.choices for action in actions(parser()) if action.dest == "command")
    return cast("dict[str, argparse.ArgumentParser]", choices)


def test_the_help_fits_a_screen_and_names_every_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) <= SCREEN_LINES
    for name in ("serve", "demo", "doctor", "tools", "call", "sandbox"):
        assert f"    {name} " in shown


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_option_of_every_command_has_help(name: str) -> None:
    command = commands()[name]
    assert command.description
    for action in actions(command):
        assert action.help, action.option_strings


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"darkroom {__version__}"


def test_roots_of_the_command_line_take_the_place_of_those_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    for folder in (first, second, other):
        folder.mkdir()
    monkeypatch.chdir(tmp_path)
    environment = {"DARKROOM_FILES__ROOTS": json.dumps([str(other)])}

    def roots(*options: str) -> tuple[Path, ...]:
        given = given_settings(parser().parse_args(["serve", *options]))
        return prepare(sandbox=True, environment=environment, given=given).settings.file_roots

    assert roots() == (other,)
    assert roots("--root", str(first)) == (first,)
    assert roots("--root", "second", "--root", str(first)) == (second, first)


@pytest.mark.parametrize("folder", ["", " ", "nowhere", "${workspaceFolder}"])
def test_a_root_that_is_no_folder_is_refused_before_anything_is_served(
    capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    assert main(["serve", "--root", folder]) == 2
    assert "argument --root: expected a folder that exists, got" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["serf"],
        ["serve", "--sandbx"],
        ["call"],
        ["sandbox", "--port", "70000"],
        ["sandbox", "--port", "http"],
        ["sandbox", "--time-scale", "0"],
        ["sandbox", "--time-scale", "inf"],
        ["sandbox", "--time-scale", "fast"],
        ["serve", "--http", "--port", "-1"],
        ["serve", "--tools="],
        ["serve", "--exclude", " , "],
        ["install", "cursor", "--name", "a b"],
    ],
)
def test_what_cannot_be_understood_is_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "usage: darkroom" in said
    assert "invalid _" not in said, "that is a name of ours"


@pytest.mark.parametrize("command", [["serve"], ["tools"], ["call", "list_jobs"]])
def test_every_mistake_of_the_settings_is_on_stderr(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    configuration = tmp_path / "config.toml"
    configuration.write_text('[jobs]\nstorr = "sqlite"\nkeep_days = "many"\n', "utf-8")
    monkeypatch.setenv("DARKROOM_CONFIG", str(configuration))
    assert main(command) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "jobs.storr: there is no such key; did you mean 'store'?" in said.err
    assert "jobs.keep_days" in said.err


def test_every_address_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZSKY_BASE_URL", "ftp://zsky.ai")
    monkeypatch.setenv("ZUPERTRY_BASE_URL", "http://app.zupertry.com")
    assert main(["tools"]) == 2
    said = capsys.readouterr().err
    assert "ZSKY_BASE_URL: expected an address" in said
    assert "ZUPERTRY_BASE_URL: expected https" in said


def test_templates_that_a_host_did_not_fill_in_are_found() -> None:
    given = {
        "ZSKY_API_KEY": "${ZSKY_API_KEY}",
        "ZUPERTRY_API_KEY_FILE": "%KEY_FILE%",
        "ZNYX_BASE_URL": "https://znyx.example",
        "SOMEBODY_ELSES": "${NOT_OURS}",
    }
    assert set(templates(given, CATALOGUE.providers)) == {
        "ZSKY_API_KEY",
        "ZUPERTRY_API_KEY_FILE",
    }


TEMPLATES = [
    "${user_config.state}",
    "${HOME}/darkroom",
    "/srv/${user}/state",
    "$(pwd)/state",
    "{{ state }}/darkroom",
    "%LOCALAPPDATA%\\darkroom",
    "$HOME/darkroom",
    "<your folder>",
]


@pytest.mark.parametrize("command", [["serve"], ["tools"], ["call", "list_jobs"], ["doctor"]])
@pytest.mark.parametrize("value", TEMPLATES)
def test_a_template_in_a_setting_is_an_error_and_makes_no_folder(
    command: list[str],
    value: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DARKROOM_JOBS__STATE_DIR", value)
    assert main(command) == (1 if command == ["doctor"] else 2)
    said = capsys.readouterr()
    assert "DARKROOM_JOBS__STATE_DIR: holds the template " in said.out + said.err
    assert list(tmp_path.iterdir()) == []


def test_templates_are_found_wherever_a_setting_may_stand_and_all_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration = tmp_path / "config.toml"
    configuration.write_text(
        "[jobs]\nkeep_days = 'many'\n[results]\nfolder = '${results}'\n"
        "[files]\nroots = ['/srv', '/home/${user}']\n"
        "[zyng]\nworkflow_details = { deep = { er = ['{{here}}'] } }\n",
        "utf-8",
    )
    monkeypatch.setenv("DARKROOM_CONFIG", str(configuration))
    monkeypatch.setenv("DARKROOM_SERVE__EXCLUDE", '["zsky_*", "${other}"]')
    monkeypatch.setenv("ZNYX_PROJECT_ID", "project-${number}")
    assert main(["serve", "--tools", "${tools}"]) == 2
    said = capsys.readouterr().err
    assert f"{configuration}: results.folder: holds the template ${{results}}" in said
    assert f"{configuration}: files.roots: holds the template ${{user}}" in said
    assert (
        f"{configuration}: zyng.workflow_details.deep.er: holds the template {{{{here}}}}" in said
    )
    assert "DARKROOM_SERVE__EXCLUDE: holds the template ${other}" in said
    assert "ZNYX_PROJECT_ID: holds the template ${number}" in said
    assert "serve.tools: holds the template ${tools}" in said
    assert "jobs.keep_days" in said


@pytest.mark.parametrize("variable", ["DARKROOM_CONFIG", "ZSKY_BASE_URL"])
def test_a_template_in_the_configurations_path_or_a_base_address_is_an_error(
    variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, "https://${host}/config.toml")
    assert main(["tools"]) == 2
    assert f"{variable}: holds the template ${{host}}" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["/srv/100%", "/srv/a$b", "/srv/{a}", "/srv/a%20b%20c", "~/x<1>"])
def test_what_is_no_template_is_a_folder(value: str) -> None:
    settings = load(CATALOGUE.providers, {"DARKROOM_JOBS__STATE_DIR": value})
    assert settings.jobs.state_dir == Path(value).expanduser()

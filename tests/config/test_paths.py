"""Paths and files of the configuration, as people and editors write them."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from pathlib import Path

import pytest

from darkroom.config.settings import load
from darkroom.core.environment import read_variable
from darkroom.core.errors import ConfigurationError
from darkroom.mcp.http.token import token
from darkroom_tools import CATALOGUE

STATE = "DARKROOM_JOBS__STATE_DIR"


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ('"/srv/state"', "/srv/state"),
        ("'/srv/a b'", "/srv/a b"),
        ("/srv/state\n", "/srv/state"),
        ("  /srv/state  ", "/srv/state"),
        ("~/state", str(Path.home() / "state")),
    ],
)
def test_a_path_is_taken_as_it_was_meant(given: str, path: str) -> None:
    assert load(CATALOGUE.providers, {STATE: given}).state_dir == Path(path)


@pytest.mark.parametrize("given", ["''", "/srv/a\n/srv/b", "/srv/\0", "~nobody-of-this-name/x"])
def test_what_is_no_path_is_refused(given: str) -> None:
    with pytest.raises(ConfigurationError, match=STATE):
        load(CATALOGUE.providers, {STATE: given})


def test_a_relative_path_begins_at_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "darkroom" / "config.toml"
    file.parent.mkdir()
    file.write_text('[jobs]\nstate_dir = "state"\n[files]\nroots = ["out", "/srv"]\n')
    monkeypatch.chdir(tmp_path)
    for name in (str(file), "darkroom/config.toml"):
        settings = load(CATALOGUE.providers, {"DARKROOM_CONFIG": name})
        assert settings.state_dir == file.parent / "state"
        assert settings.files.roots == (file.parent / "out", Path("/srv"))


def test_without_a_configuration_a_relative_path_begins_at_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(CATALOGUE.providers, {STATE: "state"}).state_dir == tmp_path / "state"


def test_files_are_read_with_the_mark_that_editors_put_before_the_text(tmp_path: Path) -> None:
    key, config, workflow = tmp_path / "key", tmp_path / "config.toml", tmp_path / "flow.json"
    key.write_bytes(BOM_UTF8 + b"zsky_live_0123456789\r\n")
    assert read_variable({"ZSKY_API_KEY_FILE": str(key)}, "ZSKY_API_KEY") == (
        "zsky_live_0123456789",
        "ZSKY_API_KEY_FILE",
    )
    workflow.write_bytes(BOM_UTF8 + json.dumps({"steps": []}).encode())
    config.write_bytes(
        BOM_UTF8
        + b"[jobs]\nkeep_days = 3\n[zyng.workflows.a]\n"
        + b'workflow_details = "flow.json"\noutput_details = "flow.json"\n'
    )
    settings = load(CATALOGUE.providers, {"DARKROOM_CONFIG": str(config)})
    assert settings.jobs.keep_days == 3
    secret = tmp_path / "token"
    secret.write_bytes(BOM_UTF8 + b"0123456789abcdef0123456789abcdef\n")
    secret.chmod(0o600)
    with_token = load(CATALOGUE.providers, {"DARKROOM_HTTP__TOKEN_FILE": str(secret)})
    assert token(with_token) == b"0123456789abcdef0123456789abcdef"

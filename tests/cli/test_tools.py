"""`darkroom tools`: names, schemas and prices."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from darkroom.cli.command_line import main
from darkroom.cli.tools import listed, table
from darkroom_tools import CATALOGUE
from tests.cli.support import setting_of
from tests.harness import rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for provider in CATALOGUE.providers:
        for credential in provider.credentials:
            monkeypatch.delenv(credential.variable, raising=False)
    monkeypatch.setenv("DARKROOM_JOBS__STATE_DIR", str(tmp_path))


def test_without_a_credential_only_the_setup_is_listed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["tools"]) == 0
    shown = capsys.readouterr().out
    assert "get_setup" in shown
    assert "zsky_start_image" not in shown
    assert "more without a credential: darkroom tools --all" in shown


def test_all_lists_every_operation_of_every_provider(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tools", "--all", "--json"]) == 0
    names = {tool["name"] for tool in json.loads(capsys.readouterr().out)}
    for provider in CATALOGUE.providers:
        assert {operation.name for operation in provider.operations} <= names


def test_the_json_has_what_a_host_is_given_and_the_tokens(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["tools", "--sandbox", "--json"]) == 0
    tools = {tool["name"]: tool for tool in json.loads(capsys.readouterr().out)}
    image = tools["zsky_start_image"]
    assert image["provider"] == "zsky"
    assert image["inputSchema"]["required"] == ["prompt"]
    assert image["annotations"]["read_only"] is False
    assert image["tokens"] > 0
    assert tools["list_jobs"]["provider"] == "neutral"


@pytest.mark.anyio
async def test_the_table_adds_up(clock: Callable[[], float], tmp_path: Path) -> None:
    found = listed(setting_of(rig(clock, tmp_path)), everything=False)
    lines = table(found, exact=False)
    total = sum(each.tokens for each in found)
    assert f"{len(found)} tools" in lines[-1]
    assert f"~{total:,}" in lines[-1]
    zsky = sum(each.tokens for each in found if each.provider == "zsky")
    (heading,) = (line for line in lines if line.startswith("ZSky (zsky)"))
    assert f"~{zsky:,}" in heading

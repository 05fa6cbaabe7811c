"""What the documents show is true: made parts, commands, configuration, links, names."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pytest

from darkroom.cli.command_line import parser
from darkroom.config.settings import load
from darkroom.core.errors import CallError, failure
from darkroom.engine.arguments.validation import validate
from darkroom.providers.params import Admitted
from darkroom_tools import CATALOGUE
from tests.project.documents import DOCUMENTS, EXAMPLE, README, ROOT, command_line, keys, outdated
from tests.snapshots import every_tool

if TYPE_CHECKING:
    from pathlib import Path

COMMAND_SECONDS = 120


class Block(NamedTuple):
    """A block of code in a document."""

    document: str
    language: str
    text: str


BLOCKS = [
    Block(path.name, match[1], match[2])
    for path in DOCUMENTS
    for match in re.finditer(
        r"^```(\w*)\n(.*?)^```$", path.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
]
LINES = [
    (block, line)
    for block in BLOCKS
    if block.language == "sh"
    for line in block.text.splitlines()
    if line.strip()
]
VARIABLES = {
    name
    for provider in CATALOGUE.providers
    for base in (
        *(credential.variable for credential in provider.credentials),
        *provider.variables,
        provider.base_url_variable,
    )
    for name in (base, f"{base}_FILE")
}
PARAMS = {
    declared.name: declared.params
    for declared in (
        *(operation for provider in CATALOGUE.providers for operation in provider.operations),
        *CATALOGUE.tools,
    )
}


def blocks(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def commands() -> list[list[str]]:
    return [shlex.split(line)[1:] for _, line in LINES if line.startswith("darkroom ")]


# --- made parts ---


def test_the_made_parts_are_up_to_date() -> None:
    assert list(outdated()) == [], "make docs"


# --- commands ---


def test_every_line_for_a_shell_is_one_that_is_checked_here() -> None:
    known = {"darkroom", "make", "export", "pip"}
    assert {shlex.split(line)[0] for _, line in LINES} <= known


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_every_command_that_is_shown_is_understood(arguments: list[str]) -> None:
    options = parser().parse_args(arguments)
    if options.command == "call":
        validate(PARAMS[options.tool], json.loads(options.arguments), admitted=Admitted())


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [a for a in commands() if a[0] == "call" and "--sandbox" in a],
    ids=" ".join,
)
def test_a_call_that_is_shown_works(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "darkroom", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        env={"PYTHONPATH": f"{ROOT}/server:{ROOT}/tools", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), dict)


def test_every_target_of_make_that_is_shown_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    shown = {shlex.split(line)[1] for _, line in LINES if line.startswith("make ")}
    shown |= {word for path in DOCUMENTS for word in re.findall(r"`make (\w+)`", path.read_text())}
    assert shown
    assert shown <= set(re.findall(r"^(\w+):", makefile, re.MULTILINE))


def test_every_command_has_its_place_in_the_readme() -> None:
    text = README.read_text("utf-8")
    assert [name for name in command_line() if f"`darkroom {name}`" not in text] == []


# --- configuration ---


@pytest.mark.parametrize("block", blocks("json"), ids=lambda block: block.document)
def test_json_that_is_shown_can_be_read(block: Block) -> None:
    assert json.loads(block.text)


@pytest.mark.parametrize(
    "block",
    [block for block in blocks("json") if "mcpServers" in block.text],
    ids=lambda block: block.document,
)
def test_a_configuration_for_a_host_starts_this_server(block: Block) -> None:
    (server,) = cast("dict[str, dict[str, Any]]", json.loads(block.text)["mcpServers"]).values()
    assert server["command"] == "darkroom"
    assert parser().parse_args(server["args"]).command == "serve"
    assert server.get("env", {}).keys() <= VARIABLES


@pytest.mark.parametrize(
    "block",
    [block for block in blocks("toml") if "[project]" not in block.text],
    ids=lambda block: block.document,
)
def test_settings_that_are_shown_are_valid(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(block.text)
    load(CATALOGUE.providers, {"DARKROOM_CONFIG": str(file)})


def test_variables_that_are_exported_exist() -> None:
    exported = dict(
        shlex.split(line)[1].split("=", 1) for _, line in LINES if line.startswith("export ")
    )
    exported.pop("DARKROOM_CONFIG")
    load(CATALOGUE.providers, exported)
    assert all(name.startswith("DARKROOM_") or name in VARIABLES for name in exported)


def uncommented(text: str) -> str:
    """Return the example with every setting and table that stands there as a comment."""
    return re.sub(r"^# (?=\w+ = |\[)", "", text, flags=re.MULTILINE)


def test_the_example_is_valid_as_it_is_and_with_everything_in_it(tmp_path: Path) -> None:
    text = EXAMPLE.read_text("utf-8")
    for number, content in enumerate((text, uncommented(text))):
        file = tmp_path / f"{number}.toml"
        file.write_text(content)
        load(CATALOGUE.providers, {"DARKROOM_CONFIG": str(file)})


def test_the_example_has_every_key_and_no_other() -> None:
    written: set[str] = set()

    def walk(values: dict[str, Any], above: str) -> None:
        for key, value in values.items():
            path = f"{above}{key}"
            if path in known or not isinstance(value, dict):
                written.add(path)
            else:
                walk(cast("dict[str, Any]", value), f"{path}.")

    known = {path.replace("<name>", "my-name") for path, _ in keys()}
    walk(tomllib.loads(uncommented(EXAMPLE.read_text("utf-8"))), "")
    assert written == known


# --- links and names ---


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_a_link_inside_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", path.read_text("utf-8")):
        file, _, place = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        if place:
            heads = re.findall(r"^#+ (.+)$", there.read_text("utf-8"), re.MULTILINE)
            assert place in {re.sub(r"[^\w-]", "", h.lower().replace(" ", "-")) for h in heads}


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_a_tool_that_is_named_exists(path: Path) -> None:
    verbs = ("cancel", "check", "get", "list", "resolve", "retry", "save", "show", "start")
    prefixes = "|".join((*(provider.name for provider in CATALOGUE.providers), *verbs))
    others = {*VARIABLES, *(f"{p.name}_{unit}" for p in CATALOGUE.providers for unit in p.units)}
    named = set(re.findall(rf"`((?:{prefixes})_\w+)`", path.read_text("utf-8")))
    assert named <= {*every_tool(), *others}


def test_the_error_that_is_shown_reads_as_errors_do() -> None:
    (shown,) = blocks("text")
    error = failure(
        "rate_limited",
        "ZSky",
        provider_code="burst",
        provider_message="Slow down",
        retry_after_seconds=12,
    )
    assert shown.text == CallError(error).text + "\n"

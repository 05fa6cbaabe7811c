"""What the documents show is true: made parts, commands, configuration, links, names."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pytest

from darkroom.cli.command_line import parse, parser
from darkroom.config.settings import load
from darkroom.core.errors import CallError, failure
from darkroom.engine.arguments.validation import validate
from darkroom.jobs.bounds import MOST_OUTPUTS
from darkroom.providers.params import Admitted
from tests.project.documents import (
    DOCUMENTS,
    EXAMPLE,
    PART,
    README,
    ROOT,
    command_line,
    keys,
    layers,
    outdated,
)
from tests.snapshots import EVERYTHING, every_tool

if TYPE_CHECKING:
    from pathlib import Path

COMMAND_SECONDS = 120
README_LINES = 200


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
    for provider in EVERYTHING.providers
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
        *(operation for provider in EVERYTHING.providers for operation in provider.operations),
        *EVERYTHING.tools,
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
    known = {".venv/bin/pytest", "darkroom", "make", "export", "pip"}
    assert {shlex.split(line)[0] for _, line in LINES} <= known


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_every_command_that_is_shown_is_understood(arguments: list[str]) -> None:
    options = parse(arguments)
    if options.command == "call":
        admitted = Admitted(suffixes=(".sandbox.test",) if options.sandbox else ())
        validate(PARAMS[options.tool], json.loads(options.arguments), admitted=admitted)


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


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= README_LINES


def test_every_command_has_its_place_in_the_page_of_commands() -> None:
    text = (ROOT / "docs" / "commands.md").read_text("utf-8")
    assert [name for name in command_line() if f"`darkroom {name}`" not in text] == []


def test_a_command_in_the_readmes_text_or_tables_is_understood() -> None:
    """Those in blocks are tested above; ``HOST`` stands for a host."""
    shown = re.findall(
        r"`(?:uvx --from \. darkroom-mcp|darkroom) ([^`]+)`", README.read_text("utf-8")
    )
    assert shown
    for arguments in shown:
        parser().parse_args(shlex.split(arguments.replace("HOST", "cursor")))


def test_the_pictures_of_the_first_request_are_those_of_the_call_that_is_run() -> None:
    """What the README suggests for a chat works, because the same call is run in a shell."""
    asked = re.search(r"^> (Try the shirt .*)$", README.read_text("utf-8"), re.MULTILINE)
    assert asked
    calls = (json.loads(a[2]) for a in commands() if a[:2] == ["call", "zupertry_start_tryon"])
    assert set(re.findall(r"https://\S+\.jpg", asked[1])) in [set(call.values()) for call in calls]


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
    load(EVERYTHING.providers, {"DARKROOM_CONFIG": str(file)})


def test_variables_that_are_exported_exist() -> None:
    exported = dict(
        shlex.split(line)[1].split("=", 1) for _, line in LINES if line.startswith("export ")
    )
    exported.pop("DARKROOM_CONFIG")
    load(EVERYTHING.providers, exported)
    assert all(name.startswith("DARKROOM_") or name in VARIABLES for name in exported)


def uncommented(text: str) -> str:
    """Return the example with every setting and table that stands there as a comment."""
    return re.sub(r"^# (?=\w+ = |\[)", "", text, flags=re.MULTILINE)


def test_the_example_is_valid_as_it_is_and_with_everything_in_it(tmp_path: Path) -> None:
    text = EXAMPLE.read_text("utf-8")
    for number, content in enumerate((text, uncommented(text))):
        file = tmp_path / f"{number}.toml"
        file.write_text(content)
        load(EVERYTHING.providers, {"DARKROOM_CONFIG": str(file)})


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


# --- how the code is shown ---


def test_the_diagram_has_the_packages_in_the_order_that_import_linter_holds() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    (diagram,) = re.findall(r"^```mermaid\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    arrows = re.findall(r"^ +(\w+)(?:\[.*\])? --> (\w+)$", diagram, re.MULTILINE)
    order = layers()
    assert arrows[:-1] == list(pairwise(order))
    assert arrows[-1] == ("darkroom_tools", "catalogue")
    folders = {path.parent.name for path in (ROOT / "server" / "darkroom").glob("*/__init__.py")}
    assert set(order) == folders


def test_the_map_of_a_request_has_fifteen_lines_and_the_names_on_it_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    lines = re.findall(r"^\d+\. \[`.*$", text.partition("## Running one test")[0], re.MULTILINE)
    assert len(lines) == 15
    for line in lines:
        (first, *_) = re.findall(r"\]\(([^)]+)\)", line)
        source = (ROOT / first).read_text("utf-8")
        for name in re.findall(r"`([A-Z]\w+)(?:\.\w+)?`", line):
            assert name in source, line


def test_the_main_objects_stand_where_the_page_says() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    objects = re.findall(r"^\| `(\w+)` \| `([\w/]+\.py)` \|", text, re.MULTILINE)
    assert objects
    for name, module in objects:
        source = (ROOT / "server" / "darkroom" / module).read_text("utf-8")
        assert re.search(rf"^class {name}\b", source, re.MULTILINE), name


def test_a_test_that_is_shown_exists() -> None:
    shown = [shlex.split(line) for _, line in LINES if line.startswith(".venv/bin/pytest ")]
    assert shown
    for words in shown:
        (path,) = (ROOT / word for word in words if word.startswith("tests/"))
        assert path.exists(), path
        if "-k" in words:
            assert words[words.index("-k") + 1] in path.read_text("utf-8")


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
    prefixes = "|".join((*(provider.name for provider in EVERYTHING.providers), *verbs))
    others = {*VARIABLES, *(f"{p.name}_{unit}" for p in EVERYTHING.providers for unit in p.units)}
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


def test_no_figure_of_the_security_page_is_typed() -> None:
    """A limit that was changed in the code only would be promised wrongly."""
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    assert re.findall(r"\d+", PART.sub("", page)) == []
    assert f"{MOST_OUTPUTS}; as many" in page

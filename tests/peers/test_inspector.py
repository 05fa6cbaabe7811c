"""The MCP Inspector's command line on stdio, in both eras."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.peers.node import script
from tests.peers.shipped import variables

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Inspect = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow

SECONDS = 120.0
TOOL_ERROR = 5
NO_APP = 2


@pytest.fixture(params=["legacy", "modern"])
def inspect(request: pytest.FixtureRequest, tmp_path: Path) -> Inspect:
    inspector = script("@modelcontextprotocol/inspector", "clients/launcher/build/index.js")
    environment = variables(tmp_path)
    handed = [part for key, value in environment.items() for part in ("-e", f"{key}={value}")]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        server = [sys.executable, "-m", "darkroom", "serve", "--sandbox"]
        era = ["--protocol-era", request.param, "--format", "json"]
        return subprocess.run(
            [*inspector, "--cli", *handed, *era, *server, *options],
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env=environment,
        )

    return run


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)["result"]


def test_the_list_has_nothing_that_hosts_stumble_over(inspect: Inspect) -> None:
    done = inspect("--method", "tools/list", "--strict")
    tools = result(done)["tools"]
    assert len(tools) > 40
    # Values of `for_each` are arguments of any tool, so their schema says nothing, on purpose.
    found = [line.strip() for line in done.stderr.splitlines() if "Path:" in line]
    assert found == ["Path: inputSchema.properties.for_each.additionalProperties.items"]
    assert done.stderr.rstrip().endswith("0 errors, 1 warning across 1 tool.")


def test_one_tool_shows_an_app(inspect: Inspect) -> None:
    done = inspect("--method", "tools/list", "--app-info")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    (with_app,) = [each for each in found if each["hasApp"]]
    assert with_app["toolName"] == "show_results"
    assert with_app["resourceUri"].startswith("ui://")
    named = ("--method", "tools/call", "--tool-name", "list_jobs", "--app-info")
    assert inspect(*named).returncode == NO_APP


def test_a_start_is_followed_and_a_mistake_explained(inspect: Inspect) -> None:
    call = ("--method", "tools/call", "--tool-name", "zsky_start_image")
    fields = result(inspect(*call, "--tool-arg", "prompt=A boat"))["structuredContent"]
    assert fields["status"] in {"running", "completed"}  # it follows tasks where there are any
    done = inspect(*call, "--tool-arg", "sead=3")
    assert done.returncode == TOOL_ERROR
    assert "did you mean 'seed'?" in done.stdout


def test_resources_and_prompts_are_read(inspect: Inspect) -> None:
    read = result(inspect("--method", "resources/read", "--uri", "darkroom://jobs"))
    assert json.loads(read["contents"][0]["text"]) == {"jobs": []}
    prompts = result(inspect("--method", "prompts/list"))["prompts"]
    assert {"look_book", "spending"} <= {prompt["name"] for prompt in prompts}
    named = ("--prompt-name", "variants", "--prompt-args", "idea=a lighthouse")
    messages = result(inspect("--method", "prompts/get", *named))["messages"]
    assert "a lighthouse" in messages[0]["content"]["text"]

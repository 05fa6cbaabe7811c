"""The protocol's own conformance suite, in both eras.

On the shipped server: every scenario that fits any server. On a server of the tests' own, which is
the same but for its tools, prompts and resources (see `tests.peers.fixtures`): every scenario that
calls fixtures. The suite cannot send a token: a proxy of the tests' own adds it.
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from tests.peers.node import script
from tests.peers.shipped import adding_token, listening, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

MODERN, LEGACY = "2026-07-28", "2025-11-25"
VERSIONS = (MODERN, LEGACY)
SUITE_SECONDS = 240.0

BOTH = {
    "tools-list",
    "resources-list",
    "prompts-list",
    "completion-complete",
    "server-sse-multiple-streams",
    "dns-rebinding-protection",
}
GENERIC = {
    MODERN: BOTH
    | {
        "server-stateless",
        "caching",
        "sep-2164-resource-not-found",
        "http-header-validation",
        "input-required-result-unsupported-methods",
    },
    LEGACY: BOTH | {"server-initialize", "server-session-lifecycle", "ping"},
}
"""Scenarios that need nothing of a server but that it is one."""

CALL_FIXTURES = {
    "sep-2575-server-rejects-undeclared-capability",
    "sep-2575-missing-capability-http-400",
    "sep-2575-server-sends-prompts-list-changed-on-subscription",
    "sep-2575-server-sends-tools-list-changed-on-subscription",
}
"""Checks of generic scenarios that call fixtures; they have to pass with the fixtures."""

NOT_OFFERED = {"server-sse-polling"}
"""A stream that broke is not taken up again: jobs are asked about, and lists are read again."""

SCENARIOS = {MODERN: 40, LEGACY: 33}
"""How many the suite has: a run that broke off has fewer."""

WIRE = "wire-schema-valid"
NO_WIRE = {
    MODERN: {"server-stateless", "server-sse-multiple-streams", "dns-rebinding-protection"},
    LEGACY: {
        "server-session-lifecycle",
        "server-sse-multiple-streams",
        "server-sse-polling",
        "dns-rebinding-protection",
    },
}
"""Scenarios that send requests of their own make, where the suite does not look at the schema."""

GOOD = {"SUCCESS", "INFO"}

TASKS = (
    "lifecycle",
    "capability-negotiation",
    "wire-fields",
    "request-state-removal",
    "mrtr-input",
    "request-headers",
    "dispatch-and-envelope",
    "required-task-error",
    "mrtr-composition",
)
"""All but tasks-status-notifications, which the suite itself skips; see tests/mcp/tasks for that."""

FEWEST_TASK_CHECKS = 44

Checks: TypeAlias = "list[dict[str, Any]]"
Outcome: TypeAlias = "dict[str, Checks]"


def run(url: str, folder: Path, *options: str) -> Outcome:
    """Run the suite; return the checks of each scenario."""
    command = script("@modelcontextprotocol/conformance", "dist/index.js")
    done = subprocess.run(
        [*command, "server", "--url", url, "--output-dir", str(folder), *options],
        check=False,  # it fails where any scenario does: what has to pass is judged here
        capture_output=True,
        text=True,
        timeout=SUITE_SECONDS,
    )
    found = {_name(path.parent): json.loads(path.read_text("utf-8")) for path in _results(folder)}
    assert found, done.stdout + done.stderr
    return found


def _results(folder: Path) -> list[Path]:
    return sorted(folder.rglob("checks.json"))


def _name(folder: Path) -> str:
    """Return the scenario's name: the folder's without ``server-`` and the time."""
    return re.sub(r"-\d{4}-\d\d-\d\dT.*", "", folder.name.removeprefix("server-"))


def failures(checks: Checks) -> dict[str, str]:
    return {
        check["id"]: f"{check['status']}: {check.get('errorMessage')}"
        for check in checks
        if check["status"] not in GOOD
    }


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Outcome]]:
    folder = tmp_path_factory.mktemp("shipped")
    with (
        serving(folder, "--sandbox") as server,
        adding_token(server.port, server.token) as port,
    ):
        yield {
            version: run(
                f"http://127.0.0.1:{port}/mcp",
                folder / version,
                "--suite=all",
                f"--spec-version={version}",
            )
            for version in VERSIONS
        }


@pytest.fixture(scope="module")
def fixtures_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("fixtures")
    with listening("tests.peers.fixtures", folder) as port:
        token = (folder / "state" / "http-token").read_text("utf-8").strip()
        with adding_token(port, token) as proxy:
            yield f"http://127.0.0.1:{proxy}/mcp"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_shipped_server_passes_every_generic_scenario(
    shipped: dict[str, Outcome], version: str
) -> None:
    found = shipped[version]
    assert len(found) == SCENARIOS[version]
    assert found.keys() >= GENERIC[version]
    for scenario in GENERIC[version]:
        wrong = failures(found[scenario])
        assert wrong.keys() <= CALL_FIXTURES, (scenario, wrong)
        assert any(check["id"] != WIRE for check in found[scenario]), scenario


@pytest.mark.parametrize("version", VERSIONS)
def test_whatever_the_shipped_server_sends_is_valid_by_the_schema(
    shipped: dict[str, Outcome], version: str
) -> None:
    for scenario, checks in shipped[version].items():
        said = {check["status"] for check in checks if check["id"] == WIRE}
        assert said == (set() if scenario in NO_WIRE[version] else {"SUCCESS"}), scenario


@pytest.mark.parametrize("version", VERSIONS)
def test_with_fixtures_every_scenario_passes(
    fixtures_url: str, tmp_path: Path, version: str
) -> None:
    found = run(fixtures_url, tmp_path, "--suite=all", f"--spec-version={version}")
    assert len(found) == SCENARIOS[version]
    wrong = {name: failures(checks) for name, checks in found.items() if name not in NOT_OFFERED}
    assert {name: each for name, each in wrong.items() if each} == {}


def test_with_fixtures_every_scenario_of_tasks_passes(fixtures_url: str, tmp_path: Path) -> None:
    passed = 0
    for scenario in TASKS:
        options = (f"--scenario=tasks-{scenario}", f"--spec-version={MODERN}", "--force")
        found = run(fixtures_url, tmp_path / scenario, *options)
        (checks,) = found.values()
        assert failures(checks) == {}, scenario
        passed += len(checks)
    assert passed >= FEWEST_TASK_CHECKS

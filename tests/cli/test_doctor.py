"""`darkroom doctor`: what works, what does not, and nothing changed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from darkroom.cli.command_line import main
from darkroom.cli.diagnosis import Findings, ProviderFinding, changed, examine
from darkroom.cli.doctor import report
from darkroom.config.sections import ServeSection
from darkroom.jobs.storage.journal import connect
from darkroom.jobs.storage.lease import Lease
from darkroom.mcp.http import token as bearer
from darkroom_tools.emulators.kit import Fault
from tests.cli.support import environment, setting_of
from tests.harness import rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.harness import Rig

pytestmark = pytest.mark.anyio


async def findings_of(over: Rig) -> Findings:
    return await examine(setting_of(over))


def of(findings: Findings, name: str) -> ProviderFinding:
    return next(provider for provider in findings.providers if provider.name == name)


def said(findings: Findings) -> str:
    return "\n".join(report(findings))


async def test_what_works_is_said_to_work(clock: Callable[[], float], tmp_path: Path) -> None:
    over = rig(clock, tmp_path)
    findings = await findings_of(over)
    assert findings.ok, said(findings)
    zsky = of(findings, "zsky")
    (credential,) = zsky.credentials
    assert (zsky.reachable, credential.accepted, credential.mode) == ("yes", "yes", "live")
    assert zsky.limits == ["20 requests in 60 s", "3 jobs at once"]
    assert said(findings).endswith("Everything that is configured works.")


async def test_only_free_questions_are_asked_and_nothing_is_charged(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    over = rig(clock, tmp_path)
    await findings_of(over)
    for emulator in over.sandbox.emulators.values():
        assert not emulator.charges
        assert all(asked.method == "GET" for asked in emulator.requests)


async def test_no_key_is_shown_but_its_last_four_characters(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    over = rig(clock, tmp_path, environment={"ZSKY_API_KEY": "zsky_live_0123456789abcdef"})
    shown = said(await findings_of(over))
    assert "…cdef from the environment" in shown
    assert "9abcdef" not in shown


async def test_a_key_from_a_file_names_the_file(clock: Callable[[], float], tmp_path: Path) -> None:
    plain = rig(clock, tmp_path)
    file = tmp_path / "key"
    file.write_text(plain.environment["ZSKY_API_KEY"], "utf-8")
    over = rig(
        clock,
        tmp_path,
        without=("ZSKY_API_KEY",),
        environment={"ZSKY_API_KEY_FILE": str(file)},
    )
    findings = await findings_of(over)
    assert findings.ok
    assert f"from the file {file}, live key, accepted" in said(findings)


async def test_a_key_that_is_refused_is_not_ok(clock: Callable[[], float], tmp_path: Path) -> None:
    over = rig(clock, tmp_path, environment={"ZSKY_API_KEY": "zsky_live_wrong_key_indeed"})
    findings = await findings_of(over)
    zsky = of(findings, "zsky")
    assert not findings.ok
    assert (zsky.reachable, zsky.credentials[0].accepted) == ("yes", "no")
    assert of(findings, "zupertry").credentials[0].accepted == "yes"
    assert "BAD ZSky" in said(findings)


async def test_a_provider_that_cannot_be_reached_is_not_ok(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    over = rig(clock, tmp_path)
    over.sandbox.emulators["zsky"].faults.add("*", Fault(kind="refuse"), times=None)
    findings = await findings_of(over)
    assert not findings.ok
    assert of(findings, "zsky").reachable == "no"


async def test_a_provider_without_a_credential_is_simply_not_configured(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    over = rig(clock, tmp_path, without=("ZSKY_API_KEY",))
    findings = await findings_of(over)
    assert findings.ok
    assert not of(findings, "zsky").configured
    assert not over.sandbox.emulators["zsky"].requests


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ({"exclude": ("list_job",)}, "did you mean 'list_jobs'?"),
        ({"read_only": True, "tools": ("zsky_start_*",)}, "leave no tool"),
    ],
)
async def test_filters_with_which_nothing_is_served_are_not_ok(
    clock: Callable[[], float], tmp_path: Path, filters: dict[str, Any], says: str
) -> None:
    over = rig(clock, tmp_path)
    settings = over.settings.model_copy(update={"serve": ServeSection(**filters)})
    findings = await examine(replace(setting_of(over), settings=settings))
    assert not findings.ok
    assert says in said(findings)


async def test_a_template_that_was_not_filled_in_is_not_ok(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    over = rig(clock, tmp_path, environment={"ZSKY_API_KEY": "${ZSKY_API_KEY}"})
    findings = await findings_of(over)
    assert not findings.ok
    assert "template that was not filled in" in said(findings)


async def test_settings_that_differ_are_listed_and_no_others(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    over = rig(clock, tmp_path, environment={"DARKROOM_ZSKY__IMAGES_PER_DAY": "7"})
    found = changed(over.settings)
    assert found["zsky.images_per_day"] == 7
    assert found["results.folder"] == str(tmp_path / "results")
    assert "jobs.keep_days" not in found


async def test_a_folder_that_cannot_be_written_is_not_ok(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    file = tmp_path / "a-file"
    file.write_text("in the way", "utf-8")
    over = rig(clock, tmp_path, environment={"DARKROOM_RESULTS__FOLDER": str(file / "results")})
    findings = await findings_of(over)
    assert not findings.ok
    assert "cannot be written to" in said(findings)


@pytest.mark.parametrize("name", ["", "journal.sqlite", "http-token"])
async def test_what_others_can_write_to_is_not_ok_and_is_named(
    clock: Callable[[], float], tmp_path: Path, name: str
) -> None:
    over = rig(clock, tmp_path, store="sqlite")
    bearer.token(over.settings)
    connect(over.state / "journal.sqlite").close()
    assert (await findings_of(over)).ok
    target = over.state / name
    target.chmod(0o777)
    findings = await findings_of(over)
    assert not findings.ok
    assert f"{target} can be written by others" in said(findings)


async def test_other_servers_on_the_same_state_are_counted(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    over = rig(clock, tmp_path, store="sqlite")
    assert (await findings_of(over)).other_servers == 0
    lease = Lease.take(over.state)
    try:
        assert (await findings_of(over)).other_servers == 1
    finally:
        lease.release()


async def test_a_damaged_journal_is_not_ok_and_stays_as_it_is(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    over = rig(clock, tmp_path, store="sqlite")
    over.state.mkdir()
    journal = over.state / "journal.sqlite"
    journal.write_bytes(b"this is no database" * 100)
    findings = await findings_of(over)
    assert not findings.ok
    assert "journal" in said(findings)
    assert journal.read_bytes() == b"this is no database" * 100


async def test_a_server_that_cannot_start_is_not_ok_and_the_rest_is_said(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    over = rig(clock, tmp_path)
    guard = over.settings.guard.model_copy(update={"provider": "zsky"})
    settings = over.settings.model_copy(update={"guard": guard})
    findings = await examine(replace(setting_of(over), settings=settings))
    assert findings.problems == [
        "the server cannot start: guard.provider: no provider 'zsky' has a policy"
    ]
    assert of(findings, "zsky").reachable == "not tried"
    assert "BAD the server cannot start" in said(findings)


async def test_a_server_that_dies_at_its_start_is_not_ok_and_quotes_nothing(
    clock: Callable[[], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ValueError("zsky_live_0123456789abcdef is wrong")

    over = rig(clock, tmp_path)
    monkeypatch.setattr("darkroom.engine.runtime.open_runtime", broken)
    findings = await findings_of(over)
    (problem,) = findings.problems
    assert problem.startswith("the server cannot start: ValueError in test_doctor.py, line ")
    assert "zsky_live" not in said(findings)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"DARKROOM_GUARD__PROVIDER": "text"}, "no provider 'text' has a policy"),
        ({"DARKROOM_JOBS__STATE_DIR": "x" * 300}, "state folder: "),
        ({"DARKROOM_JOBS__STATE_DIR": "~nobody-of-this-name/x"}, "there is no such home folder"),
    ],
    ids=["guard", "long-path", "no-home"],
)
def test_no_broken_machine_gives_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    says: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["doctor"]) == 1
    shown = capsys.readouterr()
    assert any(line.startswith("BAD ") and says in line for line in shown.out.splitlines())
    assert "Traceback" not in shown.out + shown.err


async def test_nothing_is_made_by_looking(clock: Callable[[], float], tmp_path: Path) -> None:
    over = rig(clock, tmp_path, store="sqlite")
    await findings_of(over)
    assert [path async for path in anyio.Path(tmp_path).iterdir()] == []


def test_a_broken_configuration_is_reported_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DARKROOM_JOBS__STORR", "x")
    assert main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert "did you mean 'store'?" in found["problems"][0]


@pytest.mark.parametrize("through", [False, True])
def test_a_proxy_is_named_without_its_password(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    through: bool,
) -> None:
    for name, value in {
        **environment(tmp_path, DARKROOM_RESULTS__THROUGH_PROXY=str(through)),
        "CLAID_API_KEY": "claid_x",
        "https_proxy": "http://me:secret@127.0.0.1:1",
        "NO_PROXY": "zsky.ai",
    }.items():
        monkeypatch.setenv(name, value)
    assert main(["doctor", "--json"]) == 1
    said = capsys.readouterr()
    found = {each["name"]: each for each in json.loads(said.out)["providers"]}
    (note,) = (each for each in found["claid"]["notes"] if "proxy" in each or "through" in each)
    assert "http://127.0.0.1:1 (https_proxy)" in note
    assert ("downloads, too" in note) is through
    assert not any("through" in each for each in found["zsky"]["notes"])
    assert "secret" not in said.out + said.err
    monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:1")
    assert main(["doctor", "--json"]) == 1
    claid = next(
        p for p in json.loads(capsys.readouterr().out)["providers"] if p["name"] == "claid"
    )
    assert any("https_proxy names no http or https proxy" in each for each in claid["problems"])


async def test_what_an_earlier_server_left_open_is_a_problem(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    file = keys / "zsky.key"
    plain = rig(clock, tmp_path / "plain")
    file.write_text(plain.environment["ZSKY_API_KEY"], "utf-8")
    never_ask = {"DARKROOM_APPROVAL__NEVER_ASK": '["zsky_rotate_key"]'}
    over = rig(
        clock,
        tmp_path,
        store="sqlite",
        without=("ZSKY_API_KEY",),
        environment={"ZSKY_API_KEY_FILE": str(file), **never_ask},
    )
    assert (await findings_of(over)).ok
    over.sandbox.emulators["zsky"].faults.add("rotate_key", Fault(kind="drop_before"))
    async with over.client() as client:
        await client.call_tool("zsky_rotate_key", {})
    file.with_name("zsky.key.new").write_text("zsky_live_of_the_rotation", "utf-8")
    findings = await findings_of(over)
    assert not findings.ok
    assert "zsky_rotate_key of 2026" in said(findings)
    assert "zsky.key.new may hold a newer key" in said(findings)
    assert "zsky_live_of_the_rotation" not in said(findings)

"""Settings that name something of the catalogue are read against it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from darkroom.config.settings import load
from darkroom.core.errors import ConfigurationError
from darkroom_tools import CATALOGUE
from tests.project.documents import EXAMPLE
from tests.snapshots import EVERYTHING

if TYPE_CHECKING:
    from pathlib import Path

    from darkroom.config.settings import Settings

ABOVE = "DARKROOM_APPROVAL__ABOVE"
NEVER_ASK = "DARKROOM_APPROVAL__NEVER_ASK"
GUARD = "DARKROOM_GUARD__PROVIDER"


def read(**environment: str) -> Settings:
    return load(EVERYTHING.providers, environment, tools=[tool.name for tool in EVERYTHING.tools])


def mistakes(**environment: str) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        read(**environment)
    return str(refused.value).splitlines()


@pytest.mark.parametrize(
    ("variable", "value", "near"),
    [
        (ABOVE, '{"videos": 0}', "zsky_videos"),
        (ABOVE, '{"mony": 1}', "money"),
        (ABOVE, '{"zsky_video": 0, "money": 1}', "zsky_videos"),
        (NEVER_ASK, '["zsky_delete"]', "zsky_delete_result"),
        (NEVER_ASK, '["start_batch", "resolve_jobs"]', "resolve_job"),
        (GUARD, "znix", "znyx"),
    ],
)
def test_an_unknown_name_is_a_mistake_with_the_nearest_name(
    variable: str, value: str, near: str
) -> None:
    (mistake,) = mistakes(**{variable: value})
    assert mistake.startswith(f"{variable}: ")
    assert mistake.endswith(f"; did you mean '{near}'?")


@pytest.mark.parametrize("name", ["text", "zsky"])
def test_a_guard_that_judges_nothing_is_a_mistake_that_names_those_that_do(name: str) -> None:
    assert mistakes(**{GUARD: name}) == [
        f"{GUARD}: no provider '{name}' has a policy; known here: znyx"
    ]


def test_every_unknown_name_is_said_beside_every_other_mistake() -> None:
    found = mistakes(
        **{
            ABOVE: '{"videos": 0, "pictures": 0, "money": -1}',
            NEVER_ASK: '["zsky_delete"]',
            GUARD: "text",
            "DARKROOM_JOBS__STORE": "paper",
        }
    )
    assert len(found) == 6
    assert (
        f"{ABOVE}: approval.above.money: input should be greater than or equal to 0, got -1"
        in found
    )


def test_a_mistake_in_the_file_names_file_and_key(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[approval]\nabove = { videos = 0 }\nnever_ask = ["zsky_delete"]\n')
    above, never_ask = mistakes(DARKROOM_CONFIG=str(file))
    assert above.startswith(f"{file}: approval.above.videos: ")
    assert never_ask.startswith(f"{file}: approval.never_ask.0: ")


def test_every_unit_tool_and_policy_of_the_catalogue_may_be_named() -> None:
    units = ["money", *(f"{p.name}_{unit}" for p in CATALOGUE.providers for unit in p.units)]
    tools = [
        *(operation.name for p in CATALOGUE.providers for operation in p.operations),
        *(tool.name for tool in CATALOGUE.tools),
    ]
    settings = read(
        **{
            ABOVE: json.dumps(dict.fromkeys(units, 1)),
            NEVER_ASK: json.dumps(tools),
            GUARD: "znyx",
        }
    )
    assert list(settings.approval.above) == units
    assert list(settings.approval.never_ask) == tools


def example_lines() -> list[tuple[str, str]]:
    """Return every setting of the example, uncommented, with the table it stands in."""
    found: list[tuple[str, str]] = []
    table = ""
    for line in EXAMPLE.read_text("utf-8").splitlines():
        bare = line.removeprefix("# ")
        if bare.startswith("["):
            table = bare
        elif bare != line and bare.partition(" = ")[0].isidentifier() and " = " in bare:
            found.append((table, bare))
    return found


@pytest.mark.parametrize(
    ("table", "setting"),
    [pair for pair in example_lines() if "workflows" not in pair[0]],
    ids=lambda text: text.partition(" = ")[0],
)
def test_a_setting_of_the_example_is_valid_on_its_own(
    tmp_path: Path, table: str, setting: str
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"{table}\n{setting}\n")
    read(DARKROOM_CONFIG=str(file))


def test_a_section_that_does_not_exist_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[aproval]\nnever_ask = []\n")
    (mistake,) = mistakes(DARKROOM_CONFIG=str(file))
    assert mistake == f"{file}: aproval: there is no such key; did you mean 'approval'?"

"""Catalogues of other packages: found, and harmless when broken."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from darkroom.catalogue.declarations import Catalogue, Tool
from darkroom.catalogue.dispatch import desks
from darkroom.catalogue.loading import GROUP, OURS, completed, load_catalogues
from darkroom.config.settings import load
from darkroom.engine.arguments.schema import input_schema
from darkroom.providers.operations import LOCAL_READS
from darkroom.providers.params import Params
from darkroom_tools import CATALOGUE
from darkroom_tools.neutral import jobs
from darkroom_tools.providers import zsky

if TYPE_CHECKING:
    from pathlib import Path


def announced(monkeypatch: pytest.MonkeyPatch, **values: object) -> list[EntryPoint]:
    """Put each value into a module of its own; return the entry points that name them."""
    points: list[EntryPoint] = []
    for name, value in values.items():
        module = ModuleType(f"catalogue_of_{name}")
        module.__dict__["CATALOGUE"] = value
        monkeypatch.setitem(sys.modules, module.__name__, module)
        points.append(EntryPoint(name, f"{module.__name__}:CATALOGUE", GROUP))
    return points


OURS_POINT = EntryPoint(OURS, "darkroom_tools:CATALOGUE", GROUP)
OTHER = Catalogue(
    tools=(
        Tool(
            name="say_hello",
            title="Say hello",
            description="Say hello.",
            params=Params,
            hints=LOCAL_READS,
            run=jobs.list_jobs,
        ),
    )
)


def test_ours_comes_first_and_the_others_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Catalogue()
    points = announced(monkeypatch, zebra=OTHER, antelope=empty)
    assert load_catalogues([*points, OURS_POINT]) == (CATALOGUE, empty, OTHER)


def test_a_broken_catalogue_is_named_and_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    points = announced(monkeypatch, no_catalogue="a string")
    missing = EntryPoint("gone", "there_is_no_such_module:CATALOGUE", GROUP)
    assert load_catalogues([missing, OURS_POINT, *points]) == (CATALOGUE,)
    assert "catalogue gone (there_is_no_such_module:CATALOGUE) is left out" in caplog.text
    assert "catalogue no_catalogue" in caplog.text


def test_a_catalogue_cannot_take_a_name_that_is_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    points = announced(monkeypatch, imposter=Catalogue(providers=(zsky.PROVIDER,)))
    assert load_catalogues([*points, OURS_POINT]) == (CATALOGUE,)
    assert "catalogue imposter is left out" in caplog.text
    assert "provider zsky" in caplog.text


def test_schemas_that_cannot_be_read_are_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cut = tmp_path / "schemas.json"
    cut.write_text('{"zsky_get_usage":')
    for file in (cut, tmp_path / "absent.json"):
        caplog.clear()
        catalogue = replace(CATALOGUE, schemas=file)
        found = desks([catalogue], lambda _: True, load(CATALOGUE.providers, {}))
        assert found["zsky_get_usage"].schema == input_schema(Params)
        assert file.name in caplog.text


# --- providers that are imported only where they are used ---

FAL = next(each for each in CATALOGUE.deferred if each.name == "fal")


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"FAL_KEY": "a-key"}, ""),
        ({"FAL_KEY_FILE": "/etc/fal"}, ""),
        ({"DARKROOM_FAL__PRIVATE": "true"}, ""),
        ({"DARKROOM_SERVE__PROVIDERS": '["fal"]'}, ""),
        ({}, "[fal]\nprivate = true"),
        ({}, '[serve]\ntools = ["fal_start*"]'),
    ],
)
def test_a_deferred_provider_is_there_with_its_key_or_by_its_name(
    environment: dict[str, str], named: str
) -> None:
    found = completed(CATALOGUE, environment, named)
    assert [each.name for each in found.providers[len(CATALOGUE.providers) :]] == ["fal"]
    assert FAL not in found.deferred


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, ""),
        ({"FAL_KEY": ""}, ""),
        ({"ZSKY_API_KEY": "a-key"}, "download = false"),
        ({"DARKROOM_RESULTS__DOWNLOAD": "false"}, "[results]\nfolder = '/home/falk'"),
    ],
)
def test_nothing_else_imports_it(environment: dict[str, str], named: str) -> None:
    assert completed(CATALOGUE, environment, named) is CATALOGUE


def test_with_a_key_that_other_programs_share_a_provider_must_be_named() -> None:
    shared = replace(CATALOGUE, deferred=(replace(FAL, shared_key=True),))
    assert completed(shared, {"FAL_KEY": "a-key"}) is shared
    assert completed(shared, {"FAL_KEY": "a-key", "DARKROOM_FAL__PRIVATE": "1"}) is not shared


def test_a_deferred_provider_that_cannot_be_imported_is_named_and_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gone = replace(FAL, module="there_is_no_such_module:PROVIDER")
    found = completed(replace(CATALOGUE, deferred=(gone,)), {"FAL_KEY": "a-key"})
    assert found.providers == CATALOGUE.providers
    assert "provider fal (there_is_no_such_module:PROVIDER) is left out" in caplog.text


def test_every_deferred_provider_says_of_itself_what_its_module_does() -> None:
    loaded = completed(CATALOGUE).providers[len(CATALOGUE.providers) :]
    assert [each.name for each in loaded] == [each.name for each in CATALOGUE.deferred]
    for provider, deferred in zip(loaded, CATALOGUE.deferred, strict=True):
        assert tuple(c.variable for c in provider.credentials) == deferred.variables

"""Every operation of every provider under every fault, cancelled at every point."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from darkroom.providers.operations import CallOperation, CheckOperation, JobOperation
from darkroom_tools import CATALOGUE
from tests.faults.matrix import PAGE, cells, section
from tests.faults.playing import mistakes, played
from tests.faults.scenarios import FAULTS, SCENARIOS

if TYPE_CHECKING:
    from tests.faults.scenarios import Scenario

CHANGING = [scenario for scenario in SCENARIOS if not scenario.repeatable]
STEPS_TRIED = 6
"""Of each call's steps, in `make test`; `make soak` tries all."""


def test_every_operation_of_every_provider_is_played() -> None:
    declared = {o.name for p in CATALOGUE.providers for o in p.operations}
    assert {scenario.tool for scenario in SCENARIOS} == declared
    assert all(
        isinstance(scenario.declared, CallOperation | CheckOperation | JobOperation)
        for scenario in SCENARIOS
    )


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_what_comes_of_every_fault_is_what_the_page_says(scenario: Scenario) -> None:
    outcomes = dict(cells(scenario))
    broken = [(fault, *mistakes(scenario, outcomes[fault])) for fault in FAULTS]
    assert [each for each in broken if len(each) > 1] == []
    assert section(scenario, outcomes) in PAGE.read_text("utf-8"), (
        "run `python -m tests.faults.matrix --write` and look at what changed"
    )


def cancelled(scenario: Scenario, fault: str, *, tried: int | None) -> None:
    """Cancel a call after every number of steps (or ``tried`` of them); every promise holds."""
    numbers = range(played(scenario, fault).steps + 1)
    chance = random.Random(f"{scenario} {fault}")  # noqa: S311 -- repeatable, not secret
    for number in numbers if tried is None else chance.sample(numbers, min(tried, len(numbers))):
        outcome = played(scenario, fault, number)
        assert list(mistakes(scenario, outcome)) == [], (number, outcome)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["none", "drop_after", "status 429", "delay 20 s"])
@pytest.mark.parametrize("scenario", CHANGING, ids=str)
def test_a_call_that_is_cancelled_anywhere_breaks_no_promise(
    scenario: Scenario, fault: str
) -> None:
    cancelled(scenario, fault, tried=STEPS_TRIED)


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_no_call_that_is_cancelled_anywhere_breaks_a_promise(
    scenario: Scenario, fault: str
) -> None:
    cancelled(scenario, fault, tried=None)

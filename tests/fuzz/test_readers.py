"""Whatever a provider answers, a reader understands it or says that it cannot."""

from __future__ import annotations

import dataclasses
import random
import time
from typing import TYPE_CHECKING

import pytest

from darkroom.providers import JobOperation
from darkroom.providers.messages import UNREADABLE
from darkroom_tools import CATALOGUE
from tests.fuzz.readers import bodies, judge, readers

if TYPE_CHECKING:
    from darkroom.core.json_types import JsonObject
    from darkroom.providers.messages import Response, State
    from tests.fuzz.readers import Reader

ALL = readers(CATALOGUE)
ANSWERS, STATUSES = 200, (200, 200, 200, 202, 404, 503)
SOAK_SECONDS = 20.0


def judge_all(reader: Reader, chance: random.Random) -> None:
    """Judge many answers; the error says which it was."""
    for body in bodies(reader, chance, ANSWERS):
        try:
            judge(reader, body, chance.choice(STATUSES))
        except Exception as error:
            error.add_note(f"the answer was {body!r}")
            raise


@pytest.mark.parametrize("reader", ALL, ids=lambda reader: reader.name)
def test_a_reader_understands_any_answer_or_says_that_it_cannot(reader: Reader) -> None:
    chance = random.Random(reader.name)  # noqa: S311 -- repeatable, not secret
    judge_all(reader, chance)


@pytest.mark.parametrize("reader", ALL, ids=lambda reader: reader.name)
def test_a_reader_has_seeds_of_which_it_understands_one(reader: Reader) -> None:
    """Otherwise only its first line would be tried; ``python -m tests.fuzz.record`` writes them."""
    assert reader.corpus.exists()
    understood = [judge(reader, body) for body in bodies(reader, random.Random(0), 0)]  # noqa: S311 -- as above
    assert any(each is not None for each in understood)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("reader", ALL, ids=lambda reader: reader.name)
def test_a_reader_understands_any_answer_for_a_long_time(reader: Reader) -> None:
    chance, began = random.Random(time.time_ns()), time.monotonic()  # noqa: S311 -- as above
    while time.monotonic() - began < SOAK_SECONDS:
        judge_all(reader, chance)


def test_a_readers_fault_is_found_in_a_module_that_nobody_has_named() -> None:
    """The walk finds readers by their declaration: a new module needs no line here."""
    provider = CATALOGUE.providers[-2]
    start = next(each for each in provider.operations if isinstance(each, JobOperation))

    def read(response: Response) -> State:
        done: JsonObject = response.object
        if isinstance(weight := done.get("weight"), int):
            raise NotImplementedError(weight)
        return start.state.read(response)

    faulty = dataclasses.replace(start, state=dataclasses.replace(start.state, read=read))
    new = dataclasses.replace(provider, name="sixth", operations=(faulty,), policy=None)
    catalogue = dataclasses.replace(CATALOGUE, providers=(new,))
    (reader,) = [each for each in readers(catalogue) if each.name.endswith("state.read")]
    assert reader.name.startswith("sixth.")
    assert not issubclass(NotImplementedError, UNREADABLE)
    with pytest.raises(NotImplementedError):
        judge_all(reader, random.Random(1))  # noqa: S311 -- as above

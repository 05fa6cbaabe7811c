"""Tokens are counted exactly where the counter is installed, else estimated."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec, module_from_spec

import pytest

from darkroom.cli.token_count import count, estimate, tool_tokens
from darkroom.engine.arguments.schema import input_schema
from darkroom.providers.params import CheckParams

PROSE = "Starts a picture from a prompt. Then call zsky_check_job until the job has ended."
SCHEMA = json.dumps(input_schema(CheckParams), separators=(",", ":"))


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("hello world", 2), (PROSE, 19), ("<|endoftext|>", 7)]
)
def test_the_count_is_exact_with_the_counter(text: str, tokens: int) -> None:
    assert count(text) == (tokens, True)


def test_without_the_counter_the_count_is_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bpe_openai", None)
    spec = find_spec("darkroom.cli.token_count")
    assert spec is not None
    assert spec.loader is not None
    tokens = module_from_spec(spec)
    spec.loader.exec_module(tokens)
    assert tokens.count(PROSE) == (estimate(PROSE), False)


@pytest.mark.parametrize("text", [PROSE, SCHEMA, PROSE * 20])
def test_the_estimate_is_near_the_count(text: str) -> None:
    assert estimate(text) == pytest.approx(count(text)[0], rel=0.25)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), (" \n", 0), ("a", 1), ("a" * 9, 2), ("1234", 2), ('{"a', 2), ("你好", 2)],
)
def test_the_estimate_takes_runs_of_letters_digits_and_signs(text: str, tokens: int) -> None:
    assert estimate(text) == tokens


def test_a_tool_costs_its_name_description_and_compact_schema() -> None:
    expected = sum(count(text)[0] for text in ("zsky_check_job", PROSE, SCHEMA))
    assert tool_tokens("zsky_check_job", PROSE, input_schema(CheckParams)) == expected

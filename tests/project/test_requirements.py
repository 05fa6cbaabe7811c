"""What is promised is tested: both what the list names and what the suite has."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.project.requirements import PROMISES

TESTS = Path(__file__).parents[1]


def functions_in(path: Path) -> set[str]:
    found = ast.walk(ast.parse(path.read_text("utf-8")))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in found if isinstance(node, functions)}


@pytest.mark.parametrize("name", PROMISES)
def test_a_promise_has_tests_and_they_exist(name: str) -> None:
    promise = PROMISES[name]
    assert promise.tests
    for test in promise.tests:
        file, _, function = test.partition("::")
        assert function.startswith("test_")
        assert function in functions_in(TESTS / file), test


def test_no_test_is_named_twice_for_one_promise() -> None:
    for promise in PROMISES.values():
        assert len(set(promise.tests)) == len(promise.tests)

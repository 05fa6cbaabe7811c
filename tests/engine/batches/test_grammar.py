"""From what the model wrote to a list of items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.engine.batches.grammar import (
    MOST_ITEMS,
    BatchItem,
    Stage,
    circles,
    expand,
    references,
    resolved,
)

if TYPE_CHECKING:
    from darkroom.core.json_types import JsonObject, JsonValue

TEMPLATE = BatchItem("0", "paint", {"size": 1})


def test_lists_are_crossed_and_the_first_varies_slowest() -> None:
    items, mistakes = expand(
        None, TEMPLATE, {"model": ["m1", "m2"], "shirt": ["s1", "s2"]}, 1, None
    )
    assert mistakes == []
    assert [(i.id, i.arguments["model"], i.arguments["shirt"]) for i in items] == [
        ("0", "m1", "s1"),
        ("1", "m1", "s2"),
        ("2", "m2", "s1"),
        ("3", "m2", "s2"),
    ]
    assert all(item.arguments["size"] == 1 for item in items)


def test_copies_have_ids_of_their_own() -> None:
    items, mistakes = expand([BatchItem("a", "paint", {})], None, None, 3, None)
    assert ([item.id for item in items], mistakes) == (["a.1", "a.2", "a.3"], [])


def test_a_second_stage_takes_the_output_of_each_item_of_the_first() -> None:
    stage = Stage("edit", {"width": 300}, "input")
    items, mistakes = expand(
        [BatchItem("a", "paint", {}), BatchItem("b", "paint", {})], None, None, 1, stage
    )
    assert mistakes == []
    assert [(i.id, i.tool, i.after) for i in items[2:]] == [
        ("a>0", "edit", "a"),
        ("b>0", "edit", "b"),
    ]
    assert items[2].arguments == {"width": 300, "input": "item:a#0"}


def test_every_mistake_is_named() -> None:
    _, mistakes = expand(None, TEMPLATE, {"size": [1], "model": []}, 1, None)
    assert any("for_each.size" in mistake for mistake in mistakes)
    assert any("for_each.model: the list is empty" in mistake for mistake in mistakes)
    _, doubled = expand([BatchItem("a", "x", {}), BatchItem("a", "y", {})], None, None, 1, None)
    assert doubled == ["items: the id 'a' is there twice; give each its own"]


def test_nothing_to_start_is_a_mistake() -> None:
    assert expand([], None, None, 1, None)[1]
    assert expand(None, None, None, 1, None)[1]


def test_both_stages_together_have_a_limit() -> None:
    values: list[JsonValue] = [*range(MOST_ITEMS // 2 + 1)]
    lists = {"n": values}
    stage = Stage("edit", {}, "input")
    assert expand(None, TEMPLATE, lists, 1, None)[1] == []
    assert "at most" in expand(None, TEMPLATE, lists, 1, stage)[1][0]


def test_a_huge_product_is_refused_without_being_built() -> None:
    ten: list[JsonValue] = [*range(10)]
    lists = {f"a{n}": ten for n in range(30)}
    items, mistakes = expand(None, TEMPLATE, lists, 1, None)
    assert items == []
    assert mistakes


def test_references_are_found_and_replaced_wherever_they_stand() -> None:
    value: JsonValue = {"a": "item:x", "b": [{"c": "item:y#2"}], "d": "an item:x in a text", "e": 1}
    assert references(value) == ["x", "y"]
    assert resolved(value, {"x": "p_1", "y": "p_2"}) == {
        "a": "job:p_1#0",
        "b": [{"c": "job:p_2#2"}],
        "d": "an item:x in a text",
        "e": 1,
    }


def test_missing_items_and_circles_are_found() -> None:
    items = [
        BatchItem("a", "t", {"in": "item:b"}),
        BatchItem("b", "t", {"in": "item:c"}),
        BatchItem("c", "t", {"in": "item:a"}),
        BatchItem("d", "t", {"in": "item:nowhere"}),
        BatchItem("e", "t", {"in": "item:e"}),
    ]
    mistakes = circles(items)
    assert any("there is no item 'nowhere'" in mistake for mistake in mistakes)
    assert any("a -> b -> c -> a" in mistake for mistake in mistakes)
    assert any("e -> e" in mistake for mistake in mistakes)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25))
def test_a_circle_is_reported_exactly_when_there_is_one(edges: list[tuple[int, int]]) -> None:
    items = [
        BatchItem(str(n), "t", {f"in{i}": f"item:{b}" for i, (a, b) in enumerate(edges) if a == n})
        for n in range(10)
    ]
    left = {n: {b for a, b in edges if a == n} for n in range(10)}
    while free := [n for n, needs in left.items() if not needs & left.keys()]:
        for n in free:
            del left[n]
    assert bool(circles(items)) == bool(left)


@pytest.mark.parametrize(
    ("characters", "fits"), [(20_000, True), (30_000, False), (880_000, False)]
)
def test_an_object_that_many_items_share_is_counted_for_each(characters: int, fits: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    shared: JsonObject = {"text": "x" * characters}
    prompts: list[JsonValue] = [f"p{n}" for n in range(300)]
    template = BatchItem("", "t", {"details": shared})
    items, mistakes = expand(None, template, {"prompt": prompts}, 1, None)
    assert (len(items) == len(prompts)) is fits
    assert (mistakes == []) is fits
    assert fits or "8 million characters" in mistakes[0]

"""Arguments of every kind for every tool: a result or a clean error, and nothing sent if invalid."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, get_args

import anyio
import pytest
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp_types import CallToolResult

from darkroom.core.errors import Code
from tests.conftest import EPOCH
from tests.engine.support import HOUR
from tests.harness import Rig, rig, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

CODES = frozenset(get_args(Code))
LISTED_FIRST = 12
"""Tools of one example: a server is built once for each."""

Schema = dict[str, Any]

ADDRESSES = st.sampled_from(
    [
        "https://samples.sandbox.test/model-1.jpg",
        "https://photos.example.com/a.jpg",
        "http://photos.example.com:8080/a.jpg",
        "file:///etc/passwd",
        "http://127.0.0.1/",
        "http://169.254.169.254/",
        "https://user:pass@photos.example.com/",
        "https://[",
        "/home/me/photo.jpg",
        "job:zsky_0000000000000000000000#0",
        "job:",
    ]
)
TEXT = st.text(max_size=40) | ADDRESSES | st.just("x" * 30_000)
SURROGATES = st.text(st.characters(categories=["Cs"]), min_size=1, max_size=3)
NUMBERS = st.integers() | st.floats(allow_nan=True) | st.sampled_from([1e400, -0.0, 10**400])
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT | SURROGATES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def valid(schema: Schema) -> st.SearchStrategy[Any]:
    """Return values that a schema describes."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    if "anyOf" in schema:
        return st.one_of([valid(branch) for branch in schema["anyOf"]])
    match schema.get("type"):
        case "string":
            least = schema.get("minLength", 0)
            most = min(schema.get("maxLength", 60), max(60, least))
            return ADDRESSES | st.text(min_size=least, max_size=most)
        case "integer":
            return st.integers(schema.get("minimum", -(10**6)), schema.get("maximum", 10**6))
        case "number":
            return st.floats(schema.get("minimum", -1e6), schema.get("maximum", 1e6))
        case "boolean":
            return st.booleans()
        case "array":
            least = schema.get("minItems", 0)
            return st.lists(valid(schema.get("items", {})), min_size=least, max_size=least + 2)
        case "object":
            return objects(schema)
        case _:
            return st.dictionaries(st.text(max_size=5), st.integers(), max_size=2)


def objects(schema: Schema) -> st.SearchStrategy[dict[str, Any]]:
    required = set(schema.get("required", ()))
    fields = {name: valid(inner) for name, inner in schema.get("properties", {}).items()}
    return st.fixed_dictionaries(
        {name: value for name, value in fields.items() if name in required},
        optional={name: value for name, value in fields.items() if name not in required},
    )


@st.composite
def mutated(draw: st.DrawFn, schema: Schema) -> dict[str, Any]:
    """Draw arguments as a schema wants them, and spoil some."""
    arguments = draw(objects(schema))
    names = list(schema.get("properties", {})) or ["nothing"]
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(names))
        match draw(st.sampled_from(["replace", "drop", "misspell", "add", "as text"])):
            case "replace":
                arguments[name] = draw(ANYTHING)
            case "drop":
                arguments.pop(name, None)
            case "misspell":
                arguments[name[::-1]] = arguments.pop(name, 1)
            case "add":
                arguments[draw(st.text(max_size=12) | SURROGATES)] = draw(ANYTHING)
            case _:
                arguments[name] = json.dumps(arguments.get(name), default=str)
    return arguments


def requests_made(dependencies: Rig) -> int:
    """Count the requests that a call makes; what follows an earlier job goes on beside it."""
    looks = {"get", "get_job", "result", "poll_results", "download"}
    return sum(
        request.operation not in looks
        for emulator in dependencies.sandbox.emulators.values()
        for request in emulator.requests
    )


async def try_all(dependencies: Rig, cases: list[tuple[str, Mapping[str, object]]]) -> None:
    async with dependencies.client() as client:
        for tool, arguments in cases:
            before = requests_made(dependencies)
            with anyio.fail_after(50):
                result = await client.call_tool(tool, dict(arguments))
            assert isinstance(result, CallToolResult)
            text = text_of(result)
            assert text
            text.encode()
            assert len(text) < 60_000
            if result.is_error:
                code, bracket, _ = text[1:].partition("]")
                assert text.startswith("[")
                assert bracket
                assert code in CODES, text
                assert code != "internal_error", (tool, arguments, text)
                assert "next: " in text
                if code == "invalid_argument" and "refused the arguments" not in text:
                    assert requests_made(dependencies) == before, (tool, arguments, text)
            else:
                json.dumps(result.structured_content, allow_nan=False).encode()


def tools() -> dict[str, Schema]:
    """Return every tool that is listed in the sandbox, with its schema."""
    with TemporaryDirectory() as folder:

        async def look() -> dict[str, Schema]:
            async with rig(lambda: EPOCH, Path(folder)).client() as client:
                listed = (await client.list_tools()).tools
                return {tool.name: tool.input_schema for tool in listed}

        return trio.run(look)


TOOLS = tools()


@pytest.mark.slow
@pytest.mark.parametrize("tool", sorted(TOOLS))
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_generated_arguments_give_a_result_or_a_clean_error(tool: str, data: st.DataObject) -> None:
    drawn = data.draw(st.lists(mutated(TOOLS[tool]), min_size=LISTED_FIRST, max_size=LISTED_FIRST))
    with TemporaryDirectory() as folder:
        clock = trio.testing.MockClock(autojump_threshold=0)

        async def run() -> None:
            now = lambda: EPOCH + trio.current_time()  # noqa: E731 -- one line
            dependencies = rig(now, Path(folder), seed=random.Random(tool).randrange(99))  # noqa: S311 -- repeatable
            with anyio.fail_after(100 * HOUR):
                await try_all(dependencies, [(tool, arguments) for arguments in drawn])

        trio.run(run, clock=clock)


SPOILED = {
    "null": None,
    "nan": math.nan,
    "infinity": math.inf,
    "a-lone-surrogate": "\ud800",
    "a-5-MB-string": "x" * 5_000_000,
    "a-huge-number": 10**400,
    "a-deep-list": None,
    "an-object": {"a": {"b": 1}},
    "a-list": [1, 2, 3],
    "true": True,
}

SENT_AS_NULL = frozenset({"null", "nan", "infinity"})
"""What the SDK's client writes as null: left out, where that may be."""


def deep() -> object:
    value: object = 1
    for _ in range(200):
        value = [value]
    return value


@pytest.mark.anyio
@pytest.mark.parametrize("kind", SPOILED)
async def test_one_spoiled_argument_is_named_and_nothing_is_sent(tmp_path: Path, kind: str) -> None:
    value = deep() if kind == "a-deep-list" else SPOILED[kind]
    dependencies = rig(lambda: EPOCH + trio.current_time(), tmp_path)
    async with dependencies.client() as client:
        required: list[tuple[str, dict[str, object]]] = [
            ("zsky_start_image", {"prompt": value}),
            ("zsky_check_job", {"job_id": value}),
            ("zupertry_start_tryon", {"model_image_url": value, "garment_image_url": value}),
        ]
        optional: list[tuple[str, dict[str, object]]] = [
            ("zsky_start_image", {"prompt": "waves", "negative": value}),
            ("list_jobs", {"provider": value}),
        ]
        for tool, arguments in required if kind in SENT_AS_NULL else [*required, *optional]:
            result = await client.call_tool(tool, arguments)
            assert isinstance(result, CallToolResult)
            text = text_of(result)
            if not result.is_error and kind == "a-5-MB-string":
                raise AssertionError(tool)
            assert text.startswith("[invalid_argument] "), (tool, text)
            assert len(text) < 2000
            text.encode()
    assert requests_made(dependencies) == 0


@pytest.mark.anyio
async def test_every_mistake_is_named_at_once_with_the_nearest_name(tmp_path: Path) -> None:
    dependencies = rig(lambda: EPOCH, tmp_path)
    async with dependencies.client() as client:
        result = await client.call_tool(
            "zsky_start_image", {"prompt": "", "width": 99, "sead": 3, "height": "big"}
        )
    assert isinstance(result, CallToolResult)
    text = text_of(result)
    for said in ("prompt", "width", "height", "'sead'", "did you mean 'seed'"):
        assert said in text
    assert requests_made(dependencies) == 0

"""Arguments become a valid object, or one error that names every mistake."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal, Self

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ConfigDict, Field, JsonValue, model_validator

from darkroom.core.errors import CallError
from darkroom.engine.arguments.explain import describe
from darkroom.engine.arguments.validation import HOSTS_OWN, canonical_arguments, unpacked, validate
from darkroom.providers.params import Address, Admitted, CheckParams, Params, StartParams

if TYPE_CHECKING:
    from collections.abc import Mapping

SURROGATE = "\ud800"
Size = Annotated[int, Field(ge=1, le=5000)] | Annotated[str, Field(pattern=r"^\d+%$")]


class Resizing(Params):
    width: Size | None = None
    fit: Literal["crop", "bounds"] | None = None


class Operations(Params):
    resizing: Resizing | None = None
    sharpness: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _do_something(self) -> Self:
        if self.resizing is None and self.sharpness is None:
            raise ValueError("name at least one operation")
        return self


class Image(Params):
    image_url: Address
    image_name: Annotated[str, Field(min_length=1)] | None = None


class Circle(Params):
    kind: Literal["circle"]
    radius: int


class Square(Params):
    kind: Literal["square"]
    side: Literal[1, 2]


class Folder(Params):
    destination: Address
    depth: int | None = None


class Edit(StartParams):
    prompt: Annotated[str, Field(min_length=1, max_length=2000)]
    seed: int | None = None
    steps: Annotated[int, Field(ge=1, le=50)] = 20
    loud: bool = False
    status: Literal["queued", "running", "done"] | None = None
    operations: Operations | None = None
    images: Annotated[list[Image], Field(min_length=1, max_length=5)] | None = None
    names: list[str] | None = None
    shape: Annotated[Circle | Square, Field(discriminator="kind")] | None = None
    output: Address | Folder | None = None
    details: dict[str, object] | None = None
    sizes: (
        Annotated[dict[Annotated[str, Field(pattern="^[a-z]+$")], Size], Field(max_length=2)] | None
    ) = None
    ratio: Annotated[float, Field(gt=0, lt=2, multiple_of=0.5)] | None = None


URL = "https://pictures.example/cat.png"


def valid(**arguments: object) -> Edit:
    return validate(Edit, {"prompt": "a cat", **arguments}, admitted=Admitted())


def message(arguments: Mapping[str, object], params: type[Params] = Edit) -> str:
    with pytest.raises(CallError) as raised:
        validate(params, arguments, admitted=Admitted())
    assert raised.value.failure.code == "invalid_argument"
    return raised.value.failure.message


def mistake(**arguments: object) -> str:
    return message({"prompt": "a cat", **arguments})


# --- what is valid -----------------------------------------------------------------------------


def test_valid_arguments_are_taken_as_they_are() -> None:
    edit = valid(seed=7, images=[{"image_url": URL}], sizes={"a": 5, "b": "5%"}, output=URL)
    assert edit.seed == 7
    assert edit.images == [Image(image_url=URL)]
    assert edit.sizes == {"a": 5, "b": "5%"}


def test_integral_floats_are_integers_where_integers_are_wanted() -> None:
    edit = valid(seed=7.0, operations={"resizing": {"width": 100.0}, "sharpness": 1.0})
    assert isinstance(edit.seed, int)
    assert edit.operations is not None
    assert edit.operations.resizing is not None
    assert isinstance(edit.operations.resizing.width, int)
    assert isinstance(edit.operations.sharpness, float)


@pytest.mark.parametrize(
    "operations",
    [
        '{"resizing": {"width": 10}}',
        {"resizing": '{"width": 10.0}'},
        ' {"resizing": "{\\"width\\": 10}"}',
        json.dumps(json.dumps({"resizing": {"width": 10}})),
    ],
)
def test_objects_that_come_as_json_strings_are_parsed(operations: object) -> None:
    assert valid(operations=operations).operations == Operations(resizing=Resizing(width=10))


def test_arrays_and_unions_that_come_as_json_strings_are_parsed() -> None:
    edit = valid(
        names='["[1]", "b"]',
        images=[f'{{"image_url": "{URL}"}}'],
        output=json.dumps({"destination": URL}),
        shape='{"kind": "circle", "radius": 1}',
        details='{"a": "[1]", "b": null}',
    )
    assert edit.names == ["[1]", "b"]
    assert edit.images == [Image(image_url=URL)]
    assert edit.output == Folder(destination=URL)
    assert edit.shape == Circle(kind="circle", radius=1)
    assert edit.details == {"a": "[1]", "b": None}


def test_strings_stay_strings_where_strings_are_wanted() -> None:
    assert valid(prompt='{"a": 1}').prompt == '{"a": 1}'


def test_opaque_objects_may_hold_null_and_stay_as_they_are() -> None:
    details: dict[str, object] = {"a": None, "b": [1.0, {"c": None}], "d": "{}", "e": []}
    assert json.dumps(valid(details=details, seed=1.0).details) == json.dumps(details)


def test_admitted_addresses_pass() -> None:
    image = {"image_url": "http://a.sandbox.test/1.png"}
    with pytest.raises(CallError):
        validate(Image, image, admitted=Admitted())
    admitted = Admitted(suffixes=(".sandbox.test",))
    assert validate(Image, image, admitted=admitted) == Image.model_construct(None, **image)


# --- what was left out ---


class Stage(Params):
    tool: str
    arguments: dict[str, object]


class Knobs(Params):
    model_config = ConfigDict(json_schema_extra={"minProperties": 0})

    strength: int | None = None


class Optional(StartParams):
    text: str
    values: list[str]
    table: dict[str, object]
    seed: int | None = None
    steps: int = 20
    negative: str | None = None
    names: list[str] | None = None
    details: dict[str, object] | None = None
    status: Literal["queued", "running"] | None = None
    output: Address | Folder | None = None
    resizing: Resizing | None = None
    operations: Operations | None = None
    then: Stage | None = None
    size: Size | None = None
    anything: JsonValue = None
    note: Annotated[str, Field(min_length=0)] | None = None
    listed: Annotated[list[str], Field(min_length=0)] | None = None
    knobs: bool | Knobs | None = None


REQUIRED: dict[str, object] = {"text": "a", "values": ["a"], "table": {"a": 1}}


def optional(**arguments: object) -> Optional:
    return validate(Optional, {**REQUIRED, **arguments}, admitted=Admitted())


EMPTY: list[object] = [None, "", []]
LEFT_OUT = [name for name in Optional.model_fields if name not in {*REQUIRED, "anything"}]


@pytest.mark.parametrize("empty", EMPTY, ids=repr)
@pytest.mark.parametrize("name", LEFT_OUT)
def test_an_optional_argument_that_is_empty_was_left_out(name: str, empty: object) -> None:
    if (name, empty) in [("note", ""), ("listed", [])]:
        return
    found = optional(**{name: empty})
    assert found == optional()
    assert canonical_arguments(found) == canonical_arguments(optional())


@pytest.mark.parametrize("empty", EMPTY, ids=repr)
@pytest.mark.parametrize("name", REQUIRED)
def test_a_required_argument_that_is_empty_is_missing(name: str, empty: object) -> None:
    assert message({**REQUIRED, name: empty}, Optional).startswith(f"{name}: missing; expected")


@pytest.mark.parametrize("name", ["details", "output", "resizing", "operations", "then"])
def test_an_optional_object_without_members_was_left_out(name: str) -> None:
    nothing: dict[str, object] = {}
    assert optional(**{name: nothing}) == optional()
    assert optional(**{name: "{}"}) == optional()


def test_a_required_object_without_members_is_a_value() -> None:
    assert optional(table={}).table == {}
    assert optional(then={"tool": "a", "arguments": {}}).then == Stage(tool="a", arguments={})


@pytest.mark.parametrize(
    "arguments",
    [
        {"resizing": {"width": None, "fit": ""}},
        {"operations": {"resizing": {"width": "", "fit": None}, "sharpness": None}},
        {"operations": '{"resizing": {"width": null}, "sharpness": ""}'},
        {"output": {"destination": "", "depth": None}},
        {"then": {"tool": "", "arguments": {}}},
        {"details": "null", "then": "null"},
    ],
)
def test_a_nested_object_in_which_everything_is_empty_was_left_out(
    arguments: dict[str, object],
) -> None:
    assert optional(**arguments) == optional()


def test_nested_arguments_are_left_out_one_by_one() -> None:
    found = valid(images=[{"image_url": URL, "image_name": ""}], operations={"sharpness": 1})
    assert found.images == [Image(image_url=URL)]
    assert valid(operations={"resizing": {"width": None}, "sharpness": 1}) == valid(
        operations={"sharpness": 1}
    )


def test_an_empty_value_stays_one_where_the_field_says_so() -> None:
    found = optional(note="", listed=[], knobs={})
    assert (found.note, found.listed, found.knobs) == ("", [], Knobs())
    assert optional(knobs={"strength": None}).knobs == Knobs()


def test_nothing_is_left_out_of_what_is_opaque_or_a_list() -> None:
    details: dict[str, object] = {"a": None, "b": "", "c": [], "d": {}}
    assert optional(details=details, anything={"a": ""}).details == details
    assert optional(anything="").anything == ""
    assert optional(values=["", "a"]).values == ["", "a"]


# --- numbers, booleans and whole calls as strings ---


@pytest.mark.parametrize(
    ("arguments", "same"),
    [
        ({"seed": "5"}, {"seed": 5}),
        ({"seed": "-5"}, {"seed": -5}),
        ({"seed": "5.0"}, {"seed": 5}),
        ({"seed": "9007199254740993"}, {"seed": 9007199254740993}),
        ({"steps": "20"}, {}),
        ({"loud": "true", "ratio": "0.5"}, {"loud": True, "ratio": 0.5}),
        ({"loud": "False", "ratio": "1"}, {"loud": False, "ratio": 1}),
        ({"shape": {"kind": "square", "side": "2"}}, {"shape": {"kind": "square", "side": 2}}),
        ({"sizes": {"a": "5"}}, {"sizes": {"a": 5}}),
        (
            {"operations": {"resizing": {"width": "10"}}},
            {"operations": {"resizing": {"width": 10}}},
        ),
        ({"operations": '{"sharpness": "1"}'}, {"operations": {"sharpness": 1}}),
    ],
)
def test_exact_numbers_and_booleans_may_come_as_strings(
    arguments: dict[str, object], same: dict[str, object]
) -> None:
    found = canonical_arguments(valid(**arguments))
    assert json.dumps(found) == json.dumps(canonical_arguments(valid(**same)))


def test_a_string_that_is_wanted_stays_one_even_where_a_number_would_do() -> None:
    found = valid(prompt="5", names=["5", "true"], sizes={"a": "5%"}, details={"a": "5"})
    assert (found.prompt, found.names, found.sizes) == ("5", ["5", "true"], {"a": "5%"})
    assert found.details == {"a": "5"}


@pytest.mark.parametrize("name", sorted(HOSTS_OWN))
def test_keys_that_hosts_add_for_themselves_are_ignored(name: str) -> None:
    assert valid(**{name: {"anything": None}}) == valid()
    assert "unknown argument" in mistake(operations={name: 1, "sharpness": 1})


@pytest.mark.parametrize("whole", ['{"a": 1}', ' {"a": 1}', '"{\\"a\\": 1}"', {"a": 1}])
def test_arguments_as_a_whole_may_come_as_a_json_string(whole: object) -> None:
    assert unpacked(whole) == {"a": 1}


@pytest.mark.parametrize("whole", [None, "", [], "{}", "[]"])
def test_a_call_without_arguments_is_spelled_in_many_ways(whole: object) -> None:
    assert unpacked(whole) == {}


@pytest.mark.parametrize(
    ("whole", "words"),
    [
        ("cat", "arguments: expected an object, got the string 'cat'"),
        ("[1]", "arguments: expected an object, got an array of 1 item"),
        (5, "arguments: expected an object, got 5"),
        ('{"a": ', "arguments: is a string of broken JSON at character 7; give an object itself"),
    ],
)
def test_arguments_that_are_no_object_are_refused(whole: object, words: str) -> None:
    with pytest.raises(CallError) as raised:
        unpacked(whole)
    assert raised.value.failure.message == words


# --- each mistake ------------------------------------------------------------------------------

STATUSES = "one of 'queued', 'running', 'done'"
SIZES = r"an integer from 1 to 5000 or a string that matches ^\d+%$"
BROKEN = '{"resizing": '
MISTAKES: list[tuple[dict[str, object], str]] = [
    ({"sead": 1}, "unknown argument 'sead'; did you mean 'seed'?"),
    ({"SEED": 1}, "unknown argument 'SEED'; did you mean 'seed'?"),
    (
        {"operations": {"sharpness": 1, "resizin": {}}},
        "operations: unknown argument 'resizin'; did you mean 'resizing'?",
    ),
    (
        {"operations": {"sharpness": 1, "zzz": {}}},
        "operations: unknown argument 'zzz'; valid are resizing, sharpness",
    ),
    ({"images": [{}]}, "images[0].image_url: missing; expected a string"),
    ({"prompt": None}, "prompt: missing; expected a string of 1 to 2000 characters"),
    ({"sead": None}, "unknown argument 'sead'; did you mean 'seed'?"),
    ({"images": [{"image_url": None}]}, "images[0].image_url: missing; expected a string"),
    ({"shape": {"kind": "circle", "radius": ""}}, "shape.radius: missing; expected an integer"),
    ({"names": ["a", None]}, "names[1]: must not be null; leave it out"),
    ({"seed": "5.5"}, "seed: expected an integer, got the string '5.5'"),
    ({"seed": "1e3"}, "seed: expected an integer, got the string '1e3'"),
    ({"seed": "0x10"}, "seed: expected an integer, got the string '0x10'"),
    ({"seed": "\u0665"}, "seed: expected an integer, got the string '\u0665'"),
    ({"seed": "9" * 400}, "seed: expected an integer, got a string of 400 characters"),
    ({"steps": "51"}, "steps: expected an integer from 1 to 50, got 51"),
    ({"ratio": "nan"}, "ratio: expected a number above 0 below 2, a multiple of 0.5, got the"),
    ({"ratio": "1e999"}, "ratio: expected a number above 0 below 2, a multiple of 0.5, got the"),
    ({"seed": 5.5}, "seed: expected an integer, got 5.5"),
    ({"seed": True}, "seed: expected an integer, got true"),
    ({"seed": [1]}, "seed: expected an integer, got an array of 1 item"),
    ({"seed": float("nan")}, "seed: must be a finite number, got NaN"),
    ({"details": {"a": [float("inf")]}}, "details.a[0]: must be a finite number, got Infinity"),
    ({"seed": 2**2000}, "seed: is too large a number"),
    ({"seed": 2**20_000}, "seed: is too large a number"),
    ({"names": [2**20_000]}, "names[0]: is too large a number"),
    ({"seed": b"1"}, "seed: is not a JSON value"),
    ({"loud": "yes"}, "loud: expected true or false, got the string 'yes'"),
    ({"steps": 51}, "steps: expected an integer from 1 to 50, got 51"),
    ({"ratio": 0}, "ratio: expected a number above 0 below 2, a multiple of 0.5, got 0"),
    ({"prompt": 5}, "prompt: expected a string of 1 to 2000 characters, got 5"),
    ({"prompt": ""}, "prompt: missing; expected a string of 1 to 2000 characters"),
    ({"prompt": []}, "prompt: missing; expected a string of 1 to 2000 characters"),
    (
        {"prompt": "x" * 2001},
        "prompt: expected a string of at most 2000 characters, got one of 2001",
    ),
    ({"names": ["x" * 20_001]}, "names[0]: expected a string of at most 20000 characters"),
    (
        {"status": "runing"},
        f"status: expected {STATUSES}, got the string 'runing'; did you mean 'running'?",
    ),
    ({"status": 1}, f"status: expected {STATUSES}, got 1"),
    (
        {"operations": {"resizing": {"width": "wide"}}},
        f"operations.resizing.width: expected {SIZES}, got the string 'wide'",
    ),
    (
        {"operations": {"resizing": {"width": 5001}}},
        f"operations.resizing.width: expected {SIZES}, got 5001",
    ),
    ({"operations": {"sharpness": 2}}, "operations.sharpness: expected a number from 0 to 1"),
    ({"operations": "crop"}, "operations: expected an object, got the string 'crop'"),
    ({"operations": "5"}, "operations: expected an object, got the string '5'"),
    ({"operations": "[1]"}, "operations: expected an object, got an array of 1 item"),
    (
        {"operations": BROKEN},
        "operations: is a string of broken JSON at character 14; give an object itself",
    ),
    (
        {"names": "[" * 100_000},
        "names: is a string of broken JSON; give an array itself",
    ),
    ({"operations": {"resizing": "{'width': 5}"}}, "operations.resizing: is a string of broken"),
    ({"names": '["a", NaN]'}, "names[1]: must be a finite number, got NaN"),
    ({"names": '["\\ud800"]'}, "names[0]: holds half of a surrogate pair"),
    ({"names": "a"}, "names: expected an array, got the string 'a'"),
    ({"images": [{"image_url": URL}] * 6}, "images: expected an array of 1 to 5 items"),
    (
        {"images": [{"image_url": URL}] * 3 + [{"image_url": 5}]},
        "images[3].image_url: expected a string, got 5",
    ),
    ({"images": [{"image_url": "cat.png"}]}, "images[0].image_url: the address does not begin"),
    ({"images": [{"image_url": "http://10.0.0.1/"}]}, "images[0].image_url: the address is not"),
    (
        {"images": [{"image_url": "https://a.example/" + "x" * 5000}]},
        "images[0].image_url: expected a string of at most 4096 characters, got one of 5018",
    ),
    ({"output": "cat.png"}, "output: the address does not begin with https://"),
    ({"output": 5}, "output: expected a string or an object, got 5"),
    ({"output": {"depth": 1}}, "output.destination: missing; expected a string"),
    (
        {"output": {"destination": URL, "dept": 1}},
        "output: unknown argument 'dept'; did you mean 'depth'?",
    ),
    ({"shape": {"kind": "circle"}}, "shape.radius: missing; expected an integer"),
    ({"shape": {"kind": "square", "side": 3}}, "shape.side: expected one of 1, 2, got 3"),
    ({"shape": {"kind": "star"}}, "shape: expected an object, got an object of 1 entry"),
    ({"sizes": {"A": 5}}, "sizes.A: is not a valid name here"),
    ({"sizes": {"a": "b"}}, f"sizes.a: expected {SIZES}, got the string 'b'"),
    ({"sizes": {"a": 1, "b": 1, "c": 1}}, "sizes: expected an object of at most 2 entries, got an"),
    ({"names": [f"a{SURROGATE}b"]}, "names[0]: holds half of a surrogate pair"),
    ({"details": {SURROGATE: 1}}, "details.�: the name holds half of a surrogate pair"),
    ({SURROGATE: 1}, "�: the name holds half of a surrogate pair"),
    ({"details": {5: 1}}, "details.?: is a name that is not a string"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES)
def test_a_mistake_is_named_with_its_place_and_what_was_expected(
    arguments: dict[str, object], words: str
) -> None:
    said = mistake(**arguments)
    assert said.startswith(words)
    assert "mistakes" not in said


def test_an_unknown_argument_without_a_near_name_lists_the_valid_ones() -> None:
    said = message({"job_id": "a", "zzz": 1}, CheckParams)
    assert said == "unknown argument 'zzz'; valid are job_id, wait_seconds, include_url"


def test_a_missing_argument_says_what_is_expected() -> None:
    assert message({}) == "prompt: missing; expected a string of 1 to 2000 characters"


def test_all_mistakes_are_named_at_once() -> None:
    said = message(
        {
            "sead": 1,
            "zip": 2,
            "steps": 0,
            "loud": 1,
            "names": [SURROGATE],
            "operations": {"resizing": {"width": True, "fit": "crap"}, "sharpness": float("nan")},
        }
    )
    assert said.startswith("9 mistakes: (1) ")
    for words in (
        "prompt: missing",
        "'sead'",
        "'zip'",
        "steps: expected",
        "loud: expected true or false",
        "names[0]: holds half",
        "operations.resizing.width: expected",
        "did you mean 'crop'?",
        "operations.sharpness: must be a finite",
    ):
        assert words in said


def test_no_more_than_twenty_mistakes_are_listed() -> None:
    said = mistake(names=[*range(37)])
    assert said.startswith("37 mistakes: (1) names[0]: expected a string, got 0 (2) ")
    assert said.endswith("(20) names[19]: expected a string, got 19 and 17 more")


def nested(levels: int) -> object:
    value: object = "core"
    for _ in range(levels):
        value = [value]
    return value


def test_what_is_nested_too_deep_is_refused() -> None:
    value = nested(100_000)
    assert mistake(details={"a": value}) == "details: is nested deeper than 32 levels"


def test_nesting_up_to_the_limit_is_fine() -> None:
    value = nested(30)
    assert valid(details={"a": value}).details == {"a": value}
    assert mistake(details={"a": [value]}) == "details: is nested deeper than 32 levels"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"details": {"a": "x" * 1_000_001}}, "details: is too large (1000025 characters)"),
        ({"details": {"x" * 1_000_001: 1}}, "details: is too large (1000024 characters)"),
        ({"details": {"a": [0] * 125_001}}, "details: is too large (1000032 characters)"),
        ({"names": ["x" * 600_000], "details": {"a": "x" * 500_000}}, "names: is too large (6000"),
        ({"names": [0] * 3_000_000}, "names: is too large (at least 20000"),
        ({"sead": "x" * 1_000_001}, "sead: is too large"),
    ],
)
def test_what_is_too_large_is_named_with_its_size_and_the_limit(
    arguments: dict[str, object], said: str
) -> None:
    message = mistake(**arguments)
    assert message.startswith(said)
    assert message.endswith("; all arguments together may have 1000000")


def test_a_large_opaque_object_is_fine() -> None:
    details = {"a": "x" * 900_000}
    assert valid(details=details).details == details


class Opaque(Params):
    value: JsonValue


def test_a_string_that_is_too_long_is_found_in_opaque_values_that_are_checked() -> None:
    said = message({"value": {"a": [1, "x" * 20_001]}}, Opaque)
    words = "expected a string of at most 20000 characters, got one of 20001"
    assert said == f"value.a[1]: {words}"


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string", "minLength": 2}, "a string of at least 2 characters"),
        ({"type": "string", "minLength": 1, "maxLength": 1}, "a string of exactly 1 character"),
        ({"type": "array", "maxItems": 1}, "an array of at most 1 item"),
        ({"type": "number", "minimum": 0.5}, "a number of at least 0.5"),
        ({"enum": [*range(21)]}, f"one of {', '.join(map(str, range(20)))}, ..."),
        ({"const": True}, "true"),
        ({}, "another value"),
    ],
)
def test_a_schema_is_said_in_words(schema: dict[str, object], words: str) -> None:
    assert describe(schema) == words


def test_what_came_is_quoted_short_and_clean() -> None:
    said = mistake(status="a\u202eb\x00 https://evil.example/x " + "y" * 5000)
    assert said.endswith(
        "got a string of 5028 characters, 'ab [address] yyyyyyyyyyyyyyyyyyyyyyyyyy…'"
    )


def test_mistakes_that_no_schema_expresses_are_named_for_valid_arguments() -> None:
    def extra(edit: Edit) -> list[str]:
        return [f"{name}: not in the configuration" for name in edit.names or ()]

    def call(names: list[object]) -> Edit:
        arguments = {"prompt": "a", "names": names}
        return validate(Edit, arguments, admitted=Admitted(), extra_mistakes=extra)

    assert call([]).names is None
    with pytest.raises(CallError, match="invalid_argument") as raised:
        call(["a", "b"])
    words = "2 mistakes: (1) a: not in the configuration (2) b: not in the configuration"
    assert raised.value.failure.message == words
    with pytest.raises(CallError) as raised:
        call([1])
    assert raised.value.failure.message == "names[0]: expected a string, got 1"


# --- the canonical form ------------------------------------------------------------------------


def test_canonical_arguments_leave_out_the_key_and_what_was_left_out() -> None:
    edit = valid(details={"a": None}, idempotency_key="k", output={"destination": URL})
    assert canonical_arguments(edit) == {
        "prompt": "a cat",
        "steps": 20,
        "loud": False,
        "output": {"destination": URL},
        "details": {"a": None},
    }


def test_the_same_intent_has_the_same_canonical_form() -> None:
    plain = valid(operations={"resizing": {"width": 5}}, seed=1)
    repaired = valid(seed=1.0, operations='{"resizing": {"width": 5.0}}', steps=20)
    assert json.dumps(canonical_arguments(plain)) == json.dumps(canonical_arguments(repaired))


# --- anything at all ---------------------------------------------------------------------------


def zeros(count: int) -> object:
    return [0] * count


NAMES = st.sampled_from([*Edit.model_fields, *Resizing.model_fields, "kind", "depth", "sead"])
TEXTS = st.text(st.characters(), max_size=20) | st.sampled_from(
    [SURROGATE, "x" * 30_000, "[" * 5000, BROKEN, '{"kind": "circle"}', "circle", URL]
)
SCALARS: st.SearchStrategy[object] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXTS
    | st.sampled_from([10**400, -(2**1024), 5.0, b"bytes"])
)
VALUES: st.SearchStrategy[object] = st.recursive(
    SCALARS | st.just(nested(50)) | st.builds(zeros, st.sampled_from([300, 200_000])),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(NAMES | TEXTS, inner, max_size=6),
    max_leaves=20,
)


def outcome(arguments: dict[str, object]) -> Edit | CallError:
    try:
        return validate(Edit, arguments, admitted=Admitted())
    except CallError as error:
        return error


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # large on purpose
@given(st.dictionaries(NAMES | TEXTS, VALUES, max_size=8))
@example({SURROGATE * 200: {SURROGATE: SURROGATE}})
@example({"x" * 100 + str(number): number for number in range(50)})
@example({"names": [number / 7 for number in range(20_000)]})
def test_any_arguments_end_as_a_valid_object_or_one_short_clean_error(
    arguments: dict[str, object],
) -> None:
    ended = outcome(arguments)
    if isinstance(ended, CallError):
        assert ended.failure.code == "invalid_argument"
        assert len(ended.text) < 4000
        ended.text.encode()
        assert "pydantic" not in ended.text
    else:
        json.dumps(canonical_arguments(ended), allow_nan=False).encode()

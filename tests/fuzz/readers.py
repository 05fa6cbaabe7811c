"""Every reader of a provider module, found by walking the catalogue, and answers to spoil it with.

A reader is a declared function whose first argument is a response (or what one holds): a new
module's readers are found without a line here. Seeds are the emulators' answers in ``corpus/``, and
whatever names the code of a reader mentions.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, cast, get_args

from darkroom.core.foreign import MOST_CHARACTERS, handed_on
from darkroom.jobs.bounds import MOST_COST, believed
from darkroom.jobs.model import Job, row_to_json
from darkroom.jobs.state_changes import ending
from darkroom.providers.messages import UNREADABLE, Response, State, read_body
from darkroom.providers.operations import CheckOperation, JobOperation
from darkroom.providers.values import LocalFile, Status

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Mapping

    from darkroom.catalogue.declarations import Catalogue
    from darkroom.core.json_types import JsonObject, JsonValue
    from darkroom.providers.params import Params
    from darkroom.providers.provider import Provider

CORPUS = Path(__file__).parent / "corpus"
NOW = 1_800_000_000.0
LARGEST = 2**63
DEEPEST_CODE, DEEPEST_BODY = 4, 4

_READS = re.compile(r"Callable\[\[(Response|JsonObject)(?:, (\w+))?\]")


@dataclass(frozen=True, slots=True)
class Reader:
    """A function of a provider module that reads an answer; ``rest`` are its other arguments."""

    name: str
    read: Callable[..., Any]
    rest: tuple[object, ...]
    takes_object: bool
    rows: Callable[[Response], State] | None = None
    """What reads each row of a list."""

    def __call__(self, response: Response) -> object:
        """Read an answer."""
        return self.read(response.object if self.takes_object else response, *self.rest)

    @property
    def corpus(self) -> Path:
        """The file with its seeds."""
        return CORPUS / f"{self.name}.json"

    def seeds(self) -> list[JsonValue]:
        """Return bodies that the emulators sent, and an object of all names that its code has."""
        names = sorted(_names(self.read, DEEPEST_CODE))
        made: list[JsonValue] = [dict.fromkeys(names, "x"), [dict.fromkeys(names, "x")]]
        if self.corpus.exists():
            made += cast("list[JsonValue]", json.loads(self.corpus.read_text("utf-8")))
        return made


def readers(catalogue: Catalogue) -> list[Reader]:
    """Return all readers of a catalogue."""
    return [each for provider in catalogue.providers for each in _of(provider, provider)]


def replaced(catalogue: Catalogue, other: Callable[[Reader], Callable[..., Any]]) -> Catalogue:
    """Return a catalogue whose readers are others."""
    providers = [_replaced(each, each, each.name, other) for each in catalogue.providers]
    return dataclasses.replace(catalogue, providers=tuple(providers))


def _of(
    value: object, provider: Provider, path: str = "", owner: object = None
) -> Iterator[Reader]:
    path = path or provider.name
    if isinstance(value, tuple | list):
        for each in cast("tuple[object, ...]", value):
            yield from _of(each, provider, f"{path}.{getattr(each, 'name', '')}", owner)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        owner = value if isinstance(getattr(value, "params", None), type) else owner
        for field, inner in _fields(value):
            match = _READS.search(str(field.type))
            if match and callable(inner) and not dataclasses.is_dataclass(inner):
                yield _reader(f"{path}.{field.name}", inner, match, provider, owner)
            else:
                yield from _of(inner, provider, f"{path}.{field.name}", owner)


def _replaced(
    value: Any, provider: Provider, path: str, other: Callable[[Reader], Callable[..., Any]]
) -> Any:
    if isinstance(value, tuple):
        entries = cast("tuple[object, ...]", value)
        return tuple(
            _replaced(each, provider, f"{path}.{getattr(each, 'name', '')}", other)
            for each in entries
        )
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    changes: dict[str, object] = {}
    for field, inner in _fields(value):
        match = _READS.search(str(field.type))
        if match and callable(inner) and not dataclasses.is_dataclass(inner):
            changes[field.name] = other(
                _reader(f"{path}.{field.name}", inner, match, provider, value)
            )
        elif isinstance(inner, tuple) or dataclasses.is_dataclass(inner):
            changes[field.name] = _replaced(inner, provider, f"{path}.{field.name}", other)
    changes = {name: new for name, new in changes.items() if new is not getattr(value, name)}
    return dataclasses.replace(value, **changes) if changes else value


def _fields(value: object) -> Iterator[tuple[dataclasses.Field[Any], object]]:
    for field in dataclasses.fields(cast("Any", value)):
        yield field, getattr(value, field.name)


def _reader(
    name: str, read: object, match: re.Match[str], provider: Provider, owner: object
) -> Reader:
    name = re.sub(r"\.operations\.", ".", name)
    starts = [each for each in provider.operations if isinstance(each, JobOperation)]
    rest: tuple[object, ...] = ()
    match match[2]:
        case None:
            pass
        case "float":
            rest = (NOW,)
        case "str":
            rest = (starts[0].name,)
        case "LocalFile":
            rest = (LocalFile("input:0/a.png"),)
        case _:
            rest = (least(cast("type[Params]", getattr(owner, "params", CheckOperation))),)
    rows = starts[0].state.read if name.endswith(".rows") else None
    return Reader(name, cast("Any", read), rest, match[1] == "JsonObject", rows)


def least(kind: type[Params]) -> Params:
    """Return arguments with something in every one that has no default."""
    fields = {
        name: _some(field.annotation)
        for name, field in kind.model_fields.items()
        if field.is_required()
    }
    return kind.model_construct(None, **fields)


SOME: tuple[tuple[type, object], ...] = (
    *((bool, True), (int, 1), (float, 1.0), (str, "a")),
    *((dict, dict[str, object]()), (list, list[object]())),
)
"""A value of each kind of argument."""


def _some(annotation: object) -> object:
    kinds = [annotation, *get_args(annotation)]
    for kind, value in SOME:
        if kind in kinds or getattr(annotation, "__origin__", None) is kind:
            return value
    literals = [each for each in get_args(annotation) if isinstance(each, str)]
    return literals[0] if literals else None


def _names(function: object, depth: int) -> set[str]:
    """Return the names that stand in the code of a function, and of those that it calls."""
    while isinstance(function, MethodType) or hasattr(function, "func"):
        function = getattr(function, "__func__", None) or getattr(function, "func", None)
    if not isinstance(function, FunctionType) or depth == 0:
        return set()
    found: set[str] = set()
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                codes.append(constant)
            elif isinstance(constant, str) and re.fullmatch(r"\w{1,40}", constant):
                found.add(constant)
            elif isinstance(constant, tuple | frozenset):
                several = cast("tuple[object, ...]", constant)
                found |= {each for each in several if isinstance(each, str)}
        for name in code.co_names:
            inner: object = function.__globals__.get(name)
            if isinstance(inner, dict):
                found |= {str(each) for each in cast("Mapping[object, object]", inner)}
            else:
                found |= _names(inner, depth - 1)
    return found


# --- spoiling ---

SPOILED: tuple[str, ...] = (
    *("null", "true", "-1", "0", "1e308", "-1e400", "1e400", "NaN", "-Infinity", "0.1"),
    *(str(2**53 + 1), str(2**63 - 1), str(2**63), str(2**70), "9" * 401, "-" + "9" * 401),
    *(
        '""',
        '" "',
        '"\\ud800x"',
        '"\\u0000"',
        '"\\u202e\\u200b\\u009b31m"',
        '"' + "x" * 20_000 + '"',
    ),
    *("[]", "{}", "[[]]", '{"": {}}', "[" * 90 + "]" * 90, '{"a":' * 90 + "1" + "}" * 90),
    "[" * 200 + "]" * 200,
    "[" + ",".join(["{}"] * 3_000) + "]",
    *('"0001-01-01T00:00:00+23:59"', '"9999-12-31T23:59:59-23:59"', '"2026-11-22T09:00:00Z"'),
    *('"https://["', '"http://127.0.0.1/"', '"https://u:p@a.example:99999/%zz?#"', '"data:,x"'),
    *('"//a.example/x.png"', '"https://a.example/' + "y" * 9_000 + '.png"', '"1e9999"', '"-5"'),
    *('"completed"', '"succeeded"', '"DONE"', '"failed"', '"processing"', '"cancelled"'),
)
"""JSON values that no reader may stumble over, as text."""


def bodies(reader: Reader, chance: random.Random, count: int) -> Iterator[bytes]:
    """Yield the bodies of so many answers: the seeds, then spoiled ones."""
    seeds = reader.seeds()
    names = sorted(_names(reader.read, DEEPEST_CODE)) or ["a"]
    for seed in seeds:
        yield json.dumps(seed).encode()
    for _ in range(count):
        match chance.randrange(4):
            case 0:
                yield _made(chance, names, DEEPEST_BODY).encode("utf-8", "surrogatepass")
            case 1:
                text = bytearray(json.dumps(chance.choice(seeds)).encode())
                for _ in range(chance.randint(1, 3)):
                    at = chance.randrange(len(text))
                    text[at : at + chance.randrange(3)] = bytes([chance.randrange(256)])
                yield bytes(text)
            case _:
                yield _spoiled(chance, chance.choice(seeds), names).encode("utf-8", "surrogatepass")


def _made(chance: random.Random, names: list[str], depth: int) -> str:
    if depth == 0 or chance.random() < 0.4:
        return chance.choice(SPOILED)
    if chance.random() < 0.3:
        count = chance.randint(0, 4)
        return f"[{','.join(_made(chance, names, depth - 1) for _ in range(count))}]"
    members = (
        f"{json.dumps(name)}:{_made(chance, names, depth - 1)}"
        for name in chance.sample(names, min(len(names), chance.randint(1, 6)))
    )
    return f"{{{','.join(members)}}}"


def _spoiled(chance: random.Random, seed: JsonValue, names: list[str]) -> str:
    """Return a seed as JSON, with some values replaced and some members dropped or renamed."""
    if isinstance(seed, dict) and seed and chance.random() < 0.9:
        struck = chance.choice(list(seed))
        members: list[str] = []
        for name, value in seed.items():
            if name != struck:
                members.append(f"{json.dumps(name)}:{json.dumps(value)}")
                continue
            match chance.randrange(8):
                case 0:
                    continue
                case 1:
                    members.append(f"{json.dumps(chance.choice(names))}:{json.dumps(value)}")
                case _:
                    members.append(f"{json.dumps(name)}:{_spoiled(chance, value, names)}")
        return f"{{{','.join(members)}}}"
    if isinstance(seed, list) and seed and chance.random() < 0.9:
        struck = chance.randrange(len(seed))
        entries = [
            _spoiled(chance, each, names) if at == struck else json.dumps(each)
            for at, each in enumerate(seed)
        ]
        return f"[{','.join(entries * chance.choice([1, 1, 1, 50]))}]"
    return chance.choice(SPOILED) if chance.random() < 0.8 else _made(chance, names, 2)


# --- what has to hold ---

JOB = Job(
    job_id="a_1",
    owner="local",
    provider="a",
    operation="a_start",
    status="running",
    arguments={},
    intent="",
    fingerprint="",
    created_at=NOW,
    updated_at=NOW,
)


def judge(reader: Reader, body: bytes, status: int = 200) -> object:
    """Let a reader read an answer, and assert what the engine relies on; return what was read.

    An answer that cannot be understood returns None.
    """
    headers = {"retry-after": body[:40].decode("latin-1"), "etag": body[-40:].decode("latin-1")}
    response = Response(status=status, body=read_body(body), headers=headers, received_at=NOW)
    try:
        read = reader(response)
    except UNREADABLE:
        return None
    if isinstance(read, State):
        _judge_state(read)
        return read
    if reader.rows is not None:
        for identity, row in cast("Mapping[str, JsonObject]", read).items():
            _can_be_written(identity)
            try:
                _judge_state(reader.rows(dataclasses.replace(response, body=row)))
            except UNREADABLE:
                continue
    elif isinstance(read, dict):
        assert len(json.dumps(handed_on(cast("JsonObject", read)))) <= 8 * MOST_CHARACTERS
    elif isinstance(read, float | int):
        assert math.isfinite(read)
        assert abs(read) <= LARGEST
    found = cast("object", read)
    _can_be_written(_plain(found))
    return found


def _judge_state(state: State) -> None:
    state = believed(state, NOW)
    assert state.status in get_args(Status)
    if state.cost is not None:
        assert 0 <= state.cost.amount <= MOST_COST
    job = ending(JOB, state, at=NOW, polls=1)
    assert job is not None
    _can_be_written(row_to_json(job))


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(inner) for field, inner in _fields(value)}
    if isinstance(value, tuple | list | frozenset | set):
        return [_plain(each) for each in cast("tuple[object, ...]", value)]
    if isinstance(value, dict):
        members = cast("Mapping[str, object]", value)
        return {name: _plain(inner) for name, inner in members.items()}
    return value


def _can_be_written(value: object) -> None:
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()

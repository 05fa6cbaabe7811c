"""Arguments of tools: the base models, addresses that providers fetch, references to outputs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, cast, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError, core_schema

from darkroom.core.urls import Origin, check_public_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

    from darkroom.core.json_types import JsonValue

LONGEST_STRING = 20_000
"""Maximum length in characters of a text argument that states no other limit."""


class Params(BaseModel):
    """Base of all argument models: unknown arguments are refused, types are strict.

    An optional argument is written ``name: type | None = None``. ``None`` means "left out", and so
    do a caller's ``null``, ``""``, ``[]`` and ``{}``. If an empty value has a meaning, the field
    says so: ``Field(min_length=0)`` for text and arrays, ``minProperties: 0`` in the schema of an
    object.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        defer_build=True,
        allow_inf_nan=False,
        str_max_length=LONGEST_STRING,
    )


class StartParams(Params):
    """Base of the arguments of every start tool.

    ``idempotency_key`` is listed last, because models tend to fill in what is listed first.
    """

    idempotency_key: (
        Annotated[
            str,
            Field(min_length=1, max_length=200, description="Leave out unless you were given one."),
        ]
        | None
    ) = None

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> JsonSchemaValue:
        """Show the arguments of the operation first."""
        schema = handler(core_schema)
        properties = schema["properties"]
        properties["idempotency_key"] = properties.pop("idempotency_key")
        return schema


def _check_job_id(value: str) -> str:
    if not value.strip("."):  # as a segment of a path it would name another one
        raise PydanticCustomError("job_id", "expected a job_id, of this server or the provider")
    return value


JobId = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_check_job_id)]

MAX_WAIT_SECONDS = 40


class JobParams(Params):
    """Arguments of a tool that acts on one job; ``job_id`` is our id or the provider's."""

    job_id: JobId


class CheckParams(JobParams):
    """Arguments of a check tool."""

    wait_seconds: Annotated[int, Field(ge=0, le=MAX_WAIT_SECONDS)] | None = None
    """None: as long as ``[serve] wait_seconds`` says."""

    include_url: bool = False


REFERENCE = re.compile(r"job:([A-Za-z0-9_]{1,64})(?:#([0-9]{1,4}))?")
"""An output of an earlier job, in place of an address."""


LOCAL_FILE = re.compile(r"input:([0-9a-f]{64})/([^/\\\0]{1,100})")
"""A local file as it stands in the arguments of a job: the hash of its content, and its name."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
"""Of an address; a single letter is the drive of a path."""

PICTURES = ("image/jpeg", "image/png", "image/webp")
"""What every provider takes."""

LONGEST_ADDRESS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Takes:
    """Marks an argument that takes a picture or a video, and says what the provider accepts.

    A caller gives a public address, an output of an earlier job (``job:<job_id>``), a local file (a
    path). A module writes ``Annotated[Address, Takes(max_bytes=...)]`` and
    gets, when the request is built, what its operation declares (`JobOperation.files`): an address,
    or a `LocalFile`.

    ``media_types`` are those of the provider's page, the most common one first: into that one a
    file is converted if the provider does not take it and the person allows it (``[inputs] fit``).
    ``max_bytes``, ``max_pixels`` (width times height) and ``max_side`` are the page's limits for
    one file. ``min_side`` cannot be mended: a smaller picture is refused. ``also`` are beginnings
    of texts that the provider itself understands (``storage://``): they are handed on unchanged.
    ``addresses``: whether the provider fetches public addresses; if not, they are refused.
    """

    media_types: tuple[str, ...] = PICTURES
    max_bytes: int | None = None
    max_pixels: int | None = None
    max_side: int | None = None
    min_side: int | None = None
    also: tuple[str, ...] = ()
    addresses: bool = True

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Check the text here alone: of several marks the outermost counts."""
        del source, handler
        return core_schema.with_info_after_validator_function(
            self.check, core_schema.str_schema(min_length=1, max_length=LONGEST_ADDRESS)
        )

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Show a plain string: the check gives better messages than lengths."""
        del core_schema, handler
        return {"type": "string"}

    def check(self, value: str, info: core_schema.ValidationInfo[Any]) -> str:
        """Return what the caller gave, or, when the request is built, what takes its place."""
        context = cast("Mapping[str, Any]", info.context or {})
        if any(value.startswith(each) and value != each for each in self.also):
            return value
        references = cast("References | None", context.get("references"))
        if value.startswith("job:"):
            if REFERENCE.fullmatch(value) is None:
                raise PydanticCustomError(
                    "address", "expected job:<job_id> or job:<job_id>#<index of the output>"
                )
        elif value.startswith("data:"):
            raise PydanticCustomError(
                "address", "pictures are not passed inside a call; give {ways}", {"ways": WAYS}
            )
        elif not is_local_file(value):
            if not self.addresses:
                raise PydanticCustomError(
                    "address", "this provider fetches no addresses; give the path of a file"
                )
            return check_address(value, info)
        elif references is None:
            return check_address(value, info)
        if references is None:
            return value
        references.seen[value] = self
        return references.addresses.get(value, value)


WAYS = "a public https address, job:<job_id>, or the path of a local file"


def is_local_file(value: str) -> bool:
    """Tell whether a text stands for a file here: a path, ``file://``, or its content."""
    found = _SCHEME.match(value)
    return found is None or found[1].lower() in {"file", "input"}


def local_files_in(value: JsonValue) -> Iterable[str]:
    """Yield the references to local files in a job's arguments."""
    if isinstance(value, str):
        if value.startswith("input:") and LOCAL_FILE.fullmatch(value):
            yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from local_files_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from local_files_in(inner)


def takes_of(params: type[Params], name: str) -> Takes | None:
    """Return what an argument takes, if a single picture can be given for it."""
    found = params.model_fields.get(name)
    if found is None:
        return None
    marks = (mark for mark in found.metadata if isinstance(mark, Takes))
    return next(marks, None) or _takes_in(found.annotation)


def _takes_in(annotation: object) -> Takes | None:
    if get_origin(annotation) not in {Annotated, Union, UnionType}:
        return None
    inside = get_args(annotation)
    marks = [mark for mark in inside if isinstance(mark, Takes)]
    return marks[-1] if marks else next(filter(None, map(_takes_in, inside)), None)


@dataclass(slots=True)
class References:
    """The references that were found during validation, and the addresses that replace them.

    ``seen``: outputs of jobs and local files, each with what its argument takes.
    """

    seen: dict[str, Takes] = field(default_factory=dict[str, Takes])
    addresses: dict[str, str] = field(default_factory=dict[str, str])


def check_address(value: str, info: core_schema.ValidationInfo[Any]) -> str:
    """Return an address that is public; nothing else can stand for it."""
    context = cast("Mapping[str, Any]", info.context or {})
    admitted = cast("Admitted", context.get("admitted", Admitted()))
    mistake = check_public_address(
        value, admitted=admitted.origins, admitted_suffixes=admitted.suffixes
    )
    if mistake is not None:
        raise PydanticCustomError("address", "{mistake}", {"mistake": mistake})
    return value


@dataclass(frozen=True, slots=True)
class Admitted:
    """Addresses that are accepted although they are not public: emulators of the operator."""

    origins: tuple[Origin, ...] = ()
    suffixes: tuple[str, ...] = ()


Address = Annotated[str, Takes()]
"""A picture for the provider: a public http(s) address, an output of a job, or a local file.

`Takes` says what the provider accepts; without one of its own, an argument takes `PICTURES`.
"""

WebAddress = Annotated[
    str,
    Field(min_length=1, max_length=LONGEST_ADDRESS),
    AfterValidator(check_address),
    WithJsonSchema({"type": "string"}),
]
"""A public http(s) address that is no picture: a webhook, or where a result goes."""

"""Arguments of tools: the base models, addresses that providers fetch, references to outputs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from darkroom.core.urls import Origin, check_public_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

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


@dataclass(frozen=True, slots=True)
class AddressMark:
    """Marks an argument that takes an address a provider will fetch."""


REFERENCE = re.compile(r"job:([A-Za-z0-9_]{1,64})(?:#([0-9]{1,4}))?")
"""An output of an earlier job, in place of an address."""


@dataclass(slots=True)
class References:
    """The references that were found during validation, and the addresses that replace them."""

    seen: set[str] = field(default_factory=set[str])
    addresses: dict[str, str] = field(default_factory=dict[str, str])


def check_address(value: str, info: ValidationInfo) -> str:
    """Return an address that a provider may fetch, or a reference to one; see `Address`."""
    context = cast("Mapping[str, Any]", info.context or {})
    if value.startswith("job:"):
        if REFERENCE.fullmatch(value) is None:
            raise PydanticCustomError(
                "address", "expected job:<job_id> or job:<job_id>#<index of the output>"
            )
        references = cast("References", context.get("references", References()))
        references.seen.add(value)
        return references.addresses.get(value, value)
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


Address = Annotated[
    str, Field(min_length=1, max_length=4096), AfterValidator(check_address), AddressMark()
]
"""A public http(s) address of a picture that the provider fetches, or an output of a job."""

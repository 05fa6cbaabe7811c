"""Types of settings that are checked against the catalogue, or read from another file.

The catalogue's names are passed in the validation context; without a context nothing is checked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import AfterValidator, BeforeValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from darkroom.core.names import nearest
from darkroom.core.text_files import read_text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


Kind = Literal["unit", "tool", "policy"]
"""What a setting names: a unit in which a provider charges, a tool, a provider with a policy."""

_UNKNOWN_NAMES: dict[Kind, str] = {
    "unit": "nothing here costs {name!r}",
    "tool": "there is no tool {name!r}",
    "policy": "no provider {name!r} has a policy",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """The validation context: the configuration's folder and the names of the catalogue."""

    folder: Path
    names: Mapping[Kind, Collection[str]] = field(default_factory=dict["Kind", "Collection[str]"])


def _known(kind: Kind) -> AfterValidator:
    """Return a validator that accepts only names of the catalogue."""

    def check(name: str, info: ValidationInfo) -> str:
        reading = cast("Reading | None", info.context)
        if reading is None or name in reading.names[kind]:
            return name
        near = nearest(name, reading.names[kind])
        known = ", ".join(sorted(reading.names[kind])) or "none"
        hint = f"did you mean {near!r}?" if near else f"known here: {known}"
        words = {"what": _UNKNOWN_NAMES[kind].format(name=name[:100]), "hint": hint}
        raise PydanticCustomError("unknown_name", "{what}; {hint}", words)

    return AfterValidator(check)


UnitName = Annotated[str, _known("unit")]
ToolName = Annotated[str, _known("tool")]
PolicyName = Annotated[str, _known("policy")]


def read_table(value: object, info: ValidationInfo) -> object:
    """Return a table as it is; if the value is the path of a JSON file, return its content."""
    if not isinstance(value, str):
        return value
    if not value.endswith(".json"):
        raise PydanticCustomError("table", "expected a table, or a path that ends in .json")
    reading = cast("Reading | None", info.context)
    folder = reading.folder if reading is not None else Path()
    try:
        return json.loads(read_text(folder / Path(value).expanduser()))
    except OSError as error:
        reason = {"reason": error.strerror or type(error).__name__}
        raise PydanticCustomError("table", "the file cannot be read ({reason})", reason) from None
    except ValueError:
        raise PydanticCustomError("table", "the file does not hold valid JSON") from None


def _read_path(value: object, info: ValidationInfo) -> object:
    """Return a path as people write it, absolute: without quotes around it, ``~`` resolved.

    A relative path begins at the configuration's folder; without a file, at the working folder.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    if not text or "\0" in text or "\n" in text:
        raise PydanticCustomError("path", "expected a path on one line")
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise PydanticCustomError("path", "there is no such home folder") from None
    reading = cast("Reading | None", info.context)
    return (reading.folder if reading is not None else Path()).absolute() / path


PathValue = Annotated[Path, BeforeValidator(_read_path)]
"""A path of the settings; it is absolute wherever it was written."""

"""What Claid's image edit takes (https://docs.claid.ai/image-editing-api, "Image edit contract").

The schema for the model must stay small. Therefore limits of numbers, and some object forms of the
page, are checked or accepted here without being in the schema.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from darkroom.providers import Address, Params, StartParams, Takes, check_address, outward_mistakes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic.config import JsonDict

    from darkroom.providers import JsonObject, JsonValue
    from darkroom_tools.providers.claid.provider import Settings

STORAGE = "storage://"
LONGEST_ADDRESS = 4096


# --- kinds of values ---


def check_destination(value: str, info: ValidationInfo) -> str:
    """Accept an address that can be written to, which the output of a job is not."""
    if value.startswith("job:"):
        raise PydanticCustomError("destination", "expected storage://name/path, or an address")
    if value.startswith(STORAGE) and len(STORAGE) < len(value) <= LONGEST_ADDRESS:
        return value
    return check_address(value, info)


Destination = Annotated[str, AfterValidator(check_destination)]
Source = Annotated[
    Address,
    Takes(
        media_types=(
            "image/jpeg",
            "image/png",
            "image/webp",
            "image/avif",
            "image/heic",
            "image/tiff",
            "image/gif",
            "image/bmp",
        ),
        also=(STORAGE,),
    ),
]
"""An address, or ``storage://name/path``."""


def read_side(value: object) -> object:
    """Accept pixels as a number or a text, percentages, and ``auto``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(int(value)) if value == int(value) else str(value)
    if isinstance(value, str) and not re.fullmatch(r"auto|[1-9][0-9]{0,5}%?", value):
        raise PydanticCustomError(
            "side", "expected pixels ('1000'), a percentage ('50%') or 'auto'"
        )
    return value


def within(low: int, high: int, unit: str = "") -> AfterValidator:
    """Return a limit for a number, or for the characters of a text."""

    def check(value: float | str) -> float | str:
        if not low <= (len(value) if isinstance(value, str) else value) <= high:
            bounds = {"low": low, "high": high, "unit": unit}
            raise PydanticCustomError("within", "expected {low} to {high}{unit}", bounds)
        return value

    return AfterValidator(check)


def written(pattern: str, expected: str) -> AfterValidator:
    """Accept only a text that matches a pattern."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise PydanticCustomError("written", "expected {expected}", {"expected": expected})
        return value

    return AfterValidator(check)


def shown(*words: str) -> WithJsonSchema:
    """Show only these words in the schema; the object forms of the page are accepted, too."""
    return WithJsonSchema({"type": "string", "enum": list(words)})


EMPTY_IS_A_VALUE: JsonDict = {"minProperties": 0}
"""Schema of an object that has a meaning even if it is empty."""

HALF = r"([0-9]|[1-4][0-9]|50)%"

Side = Annotated[str, BeforeValidator(read_side)]
Percent = Annotated[int, within(-100, 100)]
Amount = Annotated[int, within(0, 100)]
Share = Annotated[float, within(0, 1)]
Quality = Annotated[int, within(1, 100)]
Kept = Annotated[str, within(3, 128, " characters")]
Prompt = Annotated[str, within(3, 1024, " characters")]
Color = Annotated[
    str,
    written(r"#[0-9a-fA-F]{6}|transparent", "a color such as '#ffffff', or 'transparent'"),
    Field(description="#rrggbb, transparent"),
]
Padding = Annotated[
    str,
    written(f"{HALF}( {HALF})?", "one or two percentages up to 50, such as '10%' or '5% 25%'"),
    Field(description="10% or 5% 25%"),
]
Feathering = Annotated[str, written(r"[1-9]?[0-9]%", "a percentage such as '15%'")]
OutpaintBy = Annotated[
    str,
    written(r"[0-9]+%( [0-9]+%)?|[0-9]+px( [0-9]+px)?", "'10%', '5% 15%' or '1024px 512px'"),
]


# --- operations, in the order of the page ---


class Upscale(Params):
    """An upscaling model by its version."""

    type: Literal["photo"]
    version: Literal["1", "2", "3"] | None = None


class Restorations(Params):
    """Improving a poor original."""

    decompress: Literal["moderate", "strong", "auto"] | None = None
    upscale: (
        Annotated[
            Literal["smart_enhance", "smart_resize", "faces", "digital_art", "photo"] | Upscale,
            shown("smart_enhance", "smart_resize", "faces", "digital_art", "photo"),
        ]
        | None
    ) = None
    polish: bool | None = None


class Fit(Params):
    """How to crop or outpaint; the page's ``type`` follows from the given fields."""

    crop: Literal["center", "smart"] | None = None
    feathering: Feathering | None = None
    outpaint_by: OutpaintBy | None = None


FIT_FIELDS = {"crop": {"crop"}, "outpaint": {"feathering", "outpaint_by"}}


def read_fit(value: object) -> object:
    """Accept ``{type: ..., ...}`` as on the page."""
    if not isinstance(value, dict) or "type" not in value:
        return cast("object", value)
    rest = dict(cast("dict[str, object]", value))
    kind = rest.pop("type")
    if not rest:
        return kind
    if rest.keys() <= FIT_FIELDS.get(str(kind), set()):
        return rest
    raise PydanticCustomError(
        "fit", "expected crop with type 'crop', feathering and outpaint_by with type 'outpaint'"
    )


FitWord: TypeAlias = Literal["crop", "cover", "bounds", "canvas", "outpaint"]


class Resizing(Params):
    """The new size and frame."""

    width: Side | None = None
    height: Side | None = None
    fit: Annotated[FitWord | Fit, BeforeValidator(read_fit)] | None = None


class Hdr(Params):
    """HDR: balance of light and dark; ``{}`` uses Claid's defaults."""

    model_config = ConfigDict(json_schema_extra=EMPTY_IS_A_VALUE)

    intensity: Amount | None = None
    stitching: bool | None = None


class Adjustments(Params):
    """Light and colour."""

    hdr: Amount | Hdr | None = None
    exposure: Percent | None = None
    saturation: Percent | None = None
    contrast: Percent | None = None
    sharpness: Amount | None = None


def read_selective(value: object) -> object:
    """Accept ``selective: {object_to_keep}`` as on the page."""
    if not isinstance(value, dict) or "selective" not in value:
        return cast("object", value)
    rest = dict(cast("dict[str, object]", value))
    selective = rest.pop("selective")
    if not isinstance(selective, dict) or selective.keys() != {"object_to_keep"}:
        raise PydanticCustomError("selective", "expected selective to be {'object_to_keep': text}")
    return {**rest, **cast("dict[str, object]", selective)}


Category: TypeAlias = Literal["general", "cars", "products"]


class Remove(Params):
    """How the background is removed; ``{}`` means ``true``."""

    model_config = ConfigDict(json_schema_extra=EMPTY_IS_A_VALUE)

    category: Category | None = None
    clipping: bool | None = None
    object_to_keep: Kept | None = None


class Blur(Params):
    """How the background is blurred; ``{}`` means ``true``."""

    model_config = ConfigDict(json_schema_extra=EMPTY_IS_A_VALUE)

    category: Category | None = None
    object_to_keep: Kept | None = None
    type: Literal["regular", "lens"] | None = None
    level: Literal["low", "medium", "high"] | None = None


class Background(Params):
    """What is done to the background."""

    remove: bool | Annotated[Remove, BeforeValidator(read_selective)] | None = None
    blur: bool | Annotated[Blur, BeforeValidator(read_selective)] | None = None
    color: Color | None = None


class Privacy(Params):
    """What is made unrecognisable."""

    blur_car_plate: bool | None = None
    identity_crop: bool | None = None


class StyleTransfer(Params):
    """The style of another picture."""

    style_reference_image: Source
    prompt: Prompt | None = None
    depth_strength: Share | None = None
    denoising_strength: Share | None = None
    style_strength: Share | None = None


class Generative(Params):
    """What is generated."""

    style_transfer: StyleTransfer | None = None


class Operations(Params):
    """What is done to the image."""

    restorations: Restorations | None = None
    resizing: Resizing | None = None
    adjustments: Adjustments | None = None
    background: Background | None = None
    padding: Padding | None = None
    privacy: Privacy | None = None
    generative: Generative | None = None


# --- output ---


class Compression(Params):
    """How a file is compressed, and its quality if that is lossy."""

    type: Literal["lossy", "lossless"]
    quality: Quality | None = None


class Format(Params):
    """A format and its options."""

    type: Literal["jpeg", "png", "webp", "avif", "tiff"]
    quality: Quality | None = None
    progressive: bool | None = None
    compression: (
        Annotated[
            Literal["fast", "best", "optimal", "lossy", "lossless"] | Compression,
            shown("fast", "best", "optimal", "lossy", "lossless"),
        ]
        | None
    ) = None


class Target(Params):
    """The destination, format and metadata of the result."""

    destination: Destination | None = None
    format: Literal["jpeg", "png", "webp", "avif", "tiff"] | Format | None = None


class StartImageEdit(StartParams):
    """``POST {prefix}/image/edit/async``."""

    input: Source
    operations: Operations
    output: Destination | Target | None = None


# --- what a schema cannot express ---


def mistakes(params: StartImageEdit, settings: Settings) -> Iterable[str]:
    """Name what does not go together, and where no result may go."""
    given = params.output
    target = given.destination if isinstance(given, Target) else given
    yield from outward_mistakes("output", target, settings.output_hosts, "[claid] output_hosts")
    if (resizing := params.operations.resizing) is not None:
        yield from _sides(resizing)
        if (
            isinstance(fit := resizing.fit, Fit)
            and fit.crop
            and (fit.feathering or fit.outpaint_by)
        ):
            yield "operations.resizing.fit: crop does not go with feathering or outpaint_by"
    if isinstance(params.output, Target) and isinstance(params.output.format, Format):
        yield from _format(params.output.format)


def _sides(resizing: Resizing) -> Iterable[str]:
    kinds = {
        "auto" if side == "auto" else "%" if side.endswith("%") else "pixels"
        for side in (resizing.width, resizing.height)
        if side is not None
    }
    if kinds == {"auto"} and resizing.width and resizing.height:
        yield "operations.resizing: width and height cannot both be 'auto'"
    if kinds == {"pixels", "%"}:
        yield "operations.resizing: give width and height both in pixels or both in percent"


def _format(given: Format) -> Iterable[str]:
    path = f"output.format: {given.type}"
    words = {"jpeg": (), "png": ("fast", "best", "optimal")}.get(given.type, ("lossy", "lossless"))
    kind = given.compression
    plain = kind.type if isinstance(kind, Compression) else kind
    if plain is not None and plain not in words:
        yield f"{path} takes {' or '.join(words) if words else 'no'} compression"
    if given.progressive is not None and given.type != "jpeg":
        yield f"{path} is never progressive; only jpeg is"
    if given.quality is not None and (given.type == "png" or plain == "lossless"):
        yield f"{path} without loss has no quality"


# --- the request ---


def body(params: StartImageEdit) -> JsonObject:
    """Build the edit request: digits become integers, objects get the forms of the page."""
    operations = cast("JsonObject", params.operations.model_dump(exclude_none=True))
    resizing, background = operations.get("resizing"), operations.get("background")
    if isinstance(resizing, dict):
        for side in ("width", "height"):
            if isinstance(value := resizing.get(side), str) and value.isdigit():
                resizing[side] = int(value)
        if isinstance(fit := resizing.get("fit"), dict):
            resizing["fit"] = {"type": "crop" if "crop" in fit else "outpaint", **fit}
    if isinstance(background, dict):
        for name in ("remove", "blur"):
            if isinstance(how := background.get(name), dict) and "object_to_keep" in how:
                how["selective"] = {"object_to_keep": how.pop("object_to_keep")}
    sent: JsonObject = {"input": params.input, "operations": operations}
    if isinstance(params.output, Target):
        sent["output"] = _target(params.output)
    elif params.output is not None:
        sent["output"] = params.output
    return sent


def _target(target: Target) -> JsonValue:
    fields = cast("JsonObject", target.model_dump(exclude_none=True))
    written = fields.get("format")
    if isinstance(written, dict) and written["type"] not in ("jpeg", "png"):
        quality = written.pop("quality", None)
        if quality is not None:
            written["compression"] = {"type": "lossy", "quality": quality}
    return fields

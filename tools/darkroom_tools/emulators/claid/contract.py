"""Which bodies Claid's image edit accepts: one table, in the order of the contract page.

A check takes a value and yields ``(path, message)`` for everything wrong with it. Messages have the
wording of the documented example ("field required", "ensure this value has at most ..."), which is
that of pydantic's first version; where no example shows a message, that library's is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import cast

Problem = tuple[str, str]
Check = Callable[[object], Iterator[Problem]]

ROOT = "__root__"


def problems(body: object) -> dict[str, list[str]]:
    """Return what is wrong with an edit request: dotted path -> messages; empty when it is valid."""
    found: dict[str, list[str]] = {}
    for path, message in EDIT_REQUEST(body):
        found.setdefault(path or ROOT, []).append(message)
    return found


def _join(prefix: str, path: str) -> str:
    return f"{prefix}.{path}" if path else prefix


def fields(
    known: Mapping[str, Check],
    *,
    required: tuple[str, ...] = (),
    rules: tuple[Check, ...] = (),
) -> Check:
    """Accept an object that has only ``known`` fields; ``rules`` look at it as a whole."""

    def check(value: object) -> Iterator[Problem]:
        if not isinstance(value, dict):
            yield "", "value is not a valid dict"
            return
        given = cast("dict[str, object]", value)
        for name in required:
            if name not in given:
                yield name, "field required"
        sound = True
        for name, inner in given.items():
            if name not in known:
                yield name, "extra fields not permitted"
                continue
            for path, message in known[name](inner):
                sound = False
                yield _join(name, path), message
        if sound:
            for rule in rules:
                yield from rule(given)

    return check


def one_of(*values: str) -> Check:
    """Accept one of these words, exactly as written."""
    permitted = ", ".join(f"'{value}'" for value in values)

    def check(value: object) -> Iterator[Problem]:
        if value not in values:
            yield "", f"value is not a valid enumeration member; permitted: {permitted}"

    return check


def integer(low: int, high: int | None = None) -> Check:
    """Accept a whole number from ``low`` to ``high``; neither true nor "5" nor 5.0 is one."""

    def check(value: object) -> Iterator[Problem]:
        if isinstance(value, bool) or not isinstance(value, int):
            yield "", "value is not a valid integer"
        else:
            yield from _in_range(value, low, high)

    return check


def number(low: float, high: float) -> Check:
    """Accept a number from ``low`` to ``high``."""

    def check(value: object) -> Iterator[Problem]:
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield "", "value is not a valid float"
        else:
            yield from _in_range(value, low, high)

    return check


def _in_range(value: float, low: float, high: float | None) -> Iterator[Problem]:
    # Written as "not at least" so that NaN is refused as well.
    if not value >= low:
        yield "", f"ensure this value is greater than or equal to {low}"
    elif high is not None and not value <= high:
        yield "", f"ensure this value is less than or equal to {high}"


def boolean(value: object) -> Iterator[Problem]:
    """Accept true and false."""
    if not isinstance(value, bool):
        yield "", "value is not a valid boolean"


def text(shortest: int = 0, longest: int | None = None, *, pattern: str | None = None) -> Check:
    """Accept a string of so many characters that matches ``pattern`` as a whole."""

    def check(value: object) -> Iterator[Problem]:
        if not isinstance(value, str):
            yield "", "str type expected"
        elif len(value) < shortest:
            yield "", f"ensure this value has at least {shortest} characters"
        elif longest is not None and len(value) > longest:
            yield "", f"ensure this value has at most {longest} characters"
        elif pattern is not None and re.fullmatch(pattern, value) is None:
            yield "", f'string does not match regex "{pattern}"'

    return check


def uri(*schemes: str) -> Check:
    """Accept an address of 1 to 4096 characters in one of ``schemes``."""
    length = text(1, 4096)

    def check(value: object) -> Iterator[Problem]:
        wrong = list(length(value))
        if wrong:
            yield from wrong
            return
        scheme, separator, rest = cast("str", value).partition("://")
        if not separator or not rest:
            yield "", "invalid or missing URL scheme"
        elif scheme.lower() not in schemes:
            yield "", "URL scheme not permitted"
        elif rest.startswith("/") or " " in rest:
            yield "", "URL host invalid"

    return check


def either(plain: Check, expanded: Check, *, null: bool = False) -> Check:
    """Accept the short form, or an object that says the same in full; ``null``: or nothing."""

    def check(value: object) -> Iterator[Problem]:
        if value is None and null:
            return
        is_object = isinstance(value, dict)
        yield from (expanded if is_object else plain)(value)

    return check


def by_type(variants: Mapping[str, Mapping[str, Check]]) -> Check:
    """Accept an object whose ``type`` says which other fields it may have."""
    kind = one_of(*variants)

    def check(value: object) -> Iterator[Problem]:
        given = cast("dict[str, object]", value)
        if "type" not in given:
            yield "type", "field required"
            return
        wrong = [("type", message) for _, message in kind(given["type"])]
        if wrong:
            yield from wrong
            return
        known = variants[cast("str", given["type"])]
        yield from fields({"type": kind, **known})(given)

    return check


def nullable(check: Check) -> Check:
    """Accept null as well."""

    def checked(value: object) -> Iterator[Problem]:
        if value is not None:
            yield from check(value)

    return checked


PERCENT = r"[1-9][0-9]*%"
HALF = r"([0-9]|[1-4][0-9]|50)%"


def _side(value: object) -> Iterator[Problem]:
    """Accept pixels, "auto" or a percentage."""
    if isinstance(value, str):
        if value != "auto":
            yield from text(pattern=PERCENT)(value)
    else:
        yield from integer(1)(value)


def _same_kind(value: object) -> Iterator[Problem]:
    """Refuse pixels with a percentage, and "auto" for both."""
    resizing = cast("dict[str, object]", value)
    kinds = [
        "auto" if side == "auto" else type(side).__name__
        for side in (resizing.get("width"), resizing.get("height"))
    ]
    if kinds == ["auto", "auto"]:
        yield "", "width and height can not both be auto"  # invented: the wording
    elif sorted(kinds) == ["int", "str"]:
        yield "", "width and height must be of the same kind"  # invented: the wording


def _fit(value: object) -> Iterator[Problem]:
    """Accept a word, the typed object, or v1-beta1's older ``{"crop": ...}`` without a type."""
    crop = {"crop": one_of("center", "smart")}
    if not isinstance(value, dict):
        yield from one_of("crop", "cover", "bounds", "canvas", "outpaint")(value)
    elif set(cast("dict[str, object]", value)) == {"crop"}:
        yield from fields(crop)(cast("object", value))
    else:
        outpaint = {
            "feathering": text(pattern=r"[1-9][0-9]+%|[0-9]%"),
            "outpaint_by": text(pattern=r"[0-9]+%( [0-9]+%)?|[0-9]+px( [0-9]+px)?"),
        }
        variants: dict[str, Mapping[str, Check]] = {
            "crop": crop,
            "cover": {},
            "bounds": {},
            "canvas": {},
            "outpaint": outpaint,
        }
        yield from by_type(variants)(cast("object", value))


_category = one_of("general", "cars", "products")
_selective = nullable(fields({"object_to_keep": text(3, 128)}))
_percentage = integer(-100, 100)
_quality = integer(1, 100)

OPERATIONS = fields(
    {
        "restorations": nullable(
            fields(
                {
                    "decompress": nullable(one_of("moderate", "strong", "auto")),
                    "upscale": either(
                        one_of("smart_enhance", "smart_resize", "faces", "digital_art", "photo"),
                        by_type({"photo": {"version": one_of("1", "2", "3")}}),
                        null=True,
                    ),
                    "polish": boolean,
                }
            )
        ),
        "resizing": nullable(
            fields({"width": _side, "height": _side, "fit": _fit}, rules=(_same_kind,))
        ),
        "adjustments": nullable(
            fields(
                {
                    "hdr": either(
                        integer(0, 100),
                        fields({"intensity": integer(0, 100), "stitching": boolean}),
                    ),
                    "exposure": _percentage,
                    "saturation": _percentage,
                    "contrast": _percentage,
                    "sharpness": integer(0, 100),
                }
            )
        ),
        "background": nullable(
            fields(
                {
                    "remove": either(
                        boolean,
                        fields(
                            {"category": _category, "clipping": boolean, "selective": _selective}
                        ),
                    ),
                    "blur": either(
                        boolean,
                        fields(
                            {
                                "category": _category,
                                "selective": _selective,
                                "type": one_of("regular", "lens"),
                                "level": one_of("low", "medium", "high"),
                            }
                        ),
                    ),
                    "color": nullable(text(pattern=r"#[0-9a-fA-F]{6}|transparent")),
                }
            )
        ),
        "padding": nullable(text(pattern=f"{HALF}( {HALF})?")),
        "privacy": nullable(fields({"blur_car_plate": boolean, "identity_crop": boolean})),
        "generative": nullable(
            fields(
                {
                    "style_transfer": nullable(
                        fields(
                            {
                                "style_reference_image": uri("http", "https", "storage"),
                                "prompt": text(3, 1024),
                                "depth_strength": number(0, 1),
                                "denoising_strength": number(0, 1),
                                "style_strength": number(0, 1),
                            },
                            required=("style_reference_image",),
                        )
                    )
                }
            )
        ),
    }
)

_compression = either(
    one_of("lossy", "lossless"),
    by_type({"lossy": {"quality": _quality}, "lossless": {}}),
)

_format = either(
    one_of("jpeg", "png", "webp", "avif", "tiff"),
    by_type(
        {
            "jpeg": {"quality": _quality, "progressive": boolean},
            "png": {"compression": one_of("fast", "best", "optimal")},
            "webp": {"compression": _compression},
            "avif": {"compression": _compression},
            "tiff": {"compression": _compression},
        }
    ),
    null=True,
)

_color_space = either(
    one_of("RGB", "CMYK"),
    by_type(
        {
            "RGB": {},
            "CMYK": {
                "color_profile": one_of(
                    "ISO_Coated", "ISO_Uncoated", "USWeb_Coated", "USWeb_Uncoated"
                )
            },
        }
    ),
    null=True,
)

_destination = uri("storage", "http", "https")

OUTPUT = either(
    _destination,
    fields(
        {
            "destination": nullable(_destination),
            "format": _format,
            "metadata": nullable(
                fields({"dpi": nullable(integer(1)), "color_space": _color_space})
            ),
        }
    ),
    null=True,
)

EDIT_REQUEST = fields(
    {"input": uri("http", "https", "storage"), "operations": OPERATIONS, "output": OUTPUT},
    required=("input", "operations"),
)

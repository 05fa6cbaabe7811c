"""The inputs of some of fal's models, as fal's own clients have them; others take anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

Kind = Literal["image", "tryon", "video"]
Check = Callable[[object], bool]


def text(value: object) -> bool:
    """Tell whether it is text with something in it."""
    return isinstance(value, str) and bool(value)


def whole(least: int, most: int) -> Check:
    """Return a check for an integer between two."""
    return lambda value: (
        isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
    )


def one_of(*values: object) -> Check:
    """Return a check for one of some values."""
    return lambda value: value in values


def address(value: object) -> bool:
    """Tell whether it is an address or a data URI."""
    return isinstance(value, str) and value.startswith(("https://", "http://", "data:"))


def addresses(value: object) -> bool:
    """Tell whether it is a list of at least one address."""
    return (
        isinstance(value, list) and value != [] and all(map(address, cast("list[object]", value)))
    )


def size(value: object) -> bool:
    """Tell whether it is a named size, or width and height."""
    if isinstance(value, dict):
        sides = cast("dict[str, object]", value)
        return set(sides) == {"width", "height"} and all(map(whole(1, 14_142), sides.values()))
    return value in {
        "square_hd",
        "square",
        "portrait_4_3",
        "portrait_16_9",
        "landscape_4_3",
        "landscape_16_9",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What a model takes and makes, how long it takes, and what it costs in US dollars."""

    kind: Kind
    fields: Mapping[str, Check]
    required: tuple[str, ...]
    seconds: float
    price: float


SEED = whole(-(2**63), 2**63)
RATIOS = ("21:9", "16:9", "3:2", "4:3", "5:4", "1:1", "4:5", "3:4", "2:3", "9:16", "9:21")

MODELS: dict[str, Model] = {
    "fal-ai/flux/dev": Model(
        kind="image",
        required=("prompt",),
        seconds=6.0,
        price=0.025,
        fields={
            "prompt": text,
            "image_size": size,
            "num_inference_steps": whole(1, 50),
            "num_images": whole(1, 4),
            "seed": SEED,
            "output_format": one_of("jpeg", "png"),
        },
    ),
    "fal-ai/flux-pro/kontext": Model(
        kind="image",
        required=("prompt", "image_url"),
        seconds=10.0,
        price=0.04,  # invented: the page has only the price of its larger sister
        fields={
            "prompt": text,
            "image_url": address,
            "aspect_ratio": one_of(*(ratio for ratio in RATIOS if ratio not in {"5:4", "4:5"})),
            "num_images": whole(1, 4),
            "seed": SEED,
        },
    ),
    "fal-ai/nano-banana/edit": Model(
        kind="image",
        required=("prompt", "image_urls"),
        seconds=12.0,
        price=0.04,  # invented: no page that was seen has it
        fields={
            "prompt": text,
            "image_urls": addresses,
            "aspect_ratio": one_of("auto", *RATIOS[:-1]),
            "num_images": whole(1, 4),
            "seed": SEED,
        },
    ),
    "fal-ai/fashn/tryon/v1.6": Model(
        kind="tryon",
        required=("model_image", "garment_image"),
        seconds=15.0,
        price=0.075,
        fields={
            "model_image": address,
            "garment_image": address,
            "category": one_of("tops", "bottoms", "one-pieces", "auto"),
            "mode": one_of("performance", "balanced", "quality"),
            "num_samples": whole(1, 4),
            "seed": SEED,
        },
    ),
    "fal-ai/kling-video/v2.5-turbo/pro/image-to-video": Model(
        kind="video",
        required=("prompt", "image_url"),
        seconds=60.0,
        price=0.35,
        fields={"prompt": text, "image_url": address, "duration": one_of("5", "10")},
    ),
    "fal-ai/bytedance/seedance/v1.5/pro/image-to-video": Model(
        kind="video",
        required=("prompt", "image_url"),
        seconds=60.0,
        price=0.26,  # invented: no page that was seen has it
        fields={
            "prompt": text,
            "image_url": address,
            "duration": one_of(*map(str, range(4, 13))),
            "seed": SEED,
        },
    ),
}


def mistakes(model: str, body: Mapping[str, object]) -> list[dict[str, object]]:
    """Return the entries of a 422; unknown fields pass (invented: pydantic's default)."""
    known = MODELS.get(model)
    if known is None:
        return []
    missing: list[dict[str, object]] = [
        {"loc": ["body", name], "msg": "field required", "type": "missing", "input": dict(body)}
        for name in known.required
        if name not in body
    ]
    wrong: list[dict[str, object]] = [
        {"loc": ["body", name], "msg": "unexpected value", "type": "value_error", "input": value}
        for name, value in body.items()
        if name in known.fields and not known.fields[name](value)
    ]
    return missing + wrong

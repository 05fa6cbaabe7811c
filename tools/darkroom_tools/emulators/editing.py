"""What Zyng and Claid both do to a picture: above all, remove a plain background for real."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps, ImageStat

if TYPE_CHECKING:
    from collections.abc import Callable

TOLERANCE = 24
"""How far a channel (0-255) may be from the border's colour and still be background."""

MAP_SIDE = 192
"""Which background hangs together with the border is decided on a picture of this size."""

FLOOD = 128
"""The mark of what is joined to the border."""

BORDER_SHARE = 40
"""The border is this fraction of the shorter side."""

PLAIN_SHARE = 0.6
"""A background is plain when more of the border than this has its colour."""


def resized(
    image: Image.Image,
    size: tuple[int, int],
    resample: Image.Resampling = Image.Resampling.LANCZOS,
) -> Image.Image:
    """Return the picture at another size."""
    return image.resize(size, resample)  # pyright: ignore[reportUnknownMemberType] -- Pillow's stub names numpy


def mapped(channel: Image.Image, value_of: Callable[[int], int]) -> Image.Image:
    """Return a one-channel picture with each value (0-255) replaced by ``value_of`` it."""
    table = [value_of(value) for value in range(256)]
    return channel.point(table)  # pyright: ignore[reportUnknownMemberType] -- Pillow's stub names numpy


def remove_background(image: Image.Image) -> Image.Image:
    """Return the picture (RGBA) with all that has its border's colour, and touches it, transparent.

    A patch of that colour inside the subject stays: only what is joined to the border goes.
    """
    apart = _distance_from_border(image)
    # Half the tolerance is background, twice is subject, soft between: edges keep their smoothness.
    soft = mapped(apart, _ramp)
    alpha = Image.composite(soft, Image.new("L", image.size, 255), _joined_to_border(apart))
    if image.mode == "RGBA":
        alpha = ImageChops.multiply(alpha, image.getchannel("A"))
    cut = image.convert("RGBA")
    cut.putalpha(alpha)
    return cut


def on_color(image: Image.Image, color: str) -> Image.Image:
    """Return the picture (RGB) on a ground of one colour."""
    ground = Image.new("RGBA", image.size, color)
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("RGB")


def has_plain_background(image: Image.Image) -> bool:
    """Tell whether most of the picture's border has one colour."""
    near = mapped(_distance_from_border(image), lambda value: value < TOLERANCE)
    return ImageStat.Stat(near, _border(image.size)).mean[0] > PLAIN_SHARE


def _border(size: tuple[int, int]) -> Image.Image:
    edge = max(1, min(size) // BORDER_SHARE)
    mask = Image.new("L", size, 255)
    mask.paste(0, (edge, edge, max(edge, size[0] - edge), max(edge, size[1] - edge)))
    return mask


def _distance_from_border(image: Image.Image) -> Image.Image:
    flat = on_color(image, "#ffffff")
    median = ImageStat.Stat(flat, _border(flat.size)).median
    red, green, blue = (round(value) for value in median)
    apart = ImageChops.difference(flat, Image.new("RGB", flat.size, (red, green, blue)))
    one, two, three = apart.split()
    return ImageChops.lighter(one, ImageChops.lighter(two, three))


def _joined_to_border(apart: Image.Image) -> Image.Image:
    scale = min(1.0, MAP_SIDE / max(apart.size))
    size = (max(1, round(apart.width * scale)), max(1, round(apart.height * scale)))
    small = resized(apart, size, Image.Resampling.BOX)
    near = mapped(small, lambda value: 255 if value < TOLERANCE else 0)
    framed = ImageOps.expand(near, 1, 255)
    ImageDraw.floodfill(framed, (0, 0), FLOOD)
    joined = mapped(framed, lambda value: 255 if value == FLOOD else 0)
    inner = joined.crop((1, 1, size[0] + 1, size[1] + 1)).filter(ImageFilter.MaxFilter(3))
    return resized(inner, apart.size, Image.Resampling.BILINEAR)


def _ramp(value: int) -> int:
    low, high = TOLERANCE / 2, TOLERANCE * 2
    return round(255 * min(1.0, max(0.0, (value - low) / (high - low))))

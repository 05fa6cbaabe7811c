"""Smooth shaded shapes for the pictures that the emulators draw."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from darkroom_tools.emulators.editing import mapped, resized

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

Point = tuple[float, float]
Colour = tuple[int, int, int]

OVERSAMPLING = 2
"""Shapes are drawn this much larger and reduced, which smooths their edges."""

CURVE_STEPS = 8


def colour(hue: float, saturation: float, value: float) -> Colour:
    """Return the RGB colour of a hue (turns), saturation and value (0 to 1)."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def blend(one: Colour, other: Colour, part: float) -> Colour:
    """Return ``one`` with ``part`` (0 to 1) of ``other`` in it."""
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue


def gradient(size: tuple[int, int], stops: Sequence[Colour]) -> Image.Image:
    """Return a ground that goes through the stops from top to bottom."""
    column = Image.new("RGB", (1, len(stops)))
    for row, stop in enumerate(stops):
        column.putpixel((0, row), stop)
    inner = (0, 0.5, 1, len(stops) - 0.5)  # from the middle of the first stop to the last one's
    return column.resize(size, Image.Resampling.BICUBIC, box=inner)  # pyright: ignore[reportUnknownMemberType] -- Pillow's stub names numpy


def glow(size: tuple[int, int], centre: Point, radius: float, strength: float) -> Image.Image:
    """Return a mask that is brightest at ``centre`` and fades to nothing at ``radius``."""
    mask = Image.new("L", size)
    side = max(2, round(radius * 2))
    disc = mapped(
        ImageChops.invert(Image.radial_gradient("L")),
        lambda level: round(max(0.0, (level - 75) / 180) ** 1.6 * 255 * strength),
    )
    mask.paste(resized(disc, (side, side)), (round(centre[0] - radius), round(centre[1] - radius)))
    return mask


def grain(image: Image.Image, chance: random.Random, strength: float = 0.035) -> Image.Image:
    """Return the picture with the fine noise of a photograph."""
    noise = Image.frombytes("L", image.size, chance.randbytes(image.width * image.height))
    noise = noise.filter(ImageFilter.BoxBlur(0.6)).convert("RGB")
    return Image.blend(image, ImageChops.overlay(image, noise), strength * 6)


def curve(points: Sequence[Point]) -> list[Point]:
    """Return a closed smooth line through the points; a point that is there twice is a corner."""
    line: list[Point] = []
    count = len(points)
    for index in range(count):
        p0, p1, p2, p3 = (points[(index + k - 1) % count] for k in range(4))
        if p1 == p2:
            line.append(p1)
            continue
        p0, p3 = (p1 if p0 == p1 else p0), (p2 if p3 == p2 else p3)
        for step in range(CURVE_STEPS):
            t = step / CURVE_STEPS
            x, y = (
                0.5
                * (
                    2 * b
                    + (c - a) * t
                    + (2 * a - 5 * b + 4 * c - d) * t * t
                    + (3 * b - a - 3 * c + d) * t**3
                )
                for a, b, c, d in zip(p0, p1, p2, p3, strict=True)
            )
            line.append((x, y))
    return line


def path(text: str, x: float = 0, y: float = 0, *, side: int = 1) -> list[Point]:
    """Return the points of "1,2 3,4! 5,6" from ``(x, y)``; ``!`` marks a corner.

    ``side`` -1 turns the path over, left for right.
    """
    points: list[Point] = []
    for word in text.split():
        across, down = word.rstrip("!").split(",")
        point = x + side * float(across), y + float(down)
        points += [point, point] if word.endswith("!") else [point]
    return points


def mirrored(half: Sequence[Point], axis: float) -> list[Point]:
    """Return the closed outline whose right half is given from top to bottom."""
    return [*half, *((2 * axis - x, y) for x, y in reversed(half))]


class Easel:
    """A picture in the making; coordinates are moved by ``shift`` and multiplied by ``scale``."""

    def __init__(self, ground: Image.Image, *, scale: float = 1.0, shift: Point = (0, 0)) -> None:
        self.size = ground.size
        width, height = ground.size
        self.canvas = resized(ground, (width * OVERSAMPLING, height * OVERSAMPLING))
        self.scale = scale * OVERSAMPLING
        self.shift = shift

    def place(self, points: Sequence[Point]) -> list[Point]:
        """Return where the points lie on the canvas."""
        (dx, dy), scale = self.shift, self.scale
        return [((x + dx) * scale, (y + dy) * scale) for x, y in points]

    def mask(self, points: Sequence[Point]) -> tuple[Image.Image, tuple[int, int]]:
        """Return the mask of a closed curve with room around it, and where it lies."""
        line = self.place(curve(points))
        pad = round(12 * self.scale)
        left, top = (round(min(p[axis] for p in line)) - pad for axis in (0, 1))
        right, bottom = (round(max(p[axis] for p in line)) + pad for axis in (0, 1))
        mask = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in line], fill=255)
        return mask, (left, top)

    def shape(
        self,
        points: Sequence[Point],
        fill: Colour | Image.Image,
        *,
        depth: float = 0.3,
        soft: float = 14,
        fade: float = 1.0,
    ) -> None:
        """Paint a closed curve, darker towards its right and lower edge.

        ``depth``: how much darker; ``soft``: how far from the edge; ``fade``: opacity.
        """
        mask, at = self.mask(points)
        radius = soft * self.scale
        light = mask.filter(ImageFilter.GaussianBlur(radius))
        light = ImageChops.offset(light, -round(radius / 3), -round(radius / 4))
        paint = _tiled(fill, mask.size)
        dark = ImageChops.multiply(paint, Image.new("RGB", mask.size, _shade(depth)))
        if fade < 1:
            mask = mapped(mask, lambda level: round(level * fade))
        self.canvas.paste(Image.composite(paint, dark, light), at, mask)

    def stroke(
        self,
        points: Sequence[Point],
        fill: Colour,
        width: float,
        *,
        blur: float = 0.0,
        fade: float = 1.0,
        within: Sequence[Point] | None = None,
    ) -> None:
        """Draw an open line, soft when ``blur`` is given, only inside ``within``."""
        layer = Image.new("L", self.canvas.size)
        line = self.place(_open(points))
        thick = max(1, round(width * self.scale))
        draw = ImageDraw.Draw(layer)
        draw.line(line, 255, thick, joint="curve")
        for x, y in (line[0], line[-1]):
            draw.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), 255)
        box = self._box(line, (width + 3 * blur + 2) * self.scale)
        if box[0] >= box[2] or box[1] >= box[3]:
            return  # beside the picture
        part = layer.crop(box)
        if blur:
            part = part.filter(ImageFilter.GaussianBlur(blur * self.scale))
        if within is not None:
            inside, (left, top) = self.mask(within)
            whole = Image.new("L", self.canvas.size)
            whole.paste(inside, (left, top))
            part = ImageChops.multiply(part, whole.crop(box))
        part = mapped(part, lambda level: round(level * fade))
        self.canvas.paste(fill, box[:2], part)

    def _box(self, line: Sequence[Point], pad: float) -> tuple[int, int, int, int]:
        xs, ys = [p[0] for p in line], [p[1] for p in line]
        width, height = self.canvas.size
        return (
            max(0, round(min(xs) - pad)),
            max(0, round(min(ys) - pad)),
            min(width, round(max(xs) + pad)),
            min(height, round(max(ys) + pad)),
        )

    def finished(self) -> Image.Image:
        """Return the picture at its size."""
        return self.canvas.reduce(OVERSAMPLING)


def _open(points: Sequence[Point]) -> list[Point]:
    if len(points) < 3:  # noqa: PLR2004 -- two points are a straight line
        return list(points)
    line = curve([points[0], *points, points[-1]])
    start, end = line.index(points[0]), len(line) - line[::-1].index(points[-1])
    return line[start:end]


def _shade(depth: float) -> Colour:
    level = round(255 * (1 - depth))
    return level, level, min(255, level + 6)


def _tiled(fill: Colour | Image.Image, size: tuple[int, int]) -> Image.Image:
    if not isinstance(fill, Image.Image):
        return Image.new("RGB", size, fill)
    whole = Image.new("RGB", size)
    for x in range(0, size[0], fill.width):
        for y in range(0, size[1], fill.height):
            whole.paste(fill, (x, y))
    return whole

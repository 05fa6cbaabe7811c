"""What a painted scene is made of: the light of an hour, sheets from far to near, water.

Layers move at their own speed when the camera passes (`Scenery.picture`), so a scene is a still
and a film.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from darkroom_tools.emulators.drawing.easel import Colour, blend, colour, glow, gradient, grain
from darkroom_tools.emulators.editing import resized

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NIGHT_WORDS = {"night", "neon", "dark", "midnight", "moon", "stars", "black"}
DUSK_WORDS = {"dusk", "sunset", "evening", "golden"}
DAWN_WORDS = {"dawn", "sunrise", "morning", "mist", "misty", "fog"}
DAY_WORDS = {"day", "noon", "sunny", "bright", "summer"}


@dataclass(frozen=True, slots=True)
class Light:
    """The colours of an hour: sky from top to horizon, haze, the nearest things, sun or moon."""

    sky: tuple[Colour, ...]
    haze: Colour
    near: Colour
    sun: Colour


HOURS = {
    "dawn": Light(((92, 110, 168), (214, 160, 172), (252, 212, 172)), (244, 204, 182), (52, 50, 80), (255, 240, 214)),
    "day": Light(((54, 118, 190), (134, 188, 226), (226, 238, 238)), (206, 224, 230), (30, 66, 62), (255, 252, 236)),
    "dusk": Light(((40, 34, 86), (166, 70, 110), (252, 160, 92)), (236, 140, 108), (32, 22, 52), (255, 226, 170)),
    "night": Light(((8, 12, 36), (20, 32, 76), (64, 84, 132)), (56, 74, 118), (8, 12, 28), (236, 240, 255)),
}  # fmt: skip


@dataclass(slots=True)
class Layer:
    """One sheet of a scene; ``speed`` (0 to 1) is how far it moves when the camera passes."""

    image: Image.Image
    speed: float


@dataclass(slots=True)
class Scenery:
    """Sheets from far to near; below ``shore`` the water shows them upside down."""

    width: int
    height: int
    layers: list[Layer] = field(default_factory=list[Layer])
    shore: int | None = None
    water: Colour = (20, 30, 50)
    front: list[Layer] = field(default_factory=list[Layer])
    beam: Callable[[Image.Image, float, int], Image.Image] | None = None
    beam_speed: float = 0.0

    def picture(self, time: float = 0.0) -> Image.Image:
        """Return what the camera sees at ``time`` (0 to 1)."""
        view = Image.new("RGBA", (self.width, self.height), "black")
        self._lay(view, self.layers, time)
        if self.shore is not None:
            self._reflect(view, self.shore, time)
        self._lay(view, self.front, time)
        seen = view.convert("RGB")
        if self.beam is not None:
            slack = self.layers[0].image.width - self.width
            seen = self.beam(seen, time, round(self.beam_speed * time * slack))
        return seen

    def _lay(self, view: Image.Image, layers: Sequence[Layer], time: float) -> None:
        for layer in layers:
            x = round(layer.speed * time * (layer.image.width - self.width))
            view.alpha_composite(layer.image, source=(x, 0, x + self.width, self.height))

    def _reflect(self, view: Image.Image, shore: int, time: float) -> None:
        depth = self.height - shore
        above = view.crop((0, max(0, shore - depth), self.width, shore))
        mirror = resized(above.transpose(Image.Transpose.FLIP_TOP_BOTTOM), (self.width, depth))
        tinted = Image.blend(mirror, Image.new("RGBA", mirror.size, self.water), 0.38)
        strip = max(1, self.height // 180)
        for y in range(0, depth, strip):
            reach = (0.2 + 1.1 * y / depth) * self.height / 150
            sway = math.sin(y * 900 / self.height / (3 + 9 * y / depth) + time * 22)
            shift = round(sway * reach)
            row = ImageChops.offset(tinted.crop((0, y, self.width, y + strip)), shift, 0)
            view.paste(row, (0, shore + y))


class Studio:
    """Where one scene is painted: its size, its light, its chance."""

    def __init__(
        self, said: set[str], key: str, width: int, height: int, margin: float, without: str
    ) -> None:
        self.said = said
        self.without = without
        self.chance = random.Random(f"scene:{key}")  # noqa: S311 -- repeatable, not secret
        self.width, self.height = width, height
        self.size = (round(width * (1 + margin)), height)
        hours = (
            (NIGHT_WORDS, "night"),
            (DUSK_WORDS, "dusk"),
            (DAWN_WORDS, "dawn"),
            (DAY_WORDS, "day"),
        )
        named = [name for names, name in hours if said & names]
        self.hour = (
            "dusk" if "dusk" in said else named[0] if named else self.chance.choice(list(HOURS))
        )
        self.light = HOURS[self.hour]

    def sky(self, horizon: float) -> list[Layer]:
        """Return the sky with sun or moon, stars and clouds down to ``horizon`` (0 to 1)."""
        chance, light = self.chance, self.light
        width, height = self.size
        tint = colour(chance.random(), 0.5, 0.7)
        ground = Image.new("RGB", self.size, light.haze)
        stops = [blend(stop, tint, 0.12) for stop in light.sky]
        ground.paste(gradient((width, max(1, round(height * horizon))), stops))
        if self.hour == "night" and "star" not in self.without:
            draw = ImageDraw.Draw(ground)
            for _ in range(width * height // 2600):
                x, y = chance.uniform(0, width), chance.uniform(0, height * horizon * 0.9)
                radius = chance.choice((0.4, 0.6, 1.0)) * height / 700
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), (226, 232, 255))
        if "sun" not in self.without and "moon" not in self.without:
            low = self.hour in ("dusk", "dawn")
            x = self.width * chance.uniform(0.25, 0.75)
            y = (
                height
                * horizon
                * (chance.uniform(0.72, 0.86) if low else chance.uniform(0.22, 0.4))
            )
            radius = height * (0.06 if low else 0.045)
            for reach, strength in ((9, 0.45), (3.2, 0.6)):
                ground.paste(light.sun, mask=glow(self.size, (x, y), radius * reach, strength))
            disc = Image.new("L", (64, 64))
            ImageDraw.Draw(disc).ellipse((1, 1, 62, 62), fill=255)
            side = max(4, round(radius * 2))
            at = (round(x - radius), round(y - radius))
            ground.paste(light.sun, at, resized(disc, (side, side)))
        layers = [Layer(ground.convert("RGBA"), 0.05)]
        if "cloud" not in self.without:
            layers.append(self._clouds(horizon))
        return layers

    def _clouds(self, horizon: float) -> Layer:
        chance, (width, height) = self.chance, self.size
        mask = Image.new("L", self.size)
        draw = ImageDraw.Draw(mask)
        for _ in range(chance.randint(4, 7)):
            x, y = chance.uniform(0, width), height * horizon * chance.uniform(0.12, 0.8)
            long = height * chance.uniform(0.12, 0.4)
            for _ in range(14):
                dx, dy = chance.gauss(0, 0.5) * long, chance.gauss(0, 0.05) * long
                rx, ry = long * chance.uniform(0.1, 0.4), long * chance.uniform(0.015, 0.05)
                draw.ellipse((x + dx - rx, y + dy - ry, x + dx + rx, y + dy + ry), 90)
        mask = mask.filter(ImageFilter.GaussianBlur(height / 90))
        sheet = Image.new("RGBA", self.size, (*blend(self.light.haze, (255, 255, 255), 0.35), 0))
        sheet.putalpha(mask)
        return Layer(sheet, 0.14)

    def ridge(
        self, base: float, rise: float, fill: Colour, mist: Colour, rough: float
    ) -> Image.Image:
        """Return a chain of hills whose outline wanders around ``base`` (0 to 1 of the height)."""
        heights = _outline(self.chance, rough)
        width, height = self.size[0] * 2, self.size[1] * 2
        step = width / (len(heights) - 1)
        line = [(i * step, (base - rise * h) * height) for i, h in enumerate(heights)]
        mask = Image.new("L", (width, height))
        ImageDraw.Draw(mask).polygon([*line, (width, height), (0, height)], fill=255)
        sheet = Image.new("RGB", self.size, mist)
        top = max(0, round(min(y for _, y in line) / 2))
        deep = max(2, round(self.size[1] * (rise * 1.6 + 0.16)))
        sheet.paste(gradient((self.size[0], deep), (fill, blend(fill, mist, 0.25), mist)), (0, top))
        sheet.putalpha(mask.reduce(2))
        return sheet

    def finished(self, scenery: Scenery) -> Scenery:
        """Return the scene with the grain of a photograph in its sky."""
        first = scenery.layers[0]
        first.image = grain(first.image.convert("RGB"), self.chance, 0.02).convert("RGBA")
        return scenery


def _outline(chance: random.Random, rough: float) -> list[float]:
    """Return a wandering line between -1 and 1 (midpoint displacement)."""
    heights = [chance.uniform(-0.6, 0.6), chance.uniform(-0.6, 0.6)]
    reach = 0.8
    for _ in range(9):
        between = [(a + b) / 2 + chance.uniform(-reach, reach) for a, b in pairwise(heights)]
        heights = [h for pair in zip(heights, between, strict=False) for h in pair] + [heights[-1]]
        reach *= rough
    return [max(-1.0, min(1.0, h)) for h in heights]

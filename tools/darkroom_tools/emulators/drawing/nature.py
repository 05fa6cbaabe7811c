"""Mountains, lakes, the sea."""

from __future__ import annotations

import math

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from darkroom_tools.emulators.drawing.easel import Colour, Easel, Point, blend, glow, path
from darkroom_tools.emulators.drawing.scenery import Layer, Scenery, Studio
from darkroom_tools.emulators.editing import resized


def land(studio: Studio) -> Scenery:
    """Return mountains in the haze, with trees, sometimes a lake."""
    chance, light, said = studio.chance, studio.light, studio.said
    lake = bool(said & {"lake", "river", "water"}) or chance.random() < 0.35  # noqa: PLR2004 -- about one in three
    shore = 0.72 if lake else 1.0
    layers = studio.sky(shore * 0.8)
    count = 5
    for index in range(count):
        near = index / (count - 1)
        tone = blend(light.haze, light.near, 0.18 + 0.72 * near)
        rough = 0.62 - 0.14 * near
        base = shore * (0.6 + 0.36 * near)
        mist = blend(tone, light.haze, 0.55 - 0.3 * near)
        sheet = studio.ridge(base, 0.24 - 0.15 * near, tone, mist, rough)
        if index >= count - 2 and "tree" not in studio.without and "desert" not in said:
            _trees(studio, sheet, blend(tone, (0, 0, 0), 0.2 + 0.3 * near), 0.4 + 0.6 * near)
        layers.append(Layer(sheet, 0.15 + 0.85 * near**1.5))
    scenery = Scenery(studio.width, studio.height, layers)
    if lake:
        scenery.shore = round(studio.height * shore)
        scenery.water = blend(light.near, light.sky[0], 0.4)
    return studio.finished(scenery)


def _trees(studio: Studio, sheet: Image.Image, fill: Colour, near: float) -> None:
    chance, (width, height) = studio.chance, studio.size
    big = Image.new("L", (width * 2, height * 2))
    draw = ImageDraw.Draw(big)
    alpha = sheet.getchannel("A")
    for _ in range(round(width / height * 46 / near)):
        x = chance.uniform(0, width - 1)
        box = alpha.crop((int(x), 0, int(x) + 1, height)).getbbox()
        ground = (box[1] if box else height) + chance.uniform(0, 0.07) * height * near
        tall = height * chance.uniform(0.05, 0.11) * near
        for level in range(5):
            top = ground - tall + tall * 0.17 * level
            half = tall * (0.06 + 0.05 * level)
            points = [(x, top), (x - half, top + tall * 0.32), (x + half, top + tall * 0.32)]
            draw.polygon([(px * 2, py * 2) for px, py in points], fill=255)
    mask = big.reduce(2)
    sheet.paste((*fill, 255), mask=mask)


def sea(studio: Studio) -> Scenery:
    """Return water to the horizon, islands, perhaps a lighthouse with its beam."""
    chance, light = studio.chance, studio.light
    shore = chance.uniform(0.58, 0.66)
    layers = studio.sky(shore)
    for index in range(2):
        tone = blend(light.haze, light.near, 0.3 + 0.25 * index)
        sheet = studio.ridge(shore + 0.01, 0.07, tone, blend(tone, light.haze, 0.3), 0.6)
        layers.append(Layer(sheet, 0.15 + 0.15 * index))
    scenery = Scenery(studio.width, studio.height, layers, shore=round(studio.height * shore))
    scenery.water = blend(light.near, light.sky[0], 0.45)
    if "lighthouse" in studio.said or not studio.said & {"boat", "sailing", "ship"}:
        _lighthouse(studio, scenery, shore)
    else:
        scenery.front.append(_boat(studio, shore))
    return studio.finished(scenery)


def _boat(studio: Studio, shore: float) -> Layer:
    chance, (width, height) = studio.chance, studio.size
    easel = Easel(Image.new("RGBA", studio.size, (*studio.light.near, 0)), scale=height / 540)
    x = chance.uniform(0.35, 0.6) * width / height * 540
    y = (shore + 0.05) * 540
    hull = blend(studio.light.near, (0, 0, 0), 0.3)
    sail = blend(studio.light.sun, studio.light.haze, 0.3)
    easel.shape(
        path("-34,0! 36,0! 22,12 -24,12", x, y),
        hull,
        depth=0.2,
        soft=3,
    )
    easel.shape(
        path("-2,-80! -4,-5! -34,-6! -14,-40", x, y),
        sail,
        depth=0.15,
        soft=6,
    )
    easel.shape(
        path("3,-74! 30,-6! 3,-5!", x, y),
        sail,
        depth=0.2,
        soft=6,
    )
    easel.stroke([(x - 30, y + 16), (x + 34, y + 17)], hull, 4, blur=2.5, fade=0.6)
    return Layer(easel.finished(), 0.35)


def _lighthouse(studio: Studio, scenery: Scenery, shore: float) -> None:
    chance, (_, height) = studio.chance, studio.size
    unit = height / 540
    easel = Easel(Image.new("RGBA", studio.size, (*studio.light.near, 0)), scale=unit)
    x, foot = chance.uniform(0.62, 0.78) * studio.width / unit, shore * 540
    rock = blend(studio.light.near, (0, 0, 0), 0.25)
    easel.shape(
        path("-150,8 -110,-16 -60,-34 -20,-44 36,-42 80,-24 170,8 0,20", x, foot),
        rock,
        depth=0.3,
        soft=8,
    )
    wall = blend(studio.light.sun, studio.light.near, 0.42)
    red = blend((176, 56, 52), studio.light.near, 0.4)
    levels = 5
    for level in range(levels):
        low, high = foot - 40 - 30 * level, foot - 70 - 30 * level
        half, less = 19 - 1.6 * level, 19 - 1.6 * (level + 1)
        box = [
            (x - half, low),
            (x - half, low),
            (x - less, high),
            (x - less, high),
            (x + less, high),
            (x + less, high),
            (x + half, low),
            (x + half, low),
        ]
        easel.shape(box, red if level % 2 else wall, depth=0.45, soft=9)
    top = foot - 40 - 30 * levels
    for half, low, high, fill in (
        (15, top, top - 5, rock),
        (8, top - 5, top - 22, (255, 244, 206)),
    ):
        easel.shape(
            [
                (x - half, low),
                (x - half, low),
                (x - half, high),
                (x - half, high),
                (x + half, high),
                (x + half, high),
                (x + half, low),
                (x + half, low),
            ],
            fill,
            depth=0.1,
            soft=4,
        )
    easel.shape(
        path("-11,-22! 0,-36! 11,-22!", x, top),
        rock,
        depth=0.2,
        soft=4,
    )
    scenery.layers.append(Layer(easel.finished(), 0.5))
    scenery.beam_speed = 0.5
    lamp = (x * unit, (top - 13) * unit)
    scenery.beam = lambda view, time, shift: _beam(view, (lamp[0] - shift, lamp[1]), time, unit)


def _beam(view: Image.Image, lamp: Point, time: float, unit: float) -> Image.Image:
    angle = math.tau * (0.53 + time * 1.25)
    facing = math.cos(angle)
    mask = Image.new("L", (view.width // 2, view.height // 2))
    draw = ImageDraw.Draw(mask)
    x, y = lamp[0] / 2, lamp[1] / 2
    for spread in (0.13, 0.085, 0.045):
        reach = view.width * facing / 2
        ends = [(x + reach, y + abs(reach) * s - view.height * 0.02) for s in (-spread, spread)]
        draw.polygon([(x, y), *ends], fill=round(200 * (0.16 / spread) ** 0.5 * 0.25))
    mask = resized(mask.filter(ImageFilter.GaussianBlur(2.2 * unit)), view.size)
    fade = glow(view.size, lamp, view.width * 0.62, 1.0)
    mask = ImageChops.multiply(mask, fade)
    mask = ImageChops.lighter(mask, glow(view.size, lamp, 46 * unit, 0.9))
    view.paste((255, 246, 214), mask=mask)
    return view

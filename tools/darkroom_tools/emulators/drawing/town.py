"""A city above a wet street."""

from __future__ import annotations

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from darkroom_tools.emulators.drawing.easel import Colour, blend, colour, glow
from darkroom_tools.emulators.drawing.scenery import Layer, Scenery, Studio


def city(studio: Studio) -> Scenery:
    """Return a skyline above a wet street; neon signs where the words ask for them."""
    light = studio.light
    alley = bool(studio.said & {"alley", "street"})
    shore = 0.8
    layers = studio.sky(shore)
    for index in range(3):
        near = index / 2
        tone = blend(light.haze, light.near, 0.35 + 0.6 * near)
        sheet = _houses(studio, tone, near, shore, alley=alley)
        if near == 1 and studio.said & {"neon", "tokyo", "alley"}:
            _signs(studio, sheet, shore, alley=alley)
        layers.append(Layer(sheet, 0.2 + 0.8 * near))
    haze = Image.new("RGBA", studio.size, (*light.haze, 0))
    haze.putalpha(
        glow(studio.size, (studio.size[0] / 2, studio.size[1] * shore), studio.size[1] * 0.5, 0.35)
    )
    layers.insert(-1, Layer(haze, 0.3))
    scenery = Scenery(studio.width, studio.height, layers, shore=round(studio.height * shore))
    scenery.water = blend(light.near, (16, 18, 28), 0.5)
    return studio.finished(scenery)


def _houses(studio: Studio, tone: Colour, near: float, shore: float, *, alley: bool) -> Image.Image:
    chance, (width, height) = studio.chance, studio.size
    sheet = Image.new("RGBA", studio.size, (*tone, 0))
    draw = ImageDraw.Draw(sheet)
    lit = blend((255, 206, 120), studio.light.haze, 0.25)
    ground = round(shore * height)
    glowing = 0.5 if studio.hour in ("night", "dusk") else 0.14
    x = -height * 0.02
    while x < width:
        wide = height * chance.uniform(0.06, 0.12) * (0.8 + 0.9 * near)
        centre = abs((x + wide / 2) / width - 0.5) * 2
        tall = chance.uniform(0.25, 0.6) * (1.15 - 0.55 * near)
        if alley and near > 0:
            tall = (
                (0.12 + 0.8 * centre**1.6) * chance.uniform(0.85, 1.1)
                if centre > 0.3 / near
                else 0.06
            )
        top = ground - height * tall
        body = blend(tone, (0, 0, 0), chance.uniform(0, 0.16))
        draw.rectangle((x, top, x + wide, height), (*body, 255))
        if chance.random() < 0.25:  # noqa: PLR2004 -- one roof in four carries a mast
            mast = x + wide * chance.uniform(0.3, 0.7)
            draw.line((mast, top - height * 0.05, mast, top), (*body, 255), max(1, height // 300))
        cell = max(3.0, height * (0.012 + 0.012 * near))
        for row in range(1, int((ground - top) / cell / 1.5)):
            for column in range(1, int(wide / cell) - 1):
                if chance.random() > glowing:
                    continue
                left, up = x + column * cell * 1.05, top + row * cell * 1.5
                bright = blend(lit, body, chance.uniform(0.0, 0.75) * (1.1 - 0.4 * near))
                draw.rectangle((left, up, left + cell * 0.5, up + cell * 0.72), (*bright, 255))
        x += wide + height * chance.uniform(0, 0.012)
    return sheet


def _signs(studio: Studio, sheet: Image.Image, shore: float, *, alley: bool) -> None:
    chance, (width, height) = studio.chance, studio.size
    bright = Image.new("RGB", studio.size)
    draw = ImageDraw.Draw(bright)
    for _ in range(round(width / height * 13)):
        x = chance.uniform(0.02, 0.95)
        if alley and 0.36 < x < 0.64:  # noqa: PLR2004 -- the way between the houses
            x += 0.3 if x > 0.5 else -0.3  # noqa: PLR2004 -- to the nearer side
        x, y = x * width, height * chance.uniform(0.24, shore - 0.16)
        dye = colour(chance.choice((0.92, 0.84, 0.52, 0.48, 0.08, 0.6)), 0.75, 1.0)
        wide, tall = height * chance.uniform(0.02, 0.04), height * chance.uniform(0.07, 0.17)
        line = max(1, round(height / 260))
        draw.rounded_rectangle((x, y, x + wide, y + tall), wide / 3, outline=dye, width=line)
        marks = int(tall / wide)
        for mark in range(marks):
            top = y + wide * 0.25 + mark * (tall - wide * 0.3) / marks
            draw.line((x + wide * 0.3, top, x + wide * 0.7, top), dye, line)
            draw.line(
                (x + wide * chance.uniform(0.3, 0.7), top, x + wide * 0.5, top + wide * 0.5),
                dye,
                line,
            )
    near, far = (bright.filter(ImageFilter.GaussianBlur(height / part)) for part in (28, 90))
    shine = ImageChops.add(ImageChops.add(near, near, 0.5), ImageChops.add(far, far))
    light = ImageChops.add(shine, bright)
    red, green, blue = light.split()
    shine = ImageChops.lighter(red, ImageChops.lighter(green, blue))
    rgb = ImageChops.screen(sheet.convert("RGB"), light)
    alpha = ImageChops.lighter(sheet.getchannel("A"), shine)
    rgb.putalpha(alpha)
    sheet.paste(rgb)

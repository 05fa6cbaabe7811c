"""A still life, and folded paper."""

from __future__ import annotations

import math

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from darkroom_tools.emulators.drawing.easel import (
    Easel,
    Point,
    blend,
    colour,
    glow,
    gradient,
    mirrored,
    path,
)
from darkroom_tools.emulators.drawing.scenery import Layer, Scenery, Studio
from darkroom_tools.emulators.editing import mapped


def still_life(studio: Studio) -> Scenery:
    """Return a cup on a wooden table before lights out of focus."""
    chance, (width, height) = studio.chance, studio.size
    warm = chance.choice(((96, 70, 52), (58, 74, 82), (84, 88, 70)))
    ground = gradient(
        studio.size, (blend(warm, (0, 0, 0), 0.35), warm, blend(warm, (255, 220, 170), 0.35))
    )
    for _ in range(26):
        radius = height * chance.uniform(0.02, 0.07)
        x, y = chance.uniform(0, width), chance.uniform(0, height * 0.6)
        spot = Image.new("L", studio.size)
        ImageDraw.Draw(spot).ellipse(
            (x - radius, y - radius, x + radius, y + radius), round(chance.uniform(14, 60))
        )
        ground.paste(
            colour(chance.uniform(0.06, 0.14), chance.uniform(0.2, 0.6), 1),
            mask=spot.filter(ImageFilter.GaussianBlur(height / 240)),
        )
    table = _table(studio)
    unit = height / 540
    easel = Easel(Image.new("RGBA", studio.size, (60, 40, 30, 0)), scale=unit)
    x = studio.width / unit * 0.5
    dye = blend(colour(chance.random(), 0.35, 0.8), (250, 246, 240), chance.uniform(0.2, 0.8))
    easel.stroke(path("-100,470 20,476 150,468", x), (24, 12, 8), 26, blur=14, fade=0.6)
    easel.shape(
        path("-160,462 0,440 160,462 0,488", x),
        blend(dye, (255, 255, 255), 0.15),
        depth=0.35,
        soft=8,
    )
    easel.stroke(
        path("90,330 142,334 146,386 70,412", x),
        blend(dye, (0, 0, 0), 0.12),
        15,
    )
    easel.shape(
        mirrored(
            path("0,286 104,296! 98,370 72,440 44,464 0,467", x),
            x,
        ),
        dye,
        depth=0.5,
        soft=22,
    )
    easel.shape(
        mirrored(path("0,276 76,282 105,298 76,312 0,318", x), x),
        blend(dye, (255, 255, 255), 0.35),
        depth=0.15,
        soft=5,
    )
    easel.shape(
        mirrored(path("0,284 66,289 92,299 66,309 0,313", x), x),
        (72, 42, 26),
        depth=0.25,
        soft=6,
    )
    easel.stroke(
        path("-50,300 -10,294 30,300 4,306", x),
        (186, 132, 84),
        5,
        blur=2,
        fade=0.7,
    )
    easel.stroke(path("-70,330 -66,390 -46,436", x), (255, 255, 255), 10, blur=6, fade=0.45)
    cup = Layer(easel.finished(), 0.3)
    steam = Easel(Image.new("RGBA", studio.size, (255, 250, 244, 0)), scale=unit)
    for dx in (-36, 4, 42):
        wave = [(x + dx + 20 * math.sin(k * 0.8 + dx), 280 - 30 * k) for k in range(7)]
        steam.stroke(wave, (255, 250, 244), 10, blur=11, fade=0.5)
    layers = [
        Layer(ground.convert("RGBA"), 0.6),
        Layer(table, 0.35),
        cup,
        Layer(steam.finished(), 0.36),
    ]
    return studio.finished(Scenery(studio.width, studio.height, layers))


def _table(studio: Studio) -> Image.Image:
    chance, (width, height) = studio.chance, studio.size
    wood = chance.choice(((150, 98, 58), (122, 80, 50), (176, 126, 82)))
    top = round(height * 0.72)
    sheet = Image.new("RGBA", studio.size, (*wood, 0))
    boards = gradient(
        (width, height - top),
        (blend(wood, (255, 220, 170), 0.22), wood, blend(wood, (0, 0, 0), 0.45)),
    )
    draw = ImageDraw.Draw(boards)
    for _ in range(190):
        y = chance.uniform(0, height - top)
        x, long = chance.uniform(-0.3, 1) * width, chance.uniform(0.1, 0.6) * width
        tone = blend(wood, (30, 14, 6), chance.uniform(0.1, 0.5))
        draw.line((x, y, x + long, y + chance.uniform(-2, 2)), tone, 1)
    boards = Image.blend(boards, boards.filter(ImageFilter.GaussianBlur(height / 300)), 0.6)
    sheet.paste(boards, (0, top))
    edge = Image.new("L", studio.size)
    ImageDraw.Draw(edge).rectangle((0, top, width, height), fill=255)
    sheet.putalpha(edge.filter(ImageFilter.GaussianBlur(height / 200)))
    return sheet


def abstract(studio: Studio) -> Scenery:
    """Return folded bands of colour with soft shadows."""
    chance, (width, height) = studio.chance, studio.size
    hue, turn = chance.random(), chance.uniform(0.18, 0.4) * chance.choice((1, -1))
    tones = [
        colour(hue + turn * k / 8, 0.35 + 0.45 * abs(math.sin(k)), 0.95 - 0.07 * k)
        for k in range(9)
    ]
    ground = gradient(studio.size, (blend(tones[0], (255, 255, 255), 0.55), tones[0]))
    ground.paste(
        (255, 255, 255),
        mask=glow(
            studio.size, (width * chance.uniform(0.2, 0.8), height * 0.25), height * 0.5, 0.5
        ),
    )
    layers = [Layer(ground.convert("RGBA"), 0.05)]
    for index in range(1, 9):
        waves = [
            (chance.uniform(0.4, 1.6), chance.uniform(0, 7), chance.uniform(0.25, 1) / (k + 1))
            for k in range(3)
        ]
        line: list[Point] = []
        for k in range(121):
            at = k / 120
            lift = sum(
                size * math.sin(math.tau * rate * (j + 1) * at * width / height / 1.4 + phase)
                for j, (rate, phase, size) in enumerate(waves)
            )
            line.append((at * width * 2, (0.12 + 0.1 * index + 0.07 * lift) * height * 2))
        mask = Image.new("L", (width * 2, height * 2))
        ImageDraw.Draw(mask).polygon([*line, (width * 2, height * 2), (0, height * 2)], fill=255)
        mask = mask.reduce(2)
        shadow = ImageChops.offset(
            mask.filter(ImageFilter.GaussianBlur(height / 40)), 0, -height // 70
        )
        sheet = gradient(
            studio.size,
            (
                blend(tones[index], (255, 255, 255), 0.3),
                tones[index],
                blend(tones[index], (20, 10, 60), 0.45),
            ),
        )
        dark = Image.new("RGBA", studio.size, (16, 10, 40, 0))
        dark.putalpha(mapped(shadow, lambda level: level * 2 // 5))
        sheet.putalpha(mask)
        dark.alpha_composite(sheet)
        layers.append(Layer(dark, 0.1 + 0.9 * index / 8))
    return studio.finished(Scenery(studio.width, studio.height, layers))

"""Garments and products on plain grounds."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Literal

from PIL import Image, ImageDraw, ImageFilter

from darkroom_tools.emulators.drawing.easel import (
    Colour,
    Easel,
    Point,
    blend,
    colour,
    gradient,
    grain,
    mirrored,
    path,
)
from darkroom_tools.emulators.drawing.people import AXIS, SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

GarmentKind = Literal["tee", "hoodie", "dress"]

DYES: tuple[Colour, ...] = (
    (38, 70, 110),
    (200, 78, 62),
    (236, 176, 62),
    (56, 116, 96),
    (116, 74, 128),
    (58, 60, 70),
    (214, 128, 140),
    (92, 142, 178),
)


def garment(seed: object, kind: GarmentKind | None = None) -> Image.Image:
    """Return a T-shirt, hoodie or dress that lies on a plain ground, 768 x 1024."""
    chance = random.Random(f"garment:{seed}")  # noqa: S311 -- repeatable, not secret
    kind = kind or chance.choice(("tee", "hoodie", "dress"))
    ground = colour(chance.random(), 0.02, 0.965)
    top, bottom, scale = {
        "tee": (330, 830, 1.72),
        "hoodie": (318, 830, 1.6),
        "dress": (330, 1010, 1.28),
    }[kind]
    shift = (SIZE[0] / 2 / scale - AXIS, SIZE[1] / 2 / scale - (top + bottom) / 2)
    image = Image.new("RGB", SIZE, ground)
    shadow = Easel(image, scale=scale, shift=shift)
    outlines = _pieces(kind)
    for outline in outlines:
        shadow.shape(
            [(x + 3, y + 7) for x, y in outline], blend(ground, (40, 40, 60), 0.16), depth=0
        )
    easel = Easel(shadow.finished().filter(ImageFilter.GaussianBlur(9)), scale=scale, shift=shift)
    dye = chance.choice(DYES)
    cloth = _cloth(dye, chance, kind, easel.scale)
    for outline in outlines:
        easel.shape(outline, cloth, depth=0.34, soft=11)
    _folds(easel, outlines, chance)
    _details(easel, kind, dye)
    return grain(easel.finished(), chance, 0.01)


def _pieces(kind: GarmentKind) -> list[list[Point]]:
    """Return the outlines of the sleeves and the body, in the order they are painted."""
    sleeve: Sequence[Point]
    if kind == "hoodie":
        sleeve = path(
            "118,378 160,404 184,480 196,600 212,720 220,806! 172,812! 152,700 138,600 110,500 96,430"
        )
    else:
        sleeve = path("112,372 158,398 180,470 196,548! 132,562! 116,490 100,420")
    body: list[Point] = {
        "tee": path(
            "384,412 420,400 438,346! 474,358 510,380 520,440 508,500 504,600 506,730 512,818! 384,828"
        ),
        "hoodie": path(
            "384,420 416,408 440,344! 478,358 516,380 524,450 514,520 514,640 518,740 510,826! 384,830"
        ),
        "dress": path(
            "384,420 424,408 440,346! 474,358 508,380 514,440 502,500 482,620 512,740 552,880 582,990! 480,1006 384,1010"
        ),
    }[kind]
    sleeves = [[(AXIS + side * x, y) for x, y in sleeve] for side in (1, -1)]
    return [*sleeves, mirrored(body, AXIS)]


def _cloth(
    dye: Colour, chance: random.Random, kind: GarmentKind, scale: float
) -> Colour | Image.Image:
    pattern = chance.choice(
        ("plain", "stripes", "dots", "check") if kind != "hoodie" else ("plain", "plain", "stripes")
    )
    light = blend(dye, (255, 250, 240), 0.8)
    side = round(34 * scale / 2)
    if pattern == "plain":
        return dye
    tile = Image.new("RGB", (side, side), dye)
    draw = ImageDraw.Draw(tile)
    if pattern == "stripes":
        draw.rectangle((0, 0, side, side * 0.3), light)
    elif pattern == "dots":
        radius = side * 0.13
        for x, y in ((0.25, 0.25), (0.75, 0.75)):
            draw.ellipse(
                (side * x - radius, side * y - radius, side * x + radius, side * y + radius), light
            )
    else:
        draw.rectangle((0, 0, side, side * 0.5), blend(dye, light, 0.35))
        draw.rectangle((0, 0, side * 0.5, side), blend(dye, light, 0.35))
        draw.rectangle((0, 0, side * 0.5, side * 0.5), blend(dye, light, 0.75))
    return tile


def _folds(easel: Easel, outlines: list[list[Point]], chance: random.Random) -> None:
    body = outlines[-1]
    bottom = max(y for _, y in body)
    for side in (1, -1):
        for index in range(3):
            x = AXIS + side * (34 + 26 * index + chance.uniform(-8, 8))
            y = chance.uniform(560, 640)
            line = [
                (x, y),
                (x + side * 6, (y + bottom) / 2),
                (x + side * chance.uniform(2, 18), bottom - 14),
            ]
            easel.stroke(line, (20, 20, 40), 5, blur=6, fade=0.30, within=body)
            easel.stroke(
                [(px - 9, py) for px, py in line],
                (255, 255, 255),
                5,
                blur=6,
                fade=0.22,
                within=body,
            )
        easel.stroke(
            path("116,470 70,520 30,535", AXIS, side=side),
            (20, 20, 40),
            5,
            blur=7,
            fade=0.28,
            within=body,
        )
        easel.stroke(
            path("128,392 126,440 112,492", AXIS, side=side),
            (20, 20, 40),
            1.6,
            blur=0.8,
            fade=0.5,
        )


def _details(easel: Easel, kind: GarmentKind, dye: Colour) -> None:
    trim = blend(dye, (0, 0, 0), 0.28)
    if kind == "hoodie":
        hood = path("50,336 72,356 70,392 46,430 -4,454! -4,424 26,404 40,372")
        for side in (-1, 1):
            easel.shape(
                [(AXIS + side * x, y) for x, y in hood],
                blend(dye, (0, 0, 0), 0.12),
                depth=0.4,
                soft=8,
            )
        easel.shape(
            mirrored(
                path("384,640 446,640! 480,720! 474,770! 384,772"),
                AXIS,
            ),
            blend(dye, (255, 255, 255), 0.06),
            depth=0.35,
            soft=6,
        )
        for side in (1, -1):
            easel.stroke(
                path("22,436 25,490 21,540", AXIS, side=side),
                (240, 236, 228),
                4,
            )
        easel.stroke(path("272,806 384,812 496,806"), trim, 2.5, fade=0.7)
    else:
        low = 412 if kind == "tee" else 420
        collar = [(54, 348), (36, low - 10), (0, low + 2), (0, low + 2)]
        easel.stroke(
            [
                *((AXIS - x, y) for x, y in collar[:3]),
                *((AXIS + x, y) for x, y in reversed(collar[:2])),
            ],
            trim,
            7,
        )
        for side in (1, -1):
            easel.stroke(
                path("134,551 166,546 193,538", AXIS, side=side),
                trim,
                2,
                fade=0.6,
            )
        if kind == "dress":
            easel.shape(
                mirrored(path("384,612 482,606! 482,636! 384,640"), AXIS),
                trim,
                depth=0.3,
                soft=4,
            )
        else:
            easel.stroke(path("258,806 384,814 510,806"), trim, 2, fade=0.6)


def product(seed: object) -> Image.Image:
    """Return a bottle, a mug or a pot on a plain ground, 1024 x 1024."""
    chance = random.Random(f"product:{seed}")  # noqa: S311 -- repeatable, not secret
    ground = gradient((1024, 1024), ((250, 250, 249), (244, 244, 243), (236, 236, 236)))
    dye = chance.choice(DYES)
    easel = Easel(ground)
    easel.stroke(path("350,846 512,852 674,846"), (70, 70, 80), 26, blur=16, fade=0.5)
    shape = chance.choice(("bottle", "mug", "pot"))
    if shape == "bottle":
        easel.shape(
            mirrored(path("512,180 556,180! 556,268! 512,270"), 512),
            (52, 52, 58),
            soft=10,
        )
        easel.shape(
            mirrored(
                path("512,268 548,268 552,310 612,360 632,430 632,800 624,846 600,852 512,854"),
                512,
            ),
            dye,
            depth=0.5,
            soft=30,
        )
        easel.shape(
            mirrored(path("512,500 630,500! 630,690! 512,690"), 512),
            (246, 242, 232),
            depth=0.25,
            soft=24,
        )
        easel.stroke([(454, 560), (570, 560)], dye, 10)
        easel.stroke([(474, 600), (550, 600)], (120, 120, 120), 5)
    elif shape == "mug":
        easel.stroke(path("650,480 760,500 770,640 640,700"), blend(dye, (0, 0, 0), 0.1), 40)
        easel.shape(
            mirrored(
                path("512,384 664,384! 660,600 640,800 604,846 512,852"),
                512,
            ),
            dye,
            depth=0.5,
            soft=36,
        )
        easel.shape(
            mirrored(path("512,352 620,360 666,386 620,412 512,420"), 512),
            blend(dye, (255, 255, 255), 0.25),
            depth=0.2,
        )
        easel.shape(
            mirrored(path("512,366 600,372 640,388 600,408 512,414"), 512),
            (70, 44, 30),
            depth=0.2,
        )
    else:
        for angle, length in path("-150,330 -60,420 40,440 140,340"):
            easel.shape(
                [
                    (512, 560),
                    (512, 560),
                    (512 + angle * 0.3 - 60, 560 - length * 0.5),
                    (512 + angle, 560 - length),
                    (512 + angle, 560 - length),
                    (512 + angle * 0.3 + 60, 560 - length * 0.5),
                ],
                (70, 130 + int(angle) // 6, 84),
                depth=0.4,
            )
        easel.shape(
            mirrored(
                path("512,540 660,540! 640,700 604,846! 512,854"),
                512,
            ),
            dye,
            depth=0.5,
            soft=36,
        )
        easel.shape(
            mirrored(path("512,526 680,526! 680,580! 512,586"), 512),
            blend(dye, (255, 255, 255), 0.15),
            depth=0.35,
        )
    easel.stroke(path("430,470 426,620 430,780"), (255, 255, 255), 16, blur=10, fade=0.5)
    return grain(easel.finished(), chance, 0.01)

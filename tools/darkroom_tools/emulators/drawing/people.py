"""Models: stylised figures before a studio wall.

Bodies and garments are drawn on one figure (768 x 1024, axis in the middle), so that every
garment sits on every model.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from darkroom_tools.emulators.drawing.easel import (
    Colour,
    Easel,
    Point,
    blend,
    colour,
    glow,
    gradient,
    grain,
    mirrored,
    path,
)

if TYPE_CHECKING:
    from PIL import Image

SIZE = (768, 1024)
AXIS = 384.0

SKINS: tuple[Colour, ...] = (
    (244, 211, 188),
    (226, 182, 148),
    (198, 142, 104),
    (154, 103, 72),
    (108, 72, 52),
)
HAIRS: tuple[Colour, ...] = (
    (38, 28, 26),
    (74, 46, 32),
    (128, 84, 48),
    (196, 152, 92),
    (146, 66, 40),
    (60, 60, 68),
)


def person(seed: object) -> Image.Image:
    """Return a model in front of a studio wall, 768 x 1024."""
    chance = random.Random(f"person:{seed}")  # noqa: S311 -- repeatable, not secret
    skin = chance.choice(SKINS)
    hair = chance.choice(HAIRS)
    style = chance.choice(("crop", "bob", "long", "bun"))
    wall = colour(chance.uniform(0.4, 0.85), 0.2, 0.78)
    ground = gradient(
        SIZE, (blend(wall, (255, 255, 255), 0.3), wall, blend(wall, (90, 90, 100), 0.12))
    )
    lit = glow(SIZE, (AXIS, 430), 620, 0.5)
    ground.paste((255, 255, 255), mask=lit)
    easel = Easel(ground)
    dark = blend(skin, (90, 40, 30), 0.35)
    if style in ("bob", "long"):
        length = 300 if style == "bob" else 425
        easel.shape(
            mirrored(
                [(384, 108), (440, 122), (472, 190), (478, 260), (486, length - 30), (452, length)],
                AXIS,
            ),
            blend(hair, (0, 0, 0), 0.25),
        )
    if style == "bun":
        easel.shape(mirrored(path("384,66 416,76 424,104 404,132 384,138"), AXIS), hair)
    _body(easel, skin, chance)
    easel.shape(
        mirrored(path("384,326 408,318 420,296 420,262 384,250"), AXIS),
        dark,
        depth=0,
        fade=0.4,
    )
    _head(easel, skin, chance)
    _hair(easel, hair, style)
    return grain(easel.finished(), chance, 0.012)


def _body(easel: Easel, skin: Colour, chance: random.Random) -> None:
    for side in (1, -1):
        arm = path(
            "136,396 160,420 176,500 184,600 196,700 202,790 210,842 206,892 192,924 180,914 170,856 168,790 150,690 142,610 122,480 104,420"
        )
        thumb = path("170,838 178,850 174,886 164,900 158,888 162,856")
        for part in (thumb, arm):
            easel.shape([(AXIS + side * x, y) for x, y in part], skin, depth=0.28, soft=12)
    trousers = colour(chance.random(), 0.25, 0.32)
    easel.shape(
        mirrored(
            path("384,744 480,744! 508,800 522,900 526,1050! 392,1050! 384,920"),
            AXIS,
        ),
        trousers,
        depth=0.4,
        soft=16,
    )
    torso = path(
        "384,268 422,270 424,318 440,346 490,368 526,390 538,420 514,470 500,540 480,640 494,730 500,752 384,756"
    )
    easel.shape(mirrored(torso, AXIS), skin, depth=0.26, soft=14)
    for side in (1, -1):
        easel.stroke(
            path("12,352 50,366 92,372", AXIS, side=side),
            blend(skin, (90, 40, 30), 0.4),
            3,
            blur=2.5,
            fade=0.7,
        )
    tank = (236, 234, 230)
    top = path(
        "384,436 416,424 440,376 452,356! 478,364! 486,420 508,474 498,540 484,640 496,720 506,776! 384,784"
    )
    easel.shape(mirrored(top, AXIS), tank, depth=0.3, soft=16)


def _head(easel: Easel, skin: Colour, chance: random.Random) -> None:
    dark = blend(skin, (90, 40, 30), 0.45)
    for side in (1, -1):
        easel.shape(
            path("66,198 78,194 80,216 70,240 64,236", AXIS, side=side),
            blend(skin, dark, 0.2),
            depth=0.2,
            soft=5,
        )
    easel.shape(
        mirrored(
            path("384,112 428,122 454,164 454,216 440,260 414,290 384,300"),
            AXIS,
        ),
        skin,
        depth=0.22,
        soft=14,
    )
    iris = chance.choice(((86, 60, 40), (70, 96, 110), (74, 98, 66)))
    brow = blend(dark, (30, 20, 20), 0.55)
    for side in (1, -1):

        def at(*points: Point, side: int = side) -> list[Point]:
            return [(AXIS + side * x, y) for x, y in points]

        easel.stroke(at((40, 250), (52, 248)), (226, 100, 90), 14, blur=8, fade=0.3)
        easel.shape(
            at((16, 212), (16, 212), (30, 203), (46, 210), (46, 210), (30, 219)),
            (250, 248, 246),
            depth=0.15,
            soft=3,
        )
        easel.shape(at((31, 203), (38, 211), (31, 219), (24, 211)), iris, depth=0.2, soft=3)
        easel.shape(at((31, 207), (35, 211), (31, 215), (27, 211)), (20, 16, 18), depth=0)
        easel.shape(
            [(AXIS + side * 31 + 3 + dx, 208 + dy) for dx, dy in path("-2,0 0,-2 2,0 0,2")],
            (255, 255, 255),
            depth=0,
        )
        easel.stroke(at((15, 212), (30, 202), (48, 209)), (40, 28, 28), 3)
        easel.stroke(at((14, 190), (32, 183), (52, 191)), brow, 4.5, fade=0.85)
    easel.stroke(path("388,216 394,240 384,248"), dark, 3, blur=1.2, fade=0.8)
    lips = blend(skin, (176, 60, 66), 0.55)
    easel.shape(
        path("362,267! 376,262 384,264 392,262 406,267! 384,270"),
        blend(lips, (60, 20, 20), 0.2),
        depth=0,
    )
    easel.shape(
        path("362,267! 384,270 406,267! 396,278 384,281 372,278"),
        lips,
        depth=0.15,
        soft=4,
    )


def _hair(easel: Easel, hair: Colour, style: str) -> None:
    if style == "crop":
        outline: list[Point] = path(
            "312,206 304,160 322,112 370,88 424,94 462,130 464,176 458,208 452,176 434,150 400,142 360,150 330,156 320,180"
        )
    elif style == "bun":
        outline = mirrored(
            path("384,98 430,108 462,150 462,204 454,210 448,170 424,142 384,134"),
            AXIS,
        )
    else:
        low = 280 if style == "bob" else 330
        outline = [
            (378, 98),
            (430, 104),
            (468, 148),
            (476, 220),
            (478, low),
            (458, low + 8),
            (456, 230),
            (446, 180),
            (416, 150),
            (368, 126),
            (340, 160),
            (322, 190),
            (314, 240),
            (308, low + 8),
            (292, low),
            (292, 220),
            (300, 150),
            (330, 108),
        ]
    easel.shape(outline, hair, depth=0.35, soft=12)
    easel.stroke(
        path("330,138 366,110 416,112"),
        blend(hair, (255, 240, 220), 0.5),
        7,
        blur=6,
        fade=0.45,
    )

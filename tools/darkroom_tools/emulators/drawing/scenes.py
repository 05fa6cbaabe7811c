"""Which scene a prompt suggests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkroom_tools.emulators.drawing.indoors import abstract, still_life
from darkroom_tools.emulators.drawing.nature import land, sea
from darkroom_tools.emulators.drawing.scenery import Scenery, Studio
from darkroom_tools.emulators.drawing.town import city

if TYPE_CHECKING:
    from collections.abc import Callable

CITY_WORDS = {"city", "neon", "alley", "street", "skyline", "tokyo", "urban", "tower", "town"}
SEA_WORDS = {"sea", "ocean", "lighthouse", "beach", "coast", "boat", "waves", "harbour", "harbor"}
STILL_WORDS = {"cup", "mug", "coffee", "tea", "table", "product", "bottle", "bowl", "wooden"}
LAND_WORDS = {"mountain", "mountains", "forest", "valley", "hills", "lake", "landscape", "desert"}
ABSTRACT_WORDS = {"abstract", "pattern", "gradient", "wallpaper", "waves", "shapes", "minimal"}


def paint(
    words: str, key: str, width: int, height: int, *, margin: float = 0.0, without: str = ""
) -> Scenery:
    """Return the scene that ``words`` suggest; everything that varies is drawn from ``key``.

    ``margin``: how much wider than the view the scene is painted; ``without``: words for what is
    left out (sun, clouds, stars, trees).
    """
    said = {word.strip(".,;:!?\"'()") for word in words.lower().split()}
    studio = Studio(said, key, width, height, margin, without.lower())
    kinds: tuple[tuple[set[str], Callable[[Studio], Scenery]], ...] = (
        (STILL_WORDS, still_life),
        (CITY_WORDS, city),
        (SEA_WORDS, sea),
        (LAND_WORDS, land),
        (ABSTRACT_WORDS, abstract),
    )
    hits = [(len(said & names), -index) for index, (names, _) in enumerate(kinds)]
    best = max(hits)
    if best[0] == 0:
        return studio.chance.choice((land, sea, abstract))(studio)
    return kinds[-best[1]][1](studio)

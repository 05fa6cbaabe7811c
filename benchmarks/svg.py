"""A drawing on a card that reads in light and in dark, written as SVG: text stays text."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Literal
from xml.sax.saxutils import escape

WIDTH = 760
MARGIN = 28
TITLE_LINE, ABOUT_LINE = 22, 17
TITLE_LETTERS, ABOUT_LETTERS = 66, 110
"""As many letters as fit into a line of the card, set in the widest of the usual fonts."""

Tone = Literal["ink", "soft", "ours", "other", "goal", "bad"]
Size = Literal["title", "text", "small"]
Anchor = Literal["start", "middle", "end"]

COLOURS: dict[str, tuple[str, str]] = {
    "card": ("#ffffff", "#15191f"),
    "edge": ("#d9dee4", "#30363d"),
    "grid": ("#e9ecef", "#262c34"),
    "ink": ("#1f2328", "#e6edf3"),
    "soft": ("#5b6570", "#9aa4af"),
    "ours": ("#0b7a75", "#3dd6c4"),
    "other": ("#a3acb6", "#636e7b"),
    "goal": ("#a85d00", "#e3a33b"),
    "bad": ("#c4232c", "#ff7b72"),
}
"""Each with what stands for it in the dark."""

SIZES = {"title": "600 16px", "text": "13px", "small": "11.5px"}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a value between ``low`` and ``high`` lies between two places; perhaps by logarithms."""

    low: float
    high: float
    first: float
    last: float
    by_logarithm: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        low, high = self.low, self.high
        if self.by_logarithm:
            low, high, value = math.log(low), math.log(high), math.log(max(low, value))
        return self.first + (value - low) / (high - low) * (self.last - self.first)

    def ticks(self, most: int = 6) -> list[float]:
        """Return round values on the scale; at most so many, unless it goes by logarithms."""
        if self.by_logarithm:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)))
            values = [n * 10.0**decade for decade in decades for n in (1, 2, 5)]
            return [value for value in values if self.low <= value <= self.high]
        rough = (self.high - self.low) / most
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * n for n in (1, 2, 5, 10) if unit * n >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(number * step, 9) for number in range(first, last + 1)]


@dataclass(slots=True)
class Drawing:
    """A card with a sentence that says what was found, and below it what is drawn.

    ``top`` is where there is room below the head; ``height`` is set when everything is drawn.
    """

    title: str
    about: str
    height: float = 0
    top: float = field(init=False)
    _parts: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        at = MARGIN + 12.0
        for text in wrap(self.title, TITLE_LETTERS):
            self.text(MARGIN, at, text, size="title")
            at += TITLE_LINE
        for text in wrap(self.about, ABOUT_LETTERS):
            self.text(MARGIN, at, text, "soft", size="small")
            at += ABOUT_LINE
        self.top = at + 4

    def text(
        self,
        x: float,
        y: float,
        content: str,
        tone: Tone = "ink",
        *,
        size: Size = "text",
        anchor: Anchor = "start",
        more: str = "",
    ) -> None:
        """Write a line of text; ``more`` follows in a softer tone."""
        side = "" if anchor == "start" else f' text-anchor="{anchor}"'
        rest = f'<tspan class="soft small" dx="6">{escape(more)}</tspan>' if more else ""
        self._parts.append(
            f'<text class="{tone} {size}" x="{_round(x)}" y="{_round(y)}"{side}>'
            f"{escape(content)}{rest}</text>"
        )

    def line(
        self,
        *points: tuple[float, float],
        tone: Tone | Literal["grid"],
        width: float = 1,
        dashes: str = "",
    ) -> None:
        """Draw a line through points."""
        path = "M" + "L".join(f"{_round(x)} {_round(y)}" for x, y in points)
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        self._parts.append(
            f'<path class="{tone}-line" d="{path}" stroke-width="{width:g}"{dashed}/>'
        )

    def bar(
        self, x: float, y: float, width: float, height: float, tone: Tone, *, faint: bool = False
    ) -> None:
        """Draw a bar from its upper left corner."""
        opacity = ' opacity=".13"' if faint else ""
        self._parts.append(
            f'<rect class="{tone}" x="{_round(x)}" y="{_round(y)}" width="{_round(max(1.0, width))}" '
            f'height="{_round(height)}" rx="2"{opacity}/>'
        )

    def dot(
        self, x: float, y: float, tone: Tone, *, hollow: bool = False, radius: float = 5
    ) -> None:
        """Draw a dot; a hollow one stands for what has no target."""
        kind = f"{tone}-line card" if hollow else tone
        width = ' stroke-width="1.6"' if hollow else ""
        self._parts.append(
            f'<circle class="{kind}" cx="{_round(x)}" cy="{_round(y)}" r="{radius:g}"{width}/>'
        )

    def svg(self) -> str:
        """Return the file."""
        height = _round(self.height)
        size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        inside = f'x=".5" y=".5" width="{WIDTH - 1}" height="{_round(self.height - 1)}" rx="8"'
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title about">',
            f'<title id="title">{escape(self.title)}</title>',
            f'<desc id="about">{escape(self.about)}</desc>',
            "<style>",
            *(f".{name} {{ font: {font} {FONT}; }}" for name, font in SIZES.items()),
            *_colours(0),
            "@media (prefers-color-scheme: dark) {",
            *_colours(1),
            "}",
            "</style>",
            f'<rect class="card edge-line" {inside}/>',
            *self._parts,
            "</svg>",
        ]
        return "\n".join(lines) + "\n"


def _colours(which: int) -> list[str]:
    rules: list[str] = []
    for name, pair in COLOURS.items():
        rules.append(f".{name} {{ fill: {pair[which]}; }}")
        rules.append(f".{name}-line {{ stroke: {pair[which]}; fill: none; }}")
    rules.append(f"rect.card, circle.card {{ fill: {COLOURS['card'][which]}; }}")
    return rules


def _round(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")

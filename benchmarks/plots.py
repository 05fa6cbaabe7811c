"""The five plots of the README, drawn from the results; their titles too say what was found.

A plot shows numbers that have a label; what stands there in parentheses is said more softly. A
plot for which there are no numbers is not drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias, cast

from benchmarks.svg import MARGIN, WIDTH, Drawing, Scale

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.measure import Number
    from benchmarks.report import Report
    from benchmarks.svg import Tone

RIGHT = WIDTH - MARGIN
ROW = 25.0
BAR = 12.0
HALF_LETTER = 4.5
"""How far below the middle of a row its text stands."""

Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot as a file, the sentence that it says, and what that means for whoever reads it."""

    svg: str
    title: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """Which numbers a plot shows, told ``(benchmark, number)``, and how they are drawn."""

    chosen: Callable[[str, Number], bool]
    draw: Callable[[Sequence[Number]], Drawing]
    meaning: str


def plots(report: Report) -> dict[str, Plot]:
    """Draw what the results have numbers for, by name."""
    drawn: dict[str, Plot] = {}
    for name, recipe in RECIPES.items():
        numbers = [number for of, number in report if number.label and recipe.chosen(of, number)]
        if numbers:
            drawing = recipe.draw(numbers)
            drawn[name] = Plot(drawing.svg(), drawing.title, recipe.meaning)
    return drawn


# --- what they have in common ---


def _detail(number: Number, name: str) -> float:
    return cast("float", number.details[name])


def _tone(*numbers: Number) -> Tone:
    return "ours" if all(number.met for number in numbers) else "bad"


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows that share a scale: at the left what each is about, at the right what was found."""

    drawing: Drawing
    numbers: Sequence[Number]
    scale: Scale
    room: float
    """At the right, for what is said beside the number."""

    @property
    def top(self) -> float:
        return self.drawing.top + 22

    @property
    def bottom(self) -> float:
        return self.top + ROW * len(self.numbers) + 4

    def frame(self, unit: str, goal: float, words: str) -> None:
        """Draw the grid and the line of the target."""
        _axis(self.drawing, self.scale, self.top, self.bottom, unit)
        x = self.scale(goal)
        self.drawing.line((x, self.top), (x, self.bottom), tone="goal", width=1.5, dashes="4 3")
        self.drawing.text(x, self.top - 6, words, "goal", size="small", anchor="middle")
        self.drawing.height = self.bottom + MARGIN

    def write(self, index: int, found: str, more: str = "") -> float:
        """Write what a row is about and what was found; return the row's middle."""
        number, y = self.numbers[index], self.top + 2 + ROW * (index + 0.5)
        name, _, soft = number.label.partition(" (")
        self.drawing.text(MARGIN, y + HALF_LETTER, name, more=soft.removesuffix(")"))
        column = RIGHT - self.room
        self.drawing.text(column, y + HALF_LETTER, found, _tone(number), anchor="end")
        beside = ", ".join(part for part in (more, "" if number.met else "missed") if part)
        if beside:
            self.drawing.text(column + 7, y + HALF_LETTER, beside, "soft", size="small")
        return y


def _axis(drawing: Drawing, scale: Scale, top: float, bottom: float, unit: str) -> None:
    """Draw a grid for a scale from left to right, with its values below."""
    ticks = scale.ticks()
    for value in ticks:
        drawing.line((scale(value), top), (scale(value), bottom), tone="grid")
        shown = f"{value:g}{unit if value == ticks[-1] else ''}"
        drawing.text(scale(value), bottom + 16, shown, "soft", size="small", anchor="middle")


def _duration(seconds: float) -> str:
    """Return a duration in two units at most."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


# --- tokens ---


def _tokens(numbers: Sequence[Number]) -> Drawing:
    """Draw what a picture costs in a conversation: by one batch, and by single calls."""
    judged = next((number for number in numbers if number.target), numbers[0])
    drawing = Drawing(
        f"A conversation about {judged.label} takes {judged.value:,.0f} tokens by one batch, "
        f"{_detail(judged, 'by single calls'):,.0f} by single calls",
        "Tokens (o200k) that a model writes and reads for each picture, from the start to seeing "
        "it; the pictures themselves not counted. Less is better.",
    )
    rows = [(number, way) for number in numbers for way in _ways(number)]
    most = max(tokens / _detail(number, "pictures") for number, (_, tokens, _, _) in rows)
    scale = Scale(0, most, 216, RIGHT - 190)
    y = drawing.top + 14
    for number, (name, tokens, calls, tone) in rows:
        pictures = _detail(number, "pictures")
        end, text = scale(tokens / pictures), y + HALF_LETTER
        if tone == "ours":
            drawing.text(MARGIN, text + ROW / 2 - 3, number.label)
        drawing.text(206, text, name, "soft", size="small", anchor="end")
        drawing.bar(scale(0), y - BAR / 2, end - scale(0), BAR, tone)
        more = f"{tokens:,.0f} in all, {calls:,.0f} calls" if pictures > 1 else f"{calls:.0f} calls"
        drawing.text(end + 8, text, f"{tokens / pictures:,.0f}", more=more)
        y += ROW - 6 if tone == "ours" else ROW + 8
    drawing.height = y
    return drawing


def _ways(number: Number) -> tuple[tuple[str, float, float, Tone], ...]:
    """Return what each way takes: its name, tokens, calls, and how it is drawn."""
    single = _detail(number, "by single calls"), _detail(number, "single calls")
    return (
        ("one batch", number.value, _detail(number, "calls"), "ours"),
        ("single calls", *single, "other"),
    )


# --- batches ---


def _batches(numbers: Sequence[Number]) -> Drawing:
    """Draw how much longer batches take than the limits of their providers allow."""
    (target,) = {number.at_most for number in numbers if number.at_most is not None}
    within = sum(round(number.value, number.digits) <= target for number in numbers)
    drawing = Drawing(
        f"{within} of {len(numbers)} batches are done within {target:g} % of the least time that "
        "the provider's limits allow",
        "Percent over the computed optimum, and how long the batch takes, against emulators that "
        "enforce the limits. Hollow: no target. Less is better.",
    )
    most = max(1.15 * target, *(number.value for number in numbers))
    rows = _Rows(drawing, numbers, Scale(0, most, 404, RIGHT - 150), 76)
    zero, width = rows.scale(0), rows.scale(target) - rows.scale(0)
    drawing.bar(zero, rows.top, width, rows.bottom - rows.top, "goal", faint=True)
    rows.frame(" %", target, f"at most {target:g} %")
    for index, number in enumerate(numbers):
        y = rows.write(index, number.found, _duration(_detail(number, "seconds")))
        x = rows.scale(number.value)
        drawing.line((zero, y), (x, y), tone=_tone(number), width=2)
        drawing.dot(x, y, _tone(number), hollow=not number.target)
    return drawing


# --- polling ---

PLOT_HEIGHT = 260.0


def _polling(numbers: Sequence[Number]) -> Drawing:
    """Draw questions against delay: of this server, of a fixed interval, of doubling ones."""
    pairs = [(next(pair), next(pair)) for _, pair in groupby(numbers, key=lambda n: n.label)]
    polls, late = pairs[0]
    others = [name for name in polls.details if f"{name} %" in late.details and name != "p95"]
    beside = "; ".join(
        f"{name}: {_detail(polls, name):.0f} polls, {_detail(late, f'{name} %'):.0f} %"
        for name in others
    )
    drawing = Drawing(
        f"A job of {polls.label} takes {polls.value:.0f} polls, and its end is noticed "
        f"{late.value:.0f} % late; {beside}",
        "Polls of a job, and how late its end is noticed in percent of its time, by how much such "
        "jobs differ; means. Logarithmic scales. Hollow: no target. Lower left is better.",
    )
    ours = [(n.value, m.value) for n, m in pairs]
    theirs = {
        name: [(_detail(n, name), _detail(m, f"{name} %")) for n, m in pairs] for name in others
    }
    points = [*ours, *(point for spots in theirs.values() for point in spots)]
    top, bottom = drawing.top + 8, drawing.top + 8 + PLOT_HEIGHT
    across = _by_logarithm([x for x, _ in points], 2, MARGIN + 62, RIGHT)
    up = _by_logarithm([y for _, y in points], 1, bottom, top)
    _axis(drawing, across, top, bottom, " polls")
    values = up.ticks()
    for value in values:
        y, shown = up(value), f"{value:g} %{' late' if value == values[-1] else ''}"
        drawing.line((across.first, y), (RIGHT, y), tone="grid")
        drawing.text(across.first - 8, y + 4, shown, "soft", size="small", anchor="end")
    if polls.at_most and late.at_most:
        _corner(drawing, (polls.at_most, late.at_most), across, up)
    for name, spots in theirs.items():
        for x, y in spots:
            drawing.dot(across(x), up(y), "other")
        x, y = min(spots, key=lambda spot: spot[1])
        drawing.text(across(x), up(y) + 20, name, "soft", anchor="middle")
    drawing.line(*((across(x), up(y)) for x, y in ours), tone="ours", width=1.5)
    for (n, m), (x, y) in zip(pairs, ours, strict=True):
        drawing.dot(across(x), up(y), _tone(n, m), hollow=not n.target)
        kind = n.label.removeprefix("60 s").lstrip(", ")
        beside = 21 if n.target else -12  # away from the target's lines
        drawing.text(across(x), up(y) + beside, kind, anchor="middle")
    x, y = ours[-1]
    drawing.text(across(x) + 14, up(y) + HALF_LETTER, "this server", "ours")
    drawing.height = bottom + MARGIN + 2
    return drawing


def _by_logarithm(values: Sequence[float], least: float, first: float, last: float) -> Scale:
    """Return a scale for these values and the usual ones."""
    low = min([least, *(value for value in values if value > 0)]) / 1.05  # 0 has no logarithm
    high = max(50, *values) * 1.15
    return Scale(low, high, first, last, by_logarithm=True)


def _corner(drawing: Drawing, most: Point, across: Scale, up: Scale) -> None:
    """Mark where both targets are met."""
    left, bottom = across.first, up.first
    right, high = across(most[0]), up(most[1])
    drawing.bar(left, high, right - left, bottom - high, "goal", faint=True)
    drawing.line((left, high), (right, high), (right, bottom), tone="goal", width=1.5, dashes="4 3")
    goal = f"at most {most[0]:g} polls, {most[1]:g} % late"
    drawing.text(left + 8, bottom - 10, goal, "goal", size="small")


# --- ratios to the bare server ---


def _bare(numbers: Sequence[Number]) -> Drawing:
    """Draw the times of the bare server and ours as percentages."""
    times = [100 / n.value if n.at_least else 100 * n.value for n in numbers]
    kinds: dict[str, list[float]] = {}
    for number, time in zip(numbers, times, strict=True):
        kinds.setdefault(number.label.partition(" (")[0], []).append(time)
    (first, found), *rest = kinds.items()
    others = "".join(f", a {name} {_range(each)} %" for name, each in rest)
    drawing = Drawing(
        f"A {first} takes {_range(found)} % of a bare server's time{others}",
        "Least time of ours over the bare server's, for both versions of the protocol; the stroke is "
        "the medians' ratio. Over HTTP several are in flight, and ours has the extra http. Hollow: "
        "no target. Less is better.",
    )
    medians = [_of_medians(number) for number in numbers]
    seen = [*times, *(median for median in medians if median is not None)]
    scale = Scale(min(60, *seen), max(120, *seen), 330, RIGHT - 170)
    rows = _Rows(drawing, numbers, scale, 116)
    rows.frame(" %", 100, "bare server")
    for index, (number, time, median) in enumerate(zip(numbers, times, medians, strict=True)):
        more = f"{number.value:.2f} x the requests" if number.at_least else ""
        y = rows.write(index, f"{time:.0f} %", more)
        drawing.line((scale(100), y), (scale(time), y), tone=_tone(number), width=2)
        if median is not None:
            drawing.line((scale(median), y - 6), (scale(median), y + 6), tone="soft", width=1.5)
        if number.at_least:
            goal = scale(100 / number.at_least)
            drawing.line((goal, y - 10), (goal, y + 10), tone="goal", width=1.5, dashes="4 3")
        drawing.dot(scale(time), y, _tone(number), hollow=not number.target)
    return drawing


def _of_medians(number: Number) -> float | None:
    """Return the ratio of the median times in percent, where both are among the details."""
    medians = [
        next((value for label, value in number.details.items() if label in names), None)
        for names in (
            {"ours ms median", "ours µs median", "ours a second, median"},
            {"bare ms median", "bare µs median", "bare a second, median"},
        )
    ]
    ours, bare = medians
    if not isinstance(ours, float | int) or not isinstance(bare, float | int):
        return None
    return 100 * (bare / ours if number.at_least else ours / bare)


def _range(values: Sequence[float]) -> str:
    """Return the least and the greatest of some percentages."""
    least, greatest = f"{min(values):.0f}", f"{max(values):.0f}"
    return least if least == greatest else f"{least} to {greatest}"


# --- allowances ---


def _budgets(numbers: Sequence[Number]) -> Drawing:
    """Draw how much of what we allow ourselves is used."""
    shares = [100 * number.value / cast("float", number.at_most) for number in numbers]
    kept = sum(number.met for number in numbers)
    drawing = Drawing(
        f"{'All' if kept == len(numbers) else f'{kept} of'} {len(numbers)} allowances for memory, "
        "time and tokens are kept",
        "What is used, in percent of the most that we allow ourselves. Less is better.",
    )
    scale = Scale(0, max(115, *shares), 356, RIGHT - 175)
    rows = _Rows(drawing, numbers, scale, 112)
    rows.frame(" %", 100, "allowed")
    for index, (number, share) in enumerate(zip(numbers, shares, strict=True)):
        more = f"of {number.at_most:,g} {number.unit}".rstrip()
        y = rows.write(index, f"{number.value:,.{number.digits}f}", more)
        drawing.bar(scale(0), y - BAR / 2, scale(share) - scale(0), BAR, _tone(number))
    return drawing


BUDGETS = {"memory", "web", "live", "poll", "journal", "pictures", "tokens"}

RECIPES: dict[str, Recipe] = {
    "tokens": Recipe(
        lambda of, _: of == "conversation",
        _tokens,
        "Ask for many at once: the model writes one call and reads summaries, your context stays "
        "free.",
    ),
    "batches": Recipe(
        lambda of, _: of == "batches",
        _batches,
        "You wait for the provider, not for us, and no request is turned away for coming too soon.",
    ),
    "polling": Recipe(
        lambda of, _: of == "polling",
        _polling,
        "A picture is in the chat soon after it is ready, and the provider's rate stays free for "
        "other jobs.",
    ),
    "bare": Recipe(
        lambda of, number: of in {"spawn", "check"} or (of == "web" and bool(number.at_least)),
        _bare,
        "This is what a journal, pacing and all the tools add to a server that does nothing.",
    ),
    "budgets": Recipe(
        lambda of, number: of in BUDGETS and number.at_most is not None,
        _budgets,
        "This is what it takes of your machine and of the model's context, with all providers on.",
    ),
}

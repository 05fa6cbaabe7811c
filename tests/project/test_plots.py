"""The plots show what was found, whatever that is, and read in light and in dark."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from benchmarks.plots import RECIPES, plots
from benchmarks.report import Report
from benchmarks.svg import WIDTH, Drawing, Scale

from tests.project.documents import PLOTS, README, RESULTS

SVG = "{http://www.w3.org/2000/svg}"
MOST_BYTES = 12_000
RUN = Report.read(RESULTS)


def scaled(factor: float) -> Report:
    """Return the run as it would be if everything came out so many times as large."""
    results = {
        name: [replace(number, value=number.value * factor) for number in numbers]
        for name, numbers in RUN.results.items()
    }
    return replace(RUN, results=results)


def words(svg: str) -> str:
    return " ".join("".join(text.itertext()) for text in ET.fromstring(svg).iter(f"{SVG}text"))  # noqa: S314 -- ours


def test_every_plot_is_drawn_and_shown_in_the_readme_with_what_it_means() -> None:
    drawn = plots(RUN)
    assert drawn.keys() == RECIPES.keys()
    assert {path.stem for path in PLOTS.iterdir()} == drawn.keys()
    text = README.read_text("utf-8")
    for name, plot in drawn.items():
        assert f"![{plot.title}](docs/plots/{name}.svg)\n\n{plot.meaning}" in text


@pytest.mark.parametrize("factor", [0.001, 1, 1000])
@pytest.mark.parametrize("name", RECIPES)
def test_a_plot_is_small_and_stays_on_its_card_whatever_was_found(name: str, factor: float) -> None:
    svg = plots(scaled(factor))[name].svg
    assert len(svg.encode()) < MOST_BYTES
    picture = ET.fromstring(svg)  # noqa: S314 -- ours
    height = float(picture.attrib["height"])
    for each in picture.iter():
        for across in ("x", "cx"):
            assert 0 <= float(each.attrib.get(across, 0)) <= WIDTH, ET.tostring(each)
        for down in ("y", "cy"):
            assert 0 <= float(each.attrib.get(down, 0)) <= height, ET.tostring(each)
        for path in re.findall(r"[\d.-]+ [\d.-]+", each.attrib.get("d", "")):
            x, y = map(float, path.split())
            assert 0 <= x <= WIDTH
            assert 0 <= y <= height


@pytest.mark.parametrize("name", RECIPES)
def test_a_plot_says_what_it_shows_to_whoever_cannot_see_it(name: str) -> None:
    plot = plots(RUN)[name]
    picture = ET.fromstring(plot.svg)  # noqa: S314 -- ours
    assert picture.attrib["role"] == "img"
    assert picture.findtext(f"{SVG}title") == plot.title
    assert picture.findtext(f"{SVG}desc")
    assert "prefers-color-scheme: dark" in plot.svg
    assert "href" not in plot.svg
    assert "url(" not in plot.svg


def test_a_plot_says_what_is_missed_and_its_title_changes_with_what_was_found() -> None:
    good, bad = plots(scaled(0.001)), plots(scaled(1000))
    for name in ("batches", "budgets"):
        assert "missed" not in words(good[name].svg)
        assert "missed" in words(bad[name].svg)
        assert good[name].title != bad[name].title
    assert bad["budgets"].title.startswith("0 of ")


def test_a_benchmark_that_did_not_run_has_no_plot() -> None:
    only = replace(RUN, results={"conversation": RUN.results["conversation"]})
    assert list(plots(only)) == ["tokens"]


def test_what_is_written_on_a_card_is_text() -> None:
    drawing = Drawing("a < b & c", "so", height=80)
    drawing.text(10, 60, "<script>")
    picture = ET.fromstring(drawing.svg())  # noqa: S314 -- ours
    assert picture.findtext(f"{SVG}title") == "a < b & c"
    assert "<script>" in words(drawing.svg())


@pytest.mark.parametrize(
    ("scale", "ticks"),
    [
        (Scale(0, 17, 0, 100), [0, 5, 10, 15]),
        (Scale(0, 230, 0, 100), [0, 50, 100, 150, 200]),
        (Scale(0.6, 1.2, 0, 100), [0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2]),
        (Scale(0.9, 60, 0, 100, by_logarithm=True), [1, 2, 5, 10, 20, 50]),
    ],
)
def test_a_scale_has_round_values_at_their_places(scale: Scale, ticks: list[float]) -> None:
    assert scale.ticks() == pytest.approx(ticks)
    assert scale(scale.low) == 0
    assert scale(scale.high) == pytest.approx(100)

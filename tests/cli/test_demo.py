"""`darkroom demo` and its contact sheet."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from darkroom_tools import CATALOGUE
from darkroom_tools.demo.plan import ENDED, Shot, shots
from darkroom_tools.demo.screen import Screen
from darkroom_tools.demo.sheet import Sheet
from tests.cli.support import darkroom, environment

if TYPE_CHECKING:
    from pathlib import Path

EVERYTHING = [o.name for provider in CATALOGUE.providers for o in provider.operations]


class Links(HTMLParser):
    """Collects what a page fetches or leads to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag
        self.found += [
            value for name, value in attrs if name in {"src", "href", "poster"} and value
        ]


def ended(shot: Shot, folder: Path, name: str | None = None) -> Shot:
    shot.state, shot.started, shot.ended = shot.expected, 0.0, 2.5
    shot.files = [folder / (name or "a picture.webp")] if shot.check else []
    return shot


def test_the_plan_uses_every_provider_and_every_shot_can_end_as_expected() -> None:
    plan = shots(EVERYTHING)
    assert {shot.provider for shot in plan} == {p.title for p in CATALOGUE.providers}
    assert all(shot.expected in ENDED for shot in plan)


def test_only_what_is_listed_runs() -> None:
    assert {shot.provider for shot in shots(["zsky_start_image"])} == {"ZSky"}
    assert shots(["claid_start_image_edit"]) == []  # it works on a try-on's result


def test_the_sheet_asks_nobody_for_anything(tmp_path: Path) -> None:
    plan = [ended(shot, tmp_path) for shot in shots(EVERYTHING)]
    page = Sheet(plan, tmp_path, 12.0).html()
    assert not [link for link in Links(page).found if ":" in link or link.startswith("/")]
    assert "url(" not in page
    assert "<script" not in page


def test_the_sheet_writes_what_it_is_given_as_text(tmp_path: Path) -> None:
    (shot,) = shots(["zsky_start_image"])
    shot.words, shot.note = '<img src=x onerror="alert(1)">', "<b>bad</b>"
    ended(shot, tmp_path, 'a "<name>".webp').state = "failed"
    page = Sheet([shot], tmp_path, 1.0).html()
    assert "<img src=x" not in page
    assert "<b>bad</b>" not in page
    assert "&lt;b&gt;bad" in page


def test_the_table_says_what_failed_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = shots(["zsky_start_image", "zsky_start_video"])
    ended(good, tmp_path, "a.webp").polls = 2
    ended(bad, tmp_path).state = "failed"
    bad.note = "ZSky could not be reached"
    Screen().table([good, bad])
    said = capsys.readouterr().out
    assert re.search(r"ok +ZSky +Image +completed +2\.5 s +2 ", said)
    assert re.search(r"FAILED +ZSky +Video +failed", said)
    assert "ZSky could not be reached" in said


@pytest.mark.slow
def test_the_demo_runs_everything_and_leaves_a_page_with_its_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    done = darkroom("demo", "--out", str(folder), variables=environment(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    plan = shots(EVERYTHING)
    assert len(re.findall(r"^ok ", done.stdout, re.MULTILINE)) == len(plan)
    jobs = [shot for shot in plan if shot.check is not None]
    assert len(re.findall(r"completed +[\d.]+ s +[1-9]", done.stdout)) == len(jobs)  # with polls
    links = Links((folder / "index.html").read_text("utf-8")).found
    assert len(links) >= len(jobs)
    for link in links:
        assert (folder / unquote(link)).stat().st_size > 0, link
    assert {path.suffix for path in folder.iterdir()} >= {".webp", ".webm", ".jpg", ".html"}


@pytest.mark.slow
def test_the_demo_does_not_touch_the_persons_folders(tmp_path: Path) -> None:
    variables = environment(tmp_path, DARKROOM_CONFIG=str(tmp_path / "there-is-none.toml"))
    done = darkroom("demo", "--out", str(tmp_path / "out"), variables=variables)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"out"}

"""The contact sheet: one page with all results of the demo, which loads nothing from elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from darkroom import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from darkroom_tools.demo.plan import Picture, Shot

STYLE = Path(__file__).with_name("sheet.css")
JUDGED = "A prompt, judged before it is used"
VIDEOS = frozenset({".webm", ".mp4", ".mov"})


class Sheet:
    """The page of one run; paths of pictures are relative to ``folder``."""

    def __init__(self, shots: Sequence[Shot], folder: Path, seconds: float) -> None:
        self._shots = shots
        self._folder = folder
        self._seconds = seconds

    def html(self) -> str:
        """Return the whole page."""
        good = sum(shot.good for shot in self._shots)
        pictures = sum(len(shot.files) for shot in self._shots)
        polls = sum(shot.polls or 0 for shot in self._shots)
        at = datetime.now(UTC)
        facts = (
            (f"{good}/{len(self._shots)}", "ended as they should"),
            (str(pictures), "pictures"),
            (f"{self._seconds:.0f} s", "in all"),
            (str(polls), "questions to providers"),
        )
        return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="dark light">
<title>Darkroom contact sheet</title>
<style>
{STYLE.read_text("utf-8")}</style>
</head>
<body>
<header>
<div>
<h1>Darkroom</h1>
<p>Contact sheet of <time datetime="{at:%Y-%m-%dT%H:%M:%SZ}">{at:%d %B %Y, %H:%M} UTC</time>.
Everything on it was made by the sandbox, through one MCP server.</p>
</div>
<dl>{"".join(f"<div><dt>{words}</dt><dd>{number}</dd></div>" for number, words in facts)}</dl>
</header>
<main>
{"".join(self._card(number, shot) for number, shot in enumerate(self._shots, 1))}</main>
<footer>darkroom {escape(__version__)} · no key, no network, no cost · this page asks nobody for
anything</footer>
</body>
</html>
"""

    def _card(self, number: int, shot: Shot) -> str:
        kind = "verdict" if shot.check is None else "group" if len(shot.files) > 1 else "print"
        mark = "good" if shot.good else "bad"
        body = self._verdict(shot) if shot.check is None else self._prints(shot)
        facts = [f"{shot.seconds(0.0):.1f} s"]
        if shot.polls is not None:
            facts.append("1 poll" if shot.polls == 1 else f"{shot.polls} polls")
        if shot.cost:
            facts.append(shot.cost)
        words = JUDGED if shot.check is None else escape(shot.words)
        note = "" if shot.good else f'<p class="note">{escape(shot.note)}</p>'
        return f"""<article class="{kind}">
{body}<div class="caption">
<h2><span class="number">{number:02}</span>{escape(shot.title)}<small>{escape(shot.provider)}</small>\
<span class="state {mark}">{shot.state}</span></h2>
<p>{words}</p>
{note}{self._inputs(shot)}<p class="facts">{" · ".join(map(escape, facts))}</p>
</div>
</article>
"""

    def _prints(self, shot: Shot) -> str:
        if not shot.files:
            return '<div class="prints empty">nothing came</div>\n'
        shown = "".join(self._print(file, shot) for file in shot.files)
        return f'<div class="prints">{shown}</div>\n'

    def _print(self, file: Path, shot: Shot) -> str:
        source, words = quote(self._relative(file)), escape(shot.words, quote=True)
        if file.suffix in VIDEOS:
            return (
                f'<video src="{source}" aria-label="{words}" autoplay muted loop playsinline '
                "controls></video>"
            )
        return f'<a href="{source}"><img src="{source}" alt="{words}"></a>'

    def _verdict(self, shot: Shot) -> str:
        words, said = escape(shot.words), escape(shot.note if shot.good else "no answer")
        return f'<blockquote class="{shot.state}">“{words}”<b>{said}</b></blockquote>\n'

    def _inputs(self, shot: Shot) -> str:
        shown = list(self._input_pictures(shot))
        return f'<p class="inputs"><span>from</span>{"".join(shown)}</p>\n' if shown else ""

    def _input_pictures(self, shot: Shot) -> Iterator[str]:
        if shot.source is not None and shot.source.files:
            source = quote(self._relative(shot.source.files[0]))
            yield f'<img src="{source}" alt="{escape(shot.source.words, quote=True)}">'
        for picture in shot.inputs:
            yield f'<img src="inputs/{picture.name}" alt="{_named(picture)}">'

    def _relative(self, file: Path) -> str:
        return file.relative_to(self._folder).as_posix()


def _named(picture: Picture) -> str:
    return f"{picture.kind} {picture.number}"

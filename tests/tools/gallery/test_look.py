"""The gallery and the demo's contact sheet share one look."""

from __future__ import annotations

import re
from importlib.resources import files

TOOLS = files("darkroom_tools")


def palettes(style: str) -> set[frozenset[tuple[str, str]]]:
    """Return the colours that each theme defines."""
    blocks = re.findall(r"\{([^{}]*--ground:[^{}]*)\}", style)
    return {frozenset(re.findall(r"(--[a-z-]+): (#[0-9a-f]+);", block)) for block in blocks}


def test_the_gallery_has_the_colours_of_the_contact_sheet() -> None:
    gallery = palettes(TOOLS.joinpath("gallery", "gallery.html").read_text("utf-8"))
    sheet = palettes(TOOLS.joinpath("demo", "sheet.css").read_text("utf-8"))
    assert len(gallery) == len(sheet) == 2
    for theme in sheet:
        shared = {(name, colour) for name, colour in theme if name != "--glow"}
        assert any(shared <= other for other in gallery)


def test_the_gallery_names_nothing_outside_itself() -> None:
    page = TOOLS.joinpath("gallery", "gallery.html").read_text("utf-8")
    assert not re.findall(r"https?://|@import|url\(|<link|src=[\"']", page)

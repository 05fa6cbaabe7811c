"""The server's icon, small enough to be part of the server's description."""

from __future__ import annotations

from urllib.parse import quote

_SVG = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'>"
    "<rect width='24' height='24' rx='5' fill='#1c1012'/>"
    "<circle cx='12' cy='7' r='3' fill='#e5383b'/>"
    "<path d='M5 20V13h14v7z' fill='#f5e9e0'/>"
    "<path d='M7 19l3-4 2 2 2-3 3 5z' fill='#6b4f4f'/></svg>"
)

ICON = "data:image/svg+xml," + quote(_SVG, safe="='/:,")

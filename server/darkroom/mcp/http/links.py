"""Links to results, for people whose files are on another machine.

Whoever has a link sees that one file, for ten minutes: a picture in a chat cannot sign in. The link
holds the owner, the job, the output's index and when it ends, and a signature over all of them.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlencode

import anyio
from starlette.responses import FileResponse, PlainTextResponse, Response

from darkroom.core.errors import CallError
from darkroom.results.integrity import NotKeptError, open_kept

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Scope

    from darkroom.engine.engine import Engine
    from darkroom.providers.values import Output

PATH = "/files/"
SECONDS = 600
"""How long a link is good."""

MOST_REMEMBERED = 1_000
"""Files that were checked, and have the same size and time as then."""

SHOWN_TYPES = ("image/", "video/")
"""Everything else is offered as a download: a page would run in this server's name."""

HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
    "referrer-policy": "no-referrer",
    "cache-control": "private, max-age=300",
    "cross-origin-resource-policy": "cross-origin",
}


class Links:
    """Makes links and checks them. ``base`` is the server's address as people reach it."""

    def __init__(self, base: str, secret: bytes, clock: Callable[[], float]) -> None:
        self._base = base
        self._secret = secret
        self._clock = clock

    def make(self, owner: str, job_id: str, index: int) -> tuple[str, float]:
        """Return the link to an output and when it ends, in seconds since the epoch."""
        until = int(self._clock()) + SECONDS
        query = urlencode(
            {"of": owner, "until": until, "sig": self._sign(owner, job_id, index, until)}
        )
        return f"{self._base}{PATH}{quote(job_id)}/{index}?{query}", float(until)

    def read(self, path: str, query: str) -> tuple[str, str, int, bool] | None:
        """Return owner, job, index and whether the link has ended; None if it is not one of ours."""
        job_id, _, number = path.removeprefix(PATH).partition("/")
        given = {name: values[0] for name, values in parse_qs(query).items() if len(values) == 1}
        owner, until = given.get("of", ""), given.get("until", "")
        if not (number.isascii() and number.isdigit() and until.isascii() and until.isdigit()):
            return None
        if len(number) + len(until) > 24:  # noqa: PLR2004 -- more digits than any of ours
            return None
        index, end = int(number), int(until)
        right = self._sign(owner, job_id, index, end)
        if not hmac.compare_digest(right.encode(), given.get("sig", "").encode()):
            return None
        return owner, job_id, index, self._clock() > end

    def _sign(self, owner: str, job_id: str, index: int, until: int) -> str:
        text = "\n".join(("file", owner, job_id, str(index), str(until)))
        return urlsafe_b64encode(hmac.digest(self._secret, text.encode(), hashlib.sha256)).decode()


class Files:
    """Answers links. ``engine`` returns the engine of the current lifespan, if there is one."""

    def __init__(self, links: Links, engine: Callable[[], Engine | None]) -> None:
        self._links = links
        self._engine = engine
        self._sound: dict[Path, tuple[int, int]] = {}

    async def answer(self, scope: Scope) -> Response:
        """Return the file of a link, or a refusal that says nothing about what else there is."""
        if scope["method"] not in {"GET", "HEAD"}:
            return PlainTextResponse("only GET\n", 405, {"allow": "GET, HEAD"})
        found = self._links.read(scope["path"], scope["query_string"].decode("latin-1"))
        engine = self._engine()
        if found is None or engine is None:
            return _missing()
        owner, job_id, index, ended = found
        if ended:
            return PlainTextResponse("this link has ended: ask for the results again\n", 410)
        try:
            live = await engine.of(owner).job(job_id)
        except CallError:
            return PlainTextResponse("the journal cannot be read now\n", 503, {"retry-after": "15"})
        outputs = live.job.outputs if live is not None else ()
        output = next((each for each in outputs if each.index == index), None)
        if output is None:
            return _missing()
        try:
            path = await anyio.to_thread.run_sync(
                self._checked, engine.settings.results_folder, output
            )
        except NotKeptError:
            return _missing()
        media_type = output.media_type or ""
        shown = media_type.startswith(SHOWN_TYPES) and "svg" not in media_type
        return FileResponse(
            path,
            headers=HEADERS,
            media_type=media_type if shown else "application/octet-stream",
            filename=path.name,
            content_disposition_type="inline" if shown else "attachment",
        )

    def _checked(self, folder: Path, output: Output) -> Path:
        """Return an output's file; its checksum is compared again when size or time have changed.

        A player asks for a long video in hundreds of pieces.
        """
        path = Path(output.file or "")
        state = _state(path)
        if state is None or self._sound.get(path) != state:
            open_kept(folder, output).close()
            if len(self._sound) >= MOST_REMEMBERED:
                self._sound.clear()
            self._sound[path] = _state(path) or (0, 0)
        return path


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _missing() -> Response:
    return PlainTextResponse("there is nothing here\n", 404)

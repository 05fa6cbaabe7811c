"""Takes local files in: finds them, checks them, and keeps the copies that are sent.

A file is read once. What is hashed, kept in the state folder and sent later is a copy without
metadata, so that a file that changes afterwards changes nothing. No text of a caller can make
anything leave that does not lie in the configured folders and is not a picture or a video.
"""

from __future__ import annotations

import glob
import hashlib
import io
import os
import stat
import time
from collections import OrderedDict
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote, urlsplit

from darkroom.core.errors import CallError, DarkroomError, call_error
from darkroom.core.files import OWNER_ONLY, make_private_folder, write_atomic
from darkroom.core.media_types import EXTENSIONS, MEDIA_TYPES, sniff_media_type
from darkroom.providers.params import LOCAL_FILE, is_local_file
from darkroom.providers.values import LocalFile
from darkroom.results import filenames
from darkroom.results.decoder import Decoder
from darkroom.results.problems import NoPictureError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from darkroom.core.executor import Executor
    from darkroom.providers.params import Takes

MOST_BYTES = 100_000_000
"""Of one file; what a provider takes is less."""

MOST_FILES = 200
"""Of a folder or a pattern."""

MOST_LOOKED_AT = 10_000
HEAD_BYTES = 4096
PER_CHILD = 8
"""Files that one process decodes, so that none of them comes near the time that it has."""

KEPT_SECONDS = 86_400.0
"""How long a copy is kept that no job waits for: an identical call, a retry needs it again."""

LABEL_CHARACTERS = 40
MOST_SAID = 1_000

_READ = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
GIVE_AGAIN = "give the file again"
OTHER_FILE = "correct it and call again, or give a public https address"
FOLDER = "it is a folder: name a file (for_each of start_batch takes a folder)"


class RefusedFileError(DarkroomError):
    """A file cannot be used; the text says why and what to do."""


class Intake:
    """The local files of jobs.

    ``roots``: the folders whose files may be sent, resolved. ``folder``: where copies are kept.
    """

    def __init__(
        self,
        roots: tuple[Path, ...],
        folder: Path,
        run: Executor,
        *,
        fit: bool,
        keep_metadata: bool,
    ) -> None:
        self._roots = roots
        self._folder = folder
        self._run = run
        self._decoder = Decoder(run)
        self._fit = fit
        self._keep = keep_metadata
        self._said: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    # --- what a call gives ---

    async def take(self, texts: Mapping[str, Takes]) -> dict[str, str]:
        """Return, for each text that stands for a file, the reference that takes its place.

        Raises
        ------
        CallError: ``input_failed``, naming every file that cannot be used.
        """
        taken: dict[str, str] = {}
        mistakes: list[str] = []
        wanted = list(texts.items())
        for begin in range(0, len(wanted), PER_CHILD):
            async with self._decoder.session() as session:
                for text, takes in wanted[begin : begin + PER_CHILD]:
                    try:
                        if LOCAL_FILE.fullmatch(text):
                            await self._run(lambda text=text: self._use(text))
                            taken[text] = text
                            continue
                        data, media_type, name = await self._run(lambda text=text: self._read(text))
                        facts, made = await session.prepare(
                            lambda data=data: io.BytesIO(data), self._wanted(media_type, takes)
                        )
                        taken[text] = await self._keep_copy(name, facts, made)
                    except (RefusedFileError, NoPictureError) as error:
                        mistakes.append(f"{_shown(text)}: {error}")
        if mistakes:
            raise call_error("input_failed", f"{'; '.join(mistakes)}; nothing was sent", OTHER_FILE)
        return taken

    def said(self, references: Collection[str]) -> tuple[str, ...]:
        """Return what was done to files so that a provider takes them."""
        return tuple(
            f"{reference.rpartition('/')[2]}: {text}"
            for reference in references
            for text in self._said.get(reference, ())
        )

    def _wanted(self, media_type: str, takes: Takes) -> dict[str, object]:
        return {
            "media_type": media_type,
            "media_types": takes.media_types,
            "max_bytes": takes.max_bytes,
            "max_pixels": takes.max_pixels,
            "max_side": takes.max_side,
            "min_side": takes.min_side,
            "fit": self._fit,
            "keep": self._keep,
        }

    async def _keep_copy(self, name: str, facts: Mapping[str, object], made: bytes) -> str:
        extension = EXTENSIONS[cast("str", facts["media_type"])]
        label = filenames.slug(Path(name).stem)[:LABEL_CHARACTERS] or "file"
        sha256 = await self._run(lambda: hashlib.sha256(made).hexdigest())
        reference = f"input:{sha256}/{label}.{extension}"
        path = self._path(sha256, extension)

        def write() -> None:
            make_private_folder(self._folder)
            if path.exists():
                os.utime(path)
            else:
                write_atomic(path, made, mode=OWNER_ONLY, durable=True)

        try:
            await self._run(write)
        except OSError as error:
            raise RefusedFileError(
                f"its copy cannot be kept in the state folder ({error.strerror})"
            ) from None
        if said := tuple(cast("list[str]", facts["said"])):
            self._said[reference] = said
            while len(self._said) > MOST_SAID:
                self._said.popitem(last=False)
        return reference

    # --- reading a file of the person ---

    def locate(self, text: str) -> Path:
        """Return the real path of what a text names, if it may be sent.

        Raises
        ------
        RefusedFileError: it lies outside the folders, is hidden, or is not there.
        """
        real, root = self._resolved(_path_of(text))
        if any(part.startswith(".") for part in real.relative_to(root).parts):
            raise RefusedFileError("hidden files and folders are not sent")
        if not real.exists():
            raise RefusedFileError(
                f"there is no such file (a relative path begins at {self._roots[0]})"
            )
        return real

    def _resolved(self, path: Path) -> tuple[Path, Path]:
        try:
            real = (self._roots[0] / path).resolve()
        except (OSError, RuntimeError):
            raise RefusedFileError("its path cannot be resolved") from None
        root = next((root for root in self._roots if real.is_relative_to(root)), None)
        if root is None:  # said of a path whether or not anything is there
            folders = ", ".join(str(root) for root in self._roots)
            raise RefusedFileError(
                f"it lies outside the folders whose files may be sent ({folders}); "
                "the person can name others in [inputs] roots"
            )
        return real, root

    def _read(self, text: str) -> tuple[bytes, str, str]:
        """Return the content of a file, its media type by its bytes, and its name."""
        real = self.locate(text)
        if real.is_dir():
            raise RefusedFileError(FOLDER)
        try:
            return self._content(real)
        except OSError as error:
            raise RefusedFileError(f"it cannot be read ({error.strerror})") from None

    def _content(self, real: Path) -> tuple[bytes, str, str]:
        with open(real, "rb", opener=lambda path, _: os.open(path, _READ)) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise RefusedFileError("it is no file")
            if before.st_size == 0:
                raise RefusedFileError("it is empty")
            if before.st_size > MOST_BYTES:
                raise RefusedFileError(f"it is larger than {MOST_BYTES // 1_000_000} MB")
            head = file.read(HEAD_BYTES)
            media_type = sniff_media_type(head)
            if media_type is None or media_type not in EXTENSIONS:
                raise RefusedFileError("it is neither a picture nor a video, by its content")
            data = head + file.read(MOST_BYTES)
            after = os.fstat(file.fileno())
        same = os.path.samestat(before, os.lstat(real)) if real.exists() else False
        unchanged = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        if not same or not unchanged or len(data) != before.st_size or real.resolve() != real:
            raise RefusedFileError("it changed while it was read; try again")
        return data, media_type, real.name

    # --- folders and patterns ---

    def expand(self, text: str) -> tuple[list[str], list[str]] | None:
        """Return the files of a folder or a pattern, sorted, and the names that were left out.

        None: the text names one file, or none at all. Of a folder the pictures and videos are
        taken; a pattern is taken as it is written.

        Raises
        ------
        RefusedFileError: nothing matches, too much does, or it may not be looked at.
        """
        if not is_local_file(text) or text.startswith("input:"):
            return None
        path = _path_of(text)
        if glob.has_magic(text) and not (self._roots[0] / path).exists():
            return self._matching(path), []
        try:
            folder = self.locate(text)
        except RefusedFileError:
            return None  # said where the file is taken
        return self._in_folder(folder) if folder.is_dir() else None

    def _matching(self, pattern: Path) -> list[str]:
        whole = self._roots[0] / pattern
        if "**" in whole.parts:
            raise RefusedFileError("** is not taken: give a pattern for each folder")
        fixed = Path(*takewhile(lambda part: not glob.has_magic(part), whole.parts))
        self._resolved(fixed)
        if ".." in whole.parts[len(fixed.parts) :]:  # it would tell what lies outside the folders
            raise RefusedFileError(".. is not taken in a pattern")
        names = glob.iglob(str(whole))  # noqa: PTH207 -- it leaves hidden files out
        found = sorted(islice(names, MOST_LOOKED_AT))
        files = [each for each in found if not Path(each).is_dir()]
        if not files:
            raise RefusedFileError("nothing matches this pattern")
        return _at_most(files)

    def _in_folder(self, folder: Path) -> tuple[list[str], list[str]]:
        names = sorted(entry.name for entry in islice(os.scandir(folder), MOST_LOOKED_AT))
        taken: list[str] = []
        left_out: list[str] = []
        for name in names:
            path = folder / name
            if name.startswith(".") or path.is_dir():
                continue
            (taken if _is_picture(path) else left_out).append(str(path))
        if not taken:
            raise RefusedFileError("there is no picture or video in this folder")
        return _at_most(taken), [Path(each).name for each in left_out]

    # --- the copies ---

    def _path(self, sha256: str, extension: str) -> Path:
        return self._folder / f"{sha256}.{extension}"

    def _use(self, reference: str) -> Path:
        """Return a copy's path, which is kept for longer from now on."""
        match = LOCAL_FILE.fullmatch(reference)
        extension = reference.rpartition(".")[2]
        if match is None or extension not in MEDIA_TYPES:
            raise RefusedFileError("expected the path of a file")
        path = self._path(match[1], extension)
        try:
            os.utime(path)
        except OSError:
            raise RefusedFileError(f"its copy is not kept any more; {GIVE_AGAIN}") from None
        return path

    async def file(self, reference: str) -> LocalFile:
        """Return the copy that a reference stands for; its content is what was hashed.

        Raises
        ------
        CallError: ``input_failed``.
        """
        try:
            return await self._run(lambda: self._file(reference))
        except RefusedFileError as error:
            name = reference.rpartition("/")[2]
            raise call_error("input_failed", f"{name}: {error}", GIVE_AGAIN) from None

    def _file(self, reference: str) -> LocalFile:
        path = self._use(reference)
        name, sha256 = reference.rpartition("/")[2], path.stem
        hashed = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                hashed.update(block)
        if hashed.hexdigest() != sha256:
            path.unlink(missing_ok=True)  # given again, the file is kept anew
            raise RefusedFileError("its copy in the state folder has changed")
        return LocalFile.of(
            reference,
            path,
            name=name,
            media_type=MEDIA_TYPES[path.suffix[1:]],
            bytes=path.stat().st_size,
            sha256=sha256,
        )

    async def file_of_output(self, path: Path, takes: Takes) -> str:
        """Take in a file that is the output of an earlier job; return its reference.

        Raises
        ------
        CallError: ``input_failed``.
        """

        def read() -> tuple[bytes, str]:
            data = path.read_bytes()
            media_type = sniff_media_type(data[:HEAD_BYTES])
            if media_type is None:
                raise RefusedFileError("it is neither a picture nor a video, by its content")
            return data, media_type

        try:
            data, media_type = await self._run(read)
            async with self._decoder.session() as session:
                facts, made = await session.prepare(
                    lambda: io.BytesIO(data), self._wanted(media_type, takes)
                )
            return await self._keep_copy(path.name, facts, made)
        except OSError:
            raise _unusable(path, "its file is gone") from None
        except (RefusedFileError, NoPictureError) as error:
            raise _unusable(path, str(error)) from None

    async def prune(self, used: Collection[str]) -> None:
        """Delete the copies that were not used for a time and are not among ``used`` hashes."""
        await self._run(lambda: self._prune(used))

    def _prune(self, used: Collection[str]) -> None:
        now = time.time()  # as the system's clock stamps files
        try:
            entries = list(os.scandir(self._folder))
        except OSError:
            return
        for entry in entries:
            old = entry.is_file() and now - entry.stat().st_mtime > KEPT_SECONDS
            if old and Path(entry.name).stem not in used:
                Path(entry.path).unlink(missing_ok=True)


def _path_of(text: str) -> Path:
    """Read a path as people and hosts write it."""
    if "\0" in text:
        raise RefusedFileError("expected a path")
    if text.lower().startswith("file:"):
        parts = urlsplit(text)
        if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
            raise RefusedFileError("expected file:///path of this computer")
        path = unquote(parts.path)
        if os.name == "nt":
            path = path.lstrip("/")
        return Path(path)
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise RefusedFileError("there is no such home folder") from None


def _is_picture(path: Path) -> bool:
    if not path.is_file():  # to open a pipe would wait for somebody who writes
        return False
    try:
        with path.open("rb") as file:
            media_type = sniff_media_type(file.read(HEAD_BYTES))
    except OSError:
        return False
    return media_type is not None and media_type in EXTENSIONS


def _at_most(files: list[str]) -> list[str]:
    if len(files) > MOST_FILES:
        raise RefusedFileError(f"these are {len(files)} files; at most {MOST_FILES} are taken")
    return files


def _unusable(path: Path, reason: str) -> CallError:
    return call_error("input_failed", f"{path.name}: {reason}", "run that job again")


def _shown(text: str) -> str:
    """Return what a caller gave, short enough for a message."""
    return text if len(text) <= 80 else f"…{text[-79:]}"  # noqa: PLR2004 -- the end tells most

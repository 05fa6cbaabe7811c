"""The journal's SQLite file: opening it safely, transactions, and messages for SQLite's errors."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from darkroom.core.errors import ConfigurationError, JournalError
from darkroom.core.files import make_private_folder, trusted
from darkroom.jobs.storage.schema import STEPS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator
    from pathlib import Path

BUSY_TIMEOUT_SECONDS = 10.0
"""How long to wait while another process writes."""

WAL_TRIES = 100
"""How many times to try if several processes create the journal at the same moment."""

_REASONS = {
    "SQLITE_FULL": "the disk is full",
    "SQLITE_READONLY": "it cannot be written to",
    "SQLITE_PERM": "it cannot be written to",
    "SQLITE_CANTOPEN": "it, or the files beside it, cannot be opened",
    "SQLITE_BUSY": "another process keeps it locked",
    "SQLITE_LOCKED": "another process keeps it locked",
    "SQLITE_PROTOCOL": "its lock does not work",
    "SQLITE_IOERR": "reading or writing the disk failed",
    "SQLITE_CORRUPT": "it is damaged",
    "SQLITE_NOTADB": "it is damaged or no journal",
}
"""Messages by the beginning of SQLite's error name; any other error is a bug of ours."""

_ELSEWHERE = (
    "set [jobs] state_dir to a folder on a local disk that you may write to, "
    'or [jobs] store = "memory" to do without a journal'
)


def connect(path: Path) -> sqlite3.Connection:
    """Open or create the journal, usable from any thread; do not change a file that is unusable."""
    import sqlite3  # noqa: PLC0415 -- a start without a journal does not pay for it

    _make_private(path)
    refusal = "so it is left as it is (what it knows keeps jobs from being paid twice)"
    with translated(path, f"{refusal}: {_ELSEWHERE}", ConfigurationError):
        database = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            database.execute("PRAGMA synchronous = FULL")
            # On macOS a plain fsync does not flush the disk's cache; elsewhere this has no effect.
            database.execute("PRAGMA fullfsync = ON")
            with transaction(database):
                _bring_up_to_date(database, path)
            _turn_on_wal(database, path)
        except BaseException:
            database.close()
            raise
        return database


def _make_private(path: Path) -> None:
    """Make the folder and the file, for the person only; SQLite gives its other files that mode."""
    trusted(path.parent, "the state folder")
    for name in _names(path):
        trusted(path.with_name(name), "the journal")
    try:
        make_private_folder(path.parent)
        with suppress(FileExistsError):
            # Do not open an existing file: closing it would release SQLite's locks of this process.
            path.touch(mode=0o600, exist_ok=False)
        for name in _names(path):
            with suppress(FileNotFoundError):
                path.with_name(name).chmod(0o600)
    except OSError as error:
        raise ConfigurationError(
            f"the journal {path} cannot be made or opened ({error.strerror}): {_ELSEWHERE}"
        ) from None


def _names(path: Path) -> tuple[str, ...]:
    return (path.name, f"{path.name}-wal", f"{path.name}-shm")


def _bring_up_to_date(database: sqlite3.Connection, path: Path) -> None:
    """Create or upgrade the tables; refuse a file of a newer version or of another program."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > len(STEPS):
        raise ConfigurationError(
            f"the journal {path} was written by a newer version of Darkroom (schema {version}, "
            f"this one knows {len(STEPS)}): upgrade darkroom-mcp, or {_ELSEWHERE}"
        )
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if version == 0 and tables:
        raise ConfigurationError(f"{path} is not a journal of Darkroom: {_ELSEWHERE}")
    for step in STEPS[version:]:
        for statement in step:
            database.execute(statement)
    if version < len(STEPS):
        database.execute(f"PRAGMA user_version = {len(STEPS)}")


def _turn_on_wal(database: sqlite3.Connection, path: Path) -> None:
    import sqlite3  # noqa: PLC0415 -- as above

    tries_left = WAL_TRIES
    while True:
        try:
            (mode,) = database.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            tries_left -= 1
            if not tries_left or not error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise
        # Changing the journal mode does not wait for another process; beginning a transaction does.
        with transaction(database):
            pass
    if mode != "wal":
        raise ConfigurationError(
            f"the journal {path} is on a disk that processes cannot share safely (no write-ahead log; "
            f"a network folder?): {_ELSEWHERE}"
        )


class SameFile:
    """Knows whether the journal's path still leads to the files that are open.

    A file that was deleted or moved can be written to as long as it is open; what is written there
    the next start does not find, and pays for it again.
    """

    def __init__(self, path: Path) -> None:
        self._paths = (path, path.with_name(f"{path.name}-wal"))
        self._known: dict[Path, tuple[int, int]] = {}
        with suppress(JournalError):
            self.need("")

    def need(self, otherwise: str) -> None:
        """Raise `JournalError` if a file is another one now, or gone; ``otherwise`` as below."""
        for path in self._paths:
            try:
                found = path.stat()
                now = (found.st_dev, found.st_ino)
            except OSError:
                now = None
            known = self._known.get(path)
            if known is None and now is not None:  # the log is made by the first change
                self._known[path] = now
            elif now != known:
                raise JournalError(
                    f"the journal {self._paths[0]} failed: {path.name} was deleted or replaced "
                    f"while this server runs, {otherwise}: put it back, or start the server again"
                )


@contextmanager
def transaction(database: sqlite3.Connection) -> Generator[None]:
    """Run a transaction that holds the write lock from its beginning."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


@contextmanager
def translated(
    path: Path, otherwise: str, kind: type[ConfigurationError | JournalError] = JournalError
) -> Generator[None]:
    """Turn SQLite's errors into ours; ``otherwise`` says what the error means for the caller."""
    import sqlite3  # noqa: PLC0415 -- as above

    try:
        yield
    except sqlite3.DatabaseError as error:
        # Errors without a code come from the Python module and are bugs of ours.
        name = getattr(error, "sqlite_errorname", "")
        for beginning, reason in _REASONS.items():
            if name.startswith(beginning):
                raise kind(f"the journal {path} failed: {reason}, {otherwise}") from error
        raise

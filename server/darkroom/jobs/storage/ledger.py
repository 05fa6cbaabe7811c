"""The ledger, as a table of the journal and in memory."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, cast

from darkroom.jobs.spending import Cap, CapReached, Entry, Sum, day, passes, wants

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Container, Iterable, Sequence

    from darkroom.jobs.store import Horizon
    from darkroom.providers.values import Unit

COLUMNS = (
    "entry_id",
    "owner",
    "provider",
    "operation",
    "unit",
    "amount",
    "basis",
    "money",
    "state",
    "at",
    "holder",
    "asked",
)

TABLE = (
    """CREATE TABLE ledger (
        entry_id TEXT NOT NULL PRIMARY KEY,
        owner TEXT NOT NULL,
        provider TEXT NOT NULL,
        operation TEXT NOT NULL,
        unit TEXT NOT NULL,
        amount REAL NOT NULL,
        basis TEXT NOT NULL,
        money REAL,
        state TEXT NOT NULL,
        at REAL NOT NULL,
        holder TEXT
    )""",
    "CREATE INDEX ledger_counted ON ledger (owner, at) WHERE state != 'released'",
)

FORGOTTEN = (
    """CREATE TABLE ledger_forgotten (
        one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
        before REAL NOT NULL
    )""",
)
"""At most one row: entries before this time have been deleted."""

ASKED = ("ALTER TABLE ledger ADD COLUMN asked INTEGER NOT NULL DEFAULT 0",)
"""Whether the person said yes to an entry; of older entries that is not known, so they count."""

_PUT = (
    f"INSERT INTO ledger ({', '.join(COLUMNS)}) "  # noqa: S608 -- our names
    f"VALUES ({', '.join(f':{name}' for name in COLUMNS)}) "
    "ON CONFLICT (entry_id) DO UPDATE SET amount = :amount, basis = :basis, money = :money, "
    "state = :state, at = :at, asked = :asked"
)
_COUNTED = "owner = ? AND at >= ? AND state != 'released'"


def check(used: float, cap: Cap, entry: Entry) -> None:
    """Raise `CapReached` if the entry would exceed the cap."""
    if passes(used, cap, entry):
        raise CapReached(cap, used, wants(cap, entry))


def look_ahead(
    entry: Entry, caps: Sequence[Cap], used: Callable[[Cap], float]
) -> tuple[CapReached | None, bool]:
    """Return the first cap that the entry would exceed, and whether the person has to be asked."""
    reached, asks = None, False
    for cap in caps:
        try:
            check(used(cap), cap, entry)
        except CapReached as error:
            if cap.unasked:
                asks = True
            else:
                reached = reached or error
    return reached, asks


# --- in SQLite ---


def put(database: sqlite3.Connection, entry: Entry) -> None:
    """Insert an entry, or settle the one with its id; by whom it was reserved stays."""
    database.execute(_PUT, {name: getattr(entry, name) for name in COLUMNS})


def used(database: sqlite3.Connection, owner: str, cap: Cap, beside: str = "") -> float:
    """Return how much of a cap is used; what is negative, from an older version, lifts no cap.

    ``beside`` is the id of an entry that is not counted.
    """
    what = "amount" if cap.unit is not None else "money"
    narrower = " AND provider = ? AND unit = ?" if cap.unit is not None else ""
    whose = "? IS NULL" if cap.everyone else "owner = ?"
    values: list[str | float | None] = [None if cap.everyone else owner, cap.since]
    if cap.unit is not None:
        values += [cap.provider, cap.unit]
    if beside:
        narrower += " AND entry_id != ?"
        values.append(beside)
    if cap.holder is not None:
        narrower += " AND holder = ?"
        values.append(cap.holder)
    if cap.unasked:
        narrower += " AND NOT asked"
    row = database.execute(
        f"SELECT total(max({what}, 0)) FROM ledger WHERE {_COUNTED.replace('owner = ?', whose)}{narrower}",  # noqa: S608 -- our names
        values,
    ).fetchone()
    return cast("float", row[0])


def check_all(database: sqlite3.Connection, entry: Entry, caps: Sequence[Cap]) -> None:
    """Raise `CapReached` for the first cap that the entry would exceed."""
    for cap in caps:
        check(used(database, entry.owner, cap, entry.entry_id), cap, entry)


def sums(database: sqlite3.Connection, owner: str, since: float) -> list[Sum]:
    """Return what counts since a time, by provider, unit and UTC day."""
    rows = database.execute(
        "SELECT provider, unit, date(at, 'unixepoch') AS day, sum(max(amount, 0)), "  # noqa: S608 -- our names
        f"sum(max(money, 0)) FROM ledger WHERE {_COUNTED} GROUP BY provider, unit, day ORDER BY provider, unit, day",
        (owner, since),
    )
    return [Sum(*row) for row in rows]


def prune(database: sqlite3.Connection, horizon: Horizon, most: int) -> int:
    """Delete some entries that no longer count, and record the time from which all are there."""
    holders = database.execute(
        "SELECT DISTINCT holder FROM ledger WHERE at < ? AND holder IS NOT NULL", (horizon.entries,)
    )
    living = [holder for (holder,) in holders.fetchall() if horizon.lives(holder)]
    among = ", ".join("?" for _ in living)
    old = database.execute(
        "SELECT entry_id, state FROM ledger WHERE at < ? "  # noqa: S608 -- our names
        f"AND (holder IS NULL OR holder NOT IN ({among})) "
        f"AND entry_id NOT IN (SELECT job_id FROM jobs) LIMIT {most:d}",
        (horizon.entries, *living),
    ).fetchall()
    database.executemany("DELETE FROM ledger WHERE entry_id = ?", [(each,) for each, _ in old])
    if any(state != "released" for _, state in old):
        database.execute(
            "INSERT INTO ledger_forgotten VALUES (1, ?) "
            "ON CONFLICT (one) DO UPDATE SET before = max(before, excluded.before)",
            (horizon.entries,),
        )
    return len(old)


def forgotten(database: sqlite3.Connection) -> float | None:
    """Return the time before which entries have been deleted; None if none have."""
    row = database.execute("SELECT before FROM ledger_forgotten").fetchone()
    return None if row is None else cast("float", row[0])


# --- in memory ---


class MemoryLedger:
    """The same in a dictionary."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self.forgotten: float | None = None

    def prune(self, horizon: Horizon, jobs: Container[str]) -> None:
        """Delete the entries that count nowhere any more."""
        old = [
            entry
            for entry in self._entries.values()
            if entry.at < horizon.entries
            and entry.entry_id not in jobs
            and (entry.holder is None or not horizon.lives(entry.holder))
        ]
        for entry in old:
            del self._entries[entry.entry_id]
        if any(entry.state != "released" for entry in old):
            self.forgotten = max(horizon.entries, self.forgotten or 0.0)

    def put(self, entry: Entry) -> None:
        """Insert an entry, or settle the one with its id; by whom it was reserved stays."""
        known = self._entries.get(entry.entry_id)
        if known is not None:
            entry = Entry(
                **{name: getattr(entry, name) for name in COLUMNS if name != "holder"},
                holder=known.holder,
            )
        self._entries[entry.entry_id] = entry

    def used(self, owner: str, cap: Cap, beside: str = "") -> float:
        """Return how much of a cap is used, without the entry ``beside``."""
        return sum(
            wants(cap, entry)
            for entry in self._counted(None if cap.everyone else owner, cap.since)
            if entry.entry_id != beside
            and (cap.unit is None or (entry.provider, entry.unit) == (cap.provider, cap.unit))
            and cap.holder in {None, entry.holder}
            and not (cap.unasked and entry.asked)
        )

    def check_all(self, entry: Entry, caps: Sequence[Cap]) -> None:
        """Raise `CapReached` for the first cap that the entry would pass."""
        for cap in caps:
            check(self.used(entry.owner, cap, entry.entry_id), cap, entry)

    def sums(self, owner: str, since: float) -> list[Sum]:
        """Return what counts since a time, by provider, unit and UTC day."""
        groups: defaultdict[tuple[str, Unit, str], list[Entry]] = defaultdict(list)
        for entry in self._counted(owner, since):
            groups[entry.provider, entry.unit, day(entry.at)].append(entry)
        return [
            Sum(*key, sum(entry.amount for entry in entries), _money(entries))
            for key, entries in sorted(groups.items())
        ]

    def _counted(self, owner: str | None, since: float) -> Iterable[Entry]:
        return (
            entry
            for entry in self._entries.values()
            if owner in {None, entry.owner} and entry.at >= since and entry.state != "released"
        )


def _money(entries: Sequence[Entry]) -> float | None:
    known = [entry.money for entry in entries if entry.money is not None]
    return sum(known) if known else None

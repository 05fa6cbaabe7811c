"""The ledger: an entry for every paid action, and the caps on what may be spent.

The ledger follows the jobs: an entry is reserved in the same write that creates a job, and becomes
spent or released in the write that ends it. Caps count reserved and spent entries alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from darkroom.core.errors import CallError, call_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from darkroom.config.settings import Settings
    from darkroom.jobs.model import Intent, Job
    from darkroom.providers.provider import Provider
    from darkroom.providers.values import Basis, Cost, Unit

EntryState = Literal["reserved", "spent", "released"]
Period = Literal["process", "day", "month"]
PERIODS: tuple[Period, ...] = ("process", "day", "month")

ROUNDING = 1e-9
"""Tolerance for rounding errors in sums."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One paid action.

    ``entry_id`` is the job's id, with the number of a later run, or the attempt's without a job.

    ``money`` is what it costs in the currency of the prices; None where no price is known.
    ``at`` is when it was sent, or reserved until then (seconds since the epoch).
    """

    entry_id: str
    owner: str
    provider: str
    operation: str
    unit: Unit
    amount: float
    basis: Basis
    money: float | None
    state: EntryState
    at: float
    holder: str | None = None
    asked: bool = False
    """Whether the person said yes to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """A limit on the sum of the entries since a time; ``unit`` None: in money, all providers.

    ``holder``: only entries that this process has reserved. ``unasked``: only entries that nobody
    was asked about; beyond such a limit the person is asked.
    """

    setting: str
    limit: float
    since: float
    provider: str | None = None
    unit: Unit | None = None
    holder: str | None = None
    unasked: bool = False
    everyone: bool = False
    """Entries of all owners count, not only those of the owner who spends."""


@dataclass(frozen=True, slots=True)
class Sum:
    """The sum of a provider's entries in one unit on one UTC day (``2026-11-22``)."""

    provider: str
    unit: Unit
    day: str
    amount: float
    money: float | None


class CapReached(CallError):  # noqa: N818 -- a limit doing its work
    """A reservation would pass a cap; nothing was written and nothing is sent."""

    def __init__(self, cap: Cap, used: float, wanted: float) -> None:
        amounts = f"{number(used)} used, this call needs {number(wanted)} more; nothing was sent"
        if cap.everyone:  # what the others have spent is not this person's to see
            amounts = f"too little is left for the {number(wanted)} of this call; nothing was sent"
        if cap.unasked:
            reached = call_error(
                "declined",
                f"[approval] above_per_day.{cap.setting} = {number(cap.limit)}: {amounts}, "
                "because the person has to be asked first",
                "repeat the call: it asks the person",
            )
        else:
            reached = call_error(
                "spend_cap_reached",
                f"[spending] {cap.setting} = {number(cap.limit)}: {amounts}",
                "tell the person; get_spending shows what is left",
            )
        super().__init__(reached.failure)
        self.cap = cap
        self.used = used
        self.wanted = wanted


def number(value: float) -> str:
    """Return an amount as text, without a fraction if it is a whole number."""
    return f"{value:g}"


def counted(value: float, unit: str) -> str:
    """Return an amount with its unit as text; the singular for 1."""
    return f"{number(value)} {unit.removesuffix('s') if value == 1 else unit}"


class Tariff:
    """Prices and caps, from the settings and the providers' documented prices."""

    def __init__(self, settings: Settings, providers: Mapping[str, Provider], holder: str) -> None:
        self._spending = settings.spending
        self._team = settings.team.issuer is not None
        self._above = settings.approval.above
        self._above_per_day = settings.approval.above_per_day
        self._never_ask = settings.approval.never_ask
        self._providers = providers
        self._holder = holder

    def price(self, provider: str, unit: Unit) -> float | None:
        """Return the price of one unit: configured, else documented, else unknown."""
        configured = getattr(self._spending, f"{provider}_{unit}_price", None)
        if configured is not None:
            return configured
        declared = self._providers.get(provider)
        return declared.prices.get(unit) if declared is not None else None

    def money(self, provider: str, cost: Cost) -> float | None:
        """Return a cost in money; None if no price is known."""
        price = self.price(provider, cost.unit)
        return None if price is None else price * cost.amount

    def entry(self, job: Job) -> Entry | None:
        """Return the ledger entry of a job; None if the job costs nothing (yet).

        A job that ended without having been accepted is released. A job that was accepted counts
        until the provider says that it costs nothing.
        """
        if job.cost is None or job.unapproved:
            return None
        accepted = job.provider_job_id is not None or job.status == "completed"
        if job.status == "cancelled" and job.submitted_at is None:
            accepted = False  # its id belonged to a request that was opened before
        if not job.ended:
            state: EntryState = "reserved"
        else:
            state = "spent" if accepted else "released"
        return Entry(
            entry_id=job.job_id if job.runs == 1 else f"{job.job_id}@{job.runs}",
            owner=job.owner,
            provider=job.provider,
            operation=job.operation,
            unit=job.cost.unit,
            amount=job.cost.amount,
            basis=job.cost.basis,
            money=self.money(job.provider, job.cost),
            state=state,
            at=booked_at(job),
            holder=self._holder,
            asked=job.asked,
        )

    def caps_for(self, job: Job, now: float) -> Sequence[Cap]:
        """Return the caps that a job's cost counts against; none for a job that costs nothing."""
        return self.caps(job.provider, job.cost.unit, now) if job.cost is not None else ()

    def reservation(self, intent: Intent) -> Entry | None:
        """Return the entry that a job of this intent would begin with, had it asked nobody."""
        if intent.cost is None:
            return None
        return Entry(
            entry_id=intent.job_id,
            owner=intent.owner,
            provider=intent.provider,
            operation=intent.operation,
            unit=intent.cost.unit,
            amount=intent.cost.amount,
            basis=intent.cost.basis,
            money=self.money(intent.provider, intent.cost),
            state="reserved",
            at=intent.created_at,
            holder=self._holder,
        )

    def caps(self, provider: str, unit: Unit, now: float) -> list[Cap]:
        """Return the caps that apply to a provider's unit, and those in money that apply to all.

        In a team those of ``[spending]`` are for everybody together, and those of
        ``[spending.person]`` for each.
        """
        if not self._team:
            return self._caps(self._spending, provider, unit, now)
        person = getattr(self._spending, "person", None)
        shared = self._caps(self._spending, provider, unit, now)
        own = self._caps(person, provider, unit, now) if person is not None else []
        return [
            *(replace(cap, everyone=True) for cap in shared),
            *(replace(cap, setting=f"person.{cap.setting}") for cap in own),
        ]

    def _caps(self, section: object, provider: str, unit: Unit, now: float) -> list[Cap]:
        found: list[Cap] = []
        for period in PERIODS:
            since, holder = beginning(period, now), self._holder if period == "process" else None
            own = f"{provider}_{unit}_per_{period}"
            limit = getattr(section, own, None)
            if limit is not None:
                found.append(
                    Cap(
                        setting=own,
                        limit=limit,
                        since=since,
                        provider=provider,
                        unit=unit,
                        holder=holder,
                    )
                )
            money = f"money_per_{period}"
            limit = getattr(section, money, None)
            if limit is not None:
                found.append(Cap(setting=money, limit=limit, since=since, holder=holder))
        return found

    def unasked_caps(self, tool: str, provider: str, unit: Unit, now: float) -> list[Cap]:
        """Return the limits of ``[approval] above_per_day`` on what a tool spends without asking.

        What a tool in ``never_ask`` spends is counted, but it asks nobody.
        """
        if tool in self._never_ask:
            return []
        since, name = beginning("day", now), f"{provider}_{unit}"
        found: list[Cap] = []
        if (limit := self._above_per_day.get(name)) is not None:
            own = Cap(
                setting=name, limit=limit, since=since, provider=provider, unit=unit, unasked=True
            )
            found.append(own)
        if (limit := self._above_per_day.get("money")) is not None:
            found.append(Cap(setting="money", limit=limit, since=since, unasked=True))
        return found

    def unasked_caps_for(self, job: Job, tool: str, now: float) -> Sequence[Cap]:
        """Return the same for a job that ``tool`` starts; none if the person has said yes to it."""
        if job.cost is None or job.asked:
            return ()
        return self.unasked_caps(tool, job.provider, job.cost.unit, now)

    def question(
        self, tool: str, provider: Provider, cost: Cost, *, anyway: bool = False
    ) -> str | None:
        """Return the question before a cost above ``[approval] above``; None: no question.

        ``anyway``: ask whatever it costs, because too much was spent today without asking.
        """
        costs: dict[tuple[str, Unit], float] = {(provider.name, cost.unit): cost.amount}
        if not anyway and not self._is_above(costs):
            return None
        what = f"Spend {counted(cost.amount, cost.unit)}{self._about(costs)}"
        return f"{what} at {provider.title} on {tool}?"

    def question_for_all(
        self, costs: Mapping[tuple[str, Unit], float], *, anyway: bool = False
    ) -> str | None:
        """Return the question before costs of which any is above ``[approval] above``.

        ``anyway``: ask whatever they are, as `question` does.
        """
        if not anyway and not self._is_above(costs):
            return None
        parts = [f"{counted(amount, unit)} at {name}" for (name, unit), amount in costs.items()]
        return ", ".join(parts) + self._about(costs)

    def _is_above(self, costs: Mapping[tuple[str, Unit], float]) -> bool:
        """Tell whether costs are above an amount in ``[approval] above``.

        A unit without a price may cost anything, so it is above any amount of money.
        """
        limits = ((f"{provider}_{unit}", amount) for (provider, unit), amount in costs.items())
        if any(name in self._above and amount > self._above[name] for name, amount in limits):
            return True
        known, unpriced = self._priced(costs)
        if unpriced and self._counts_money:
            return True
        return "money" in self._above and sum(known) > self._above["money"] + ROUNDING

    @property
    def _counts_money(self) -> bool:
        return "money" in self._above or "money" in self._above_per_day

    def _about(self, costs: Mapping[tuple[str, Unit], float]) -> str:
        """Return the costs in money as text, as far as prices are known."""
        known, unpriced = self._priced(costs)
        about = [f"about {sum(known):.2f}"] if known else []
        if unpriced and self._counts_money:
            about.append(f"no price is known for {', '.join(unpriced)}")
        return f" ({', '.join(about)})" if about else ""

    def _priced(self, costs: Mapping[tuple[str, Unit], float]) -> tuple[list[float], list[str]]:
        """Return the amounts in money, and the units with a cost but no price."""
        known: list[float] = []
        unpriced: list[str] = []
        for (provider, unit), amount in costs.items():
            price = self.price(provider, unit)
            if price is not None:
                known.append(price * amount)
            elif amount > 0:
                unpriced.append(f"{provider}_{unit}")
        return known, unpriced


def booked_at(job: Job) -> float:
    """Return the time that a job's cost is booked at: its sending, before that its queueing.

    Otherwise what waited over midnight, or is run again, would pass the caps of a new day.
    """
    if job.submitted_at is not None:
        return job.submitted_at
    if job.status == "queued":
        return job.updated_at
    return job.run_at or (job.approval.given_at if job.approval else None) or job.created_at


def wants(cap: Cap, entry: Entry) -> float:
    """Return how much of a cap an entry uses; an unknown amount of money uses nothing."""
    return entry.amount if cap.unit is not None else (entry.money or 0.0)


def passes(used: float, cap: Cap, entry: Entry) -> bool:
    """Tell whether an entry would exceed a cap."""
    wanted = wants(cap, entry)
    return wanted > 0 and used + wanted > cap.limit + ROUNDING


def beginning(period: Period, now: float) -> float:
    """Return when the current UTC day or month began; 0 for the period of a process."""
    if period == "process":
        return 0.0
    at = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (at.replace(day=1) if period == "month" else at).timestamp()


def day(at: float) -> str:
    """Return the UTC day of a time, as ISO 8601."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")

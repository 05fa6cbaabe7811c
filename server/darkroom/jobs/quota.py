"""What a provider takes in a time, counted from our journal: its quota, and its suspension rule.

What other programs use of the same account is in the provider's own counters. They are read before
the first start, and again every few minutes while starts leave a request to spare. The quota is
enforced just before a request is sent. Before that it is reported: in the question to
the person, in an estimate, and with the job.

The rule by which a provider suspends a key is never met: what is not decided yet, and the attempt
that is about to be made, count as rejected, so whatever becomes of them, the rule is not met. Nor is
it met later by good attempts leaving the window before the bad ones: every shorter window is looked
at, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio

from darkroom.core.errors import CallError, Failure, call_error
from darkroom.core.times import iso
from darkroom.jobs.spending import beginning
from darkroom.jobs.store import Sent, Share, Usage
from darkroom.providers.messages import UNREADABLE, Request
from darkroom.providers.operations import JobOperation, Quota

if TYPE_CHECKING:
    from collections.abc import Sequence

    from darkroom.jobs.context import JobContext
    from darkroom.providers.credentials import Key
    from darkroom.providers.provider import Provider, Suspension
    from darkroom.providers.values import Status

DAY_SECONDS = 86_400.0
COUNTERS_SECONDS = 240.0
"""After this the provider's counters are read again before a start."""

CONTENDED_COUNTERS_SECONDS = 600.0
"""The same while starts need every request: then the last of them would wait a minute longer."""

COUNTERS_WAIT_SECONDS = 5.0
"""How long a start waits for them; then it is decided without."""

MARGIN_SECONDS = 60.0
"""A request arrives, and its outcome counts, so much later than we wrote it down."""

SPARED_SECONDS = 5.0
"""How often a job that waits for its key's sake looks again; its neighbours' outcomes help as well."""

GOOD: frozenset[Status] = frozenset({"completed", "failed", "cancelled"})
"""Decided, and not rejected by the provider's safety check."""


@dataclass(frozen=True, slots=True)
class Room:
    """What is left of the limit ``most``: ``free`` jobs; ``waiting`` jobs come before a new one."""

    most: int
    free: int
    waiting: int

    @property
    def left(self) -> int:
        """How many new jobs fit after those that wait."""
        return max(0, self.free - self.waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What the quota means for new jobs of an operation; ``tomorrow``: when the next day begins."""

    title: str
    day: Room | None
    month: Room | None
    overage: bool
    tomorrow: float
    shares: tuple[Share, ...] = ()
    """What the write that sends a job has to find free, for other processes count as well."""

    danger: Failure | None = None
    """Why a job is not sent now: it could get the key suspended; None: it cannot."""

    @property
    def refusal(self) -> CallError | None:
        """The error with which a new job would certainly end, if any."""
        if self.month is None or self.month.free or self.overage:
            return None
        return call_error(
            "quota_exhausted",
            f"the month's allowance of {self.month.most} at {self.title} is used up, here or by "
            "others with this key; nothing was sent",
            "tell the person; calling again will not help before the allowance renews, unless the "
            "configuration allows overage",
        )

    @property
    def charge(self) -> str | None:
        """The sentence about one new job that the month does not, or may not, cover."""
        if self.month is None or self.month.left or (self.waits and _new_month(self.tomorrow)):
            return None
        used = f"the month's allowance of {self.month.most} at {self.title}"
        if not self.month.free:
            return f"It goes beyond {used}, which charges for it."
        then = "it is charged for then" if self.overage else "it is refused then"
        return f"What waits before it may use up {used}: {then}."

    @property
    def delay(self) -> str | None:
        """The sentence about one new job that has to, or may have to, wait for the next day."""
        if self.day is None or self.day.left:
            return None
        waits = "waits" if self.waits else "may have to wait"
        return (
            f"It {waits} for the next UTC day ({iso(self.tomorrow)}) or longer: {self.title} takes "
            f"{self.day.most} a day."
        )

    @property
    def said(self) -> tuple[str, ...]:
        """The sentences that the person should read before one new job is started."""
        return tuple(text for text in (self.delay, self.charge) if text is not None)

    @property
    def waits(self) -> bool:
        """Whether a new job certainly waits for the next day."""
        return self.day is not None and not self.day.free


async def outlook(
    context: JobContext,
    provider: Provider,
    operation: JobOperation,
    owner: str,
    fingerprint: str,
    *,
    behind: bool = True,
) -> Outlook:
    """Return what new jobs of an operation meet, ``behind`` all that wait here or before them."""
    now = context.clock()
    periods = beginnings(context, provider, operation, fingerprint, now)
    rule, sent, usage = provider.suspension, None, Usage(0, ())
    if rule is not None and not behind:  # it is about to be sent
        names = (each.name for each in provider.operations if isinstance(each, JobOperation))
        sent = Sent(tuple(names), now - rule.window_seconds - MARGIN_SECONDS)
    if periods or sent is not None:
        usage = await context.registry.store.usage(owner, operation.name, periods, sent=sent)
    ahead = outlook_of(context, provider, operation, usage, fingerprint, now, behind=behind)
    if rule is None or sent is None or not endangers(usage.outcomes, rule):
        return ahead
    return replace(ahead, danger=_danger(provider, rule, usage.outcomes))


async def read_counters(
    context: JobContext, provider: Provider, operation: JobOperation, key: Key
) -> None:
    """Read the provider's counters of the month, if a start depends on them and they are old.

    If they cannot be read, the journal alone decides until they are tried again.
    """
    allowance, quota = provider.allowance, quota_of(context, provider.name, operation)
    if allowance is None or allowance.left is None or quota.monthly is None or quota.overage:
        return
    client, now = context.clients[provider.name], context.clock()
    account, limiter = client.account(key.fingerprint), client.limiter(key.fingerprint)
    if account.counters_at is None:
        account.counters_since = account.counters_since or now
    age = now - (account.counters_at or account.counters_since)
    open_jobs = sum(live.job.provider == provider.name for live in context.registry)
    spare = limiter.free() > open_jobs  # each needs a poll; what waits to start is counted already
    if age < CONTENDED_COUNTERS_SECONDS and (
        not spare or (account.counters_at is not None and age < COUNTERS_SECONDS)
    ):
        return
    account.counters_at = now
    with anyio.move_on_after(COUNTERS_WAIT_SECONDS):
        try:
            response = await client.read(Request(method="GET", path=allowance.path), key)
            if response.ok:
                allowance.left(response, operation.name)  # raises if it cannot be read
                account.counters = response
        except (CallError, *UNREADABLE):
            return


def _counters(
    context: JobContext, provider: Provider, operation: JobOperation, fingerprint: str, now: float
) -> tuple[float, int] | None:
    """Return when the provider's counters were read in this month, and what they leave."""
    account, allowance = context.clients[provider.name].account(fingerprint), provider.allowance
    response, quota = account.counters, quota_of(context, provider.name, operation)
    if response is None or response.received_at < beginning("month", now) or quota.overage:
        return None
    if allowance is None or allowance.left is None or quota.monthly is None:
        return None
    return response.received_at, allowance.left(response, operation.name)


def endangers(outcomes: Sequence[Status], rule: Suspension) -> bool:
    """Tell whether one more attempt could meet the rule; ``outcomes`` are the last ones, newest first."""
    attempts = rejected = 1  # the new one, at its worst
    for status in (None, *outcomes):
        if status is not None:
            attempts += 1
            rejected += status not in GOOD
        if attempts >= rule.least and rejected > rule.share * attempts:
            return True
    return False


def _danger(provider: Provider, rule: Suspension, outcomes: Sequence[Status]) -> Failure:
    rejected = sum(status == "blocked" for status in outcomes)
    return Failure(
        code="suspended",
        message=f"{provider.title} rejected {rejected} of the last {len(outcomes)} requests as "
        f"unsafe and would suspend the key for {rule.suspended_seconds / 3600:g} hours; the rest "
        "waits here",
        next_step="it goes on by itself as the window passes; tell the person, or cancel prompts "
        "that may be unsafe",
        retryable=True,
    )


def beginnings(
    context: JobContext,
    provider: Provider,
    operation: JobOperation,
    fingerprint: str,
    now: float,
) -> tuple[float, ...]:
    """Return since when jobs count for an operation's quota: the day, the month, the counters."""
    quota = quota_of(context, provider.name, operation)
    found: list[float] = []
    if quota.daily is not None:
        found.append(beginning("day", now))
    if quota.monthly is not None:
        found.append(beginning("month", now))
    if (counters := _counters(context, provider, operation, fingerprint, now)) is not None:
        found.append(counters[0])
    return tuple(found)


def outlook_of(
    context: JobContext,
    provider: Provider,
    operation: JobOperation,
    usage: Usage,
    fingerprint: str,
    now: float,
    *,
    behind: bool = True,
) -> Outlook:
    """Return what new jobs meet, given how many there were since `beginnings`."""
    quota, accepted = quota_of(context, provider.name, operation), list(usage.accepted)

    def room(most: int | None) -> Room | None:
        if most is None:
            return None
        return Room(most, max(0, most - accepted.pop(0)), usage.waiting if behind else 0)

    today, month = beginning("day", now), beginning("month", now)
    limits = [(quota.daily, today), (None if quota.overage else quota.monthly, month)]
    of_day, of_month = room(quota.daily), room(quota.monthly)
    counters = _counters(context, provider, operation, fingerprint, now)
    if counters is not None and of_month is not None and accepted:
        read_at, left = counters
        free = max(0, left - accepted.pop(0))
        of_month = replace(of_month, free=min(of_month.free, free))
        limits.append((left, read_at))
    return Outlook(
        title=provider.title,
        day=of_day,
        month=of_month,
        shares=tuple(
            Share(operation.name, since, most) for most, since in limits if most is not None
        ),
        overage=quota.overage,
        tomorrow=today + DAY_SECONDS,
    )


def quota_of(context: JobContext, provider: str, operation: JobOperation) -> Quota:
    """Return an operation's quota with the current settings."""
    if operation.quota is None:
        return Quota()
    return operation.quota(context.clients[provider].settings)


def _new_month(at: float) -> bool:
    return beginning("month", at) == at

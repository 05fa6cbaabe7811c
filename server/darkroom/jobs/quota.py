"""Daily and monthly limits of a provider, counted from our journal.

They are enforced just before a request is sent. Before that they are reported: in the question to
the person, in an estimate, and with the job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from darkroom.core.errors import call_error
from darkroom.core.times import iso
from darkroom.jobs.spending import beginning
from darkroom.providers.operations import Quota

if TYPE_CHECKING:
    from darkroom.core.errors import CallError
    from darkroom.jobs.context import JobContext
    from darkroom.providers.operations import JobOperation
    from darkroom.providers.provider import Provider

DAY_SECONDS = 86_400.0


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

    @property
    def refusal(self) -> CallError | None:
        """The error with which a new job would certainly end, if any."""
        if self.month is None or self.month.free or self.overage:
            return None
        return call_error(
            "quota_exhausted",
            f"the month's allowance of {self.month.most} at {self.title} is used up; nothing was "
            "sent",
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
    *,
    behind: bool = True,
) -> Outlook:
    """Return what the quota means for new jobs, ``behind`` the waiting jobs or before them."""
    quota, now = quota_of(context, provider.name, operation), context.clock()
    waiting = 0
    if behind and quota != Quota():
        waiting = await context.registry.store.waiting(owner, operation.name)

    async def room(most: int | None, since: float) -> Room | None:
        if most is None:
            return None
        free = max(0, most - await context.registry.store.count(owner, operation.name, since))
        return Room(most, free, waiting)

    return Outlook(
        title=provider.title,
        day=await room(quota.daily, beginning("day", now)),
        month=await room(quota.monthly, beginning("month", now)),
        overage=quota.overage,
        tomorrow=beginning("day", now) + DAY_SECONDS,
    )


def quota_of(context: JobContext, provider: str, operation: JobOperation) -> Quota:
    """Return an operation's quota with the current settings."""
    if operation.quota is None:
        return Quota()
    return operation.quota(context.clients[provider].settings)


def _new_month(at: float) -> bool:
    return beginning("month", at) == at

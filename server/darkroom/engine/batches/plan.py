"""The plan of a batch: all items are validated, priced and timed before the first is sent."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from darkroom.config.tool_filter import keeps
from darkroom.core.errors import CallError, JournalError, call_error
from darkroom.core.names import nearest
from darkroom.engine.arguments.explain import shown
from darkroom.engine.arguments.validation import canonical_arguments, validate
from darkroom.engine.batches.grammar import circles, resolved
from darkroom.engine.started import Place
from darkroom.jobs.quota import outlook
from darkroom.providers.client.rate_limiter import REQUESTS_PER_JOB
from darkroom.providers.messages import UNREADABLE, Request
from darkroom.providers.operations import FanOutOperation, JobOperation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from darkroom.core.json_types import JsonObject
    from darkroom.engine.batches.grammar import BatchItem
    from darkroom.engine.person import Person
    from darkroom.engine.runtime import Runtime
    from darkroom.engine.starts import Starter
    from darkroom.jobs.model import Attempt, Job
    from darkroom.providers.params import Params, StartParams
    from darkroom.providers.provider import Provider
    from darkroom.providers.values import Unit

MOST_MISTAKES = 20
DAY_SECONDS = 86_400.0

ORDER_SECONDS = 1e-6
"""Difference between the times of a batch's rows, which keeps them in the order of the items."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One job of a batch, ready to be written."""

    job: Job
    attempts: list[Attempt]
    operation: JobOperation
    provider: Provider


@dataclass(frozen=True, slots=True)
class Load:
    """The requests that a job needs to be sent; the polls are added to them."""

    provider: Provider
    operation: JobOperation
    sends: int


@dataclass(slots=True)
class Plan:
    """All jobs of a batch, what they cost and how long they take at the providers' limits."""

    planned: list[Planned]
    costs: dict[tuple[str, Unit], float] = field(default_factory=dict[tuple[str, "Unit"], float])
    grows: int = 0
    """Jobs of a second stage that follow from outputs beyond the first of each job."""

    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list[str])


async def plan(
    runtime: Runtime,
    starter: Starter,
    providers: Mapping[str, Provider],
    items: Sequence[BatchItem],
    mistakes: Sequence[str],
    *,
    batch_id: str,
    folder: str,
    person: Person,
) -> Plan:
    """Return the rows of all items.

    Raises
    ------
    CallError: ``invalid_argument``, naming every item that is wrong and how.
    """
    mistakes = [*mistakes, *circles(items)]
    began = runtime.context.clock()
    found = {item.id: start_tool(runtime, providers, item.tool) for item in items}
    ids = {
        item.id: f"{pair[0].name}_{runtime.context.new_id()}"
        for item in items
        if (pair := found[item.id]) is not None
    }
    wanted, wrong = _looked_at(runtime, providers, items, found, ids)
    try:
        judged = await starter.judge(wanted.values(), person)
    except CallError as error:
        if not mistakes and not wrong:
            raise
        raise _refusal([*mistakes, *wrong.values(), error.failure.message]) from None
    planned: list[Planned] = []
    for place, item in enumerate(items):
        if place in wrong:
            mistakes.append(wrong[place])
            continue
        provider, operation, params = wanted[place]
        try:
            name = Place(
                job_id=ids[item.id],
                batch_id=batch_id,
                item=item.id,
                folder=folder,
                created_at=began + place * ORDER_SECONDS,
            )
            rows = await starter.rows(provider, operation, params, person, judged, name)
        except JournalError:
            raise
        except CallError as error:
            mistakes.append(_mistake(item, error))
            continue
        planned.append(Planned(*rows, operation, provider))
    mistakes.extend(await _missing(runtime, planned, set(ids.values())))
    if mistakes:
        raise _refusal(mistakes)
    return await _estimated(runtime, planned)


def written_alike(
    runtime: Runtime, providers: Mapping[str, Provider], items: Sequence[BatchItem]
) -> list[JsonObject]:
    """Return the canonical arguments of each item.

    Invalid arguments stay as they are; such a batch is refused later.
    """
    stand_ins = {item.id: f"item{place}" for place, item in enumerate(items)}
    found = {tool: start_tool(runtime, providers, tool) for tool in {item.tool for item in items}}
    alike: list[JsonObject] = []
    for item in items:
        arguments = cast("JsonObject", resolved(item.arguments, stand_ins))
        if (pair := found[item.tool]) is not None:
            with suppress(CallError):
                params = validate(
                    pair[1].params, arguments, admitted=runtime.context.admitted, files=True
                )
                arguments = canonical_arguments(params)
        alike.append(arguments)
    return alike


Wanted = tuple["Provider", JobOperation, "StartParams"]
"""A valid start call."""


def _looked_at(
    runtime: Runtime,
    providers: Mapping[str, Provider],
    items: Sequence[BatchItem],
    found: Mapping[str, tuple[Provider, JobOperation] | None],
    ids: Mapping[str, str],
) -> tuple[dict[int, Wanted], dict[int, str]]:
    """Return the valid items by their position, and the mistakes of the others."""
    wanted: dict[int, Wanted] = {}
    wrong: dict[int, str] = {}
    for place, item in enumerate(items):
        pair = found[item.id]
        if pair is None:
            wrong[place] = f"item '{item.id}': {_no_start_tool(runtime, providers, item.tool)}"
            continue
        provider, operation = pair
        try:
            params = validate(
                operation.params,
                cast("JsonObject", resolved(item.arguments, ids)),
                admitted=runtime.context.admitted,
                files=True,
                extra_mistakes=_check(runtime, provider, operation),
            )
        except CallError as error:
            wrong[place] = _mistake(item, error)
            continue
        wanted[place] = provider, operation, cast("StartParams", params)
    return wanted, wrong


def _mistake(item: BatchItem, error: CallError) -> str:
    return f"item '{item.id}': {error.failure.message}"


def _check(
    runtime: Runtime, provider: Provider, operation: JobOperation
) -> Callable[[Params], Iterable[str]] | None:
    check = operation.check
    if check is None:
        return None
    settings = runtime.context.clients[provider.name].settings
    return lambda params: check(params, settings)


def _no_start_tool(runtime: Runtime, providers: Mapping[str, Provider], tool: str) -> str:
    """Return the mistake that there is no such start tool, with the nearest name."""
    names = [operation.name for _, operation in _start_tools(runtime, providers)]
    near = nearest(tool, names)
    hint = f"did you mean '{near}'?" if near else f"there are {', '.join(names) or 'none'}"
    return f"{shown(tool)!r} is not a start tool that is listed here; {hint}"


def _start_tools(
    runtime: Runtime, providers: Mapping[str, Provider]
) -> Iterator[tuple[Provider, JobOperation]]:
    """Yield the start tools that are listed."""
    for provider in providers.values():
        for operation in provider.operations:
            listed = keeps(runtime.context.settings.serve, provider, operation)
            if isinstance(operation, JobOperation) and listed:
                yield provider, operation


def start_tool(
    runtime: Runtime, providers: Mapping[str, Provider], tool: str
) -> tuple[Provider, JobOperation] | None:
    """Return a start tool that is listed; None for anything else."""
    return next((pair for pair in _start_tools(runtime, providers) if pair[1].name == tool), None)


async def _missing(runtime: Runtime, planned: Sequence[Planned], own: set[str]) -> list[str]:
    mistakes: list[str] = []
    for each in planned:
        for reference in runtime.inputs.of(each.job):
            if reference.job_id in own:
                continue
            source = await runtime.context.registry.get(each.job.owner, reference.job_id)
            if source is None:
                mistakes.append(f"item '{each.job.item}': there is no job {reference.job_id}")
    return mistakes


def _refusal(mistakes: Sequence[str]) -> CallError:
    shown = "; ".join(f"({n}) {text}" for n, text in enumerate(mistakes[:MOST_MISTAKES], 1))
    more = f"; and {len(mistakes) - MOST_MISTAKES} more" if len(mistakes) > MOST_MISTAKES else ""
    return call_error(
        "invalid_argument",
        f"{len(mistakes)} mistakes, so nothing was started: {shown}{more}",
        "correct them and call again",
    )


# --- money and time ---


async def _estimated(runtime: Runtime, planned: list[Planned]) -> Plan:
    made = Plan(planned)
    costs: Counter[tuple[str, Unit]] = Counter()
    for each in planned:
        if each.job.cost is not None:
            costs[each.provider.name, each.job.cost.unit] += each.job.cost.amount  # pyright: ignore[reportArgumentType] -- amounts may be fractions
    second = {each.job.item: each for each in planned}
    for each in planned:
        follower = second.get(f"{each.job.item}>0")
        if follower is None:
            continue
        more = outputs_of(runtime, each.job) - 1
        made.grows += more
        if more and (cost := follower.job.cost) is not None:
            costs[follower.provider.name, cost.unit] += cost.amount * more  # pyright: ignore[reportArgumentType] -- amounts may be fractions
    made.costs = dict(costs)
    loads = [Load(each.provider, each.operation, len(each.attempts)) for each in planned]
    made.seconds = seconds_for(runtime, loads)
    said, seconds = await quotas_said(runtime, [each.job for each in planned])
    made.warnings.extend(said)
    made.seconds = max(made.seconds, seconds)
    return made


def outputs_of(runtime: Runtime, job: Job) -> int:
    """Return how many outputs a job is expected to have, as far as its arguments tell."""
    operation = runtime.context.operations[job.operation]
    if not isinstance(operation, FanOutOperation):
        return 1
    return max(1, len(operation.items(runtime.context.params(job, operation))))


def seconds_for(runtime: Runtime, jobs: Sequence[Load]) -> float:
    """Return the estimated duration of jobs at their providers' limits, including polls.

    Providers work at the same time, so that the slowest one counts, plus the longest job.
    """
    longest = 0.0
    for name in {load.provider.name for load in jobs}:
        own = [load for load in jobs if load.provider.name == name]
        client = runtime.context.clients[name]
        limits = client.provider.limits_with(client.settings)
        requests = sum(load.sends + _polls(load.operation) for load in own)
        pace = max(
            ((math.ceil(requests / rate.requests) - 1) * rate.seconds for rate in limits.rates),
            default=0.0,
        )
        times = [load.operation.typical_seconds * runtime.context.time_scale for load in own]
        slots = sum(times) / limits.concurrent_jobs if limits.concurrent_jobs else 0.0
        longest = max(longest, pace + max(times), slots)
    return longest


def _polls(operation: JobOperation) -> float:
    """Return the number of polls per job: one, or its share of a list request."""
    listing = operation.state.listing
    return 1.0 if listing is None else 1 / listing.size


async def quotas_said(runtime: Runtime, jobs: Sequence[Job]) -> tuple[list[str], float]:
    """Return warnings about daily caps and monthly allowances, and how long jobs wait for them."""
    said: list[str] = []
    seconds = 0.0
    counts = Counter((job.provider, job.operation, job.owner) for job in jobs)
    for (provider, operation, owner), count in counts.items():
        beside = sum(job.provider == provider for job in jobs)
        more, wait = await _quota_said(runtime, owner, provider, operation, count, beside)
        said.extend(more)
        seconds = max(seconds, wait)
    return said, seconds


async def _quota_said(
    runtime: Runtime, owner: str, provider: str, operation: str, count: int, beside: int
) -> tuple[list[str], float]:
    """Return the same for ``count`` jobs of one operation, of ``beside`` at this provider."""
    context = runtime.context
    declared, of = context.clients[provider].provider, context.operations[operation]
    if of.quota is None:
        return [], 0.0
    key = context.credentials.key(declared, of.credential, owner=owner)
    ahead = await outlook(context, declared, of, owner, key.fingerprint)
    said: list[str] = []
    seconds = 0.0
    if ahead.day is not None and (over := count - ahead.day.left) > 0:
        days = math.ceil((count + ahead.day.waiting - ahead.day.free) / ahead.day.most)
        seconds = ahead.tomorrow + (days - 1) * DAY_SECONDS - context.clock()
        said.append(
            f"{declared.title} takes {ahead.day.most} {operation} a day: {over} of {count} wait "
            f"for the next {days} UTC day{'s' if days > 1 else ''}"
        )
    if ahead.month is not None:
        there = await _left(runtime, declared, of, owner, REQUESTS_PER_JOB * beside)
        left = ahead.month.left
        if there is not None:
            # The provider knows how the key is used elsewhere; we know which jobs wait here.
            left = min(left, max(0, there - ahead.month.waiting))
        if left < count:
            rest = (
                f"{declared.title} charges for the other {count - left}"
                if ahead.overage
                else "the rest will be refused (quota_exhausted)"
            )
            said.append(
                f"{left} of the month's allowance at {declared.title} are left for {count} "
                f"{operation}: {rest}"
            )
    return said, seconds


async def _left(
    runtime: Runtime, provider: Provider, operation: JobOperation, owner: str, needed: int
) -> int | None:
    """Return what the provider says is left of the month's allowance; None if it does not say.

    The provider is asked only if a request is left after the ``needed`` requests of the batch:
    otherwise its last poll would have to wait for the next window, a minute at ZSky.
    """
    allowance = provider.allowance
    if allowance is None or allowance.left is None:
        return None
    client = runtime.context.clients[provider.name]
    try:
        key = runtime.context.credentials.key(provider, operation.credential, owner=owner)
        if client.limiter(key.fingerprint).free() <= needed:
            return None
        response = await client.read(Request(method="GET", path=allowance.path), key)
        if not response.ok:
            return None
        left = allowance.left(response, operation.name)
        account = client.account(key.fingerprint)
        account.counters, account.counters_at = response, runtime.context.clock()
        return left  # noqa: TRY300 -- one way through
    except (CallError, *UNREADABLE):
        return None

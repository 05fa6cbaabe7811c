"""The neutral tools about money: what was spent, and settling an unknown job."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from darkroom.catalogue import Result, Tool, beginning, call_error, counted, iso, job_result
from darkroom.providers import CHANGES, LOCAL_READS, JobParams, Params

if TYPE_CHECKING:
    from darkroom.catalogue import Engine, JsonObject, JsonValue, Person, Sum
    from darkroom.providers import Unit


class GetSpending(Params):
    """Arguments of ``get_spending``."""

    since: (
        Annotated[str, Field(description="ISO date or time; today (UTC) if left out.")] | None
    ) = None


class ResolveJob(JobParams):
    """Arguments of ``resolve_job``."""

    outcome: Literal["submitted", "not_submitted"]
    provider_job_id: (
        Annotated[str, Field(max_length=200, description="Needed for submitted.")] | None
    ) = None


async def get_spending(engine: Engine, params: GetSpending, person: Person) -> Result:
    """Return the sums of the ledger per provider and unit, and what the caps leave."""
    del person
    now = engine.clock()
    since = _moment(params.since) if params.since else beginning("day", now)
    runtime = await engine.runtime()
    store, tariff = runtime.context.registry.store, runtime.context.tariff
    sums = await store.spent(engine.owner, since)
    entries: list[JsonValue] = []
    lines: list[str] = []
    keys: set[tuple[str, Unit]] = {(each.provider, each.unit) for each in sums}
    for provider in engine.providers.values():
        keys.update(
            (provider.name, u) for u in provider.units if tariff.caps(provider.name, u, now)
        )
    for provider, unit in sorted(keys):
        own = [each for each in sums if (each.provider, each.unit) == (provider, unit)]
        entry = _entry(provider, unit, own)
        for cap in tariff.caps(provider, unit, now):
            if cap.everyone and not engine.whole_account:
                continue  # what the others have spent is not this person's to see
            left = cap.limit - await store.used(engine.owner, cap)
            if "left" not in entry or left < _float(entry["left"]):
                entry |= {"cap": cap.limit, "left": max(0.0, left), "setting": cap.setting}
        entries.append(entry)
        left_text = f", {entry['left']:g} left of {entry['setting']}" if "left" in entry else ""
        lines.append(f"{provider}: {counted(_float(entry['spent']), unit)}{left_text}")
    fields: JsonObject = {"since": iso(since), "providers": entries}
    if not lines:
        lines.append("nothing was spent")
    known = await store.forgotten()
    if known is not None and since < known:
        fields["known_since"] = iso(known)
        lines.append(f"what was spent before {iso(known)} is not kept here")
    return Result(structured=fields, text="\n".join(lines))


def _entry(provider: str, unit: Unit, own: list[Sum]) -> JsonObject:
    money = [each.money for each in own if each.money is not None]
    entry: JsonObject = {
        "provider": provider,
        "unit": unit,
        "spent": sum(each.amount for each in own),
    }
    if money:
        entry["money"] = round(sum(money), 4)
    if len(own) > 1:
        entry["days"] = {each.day: each.amount for each in own}
    return entry


def _float(value: JsonValue) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _moment(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise call_error(
            "invalid_argument",
            "since: expected an ISO date or time such as 2026-11-01",
            "correct it, or leave it out for today",
        ) from None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


async def resolve_job(engine: Engine, params: ResolveJob, person: Person) -> Result:
    """Settle an unknown job with the person's answer."""
    live = await engine.resolve(params.job_id, params.outcome, params.provider_job_id, person)
    return job_result(engine, live, engine.check_tool(live.job))


TOOLS = (
    Tool(
        name="resolve_job",
        title="Settle an unknown job",
        description="Settle a job of status unknown by what the person found at the provider; "
        "never guess. The person is asked to confirm it.",
        params=ResolveJob,
        hints=CHANGES,
        run=resolve_job,
    ),
    Tool(
        name="get_spending",
        title="Get spending",
        description="Return what was spent and reserved per provider, and what the caps leave.",
        params=GetSpending,
        hints=LOCAL_READS,
        run=get_spending,
    ),
)

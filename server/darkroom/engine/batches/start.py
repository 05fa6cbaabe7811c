"""Starts a batch: one plan, one approval, one write; then all jobs are queued."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import anyio

from darkroom.core.deadlines import PLAN_SECONDS
from darkroom.core.digests import canonical, digest
from darkroom.core.errors import call_error
from darkroom.engine.batches.plan import Plan, plan, start_tool, written_alike
from darkroom.engine.batches.report import OPERATION, PROVIDER
from darkroom.engine.local_files import batch_taken_in, nameless, put
from darkroom.engine.recovery import recover_from
from darkroom.jobs.model import Job
from darkroom.jobs.spending import CapReached, Entry, passes, wants
from darkroom.jobs.store import Child
from darkroom.results import filenames as naming

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from darkroom.core.json_types import JsonObject
    from darkroom.engine.batches.grammar import BatchItem, Stage
    from darkroom.engine.person import Person
    from darkroom.engine.runtime import Runtime
    from darkroom.engine.starts import Starter
    from darkroom.jobs.spending import Cap
    from darkroom.providers.provider import Provider
    from darkroom.providers.values import Unit

Totals = list[tuple[Entry, "Sequence[Cap]"]]
"""The sums that many jobs need, per unit and in money, with the caps that apply to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The arguments of ``start_batch``."""

    items: Sequence[BatchItem]
    mistakes: Sequence[str] = ()
    """What was wrong before the items were looked at."""

    name: str | None = None
    then: Stage | None = None
    key: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """The batch for an intent, its plan, and whether it was created by this call."""

    batch: Job
    plan: Plan
    made: bool


class Opener:
    """Starts batches for an owner."""

    def __init__(
        self, runtime: Runtime, owner: str, providers: Mapping[str, Provider], starter: Starter
    ) -> None:
        self._runtime = runtime
        self._context = runtime.context
        self._owner = owner
        self._providers = providers
        self._starter = starter

    async def open(self, asked: Asked, person: Person) -> Opened:
        """Start a batch, or return the existing batch with the same intent.

        With ``dry_run`` nothing is written or sent.

        Raises
        ------
        CallError: nothing was started; every mistake is named.
        """
        context, now, began = self._context, self._context.clock(), anyio.current_time()
        batch_id = f"{PROVIDER}_{context.new_id()}"
        folder = await self._runtime.run(lambda: self._folder(batch_id, asked.name, now))
        asked = await self._with_files(asked)
        parent = self._row(batch_id, asked, folder, now)
        if not asked.dry_run:
            since = self._starter.identical_since()
            known = await context.registry.store.identical(
                parent, since=since, by_key_only=self._starter.by_key_only
            )
            if known is not None:  # approved then, whatever has become of what it was made of
                return await self._again(known, parent)
        made = None
        left = began + PLAN_SECONDS - anyio.current_time()
        with anyio.move_on_after(left):
            made = await plan(
                self._runtime,
                self._starter,
                self._providers,
                asked.items,
                asked.mistakes,
                batch_id=batch_id,
                folder=folder,
                person=person,
            )
        if made is None:
            raise call_error(
                "timeout",
                "looking at all items took too long; nothing was started",
                "start it as several smaller batches",
            )
        parent = dataclasses.replace(
            parent, sandbox=any(planned.job.sandbox for planned in made.planned)
        )
        if asked.dry_run:
            if (reached := await self._passed(self.totals(parent, made.costs))) is not None:
                made.warnings.append(f"it would be refused: {reached.failure.message}")
            return Opened(parent, made, made=True)
        await self.admit(parent, made.costs)
        what = f"Start {len(made.planned) + made.grows} jobs"
        asked_so = await self.ask(OPERATION, what, made.costs, made.warnings, parent, person)
        try:
            return await context.detached(lambda: self._begin(parent, made, asked=asked_so))
        except CapReached as reached:
            if not reached.cap.unasked:
                raise
        # Calls side by side have used what was left, so that the person is asked after all.
        await self.ask(OPERATION, what, made.costs, made.warnings, parent, person, anyway=True)
        return await context.detached(lambda: self._begin(parent, made, asked=True))

    async def _with_files(self, asked: Asked) -> Asked:
        """Take in the local files of all items, each once."""
        items, replaced = await batch_taken_in(
            self._runtime,
            lambda tool: start_tool(self._runtime, self._providers, tool),
            asked.items,
            self._owner,
        )
        then = asked.then
        if then is not None:
            arguments = cast("JsonObject", put(then.arguments, replaced))
            then = dataclasses.replace(then, arguments=arguments)
        return dataclasses.replace(asked, items=items, then=then)

    def _folder(self, batch_id: str, name: str | None, now: float) -> str:
        """Return a new folder for the batch's files, in the results folder."""
        home = self._runtime.folder
        label = naming.slug(name or "") or batch_id
        folder = naming.day_folder(home, now) / label
        if folder.exists():
            folder = folder.with_name(f"{label}-{batch_id[-6:]}")
        return str(folder.relative_to(home))

    def _row(self, batch_id: str, asked: Asked, folder: str, now: float) -> Job:
        arguments: JsonObject = {"name": asked.name} if asked.name else {}
        if (then := asked.then) is not None:
            arguments["then"] = {
                "tool": then.tool,
                "arguments": then.arguments,
                "input": then.input,
            }
        alike = written_alike(self._runtime, self._providers, asked.items)
        said = [
            (item.id, item.tool, nameless(canonical(meant)))
            for item, meant in zip(asked.items, alike, strict=True)
        ]
        # The items of the second stage contain its arguments.
        rest: JsonObject = {**arguments, **({"then": [then.tool, then.input]} if then else {})}
        return Job(
            job_id=batch_id,
            owner=self._owner,
            provider=PROVIDER,
            operation=OPERATION,
            status="running",
            arguments=arguments,
            intent=digest(self._owner, OPERATION, repr(said), canonical(rest)),
            fingerprint="",
            created_at=now,
            updated_at=now,
            holder=self._context.registry.holder,
            idempotency_key=asked.key,
            folder=folder,
        )

    async def _again(self, known: Job, parent: Job) -> Opened:
        """Return the existing batch with the same intent."""
        by_key = parent.idempotency_key == known.idempotency_key
        if by_key and known.intent != parent.intent:
            raise call_error(
                "conflict",
                f"this idempotency_key belongs to {known.job_id}, which was started with other arguments",
                "leave idempotency_key out, or repeat the original call",
            )
        if not known.ended:
            await recover_from(self._runtime, [known.holder])
        return Opened(known, Plan([]), made=False)

    # --- money ---

    def totals(
        self, parent: Job, costs: Mapping[tuple[str, Unit], float], tool: str | None = None
    ) -> Totals:
        """Return the sums that the jobs of a batch need, with the caps that apply to them.

        With ``tool``, also with the limits on what that tool may spend without asking.
        """
        context, now = self._context, self._context.clock()
        totals: Totals = []
        money = 0.0
        in_money: Sequence[Cap] = ()
        for (provider, unit), amount in costs.items():
            price = context.tariff.price(provider, unit)
            money += (price or 0.0) * amount
            caps = context.tariff.caps(provider, unit, now)
            if tool is not None:
                caps += context.tariff.unasked_caps(tool, provider, unit, now)
            in_money = [cap for cap in caps if cap.unit is None]
            entry = Entry(
                entry_id=parent.job_id,
                owner=self._owner,
                provider=provider,
                operation=OPERATION,
                unit=unit,
                amount=amount,
                basis="estimate",
                money=None if price is None else price * amount,
                state="reserved",
                at=now,
            )
            totals.append((entry, [cap for cap in caps if cap.unit is not None]))
        if totals and in_money:
            totals.append((dataclasses.replace(totals[0][0], money=money), in_money))
        return totals

    async def _passed(self, totals: Totals, *, unasked: bool = False) -> CapReached | None:
        """Return the first cap, or limit on what is spent unasked, that all jobs would exceed."""
        store = self._context.registry.store
        for entry, caps in totals:
            for cap in caps:
                if cap.unasked != unasked:
                    continue
                used = await store.used(self._owner, cap)
                if passes(used, cap, entry):
                    return CapReached(cap, used, wants(cap, entry))
        return None

    async def admit(self, parent: Job, costs: Mapping[tuple[str, Unit], float]) -> None:
        """Refuse a batch that would exceed a cap, before the person is asked."""
        if (reached := await self._passed(self.totals(parent, costs))) is not None:
            raise reached

    async def ask(
        self,
        tool: str,
        what: str,
        costs: Mapping[tuple[str, Unit], float],
        said: Sequence[str],
        parent: Job,
        person: Person,
        *,
        anyway: bool = False,
    ) -> bool:
        """Ask the person if the cost is above the configured amount; ``said`` is part of it.

        The person is also asked if too much would be spent today without asking, or ``anyway``.
        Returns whether the person was asked, and has said yes.
        """
        if tool in self._context.settings.approval.never_ask:
            return False
        anyway = (
            anyway or await self._passed(self.totals(parent, costs, tool), unasked=True) is not None
        )
        question = self._context.tariff.question_for_all(costs, anyway=anyway)
        if question is not None:
            whole = " ".join([f"{what}: {question}?", *(f"{text}." for text in said)])
            await person.approve(tool, whole, parent.intent)
        return question is not None

    # --- the rows ---

    async def _begin(self, parent: Job, made: Plan, *, asked: bool) -> Opened:
        context = self._context
        parent = dataclasses.replace(parent, asked=asked)
        totals = self.totals(parent, made.costs, None if asked else OPERATION)
        jobs = [dataclasses.replace(each.job, asked=asked) for each in made.planned]
        children = [
            Child(job, each.attempts, context.tariff.entry(job))
            for job, each in zip(jobs, made.planned, strict=True)
        ]
        created = await context.registry.store.create_all(
            parent,
            children,
            identical_since=self._starter.identical_since(),
            by_key_only=self._starter.by_key_only,
            totals=totals,
        )
        if not created.made:
            return await self._again(created.job, parent)
        context.registry.add(parent)
        for job, each in zip(jobs, made.planned, strict=True):
            self._runtime.queue(context.registry.add(job), each.attempts)
        return Opened(parent, made, made=True)

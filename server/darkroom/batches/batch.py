"""Starting, checking, cancelling and retrying batches.

A batch is a row of its own beside the rows of its jobs, which are jobs like all others: paced,
recovered, settled and downloaded by the same machinery. Its state follows from theirs.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from darkroom.batches import manifest
from darkroom.batches.plan import plan, seconds_for
from darkroom.core import log
from darkroom.errors import CallError, JournalError, JsonObject, JsonValue, call_error
from darkroom.jobs.model import Job, canonical, digest
from darkroom.jobs.store import Child, Query
from darkroom.operation import Call
from darkroom.operation import Job as JobOperation
from darkroom.results import naming
from darkroom.spending import CapReached, Entry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from darkroom.approval import Person
    from darkroom.batches.grammar import Item, Stage
    from darkroom.batches.plan import Plan, Planned
    from darkroom.calling import Caller
    from darkroom.jobs.model import Status
    from darkroom.jobs.registry import Live
    from darkroom.operation import Provider
    from darkroom.spending import Cap
    from darkroom.starting import Starter
    from darkroom.works import Works

PROVIDER = "batch"
OPERATION = "start_batch"
MOST_JOBS = 5_000
MANIFEST_SECONDS = 1.0
"""A manifest is written again so long after a change, so that many changes cost one writing."""

LOOK_SECONDS = 0.5
"""How often a wait looks for changes that another process made."""

PAUSE_SECONDS = 0.2
"""Changes that come together are looked at once."""

STEPS = 10
"""A wait returns when another tenth of a batch is done, sooner when something fails."""

OPEN: frozenset[Status] = frozenset({"queued", "submitting", "running"})


@dataclass(frozen=True, slots=True)
class Report:
    """A batch and its jobs, as they are now."""

    batch: Job
    jobs: list[Job]

    @property
    def counts(self) -> Counter[str]:
        """How many jobs there are of each status, as the model sees it."""
        return Counter("running" if j.status == "submitting" else j.status for j in self.jobs)

    @property
    def status(self) -> str:
        """``running``, ``cancelled``, or ``completed`` when nothing is left to do."""
        if any(job.status in OPEN for job in self.jobs):
            return "running"
        return "cancelled" if self.batch.status == "cancelled" else "completed"

    @property
    def mark(self) -> tuple[str, int, int]:
        """What a wait compares: the state, the tenths that are done, the failures."""
        counts = self.counts
        failed = counts["failed"] + counts["blocked"] + counts["unknown"]
        ended = sum(counts.values()) - counts["queued"] - counts["running"]
        return self.status, ended * STEPS // max(1, len(self.jobs)), failed


class Batches:
    """Batches of an owner."""

    def __init__(
        self, works: Works, owner: str, providers: Mapping[str, Provider], starter: Starter
    ) -> None:
        self._works = works
        self._core = works.core
        self._owner = owner
        self._providers = providers
        self._starter = starter
        works.tracker.on_change.append(self._changed)

    # --- starting ---

    async def start(
        self,
        items: Sequence[Item],
        mistakes: list[str],
        *,
        name: str | None,
        then: Stage | None,
        key: str | None,
        dry_run: bool,
        person: Person,
    ) -> tuple[Job, Plan, bool]:
        """Start a batch, or return the one that the same intent has started (third value False).

        With ``dry_run`` nothing is written or sent.

        Raises
        ------
        CallError: nothing was started; every mistake is named.
        """
        core, now = self._core, self._core.clock()
        batch_id = f"{PROVIDER}_{core.new_id()}"
        label = naming.slug(name) if name else batch_id
        folder = str(naming.day_folder(self._works.folder, now) / label)
        folder = folder.removeprefix(str(self._works.folder)).lstrip("/\\")
        made = await plan(
            self._works,
            self._starter,
            self._providers,
            items,
            mistakes,
            batch_id=batch_id,
            folder=folder,
            person=person,
        )
        arguments: JsonObject = {"name": name} if name else {}
        if then is not None:
            arguments["then"] = {
                "tool": then.tool,
                "arguments": then.arguments,
                "input": then.input,
            }
        said = [(item.id, item.tool, canonical(item.arguments)) for item in items]
        parent = Job(
            job_id=batch_id,
            owner=self._owner,
            provider=PROVIDER,
            operation=OPERATION,
            status="running",
            arguments=arguments,
            intent=digest(self._owner, OPERATION, repr(said), canonical(arguments)),
            fingerprint="",
            created_at=now,
            updated_at=now,
            holder=core.registry.holder,
            idempotency_key=key,
            folder=folder,
            sandbox=any(planned.job.sandbox for planned in made.planned),
        )
        if dry_run:
            return parent, made, True
        totals = self._totals(parent, made)
        await self._approve(parent, made, totals, person)
        return await core.detached(lambda: self._begin(parent, made, totals))

    def _totals(self, parent: Job, made: Plan) -> list[tuple[Entry, Sequence[Cap]]]:
        """Return what all jobs need together, per unit and in money, with the caps on it."""
        core, now = self._core, self._core.clock()
        totals: list[tuple[Entry, Sequence[Cap]]] = []
        money = 0.0
        in_money: Sequence[Cap] = ()
        for (provider, unit), amount in made.costs.items():
            price = core.tariff.price(provider, unit)
            money += (price or 0.0) * amount
            caps = core.tariff.caps(provider, unit, now)
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

    async def _approve(
        self,
        parent: Job,
        made: Plan,
        totals: Sequence[tuple[Entry, Sequence[Cap]]],
        person: Person,
    ) -> None:
        """Ask once for the whole, if any part of it costs more than the configured amount."""
        if OPERATION in self._core.settings.approval.never_ask:
            return
        question = self._core.tariff.question_for_all(made.costs)
        if question is None:
            return
        store = self._core.registry.store
        for entry, caps in totals:
            for cap in caps:
                used = await store.used(self._owner, cap)
                wanted = entry.amount if cap.unit is not None else (entry.money or 0.0)
                if used + wanted > cap.limit:
                    raise CapReached(cap, used, wanted).error
        await person.approve(
            OPERATION, f"Start {len(made.planned)} jobs: {question}?", parent.intent
        )

    async def _begin(
        self, parent: Job, made: Plan, totals: Sequence[tuple[Entry, Sequence[Cap]]]
    ) -> tuple[Job, Plan, bool]:
        core = self._core
        children = [
            Child(each.job, each.attempts, core.tariff.entry(each.job)) for each in made.planned
        ]
        try:
            created = await core.registry.store.create_all(
                parent, children, identical_since=self._starter.identical_since(), totals=totals
            )
        except JournalError as error:
            raise CallError(error.failure) from None
        except CapReached as reached:
            raise reached.error from None
        if not created.made:
            if created.by_key and created.job.intent != parent.intent:
                raise call_error(
                    "conflict",
                    f"this idempotency_key belongs to {created.job.job_id}, started otherwise",
                    "leave idempotency_key out, or repeat the call as it was",
                )
            return created.job, made, False
        core.registry.add(parent)
        for each in made.planned:
            self._queue(each)
        self._write_soon(parent.job_id, 0.0)
        return parent, made, True

    def _queue(self, each: Planned) -> None:
        live = self._core.registry.add(each.job)
        live.attempt = next((a for a in each.attempts if a.item is None), None)
        live.items = {a.item: a for a in each.attempts if a.item is not None} or None
        self._works.submitter.enqueue(live)

    # --- looking ---

    async def report(self, batch_id: str) -> Report:
        """Return a batch with its jobs, oldest first.

        Raises
        ------
        CallError: ``not_found``.
        """
        registry = self._core.registry
        live = await registry.get(batch_id)
        if live is None or live.job.owner != self._owner or live.job.operation != OPERATION:
            raise call_error(
                "not_found",
                f"there is no batch {batch_id}",
                "list_jobs shows the batches known here",
            )
        rows = await registry.store.list(
            Query(owner=self._owner, batch_id=batch_id, limit=MOST_JOBS)
        )
        jobs = [self._latest(job) for job in reversed(rows)]
        return Report(live.job, sorted(jobs, key=lambda job: job.created_at))

    def _latest(self, job: Job) -> Job:
        live = self._core.registry.known(job.job_id)
        return live.job if live is not None and live.job.version >= job.version else job

    async def wait(self, batch_id: str, seconds: float, person: Person) -> Report:
        """Return at the next change that matters, or when the time is over."""
        report = await self.report(batch_id)
        began = report.mark
        with anyio.move_on_after(seconds):
            while report.status == "running" and report.mark == began:
                await self._tell(report, person)
                await self._works.tracker.change(batch_id, LOOK_SECONDS)
                await anyio.sleep(PAUSE_SECONDS)
                if self._core.stopping:
                    break
                report = await self.report(batch_id)
        return report

    @staticmethod
    async def _tell(report: Report, person: Person) -> None:
        counts, total = report.counts, len(report.jobs)
        done = total - counts["queued"] - counts["running"]
        await person.progress(done, total, f"{done} of {total} done")

    def seconds_left(self, report: Report) -> float:
        """Return how long what is left takes at the providers' limits."""
        left: list[tuple[Provider, JobOperation]] = []
        for job in report.jobs:
            operation = self._core.operations.get(job.operation)
            if job.status in OPEN and operation is not None:
                left.append((self._providers[job.provider], operation))
        return seconds_for(self._works, left) if left else 0.0

    def folder(self, batch: Job) -> Path:
        """Return where a batch's files are."""
        return self._works.folder / (batch.folder or "")

    # --- changing ---

    async def cancel(self, batch_id: str, caller: Caller, person: Person) -> Report:
        """Cancel what has not started, and what the provider lets us cancel; the rest goes on."""
        report = await self.report(batch_id)
        for job in report.jobs:
            if job.status == "queued":
                await self._cancel_queued(job, caller)
        for job in report.jobs:
            if self._latest(job).status in {"submitting", "running"}:
                await self._cancel_running(job, caller, person)
        live = await self._core.registry.get(batch_id)
        if live is not None and live.job.status == "running":
            now = self._core.clock()
            await self._core.registry.update(
                live, lambda job: job.next(status="cancelled", updated_at=now, ended_at=now)
            )
        return await self.report(batch_id)

    async def _cancel_queued(self, job: Job, caller: Caller) -> None:
        live = await self._core.registry.get(job.job_id)
        if live is None:
            return
        try:
            await caller.withdraw(live)
        except CallError:
            return  # it has just left

    async def _cancel_running(self, job: Job, caller: Caller, person: Person) -> None:
        provider = self._providers[job.provider]
        name = self._core.operations[job.operation].cancel
        call = provider.operation(name) if name is not None else None
        if not isinstance(call, Call):
            return
        try:
            await caller.call(provider, call, call.params(job_id=job.job_id), person)  # pyright: ignore[reportCallIssue] -- such calls take JobParams
        except CallError:
            return  # it goes on; its state says so

    async def retry(self, batch_id: str) -> tuple[Report, int]:
        """Run again what ended ``failed`` and is marked retryable; never an ``unknown``."""
        report = await self.report(batch_id)
        again = [
            job
            for job in report.jobs
            if job.status == "failed" and job.error is not None and job.error.retryable
        ]
        retried = 0
        for job in again:
            live = await self._core.registry.get(job.job_id)
            if live is not None and await self._restart(live):
                retried += 1
        if retried:
            parent = await self._core.registry.get(batch_id)
            if parent is not None and parent.job.ended:
                now = self._core.clock()
                await self._core.registry.update(
                    parent, lambda job: job.next(status="running", updated_at=now, ended_at=None)
                )
        return await self.report(batch_id), retried

    async def _restart(self, live: Live) -> bool:
        operation = self._core.operations.get(live.job.operation)
        if operation is None:
            return False
        now = self._core.clock()
        attempts = self._starter.attempts_again(live.job, operation)

        def change(job: Job) -> Job | None:
            if job.status != "failed":
                return None
            return job.next(
                status="queued",
                updated_at=now,
                submitted_at=None,
                ended_at=None,
                provider_job_id=None,
                provider_status=None,
                holder=self._core.registry.holder,
                outputs=(),
                error=None,
                evidence=None,
                warnings=(),
                cost=operation.cost(
                    self._core.params(job, operation), self._core.channels[job.provider].settings
                ),
            )

        job = await self._core.registry.update(live, change, attempts)
        if job.status != "queued":
            return False
        live.attempt = next((a for a in attempts if a.item is None), None)
        live.items = {a.item: a for a in attempts if a.item is not None} or None
        live = self._core.registry.add(job)
        self._works.submitter.enqueue(live)
        return True

    # --- what follows from changes ---

    def _changed(self, job: Job) -> None:
        if job.owner != self._owner or job.batch_id is None:
            return
        self._write_soon(job.batch_id, MANIFEST_SECONDS)
        if job.status == "completed" and len(job.outputs) > 1:
            self._core.spawn(self._grow, job)

    def _write_soon(self, batch_id: str, seconds: float) -> None:
        key = ("manifest", batch_id)
        if self._core.schedule.due(key) is None:
            self._core.schedule.at(
                key,
                anyio.current_time() + seconds,
                lambda: self._core.spawn(self._write, batch_id),
            )

    async def _write(self, batch_id: str) -> None:
        """Write the manifest, and end the batch's row when nothing is left to do."""
        report = await self.report(batch_id)
        try:
            await self._works.run(
                lambda: manifest.write(self.folder(report.batch), report.batch, report.jobs)
            )
        except OSError as error:
            log.error("no manifest was written: %s", error.strerror)
        live = await self._core.registry.get(batch_id)
        if live is None or live.job.status != "running" or report.status == "running":
            return
        now = self._core.clock()
        await self._core.registry.update(
            live,
            lambda job: (
                job.next(status="completed", updated_at=now, ended_at=now)
                if job.status == "running"
                else None
            ),
        )

    async def _grow(self, job: Job) -> None:
        """Start the second stage for the outputs of a job beyond its first."""
        parent = await self._core.registry.get(job.batch_id or "")
        stage = parent.job.arguments.get("then") if parent is not None else None
        if parent is None or not isinstance(stage, dict) or ">" in (job.item or ""):
            return
        tool, arguments = str(stage["tool"]), stage["arguments"]
        for output in job.outputs[1:]:
            provider, operation = next(
                (provider, operation)
                for provider in self._providers.values()
                for operation in provider.operations
                if operation.name == tool and isinstance(operation, JobOperation)
            )
            given: dict[str, JsonValue] = dict(arguments) if isinstance(arguments, dict) else {}
            given[str(stage["input"])] = f"job:{job.job_id}#{output.index}"
            await self._starter.start_in_batch(
                provider,
                operation,
                given,
                batch_id=parent.job.job_id,
                item=f"{job.item}>{output.index}",
                folder=parent.job.folder,
            )

    async def take_up(self) -> None:
        """Go on with the batches of a process that died: second stages, manifests, their ends."""
        store = self._core.registry.store
        running = Query(
            owner=self._owner, provider=PROVIDER, statuses=frozenset({"running"}), limit=100
        )
        for parent in await store.list(running):
            self._core.registry.add(parent)
            report = await self.report(parent.job_id)
            known = {job.item for job in report.jobs}
            for job in report.jobs:
                if job.status == "completed" and any(
                    f"{job.item}>{o.index}" not in known for o in job.outputs[1:]
                ):
                    await self._grow(job)
            self._write_soon(parent.job_id, MANIFEST_SECONDS)

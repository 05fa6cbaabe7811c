"""Jobs and attempts as they are kept.

An attempt is one request that changes or costs something. A job is what the person asked for; its
state follows from its attempts and from what the provider says of them. Rows are immutable: a
change is a new row with the next version.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from darkroom.core.errors import Failure
from darkroom.providers.values import ENDED, Cost, Output, Progress, ShownStatus, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from darkroom.core.json_types import JsonObject, JsonValue

AttemptState = Literal["prepared", "sent", "accepted", "refused", "unknown"]
QueuedFor = Literal["pacing", "slot", "input", "approval", "allowance", "account"]

LOCAL_OWNER = "local"
"""The owner of all jobs of a server that one person uses."""


def shown(status: Status) -> ShownStatus:
    """Return a status as the model sees it: ``submitting`` is ``running`` for everybody else."""
    return "running" if status == "submitting" else status


def statuses_shown_as(status: ShownStatus) -> frozenset[Status]:
    """Return the statuses that are shown as this one; a search for it finds them all."""
    return frozenset({status, "submitting"} if status == "running" else {status})


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What the person is asked before a job begins. Times are seconds since the epoch."""

    question: str
    until: float
    """From this time on, no answer counts as a no."""

    given_at: float | None = None
    number: int = 1
    """Number of the question; it grows if the person must be asked again, for example because the
    price has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request that changes or costs something; ``prepared`` is durable before it is sent."""

    attempt_id: str
    owner: str
    operation: str
    request_hash: str
    state: AttemptState = "prepared"
    job_id: str | None = None
    item: str | None = None
    provider_id: str | None = None
    evidence: JsonObject | None = None
    created_at: float
    sent_at: float | None = None
    answered_at: float | None = None
    version: int = 1

    def next(self, **changes: Any) -> Attempt:
        """Return the attempt changed, as its next version."""
        return dataclasses.replace(self, version=self.version + 1, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What a start call asks for, before anything is written: the part of a job that is fixed then.

    ``intent`` is a hash of owner, operation and canonical arguments: equal for identical calls.
    """

    job_id: str
    owner: str
    provider: str
    operation: str
    arguments: JsonObject
    intent: str
    fingerprint: str
    created_at: float
    holder: str
    idempotency_key: str | None = None
    batch_id: str | None = None
    item: str | None = None
    folder: str | None = None
    provider_job_id: str | None = None
    cost: Cost | None = None
    sandbox: bool = False

    def job(
        self,
        arguments: JsonObject,
        *,
        warnings: tuple[str, ...] = (),
        approval: Approval | None = None,
    ) -> Job:
        """Return the job's first row, with the arguments as they are sent."""
        return Job(
            job_id=self.job_id,
            owner=self.owner,
            provider=self.provider,
            operation=self.operation,
            status="queued",
            arguments=arguments,
            intent=self.intent,
            fingerprint=self.fingerprint,
            created_at=self.created_at,
            updated_at=self.created_at,
            holder=self.holder,
            idempotency_key=self.idempotency_key,
            batch_id=self.batch_id,
            item=self.item,
            folder=self.folder,
            queued_for="approval" if approval is not None else None,
            provider_job_id=self.provider_job_id,
            cost=self.cost,
            approval=approval,
            warnings=warnings,
            sandbox=self.sandbox,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the person asked for. Times are seconds since the epoch, UTC."""

    job_id: str
    owner: str
    provider: str
    operation: str
    status: Status
    arguments: JsonObject
    intent: str
    """Hash of owner, operation and canonical arguments: equal for identical calls."""

    fingerprint: str
    """Fingerprint of the credential; rates and slots are counted per fingerprint."""

    created_at: float
    updated_at: float
    version: int = 1
    holder: str | None = None
    idempotency_key: str | None = None
    batch_id: str | None = None
    item: str | None = None
    """The name of the job in its batch."""

    folder: str | None = None
    """Folder for its files, relative to the results folder; None: the folder of the day."""

    queued_for: QueuedFor | None = None
    starts_at: float | None = None
    submitted_at: float | None = None
    ended_at: float | None = None
    provider_job_id: str | None = None
    provider_status: str | None = None
    polls: int = 0
    progress: Progress | None = None
    outputs: tuple[Output, ...] = ()
    cost: Cost | None = None
    approval: Approval | None = None
    """The question, if the job asks within a task; a call that asks writes no row before the yes."""

    runs: int = 1
    """How often it was begun; each run is an entry of the ledger, on the day that it began."""

    run_at: float | None = None
    """When the present run was begun, where it is not the first."""

    asked: bool = False
    """Whether the person said yes to what the present run costs. Otherwise it passed unasked."""

    error: Failure | None = None
    evidence: JsonObject | None = None
    warnings: tuple[str, ...] = ()
    sandbox: bool = False
    addresses: Mapping[str, str] | None = None
    """Addresses that the provider gave for its state and result; they may be signed: never shown."""

    details: JsonObject | None = None
    """Facts that only this provider has, bounded."""

    concluded: bool = False
    """The job ended by our conclusion, not by the provider's word: a check asks once more."""

    cancel_wanted: bool = False
    """The person wants it cancelled: nothing more of it is sent, see `engine.cancellation`."""

    @property
    def unapproved(self) -> bool:
        """Tell whether it was asked about and not approved: it has no attempt, reserves nothing."""
        return self.approval is not None and self.approval.given_at is None

    @property
    def asks(self) -> bool:
        """Tell whether it waits for the person's answer."""
        return self.status == "queued" and self.unapproved

    @property
    def shown_status(self) -> ShownStatus:
        """The status that results and messages show: every text and view takes it from here."""
        return shown(self.status)

    @property
    def sending(self) -> bool:
        """Tell whether the request that starts the job is on its way."""
        return self.status == "submitting"

    @property
    def ended(self) -> bool:
        """Tell whether the job has ended; an unknown job has not."""
        return self.status in ENDED

    def next(self, **changes: Any) -> Job:
        """Return the job changed, as its next version."""
        return dataclasses.replace(self, version=self.version + 1, **changes)


Row: TypeAlias = Job | Attempt

_NESTED = {"approval": Approval, "cost": Cost, "progress": Progress}


def row_to_json(row: Row) -> JsonObject:
    """Return the fields that differ from their defaults, nested rows included."""
    fields: JsonObject = {}
    for field in dataclasses.fields(row):
        value: object = getattr(row, field.name)
        if value == field.default:
            continue
        fields[field.name] = _plain(value)
    return fields


def _plain(value: object) -> JsonValue:
    if isinstance(value, Failure):
        return value.to_json()
    if isinstance(value, (Approval, Output, Cost, Progress)):
        return {
            field.name: _plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if getattr(value, field.name) is not None
        }
    if isinstance(value, tuple):
        return [_plain(inner) for inner in cast("tuple[object, ...]", value)]
    return cast("JsonValue", value)


def job_from_json(fields: JsonObject) -> Job:
    """Read what `row_to_json` wrote; fields that this version does not know are left out."""
    known = {field.name for field in dataclasses.fields(Job)}
    values = {key: value for key, value in fields.items() if key in known}
    given = cast("dict[str, object]", values)
    if isinstance(outputs := given.get("outputs"), list):
        entries = cast("list[dict[str, Any]]", outputs)
        given["outputs"] = tuple(Output(**entry) for entry in entries)
    if isinstance(warnings := given.get("warnings"), list):
        given["warnings"] = tuple(cast("list[str]", warnings))
    for name, kind in _NESTED.items():
        if isinstance(nested := given.get(name), dict):
            given[name] = kind(**cast("dict[str, Any]", nested))
    if isinstance(error := given.get("error"), dict):
        given["error"] = Failure.from_json(cast("JsonObject", error))
    return Job(**given)  # pyright: ignore[reportArgumentType] -- our own journal


def attempt_from_json(fields: JsonObject) -> Attempt:
    """Read what `row_to_json` wrote."""
    known = {field.name for field in dataclasses.fields(Attempt)}
    return Attempt(**{key: value for key, value in fields.items() if key in known})  # pyright: ignore[reportArgumentType] -- our own journal

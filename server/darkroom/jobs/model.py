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
    from darkroom.core.json_types import JsonObject, JsonValue

AttemptState = Literal["prepared", "sent", "accepted", "refused", "unknown"]
QueuedFor = Literal["pacing", "slot", "input", "approval", "allowance", "account"]

LOCAL_OWNER = "local"
"""The owner of everything while one person uses one server."""


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
    """When no answer has become a no."""

    given_at: float | None = None
    number: int = 1
    """Of the question: one that is asked anew, because it is dearer now, is another question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request that changes or costs something; ``prepared`` is durable before it leaves."""

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
    """Of the credential: pacing and slots are keyed by it. Never the credential itself."""

    created_at: float
    updated_at: float
    version: int = 1
    holder: str | None = None
    idempotency_key: str | None = None
    batch_id: str | None = None
    item: str | None = None
    """What the job is called in its batch."""

    folder: str | None = None
    """Where its files go, below the results folder; None: the day's folder."""

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
    """Where the job is what asks; a call that asked by itself wrote nothing before the yes."""

    error: Failure | None = None
    evidence: JsonObject | None = None
    warnings: tuple[str, ...] = ()
    sandbox: bool = False

    @property
    def unapproved(self) -> bool:
        """Tell whether it asks or asked, and nobody said yes: it has no attempt and reserves nothing."""
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
    def ended(self) -> bool:
        """Tell whether nothing more will happen by itself; an unknown fate has not ended."""
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

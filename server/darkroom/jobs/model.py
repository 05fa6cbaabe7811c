"""Jobs and attempts as they are kept.

An attempt is one request that changes or costs something. A job is what the person asked for; its
state follows from its attempts and from what the provider says of them. Rows are immutable: a
change is a new row with the next version.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, cast

from darkroom.errors import Failure, JsonObject, JsonValue

Status = Literal[
    "queued", "submitting", "running", "completed", "failed", "blocked", "cancelled", "unknown"
]
ENDED: frozenset[Status] = frozenset({"completed", "failed", "blocked", "cancelled"})

AttemptState = Literal["prepared", "sent", "accepted", "refused", "unknown"]
QueuedFor = Literal["pacing", "slot", "input", "approval", "allowance"]
Unit = Literal["credits", "images", "videos", "evaluations"]
Basis = Literal["exact", "estimate", "unknown"]

LOCAL_OWNER = "local"
"""The owner of everything while one person uses one server."""

_LAST_SECOND = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Cost:
    """What a job costs, in the provider's unit."""

    amount: float
    unit: Unit
    basis: Basis = "estimate"


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of a job is done, where the provider lets us know."""

    done: int
    total: int


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
class Output:
    """One result of a job. Times are seconds since the epoch."""

    index: int
    url: str | None = None
    expires_at: float | None = None
    media_type: str | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    name: str | None = None
    file: str | None = None
    sha256: str | None = None
    fetch_error: str | None = None
    """Our code of why the last download failed."""


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
    def ended(self) -> bool:
        """Tell whether nothing more will happen by itself; an unknown fate has not ended."""
        return self.status in ENDED

    def next(self, **changes: Any) -> Job:
        """Return the job changed, as its next version."""
        return dataclasses.replace(self, version=self.version + 1, **changes)


Row: TypeAlias = Job | Attempt

_NESTED = {"approval": Approval, "cost": Cost, "progress": Progress}


def canonical(value: JsonValue) -> str:
    """Write JSON one way only: keys sorted, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(*parts: str) -> str:
    """Return a short hash over the parts, in hex."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


def iso(at: float) -> str:
    """Write a time as ISO 8601 in UTC, to the second; one out of the calendar as its end."""
    return datetime.fromtimestamp(min(max(at, 0.0), _LAST_SECOND), UTC).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )


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

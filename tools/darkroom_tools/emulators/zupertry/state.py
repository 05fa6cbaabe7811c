"""What Zuper Try-On's emulator holds: keys, organisations, jobs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

LIVE_KEY = "zt_live_sk_sandbox_not_a_real_key"
TEST_KEY = "zt_test_sk_sandbox_not_a_real_key"
REVOKED_KEY = "zt_live_sk_sandbox_revoked"
DISABLED_KEY = "zt_live_sk_sandbox_disabled"
SUSPENDED_KEY = "zt_live_sk_sandbox_suspended"
OTHER_KEY = "zt_live_sk_sandbox_other_organisation"
EMPTY_KEY = "zt_live_sk_sandbox_no_credits"

Status = Literal["pending", "processing", "completed", "failed", "cancelled", "refunded"]
STATUSES = ("pending", "processing", "completed", "failed", "cancelled", "refunded")


@dataclass(slots=True, kw_only=True)
class Organisation:
    """An account. ``workspaces``: id -> (name, status)."""

    org_id: str
    name: str
    credits: int
    suspended: bool = False
    webhook_url: str | None = None
    workspaces: dict[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Key:
    """An API key; its mode is in its prefix."""

    organisation: str
    state: Literal["active", "revoked", "disabled"] = "active"


WORKSPACES_CREATED_AT = "2026-01-05T09:00:00.000Z"

KEYS = {
    LIVE_KEY: Key("org_sandbox"),
    TEST_KEY: Key("org_sandbox"),
    REVOKED_KEY: Key("org_sandbox", "revoked"),
    DISABLED_KEY: Key("org_sandbox", "disabled"),
    SUSPENDED_KEY: Key("org_suspended"),
    OTHER_KEY: Key("org_other"),
    EMPTY_KEY: Key("org_empty"),
}


def organisations() -> list[Organisation]:
    """Return the accounts that the keys belong to."""

    def workspaces(name: str) -> dict[str, tuple[str, str]]:
        return {f"ws_{name}": ("Main", "active"), f"ws_{name}_old": ("Last season", "archived")}

    return [
        Organisation(org_id="org_sandbox", name="Sandbox Studio", credits=500, workspaces=workspaces("main")),
        Organisation(org_id="org_suspended", name="Suspended", credits=5, suspended=True, workspaces=workspaces("suspended")),
        Organisation(org_id="org_other", name="Somebody Else", credits=50, workspaces=workspaces("other")),
        Organisation(org_id="org_empty", name="Out of Credits", credits=0, workspaces=workspaces("empty")),
    ]  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Job:
    """A try-on; what it is now follows from its times and the clock."""

    number: int
    id: str
    organisation: Organisation
    workspace: str
    mode: str
    model: str
    garment: str
    webhook_url: str | None
    created_at: float
    starts_at: float
    finishes_at: float
    ended: Status | None = None
    error_code: str | None = None
    inputs: tuple[bytes, bytes] | None = None
    picture: bytes | None = None
    address: str | None = None
    webhook_status: str | None = None
    webhook_tries: int = 0
    webhook_due: float = math.inf

    @property
    def settled(self) -> bool:
        """Tell whether time changes nothing any more."""
        return self.ended is not None and math.isinf(self.webhook_due)

    def status(self, now: float) -> Status:
        """Return what the job is at a time."""
        if self.ended is not None:
            return self.ended
        return "pending" if now < self.starts_at else "processing"

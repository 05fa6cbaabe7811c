"""What every store promises, the journal and the memory alike."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from darkroom.core.errors import Stale, failure
from darkroom.jobs.model import LOCAL_OWNER, Approval
from darkroom.jobs.spending import Cap
from darkroom.jobs.storage.memory import MemoryStore
from darkroom.jobs.storage.sqlite import SqliteStore
from darkroom.jobs.store import NEVER_RETURNED, UNDER_WAY, Horizon, Query, Usage
from darkroom.providers.values import ENDED, Cost, Output, Progress
from tests.jobs.rows import (
    NOON,
    a_job,
    an_attempt,
    an_entry,
    an_intent,
    everyone_is_alive,
    everyone_is_dead,
    inline,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from darkroom.jobs.model import AttemptState
    from darkroom.jobs.store import Store
    from darkroom.providers.values import Status

pytestmark = pytest.mark.anyio

STATUSES: list[Status] = [
    "queued",
    "submitting",
    "running",
    "completed",
    "failed",
    "blocked",
    "cancelled",
    "unknown",
]


ASKED = Approval(question="Spend it?", until=NOON + 3)


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store = (
        MemoryStore(holder="me")
        if request.param == "memory"
        else await SqliteStore.open(tmp_path / "journal.sqlite", run=inline, holder="me")
    )
    yield made
    await made.close()


async def test_rows_come_back_as_they_were_written(store: Store) -> None:
    job = a_job(
        status="completed",
        arguments={
            "seed": 2**70,
            "strength": 0.1 + 0.2,
            "prompt": "sí \u2028 \x00 \U0001f600",
            "n": None,
        },
        holder="me",
        idempotency_key="order 7",
        batch_id="batch-1",
        queued_for="pacing",
        starts_at=NOON + 1,
        submitted_at=NOON + 2,
        ended_at=NOON + 1e-6,
        provider_job_id="p-1",
        provider_status="done",
        polls=3,
        progress=Progress(1, 2),
        outputs=(Output(index=0, url="https://results.test/0.png", bytes=2**40), Output(index=1)),
        cost=Cost(0.1, "credits", "exact"),
        approval=replace(ASKED, given_at=NOON + 1, number=2),
        error=failure("rate_limited", "ZSky", retry_after_seconds=1.5),
        evidence={"counter": [1, {"deep": True}]},
        warnings=("look again",),
        sandbox=True,
    )
    attempt = an_attempt(item="0", state="accepted", evidence={"status": 200}, sent_at=NOON)
    created = await store.create(job, [attempt], identical_since=None)
    assert (created.job, created.made) == (job, True)
    assert await store.job(LOCAL_OWNER, "job-1") == job
    assert await store.attempts(LOCAL_OWNER, "job-1") == [attempt]
    assert await store.attempt(LOCAL_OWNER, "attempt-1") == attempt


async def test_what_is_not_there_is_none(store: Store) -> None:
    assert await store.job(LOCAL_OWNER, "job-1") is None
    assert await store.attempt(LOCAL_OWNER, "attempt-1") is None
    assert await store.attempts(LOCAL_OWNER, "job-1") == []
    assert await store.find("local", "zsky", "p-1") is None
    assert await store.list(Query(owner="local")) == []
    assert await store.claim("me", everyone_is_dead) == []
    assert not await store.changed()


@pytest.mark.parametrize("status", STATUSES)
async def test_a_key_returns_its_job_whatever_became_of_it(store: Store, status: Status) -> None:
    first = a_job(status=status, idempotency_key="k", created_at=NOON - 1e6)
    await store.create(first, [], identical_since=None)
    again = a_job("job-2", idempotency_key="k", intent="another")
    created = await store.create(again, [an_attempt(job_id="job-2")], identical_since=None)
    assert (created.job, created.made) == (first, False)
    assert await store.job(LOCAL_OWNER, "job-2") is None
    assert await store.attempt(LOCAL_OWNER, "attempt-1") is None


async def test_a_key_belongs_to_one_owner(store: Store) -> None:
    await store.create(a_job(idempotency_key="k"), [], identical_since=NOON)
    other = a_job("job-2", idempotency_key="k", owner="somebody")
    assert (await store.create(other, [], identical_since=NOON)).made


@pytest.mark.parametrize("key", [None, "earlier"])
@pytest.mark.parametrize("status", ["unknown", "running"])
async def test_a_new_key_is_a_new_intent_only_where_keys_alone_tell_intents_apart(
    store: Store, status: Status, key: str | None
) -> None:
    first = a_job(status=status, idempotency_key=key)
    await store.create(first, [], identical_since=NOON)
    keyed = a_job("job-2", idempotency_key="k")
    known = await store.create(keyed, [], identical_since=NOON)
    assert (known.job, known.made) == (first, False)
    assert await store.identical(keyed, since=NOON) == first
    assert await store.identical(keyed, since=NOON, by_key_only=True) is None
    assert (await store.create(keyed, [], identical_since=NOON, by_key_only=True)).made


async def test_a_key_within_a_batch_is_never_compared_with_other_jobs(store: Store) -> None:
    await store.create(a_job(), [], identical_since=NOON)
    item = a_job("job-2", idempotency_key="b:0", batch_id="b")
    assert (await store.create(item, [], identical_since=NOON)).made


async def test_a_start_is_told_the_unknown_jobs_of_its_operation(store: Store) -> None:
    rows: dict[str, dict[str, object]] = {
        "lost": {"status": "unknown", "intent": "a"},
        "later": {"status": "unknown", "intent": "b", "created_at": NOON + 1},
        "running": {"status": "running", "intent": "c"},
        "elsewhere": {"status": "unknown", "intent": "d", "operation": "zsky_start_video"},
        "foreign": {"status": "unknown", "intent": "e", "owner": "somebody"},
    }
    for name, row in rows.items():
        await store.create(a_job(name, **row), [], identical_since=None)

    async def unknown(intent: str) -> list[str]:
        forecast = await store.foresee(
            an_intent(intent=intent), identical_since=NOON, entry=None, caps=(), used_since=()
        )
        return [job.job_id for job in forecast.unknown]

    assert await unknown("new") == ["later", "lost"]
    assert await unknown("a") == []  # its job is returned


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("age", [0, 1])
async def test_an_identical_call_gets_the_job_that_may_still_serve_it(
    store: Store, status: Status, age: int
) -> None:
    ended_at = NOON - age if status in ENDED else None
    first = a_job(status=status, created_at=NOON - 1e6, ended_at=ended_at)
    await store.create(first, [], identical_since=NOON)
    created = await store.create(a_job("job-2"), [], identical_since=NOON)
    always = status == "unknown" or status in UNDER_WAY
    returned = always or (status == "completed" and age == 0)
    assert created.made is not returned
    assert created.job.job_id == ("job-1" if returned else "job-2")


async def test_without_a_window_only_unknown_jobs_are_returned(store: Store) -> None:
    await store.create(a_job(), [], identical_since=None)
    assert (await store.create(a_job("job-2", status="unknown"), [], identical_since=None)).made
    created = await store.create(a_job("job-3"), [], identical_since=None)
    assert created.job.job_id == "job-2"


@pytest.mark.parametrize("window", [True, False])
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("state", ["prepared", "sent", "accepted", "refused", "unknown"])
async def test_what_was_sent_without_a_verdict_is_the_same_intent_whatever_its_age(
    store: Store, status: Status, state: AttemptState, *, window: bool
) -> None:
    ended_at = NOON - 1e6 if status in ENDED else None
    first = a_job(status=status, created_at=NOON - 2e6, ended_at=ended_at)
    sent = [an_attempt(), an_attempt("attempt-2", item="0", state=state)]
    await store.create(first, sent, identical_since=None)
    since = NOON if window else None
    created = await store.create(a_job("job-2"), [], identical_since=since)
    lost = state in {"sent", "unknown"} and status not in NEVER_RETURNED
    returned = lost or status == "unknown" or (window and status in UNDER_WAY)
    assert created.made is not returned


@pytest.mark.parametrize("window", [True, False])
@pytest.mark.parametrize("status", ["running", "completed", "cancelled"])
@pytest.mark.parametrize("state", ["sent", "accepted", "unknown"])
async def test_a_batch_that_has_a_job_of_unknown_fate_is_the_same_intent(
    store: Store, status: Status, state: AttemptState, *, window: bool
) -> None:
    ended_at = NOON - 1e6 if status in ENDED else None
    batch = a_job(status=status, created_at=NOON - 2e6, ended_at=ended_at)
    await store.create(batch, [], identical_since=None)
    item = a_job(
        "job-2",
        intent="intent-2",
        status="unknown" if state == "unknown" else "completed",
        batch_id="job-1",
        ended_at=NOON - 1e6,
    )
    sent = [an_attempt(job_id="job-2", state=state)]
    await store.create(item, sent, identical_since=None)
    await store.create(
        a_job("job-3", intent="intent-3", batch_id="job-4"), [], identical_since=None
    )
    since = NOON if window else None
    created = await store.create(a_job("job-5"), [], identical_since=since)
    lost = state != "accepted" and status != "cancelled"
    assert created.made is not (lost or (window and status == "running"))


async def test_who_holds_jobs_that_have_not_ended_is_known(store: Store) -> None:
    for number, (holder, status) in enumerate(
        (("a", "queued"), ("b", "completed"), ("c", "unknown"), (None, "running"), ("a", "running"))
    ):
        row = a_job(f"job-{number}", intent=f"{number}", holder=holder, status=status)
        await store.create(row, [], identical_since=None)
    assert await store.holders() == {"a", "c"}


async def test_of_several_identical_jobs_the_newest_is_returned(store: Store) -> None:
    for job_id, at in (("job-1", 3.0), ("job-2", 9.0), ("job-3", 6.0)):
        await store.create(a_job(job_id, batch_id="b", created_at=at), [], identical_since=None)
    created = await store.create(a_job("job-4"), [], identical_since=0)
    assert created.job.job_id == "job-2"


async def test_items_of_a_batch_are_never_taken_for_each_other(store: Store) -> None:
    await store.create(a_job(status="unknown"), [], identical_since=0)
    created = await store.create(a_job("job-2", batch_id="b"), [], identical_since=0)
    assert created.made


@pytest.mark.parametrize("different", [{"owner": "somebody"}, {"intent": "intent-2"}])
async def test_another_intent_or_owner_makes_another_job(
    store: Store, different: dict[str, str]
) -> None:
    await store.create(a_job(status="unknown"), [], identical_since=0)
    assert (await store.create(a_job("job-2", **different), [], identical_since=0)).made


async def test_a_job_that_exists_is_not_made_again(store: Store) -> None:
    await store.create(a_job(), [], identical_since=None)
    with pytest.raises(Stale):
        await store.create(a_job(intent="intent-2"), [an_attempt()], identical_since=None)
    assert await store.job(LOCAL_OWNER, "job-1") == a_job()
    assert await store.attempt(LOCAL_OWNER, "attempt-1") is None


async def test_a_job_whose_attempt_exists_is_not_made(store: Store) -> None:
    await store.write(None, [an_attempt()])
    with pytest.raises(Stale):
        await store.create(a_job(), [an_attempt()], identical_since=None)
    assert await store.job(LOCAL_OWNER, "job-1") is None


async def test_a_write_replaces_job_and_attempts_together(store: Store) -> None:
    job, attempt = a_job(), an_attempt()
    await store.create(job, [attempt], identical_since=None)
    job, attempt = job.next(status="submitting"), attempt.next(state="sent", sent_at=NOON)
    second = an_attempt("attempt-2", created_at=NOON + 1)
    await store.write(job, [attempt, second])
    assert await store.job(LOCAL_OWNER, "job-1") == job
    assert await store.attempts(LOCAL_OWNER, "job-1") == [attempt, second]


@pytest.mark.parametrize("skew", [-1, 0, 2])
async def test_a_job_of_any_but_the_next_version_is_stale(store: Store, skew: int) -> None:
    stored = a_job(version=5)
    await store.create(stored, [an_attempt()], identical_since=None)
    with pytest.raises(Stale):
        await store.write(
            a_job(version=5 + skew, status="failed"), [an_attempt().next(state="sent")]
        )
    assert await store.job(LOCAL_OWNER, "job-1") == stored
    assert await store.attempt(LOCAL_OWNER, "attempt-1") == an_attempt()


@pytest.mark.parametrize("version", [1, 2, 4])
async def test_a_stale_attempt_leaves_its_job_as_it_was(store: Store, version: int) -> None:
    await store.create(a_job(), [], identical_since=None)
    await store.write(None, [an_attempt()])
    await store.write(None, [an_attempt().next()])
    good = an_attempt("attempt-2")
    with pytest.raises(Stale):
        await store.write(a_job().next(status="running"), [good, an_attempt(version=version)])
    assert await store.job(LOCAL_OWNER, "job-1") == a_job()
    assert await store.attempt(LOCAL_OWNER, "attempt-2") is None


async def test_what_was_never_created_cannot_be_replaced(store: Store) -> None:
    for job, attempts in ((a_job(), []), (a_job().next(), []), (None, [an_attempt().next()])):
        with pytest.raises(Stale):
            await store.write(job, attempts)
    assert await store.job(LOCAL_OWNER, "job-1") is None


async def test_one_write_can_carry_an_attempt_through_two_versions(store: Store) -> None:
    await store.write(None, [an_attempt(), an_attempt().next(state="sent")])
    assert await store.attempt(LOCAL_OWNER, "attempt-1") == an_attempt().next(state="sent")


async def test_attempts_come_oldest_first(store: Store) -> None:
    late, early, same = (
        an_attempt("attempt-1", created_at=NOON + 1),
        an_attempt("attempt-2", created_at=NOON),
        an_attempt("attempt-0", created_at=NOON + 1),
    )
    await store.create(a_job(), [late, early, same], identical_since=None)
    await store.write(None, [an_attempt("attempt-9", job_id="job-9")])
    assert await store.attempts(LOCAL_OWNER, "job-1") == [early, late, same]


async def test_a_provider_s_id_finds_the_owner_s_newest_job(store: Store) -> None:
    old = a_job("job-1", provider_job_id="p", created_at=NOON - 1)
    new = a_job("job-2", provider_job_id="p", batch_id="b")
    for job in (new, old):
        await store.create(job, [], identical_since=None)
    assert await store.find("local", "zsky", "p") == new
    assert await store.find("somebody", "zsky", "p") is None
    assert await store.find("local", "claid", "p") is None


async def test_lists_are_filtered_and_newest_first(store: Store) -> None:
    for job in (
        a_job("a", created_at=1.0, status="failed"),
        a_job("b", created_at=3.0, batch_id="b"),
        a_job("c", created_at=2.0, provider="claid", batch_id="b"),
        a_job("d", created_at=2.0, status="running"),
        a_job("e", created_at=9.0, owner="somebody"),
    ):
        await store.create(job, [], identical_since=None)

    async def ids(**query: object) -> str:
        found = await store.list(Query(owner="local", **query))  # pyright: ignore[reportArgumentType] -- given below
        return "".join(job.job_id for job in found)

    assert await ids() == "bdca"
    assert await ids(limit=2) == "bd"
    assert await ids(limit=2, before=(2.0, "d")) == "ca"
    assert await ids(provider="zsky") == "bda"
    assert await ids(batch_id="b") == "bc"
    assert await ids(batch_id="b", provider="claid", statuses=frozenset({"queued"})) == "c"
    assert await ids(statuses=frozenset({"failed", "running"})) == "da"
    nothing: frozenset[Status] = frozenset()
    assert await ids(statuses=nothing) == ""


@pytest.mark.parametrize("status", STATUSES)
async def test_jobs_of_the_dead_are_claimed_until_they_ended(store: Store, status: Status) -> None:
    job = a_job(status=status, holder="gone")
    await store.create(job, [], identical_since=None)
    taken = await store.claim("me", everyone_is_dead)
    assert taken == ([] if status in ENDED else [job.next(holder="me")])
    assert await store.job(LOCAL_OWNER, "job-1") == (taken[0] if taken else job)


async def test_jobs_of_the_living_stay_theirs(store: Store) -> None:
    for job_id, holder in (("a", "alive"), ("b", "gone"), ("c", None), ("d", "gone")):
        await store.create(a_job(job_id, holder=holder, intent=job_id), [], identical_since=None)
    asked: list[str] = []

    def is_dead(holder: str) -> bool:
        asked.append(holder)
        return holder == "gone"

    assert [job.job_id for job in await store.claim("me", is_dead)] == ["b", "c", "d"]
    assert sorted(asked) == ["alive", "gone"]
    assert await store.claim("me", lambda holder: holder == "gone") == []


async def test_attempts_without_a_job_are_unsettled_once_their_holder_is_dead(store: Store) -> None:
    settled = [
        an_attempt(state, job_id=None, state=state) for state in ("accepted", "refused", "unknown")
    ]
    sent = an_attempt("sent", job_id=None, state="sent", created_at=NOON - 1)
    prepared = an_attempt("prepared", job_id=None)
    await store.write(None, [*settled, prepared, sent, an_attempt("of a job")])
    assert await store.unsettled(everyone_is_dead) == [sent, prepared]
    assert await store.unsettled(everyone_is_alive) == []
    await store.write(None, [sent.next(state="unknown")])
    assert await store.unsettled(everyone_is_dead) == [prepared]


async def test_jobs_count_if_a_provider_may_have_taken_them_since(store: Store) -> None:
    for job in (
        *(a_job(status, status=status, batch_id="b") for status in STATUSES),
        a_job("failed there", status="failed", provider_job_id="p", batch_id="b"),
        a_job("too old", status="running", created_at=NOON - 1, batch_id="b"),
        a_job("sent late", status="running", created_at=NOON - 1, submitted_at=NOON, batch_id="b"),
        a_job("other owner", status="running", owner="somebody"),
        a_job("other operation", status="running", operation="zsky_start_video", batch_id="b"),
    ):
        await store.create(job, [], identical_since=None)
    usage = await store.usage("local", "zsky_start_image", (NOON, NOON - 1))
    counted = {"submitting", "running", "completed", "unknown", "failed there", "sent late"}
    assert usage.accepted == (len(counted), len({*counted, "too old"}))


async def test_jobs_wait_until_they_are_sent_whenever_they_were_made(store: Store) -> None:
    for job in (
        *(a_job(status, status=status, batch_id="b") for status in STATUSES),
        a_job("old", status="queued", created_at=NOON - 86_400, batch_id="b"),
        a_job("asks", approval=ASKED, batch_id="b"),
        a_job("approved", approval=replace(ASKED, given_at=NOON), batch_id="b"),
        a_job("other owner", status="queued", owner="somebody"),
        a_job("other operation", status="queued", operation="zsky_start_video", batch_id="b"),
    ):
        await store.create(job, [], identical_since=None)
    usage = await store.usage("local", "zsky_start_image", ())
    assert usage == Usage(len({"queued", "old", "approved"}), ())


async def test_an_entry_is_forgotten_once_it_counts_nowhere(store: Store) -> None:
    running = a_job("job", status="running", created_at=NOON - 50, submitted_at=NOON - 50)
    await store.create(running, [], identical_since=None, entry=an_entry("job", at=NOON - 50))
    for entry in (
        an_entry("old", at=NOON - 50),
        an_entry("released", at=NOON - 50, state="released"),
        an_entry("in the month", at=NOON - 20),
        an_entry("kept", at=NOON - 5),
        an_entry("of the living", at=NOON - 50, holder="alive"),
        an_entry("of the dead", at=NOON - 50, holder="dead"),
    ):
        await store.reserve(entry, ())
    horizon = Horizon(NOON - 10, NOON - 30, lives=lambda holder: holder == "alive")
    assert await store.forgotten() is None
    assert await store.prune(horizon) == 0
    assert await store.forgotten() == NOON - 30
    (left,) = await store.spent("local", 0.0)
    assert left.amount == len({"job", "in the month", "kept", "of the living"})
    cap = Cap(setting="per process", limit=9.0, since=0.0, holder="alive")
    assert await store.used("local", cap) == pytest.approx(0.05)
    await store.prune(until(NOON - 40))
    assert await store.forgotten() == NOON - 30, "what was forgotten does not come back"
    await store.prune(until(NOON + 1))
    (left,) = await store.spent("local", 0.0)
    assert left.amount == 1, "the entry of a job that is still here"


async def test_a_ledger_that_lost_nothing_that_counted_is_whole(store: Store) -> None:
    await store.reserve(an_entry("released", at=NOON - 50, state="released"), ())
    await store.prune(until(NOON))
    assert await store.forgotten() is None


async def test_jobs_that_a_quota_counts_stay_while_it_does(store: Store) -> None:
    for job_id, changes in {
        "counted": {"provider_job_id": "p"},
        "refused": {"status": "failed"},
        "before": {"provider_job_id": "q", "submitted_at": NOON - 90},
        "without a quota": {"operation": "zyng_start_images", "provider_job_id": "r"},
    }.items():
        fields = {"status": "completed", "submitted_at": NOON - 50, "ended_at": NOON - 40}
        row = a_job(job_id, batch_id="b", **{**fields, **changes})
        await store.create(row, [], identical_since=None)
    horizon = Horizon(NOON, NOON - 60, frozenset({"zsky_start_image"}))
    assert await store.prune(horizon) == 3
    assert (await store.usage("local", "zsky_start_image", (NOON - 60,))).accepted == (1,)
    assert await store.prune(until(NOON)) == 1


async def test_pruning_forgets_what_ended_long_ago_and_nothing_else(store: Store) -> None:
    for job in (
        a_job("old", status="completed", ended_at=NOON - 1),
        a_job("new", status="completed", ended_at=NOON),
        a_job("never", status="failed"),
        a_job("unknown", status="unknown", ended_at=NOON - 1, batch_id="b"),
    ):
        attempt = an_attempt(f"of {job.job_id}", job_id=job.job_id)
        await store.create(job, [attempt], identical_since=None)
    await store.write(None, [an_attempt("without", job_id=None)])
    assert await store.prune(until(NOON)) == 1
    assert await store.prune(until(NOON)) == 0
    assert {job.job_id for job in await store.list(Query(owner="local"))} == {
        "new",
        "never",
        "unknown",
    }
    assert await store.attempt(LOCAL_OWNER, "of old") is None
    for attempt_id in ("of new", "of never", "of unknown", "without"):
        assert await store.attempt(LOCAL_OWNER, attempt_id) is not None


async def test_own_writes_are_no_change(store: Store) -> None:
    await store.create(a_job(), [], identical_since=None)
    assert not await store.changed()


async def test_a_row_of_another_owner_is_not_found(store: Store) -> None:
    job = a_job(provider_job_id="p-1")
    await store.create(job, [an_attempt()], identical_since=None)
    assert await store.job("kim", "job-1") is None
    assert await store.attempts("kim", "job-1") == []
    assert await store.attempt("kim", "attempt-1") is None
    assert await store.find("kim", job.provider, "p-1") is None
    assert await store.list(Query(owner="kim")) == []


async def test_what_is_taken_is_an_id_of_somebody_elses_job_at_the_provider(store: Store) -> None:
    job = a_job(provider_job_id="p-1")
    await store.create(job, [], identical_since=None)
    await store.create(a_job("job-2", owner="lee", intent="other"), [], identical_since=None)
    assert await store.taken("kim", job.provider, "p-1")
    assert not await store.taken(LOCAL_OWNER, job.provider, "p-1")
    assert not await store.taken("kim", job.provider, "p-2")
    assert not await store.taken("kim", "another", "p-1")


async def test_owners_are_those_who_have_a_job(store: Store) -> None:
    assert await store.owners() == []
    for number, owner in enumerate(["lee", "kim", "lee", "ada"]):
        job = a_job(f"job-{number}", owner=owner, intent=str(number))
        await store.create(job, [], identical_since=None)
    assert await store.owners() == ["ada", "kim", "lee"]

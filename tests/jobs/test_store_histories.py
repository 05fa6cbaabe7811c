"""The journal and the memory answer alike, whatever happens in whatever order."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from darkroom.core.errors import Stale
from darkroom.jobs.model import LOCAL_OWNER, Attempt, AttemptState, Job
from darkroom.jobs.storage.memory import MemoryStore
from darkroom.jobs.storage.sqlite import SqliteStore
from darkroom.jobs.store import Horizon, Query
from darkroom.providers.values import Status
from tests.jobs.rows import an_attempt, finish, inline

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from darkroom.jobs.store import Store

T = TypeVar("T")

OWNERS = ("local", "somebody")
JOB_IDS = tuple("abcdef")
ATTEMPT_IDS = tuple("123456")
HOLDERS = ("one", "two", None)

times = st.integers(0, 5).map(float)
statuses = st.sampled_from(cast("tuple[Status, ...]", get_args(Status)))
providers = st.sampled_from(("zsky", "claid"))
operations = st.sampled_from(("image", "video"))
jobs = st.builds(
    Job,
    job_id=st.sampled_from(JOB_IDS),
    owner=st.sampled_from(OWNERS),
    provider=providers,
    operation=operations,
    status=statuses,
    arguments=st.just({}),
    intent=st.sampled_from(("x", "y")),
    fingerprint=st.just("key"),
    created_at=times,
    updated_at=times,
    holder=st.sampled_from(HOLDERS),
    idempotency_key=st.sampled_from(("k", "l", None, None)),
    batch_id=st.sampled_from(("b", None)),
    submitted_at=st.none() | times,
    ended_at=st.none() | times,
    provider_job_id=st.sampled_from(("p", "q", None)),
)
attempts = st.builds(
    an_attempt,
    st.sampled_from(ATTEMPT_IDS),
    job_id=st.sampled_from((*JOB_IDS, None)),
    state=st.sampled_from(cast("tuple[AttemptState, ...]", get_args(AttemptState))),
    created_at=times,
)
skews = st.sampled_from((0, 0, 0, 0, 1, -1))
"""How far a version is beside the one that may be written."""


class Histories(RuleBasedStateMachine):
    """One journal and one memory to which the same happens."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.memory = MemoryStore(holder="one")
        self.journal = self.opened()

    def opened(self) -> SqliteStore:
        return finish(SqliteStore.open(self.folder / "journal.sqlite", run=inline, holder="one"))

    def teardown(self) -> None:
        finish(self.journal.close())
        shutil.rmtree(self.folder)

    def alike(self, ask: Callable[[Store], Coroutine[Any, Any, T]]) -> T | None:
        """Ask both stores, compare what they say, and return it; None if both say it is stale."""

        def outcome(store: Store) -> tuple[T | None, bool]:
            try:
                return finish(ask(store)), False
            except Stale:
                return None, True

        expected = outcome(self.memory)
        assert outcome(self.journal) == expected
        return expected[0]

    def following(self, given: list[Attempt], skew: int) -> list[Attempt]:
        """Give each attempt the version that comes next, or one beside it."""
        following: list[Attempt] = []
        for attempt in given:
            stored = finish(self.memory.attempt(LOCAL_OWNER, attempt.attempt_id))
            version = skew + (1 if stored is None else stored.version + 1)
            following.append(dataclasses.replace(attempt, version=version))
        return following

    @rule(
        job=jobs,
        given=st.lists(attempts, max_size=2),
        skew=skews,
        identical_since=st.none() | times,
    )
    def create(
        self, job: Job, given: list[Attempt], skew: int, identical_since: float | None
    ) -> None:
        new = self.following(given, skew)
        self.alike(lambda store: store.create(job, new, identical_since=identical_since))

    @rule(job=jobs, given=st.lists(attempts, max_size=2), skew=skews, attempt_skew=skews)
    def write(self, job: Job, given: list[Attempt], skew: int, attempt_skew: int) -> None:
        stored = finish(self.memory.job(LOCAL_OWNER, job.job_id))
        if stored is not None:
            # What identifies a job never changes.
            job = dataclasses.replace(
                job,
                owner=stored.owner,
                idempotency_key=stored.idempotency_key,
                version=stored.version + 1 + skew,
            )
        new = self.following(given, attempt_skew)
        self.alike(lambda store: store.write(job, new))

    @rule(given=st.lists(attempts, min_size=1, max_size=3), skew=skews)
    def write_attempts(self, given: list[Attempt], skew: int) -> None:
        new = self.following(given, skew)
        self.alike(lambda store: store.write(None, new))

    @rule(holder=st.sampled_from(("one", "two")), dead=st.sets(st.sampled_from(("one", "two"))))
    def claim(self, holder: str, dead: set[str]) -> None:
        self.alike(lambda store: store.claim(holder, dead.__contains__))

    @rule(
        ended=times,
        window=times,
        counted=st.sets(st.sampled_from(("image", "video"))),
        living=st.booleans(),
    )
    def prune(self, ended: float, window: float, counted: set[str], *, living: bool) -> None:
        horizon = Horizon(ended, window, frozenset(counted), lambda _: living)
        self.alike(lambda store: store.prune(horizon))
        self.alike(lambda store: store.forgotten())

    @rule()
    def open_again(self) -> None:
        finish(self.journal.close())
        self.journal = self.opened()

    @rule(
        query=st.builds(
            Query,
            owner=st.sampled_from(OWNERS),
            provider=st.none() | providers,
            statuses=st.none() | st.frozensets(statuses),
            batch_id=st.sampled_from(("b", None)),
            limit=st.integers(1, 3),
            before=st.none() | st.tuples(times, st.sampled_from(JOB_IDS)),
        )
    )
    def list_some(self, query: Query) -> None:
        self.alike(lambda store: store.list(query))

    @rule(owner=st.sampled_from(OWNERS), provider=providers, operation=operations, since=times)
    def ask(self, owner: str, provider: str, operation: str, since: float) -> None:
        self.alike(lambda store: store.find(owner, provider, "p"))
        self.alike(lambda store: store.usage(owner, operation, (since, since + 1)))
        self.alike(lambda store: store.unsettled(lambda _: since > 2))
        self.alike(lambda store: store.holders())

    @invariant()
    def everything_is_alike(self) -> None:
        for owner in OWNERS:
            query = Query(owner=owner, limit=100)
            self.alike(lambda store, query=query: store.list(query))
        for job_id in JOB_IDS:
            self.alike(lambda store, job_id=job_id: store.attempts(LOCAL_OWNER, job_id))
        for attempt_id in ATTEMPT_IDS:
            self.alike(lambda store, attempt_id=attempt_id: store.attempt(LOCAL_OWNER, attempt_id))


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)

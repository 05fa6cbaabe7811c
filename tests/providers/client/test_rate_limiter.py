"""A lane's promises as a state machine: whatever the network does, no window holds too many."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from darkroom.core.scheduler import HeapScheduler
from darkroom.providers.client.rate_limiter import (
    KINDS,
    LONGEST_WAIT_OF_LOOKS_SECONDS,
    LOOKS,
    Kind,
    RateLimiter,
)
from darkroom.providers.provider import Limits, Rate

if TYPE_CHECKING:
    from darkroom.providers.client.rate_limiter import Permit, Ticket

DELAYS = st.sampled_from([0.0, 0.01, 0.5, 3.0, 9.99, 10.0, 10.01, 10.02, 25.0])


@dataclass(eq=False)
class Asked:
    """One ticket and what became of it."""

    kind: Kind
    slot: str | None
    serial: int
    ticket: Ticket | None = None
    turn: Permit | None = None
    granted_at: float = math.nan
    answered_at: float = math.inf
    given_back: bool = False
    released: bool = False
    cancelled: bool = False

    @property
    def open(self) -> bool:
        return self.turn is not None and self.answered_at == math.inf

    @property
    def waits(self) -> bool:
        return self.turn is None and not self.cancelled


class Pacing(RuleBasedStateMachine):
    """Requests that ask, leave, are answered late or never sent, while time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(anyio, "current_time", lambda: self.now)
        self.asked: list[Asked] = []
        self.held_until = dict.fromkeys(KINDS, -math.inf)

    @initialize(
        rates=st.lists(
            st.builds(Rate, st.integers(1, 4), st.sampled_from([1.0, 10.0])), min_size=1, max_size=2
        ),
        slots=st.none() | st.integers(1, 3),
    )
    def build(self, rates: list[Rate], slots: int | None) -> None:
        self.limits = Limits(rates=tuple(rates), concurrent_jobs=slots)
        self.scheduler = HeapScheduler()
        self.limiter = RateLimiter(self.limits, self.scheduler)

    # --- what happens ---

    @rule(kind=st.sampled_from(KINDS), wants_slot=st.booleans())
    def ask(self, kind: Kind, wants_slot: bool) -> None:  # noqa: FBT001 -- drawn
        serial = len(self.asked)
        one = Asked(kind, f"job-{serial}" if wants_slot and kind == "start" else None, serial)
        self.asked.append(one)

        def go(turn: Permit) -> None:
            assert not one.cancelled
            assert self.now >= self.held_until[kind]
            one.turn, one.granted_at = turn, self.now
            before = [a for a in self.asked[:serial] if a.kind == kind and a.waits]
            assert not before, "an earlier ticket of the same kind still waits"

        one.ticket = self.limiter.ask(kind, go, slot=one.slot)

    @precondition(lambda self: any(one.waits for one in self.asked))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from([one for one in self.asked if one.waits]))
        assert one.ticket is not None
        one.cancelled = one.ticket.cancelled = True
        self.limiter.pump()

    @precondition(lambda self: any(one.open for one in self.asked))
    @rule(data=st.data(), sent=st.booleans())
    def answer(self, data: st.DataObject, sent: bool) -> None:  # noqa: FBT001 -- drawn
        one = data.draw(st.sampled_from([one for one in self.asked if one.open]))
        self._end(one, sent=sent)

    def _end(self, one: Asked, *, sent: bool) -> None:
        assert one.turn is not None
        one.answered_at, one.given_back = self.now, not sent
        if sent:
            one.turn.done()
        else:
            one.turn.give_back()
            self._release(one)
        one.turn.done()  # a second time changes nothing

    @precondition(lambda self: any(self.holds(one) and not one.open for one in self.asked))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        holders = [one for one in self.asked if self.holds(one) and not one.open]
        self._release(data.draw(st.sampled_from(holders)))

    def _release(self, one: Asked) -> None:
        if one.slot is not None:
            one.released = True
            self.limiter.release(one.slot)

    @rule(kind=st.sampled_from(KINDS), seconds=st.sampled_from([0.5, 5.0, 90.0]))
    def hold(self, kind: Kind, seconds: float) -> None:
        self.limiter.hold(kind, seconds)
        for other in KINDS:
            bound = other in LOOKS and kind not in LOOKS
            wait = min(seconds, LONGEST_WAIT_OF_LOOKS_SECONDS) if bound else seconds
            self.held_until[other] = max(self.held_until[other], self.now + wait)

    @rule(seconds=DELAYS)
    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.scheduler.fire(self.now)) <= end:
            self.now = due
        self.now = end
        self.scheduler.fire(end)

    # --- what is promised ---

    @staticmethod
    def holds(one: Asked) -> bool:
        return one.slot is not None and one.turn is not None and not one.released

    @invariant()
    def no_window_holds_too_many_wherever_the_requests_arrived(self) -> None:
        """A request arrives at some instant between its grant and its answer; take the worst."""
        under_way = [
            (one.granted_at, one.answered_at)
            for one in self.asked
            if one.turn is not None and not one.given_back
        ]
        for rate in getattr(self, "limits", Limits()).rates:
            for _, begin in under_way:
                if begin == math.inf:
                    begin = self.now  # noqa: PLW2901 -- the window that begins now
                inside = sum(g < begin + rate.seconds and a >= begin for g, a in under_way)
                assert inside <= rate.requests

    @invariant()
    def no_more_jobs_have_a_slot_than_there_are(self) -> None:
        limit = getattr(self, "limits", Limits()).concurrent_jobs
        if limit is not None:
            assert sum(self.holds(one) for one in self.asked) <= limit

    def teardown(self) -> None:
        """In the end everybody gets a turn: no ticket is forgotten, none starves."""
        try:
            self.wait(90)
            rounds = 2 * len(self.asked) + 2
            for _ in range(rounds):
                for one in self.asked:
                    if one.open:
                        self._end(one, sent=True)
                    if self.holds(one):
                        self._release(one)
                self.wait(11)
            assert not any(one.waits for one in self.asked)
        finally:
            self.patch.undo()


TestPacing = Pacing.TestCase
TestPacing.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_kinds_that_all_have_much_to_send_share_the_turns_evenly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(anyio, "current_time", lambda: now)
    heap = HeapScheduler()
    limiter = RateLimiter(Limits(rates=(Rate(6, 10),)), heap)
    granted: list[Kind] = []

    def asker(kind: Kind) -> None:
        def go(turn: Permit) -> None:
            granted.append(kind)
            turn.done()

        limiter.ask(kind, go)

    for kind in KINDS:
        for _ in range(50):
            asker(kind)
    for _ in range(9):
        now = heap.fire(now)
    heap.fire(now)
    assert granted[:6] == ["call"] * 6  # nobody else had asked yet
    later = granted[6:54]
    assert {kind: later.count(kind) for kind in KINDS} == dict.fromkeys(KINDS, 12)


def test_a_start_that_waits_for_a_slot_holds_up_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(anyio, "current_time", lambda: 0.0)
    limiter = RateLimiter(Limits(rates=(Rate(10, 10),), concurrent_jobs=1), HeapScheduler())
    granted: list[str] = []

    def asker(name: str, kind: Kind, slot: str | None = None) -> None:
        def go(turn: Permit) -> None:
            granted.append(name)
            turn.done()

        limiter.ask(kind, go, slot=slot)

    asker("first", "start", "job-1")
    asker("second", "start", "job-2")
    asker("third", "start", "job-3")
    asker("look", "poll")
    asker("list", "call")
    assert granted == ["first", "look", "list"]
    limiter.release("job-1")
    assert granted == ["first", "look", "list", "second"]


def test_a_pause_told_to_a_submission_lets_looks_go_on_after_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(anyio, "current_time", lambda: now)
    heap = HeapScheduler()
    limiter = RateLimiter(Limits(rates=(Rate(10, 10),)), heap)
    granted: list[tuple[Kind, float]] = []
    limiter.hold("start", 7_200.0)
    for kind in KINDS:
        limiter.ask(kind, lambda turn, kind=kind: (granted.append((kind, now)), turn.done())[0])
    while (due := heap.fire(now)) < math.inf:
        now = due
    assert granted == [("call", 60.0), ("poll", 60.0), ("change", 7_200.0), ("start", 7_200.0)]


def test_a_pause_told_to_a_look_binds_all_and_looks_try_again_after_an_hour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(anyio, "current_time", lambda: now)
    limiter = RateLimiter(Limits(), HeapScheduler())
    limiter.hold("poll", 200.0)
    assert [limiter.held(kind) for kind in KINDS] == [200.0] * 4
    limiter.hold("poll", 86_400.0)
    assert [limiter.held(kind) for kind in ("poll", "start")] == [3_600.0, 86_400.0]

"""A budget that processes share through a file: rates and slots hold across them."""

from __future__ import annotations

import errno
import math
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.providers.client.capacity import WINDOW_MARGIN_SECONDS
from darkroom.providers.client.local_limits import LocalLimits
from darkroom.providers.client.shared_limits import LONGEST_REQUEST_SECONDS, SLOTS, SharedLimits
from darkroom.providers.provider import Limits, Rate

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = Limits(rates=(Rate(3, 10.0),), concurrent_jobs=2)


class Clock:
    """A monotonic clock that a test drives; seconds."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pacing" / "zsky-abc.lane"


def test_two_processes_together_send_no_more_than_the_rate(path: Path, clock: Clock) -> None:
    one, other = SharedLimits(path, LIMITS, clock), SharedLimits(path, LIMITS, clock)
    tokens = [one.take(), other.take(), one.take()]
    assert None not in tokens
    assert other.take() is None
    for token in tokens:
        assert token is not None
        one.done(token, counts=True)
    assert other.delay() == pytest.approx(10.0 + WINDOW_MARGIN_SECONDS)
    clock.now += 10.0 + WINDOW_MARGIN_SECONDS
    assert other.take() is not None


@pytest.mark.anyio
async def test_what_is_free_is_what_may_be_taken_in_this_process_and_in_others(
    path: Path, clock: Clock
) -> None:
    own, one = LocalLimits(LIMITS), SharedLimits(path, LIMITS, clock)
    other = SharedLimits(path, LIMITS, clock)
    for left in (3, 2, 1):
        assert own.free() == one.free() == other.free() == left
        for budget in (own, one):
            token = budget.take()
            assert token is not None
            if left == 2:  # under way or over, it counts alike
                budget.done(token, counts=True)
    assert own.free() == one.free() == other.free() == 0
    clock.now += 10.0 + WINDOW_MARGIN_SECONDS
    await anyio.sleep(10.0 + WINDOW_MARGIN_SECONDS)
    assert own.free() == one.free() == other.free() == 1  # two are still under way
    for budget in (own, other):
        budget.hold(5.0)
    assert own.free() == one.free() == 0


@pytest.mark.anyio
async def test_without_rates_everything_is_free(path: Path, clock: Clock) -> None:
    assert SharedLimits(path, Limits(), clock).free() == LocalLimits(Limits()).free() == math.inf


def test_a_request_that_was_never_sent_gives_its_turn_back(path: Path, clock: Clock) -> None:
    budget = SharedLimits(path, LIMITS, clock)
    tokens = [budget.take() for _ in range(3)]
    assert tokens[1] is not None
    budget.done(tokens[1], counts=False)
    assert budget.take() is not None


def test_a_turn_whose_process_died_comes_free_by_itself(path: Path, clock: Clock) -> None:
    dead = SharedLimits(path, LIMITS, clock)
    for _ in range(3):
        assert dead.take() is not None
    dead.close()
    survivor = SharedLimits(path, LIMITS, clock)
    assert survivor.take() is None
    clock.now += LONGEST_REQUEST_SECONDS + 10.0 + WINDOW_MARGIN_SECONDS
    assert survivor.take() is not None


def test_what_is_left_from_before_the_machine_was_started_counts_for_nothing(
    path: Path, clock: Clock
) -> None:
    before = SharedLimits(path, LIMITS, clock)
    for _ in range(3):
        assert before.take() is not None
    assert before.occupy("a", 3_600.0)
    assert before.occupy("b", 3_600.0)
    clock.now = 5.0  # the monotonic clock begins anew
    before_boot_far_ahead = 1_000.0 + 3_600.0 - clock.now
    assert before.take() is not None
    assert before.slot_free("c") is (before_boot_far_ahead > 24 * 3_600.0)


def test_slots_are_counted_across_processes(path: Path, clock: Clock) -> None:
    one, other = SharedLimits(path, LIMITS, clock), SharedLimits(path, LIMITS, clock)
    assert one.occupy("a", 60.0)
    assert other.occupy("b", 60.0)
    assert not one.occupy("c", 60.0)
    assert not one.slot_free("c")
    assert one.occupy("a", 60.0), "a job that has a slot keeps it"
    assert other.release("a"), "whoever takes a job over may give its slot back"
    assert not other.release("a")
    assert one.occupy("c", 60.0)


def test_a_slot_whose_process_died_comes_free_by_itself(path: Path, clock: Clock) -> None:
    budget = SharedLimits(path, LIMITS, clock)
    assert budget.occupy("a", 60.0)
    assert budget.occupy("b", 600.0)
    clock.now += 61.0
    assert budget.occupy("c", 60.0)
    assert not budget.slot_free("d")


def test_a_hold_holds_every_process_and_ends_by_itself(path: Path, clock: Clock) -> None:
    one, other = SharedLimits(path, LIMITS, clock), SharedLimits(path, LIMITS, clock)
    one.hold(30.0)
    assert other.take() is None
    assert other.held() == other.delay() == pytest.approx(30.0)
    other.hold(5.0)
    assert one.held() == pytest.approx(30.0), "a longer hold stays"
    clock.now += 29.0
    assert one.take() is None
    clock.now += 1.0
    assert other.held() == 0.0
    assert other.take() is not None


def test_a_hold_does_not_outlive_its_time_when_its_process_dies(path: Path, clock: Clock) -> None:
    dead = SharedLimits(path, LIMITS, clock)
    dead.hold(60.0)
    dead.close()
    survivor = SharedLimits(path, LIMITS, clock)
    assert survivor.take() is None
    clock.now += 60.0
    assert survivor.take() is not None


def test_a_hold_from_before_the_machine_was_started_never_holds_again(
    path: Path, clock: Clock
) -> None:
    SharedLimits(path, LIMITS, clock).hold(3_600.0)
    clock.now = 5.0  # the monotonic clock begins anew
    after = SharedLimits(path, LIMITS, clock)
    assert after.take() is not None
    clock.now = 1_500.0  # the old hold would be under way
    assert after.take() is not None


def test_looks_of_every_process_are_held_for_a_time_of_their_own(path: Path, clock: Clock) -> None:
    one, other = SharedLimits(path, LIMITS, clock), SharedLimits(path, LIMITS, clock)
    one.hold(600.0, 60.0)
    assert other.take(look=True) is None
    assert (other.held(), other.held(look=True)) == pytest.approx((600.0, 60.0))
    clock.now += 60.0
    assert other.take() is None
    assert other.take(look=True) is not None
    one.hold(5.0, 5.0)
    assert (other.held(), other.held(look=True)) == pytest.approx((540.0, 5.0))


def test_no_hold_is_longer_than_a_day(path: Path, clock: Clock) -> None:
    budget = SharedLimits(path, LIMITS, clock)
    budget.hold(1e9)
    assert budget.held() == pytest.approx(24 * 3_600.0)


def test_a_provider_without_limits_is_held_all_the_same(path: Path, clock: Clock) -> None:
    one, other = SharedLimits(path, Limits(), clock), SharedLimits(path, Limits(), clock)
    one.hold(10.0)
    assert other.take() is None
    assert other.delay() == pytest.approx(10.0)
    clock.now += 10.0
    assert other.take() is not None


def test_a_hold_is_no_slot_and_a_slot_no_hold(path: Path, clock: Clock) -> None:
    budget = SharedLimits(path, Limits(concurrent_jobs=SLOTS), clock)
    assert all(budget.occupy(str(n), 60.0) for n in range(SLOTS))
    assert budget.held() == 0.0
    budget.hold(10.0)
    assert all(budget.release(str(n)) for n in range(SLOTS))
    assert budget.held() == pytest.approx(10.0)


def test_other_limits_share_the_file_as_far_as_they_go(path: Path, clock: Clock) -> None:
    narrow = SharedLimits(path, LIMITS, clock)
    narrow.take()
    wider = SharedLimits(path, Limits(rates=(Rate(5, 10.0),)), clock)
    assert [wider.take() is not None for _ in range(5)] == [True] * 4 + [False]
    assert narrow.take() is None
    assert wider.slot_free("anything")


def test_without_limits_nothing_waits(path: Path, clock: Clock) -> None:
    budget = SharedLimits(path, Limits(), clock)
    assert all(budget.take() is not None for _ in range(100))
    assert budget.occupy("a", 1.0)
    assert not budget.release("a")


def test_the_file_is_private(path: Path, clock: Clock) -> None:
    SharedLimits(path, LIMITS, clock)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(sys.platform == "win32", reason="there are no blocks to count")
@pytest.mark.parametrize("plainly", [False, True])
@pytest.mark.parametrize("sparse", [0, 8_192])
def test_the_file_has_all_its_blocks_before_anything_is_mapped(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, sparse: int, *, plainly: bool
) -> None:
    path.parent.mkdir()
    with path.open("wb") as file:
        file.write(b"\x01")
        file.truncate(sparse)  # as an earlier version left it
    if plainly:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    SharedLimits(path, Limits(rates=(Rate(700, 10.0),)), clock)
    found = path.stat()
    needed = SLOTS * 16 + 3 * 16 + 700 * 8
    assert found.st_size >= needed
    assert found.st_blocks * 512 >= needed
    assert path.read_bytes()[:1] == (b"\x01" if sparse else b"\x00"), "what was there stays"


@pytest.mark.anyio
@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="it is what fails here")
async def test_without_room_a_process_keeps_to_the_limits_alone_until_there_is_room(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        one = SharedLimits(path, LIMITS, clock)
        assert one.trouble is not None
        assert one.trouble.errno == errno.ENOSPC
        tokens = [one.take() for _ in range(4)]
        assert None not in tokens[:3]
        assert tokens[3] is None
        assert one.occupy("a", 60.0)
        one.hold(600.0, 60.0)
    assert one.trouble is None
    other = SharedLimits(path, LIMITS, clock)
    assert (other.held(), other.held(look=True)) == pytest.approx((600.0, 60.0), abs=1.0)
    assert other.occupy("b", 60.0)
    assert not other.slot_free("c")
    for token in tokens[:3]:
        assert token is not None
        one.done(token, counts=True)  # they were counted here alone
    clock.now += 600.0
    assert [other.take() is not None for _ in range(4)] == [True, True, True, False]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["take", "done", "drop", "wait"]), st.floats(0.0, 8.0)),
        max_size=60,
    )
)
def test_no_window_ever_holds_more_than_the_rate(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[str, float]]
) -> None:
    clock = Clock()
    path = tmp_path_factory.mktemp("lane") / "x.lane"
    budgets = [SharedLimits(path, LIMITS, clock) for _ in range(2)]
    under_way: list[tuple[int, float]] = []
    arrived: list[float] = []
    for step, (what, seconds) in enumerate(history):
        budget = budgets[step % 2]
        if what == "take":
            token = budget.take()
            if token is not None:
                under_way.append((token, clock.now))
        elif what == "wait":
            clock.now += seconds
        elif under_way:
            token, began = under_way.pop(0)
            if clock.now - began > LONGEST_REQUEST_SECONDS:
                continue  # such a request has been given up before
            budget.done(token, counts=what == "done")
            if what == "done":
                arrived.append(clock.now)  # the latest that it can have arrived
    for at in arrived:
        assert sum(1 for other in arrived if at <= other < at + 10.0) <= 3
    for budget in budgets:
        budget.close()


@pytest.mark.slow
def test_real_processes_share_one_rate(path: Path) -> None:
    program = (
        "import sys, pathlib; from darkroom.providers.client.shared_limits import SharedLimits; "
        "from darkroom.providers.provider import Limits, Rate; "
        "b = SharedLimits(pathlib.Path(sys.argv[1]), Limits(rates=(Rate(50, 600.0),))); "
        "print(sum(b.take() is not None for _ in range(40)))"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    granted = [int(process.communicate(timeout=60)[0]) for process in running]
    assert sum(granted) == 50


def test_a_turn_is_free_the_moment_that_the_delay_says_so(path: Path, clock: Clock) -> None:
    budget = SharedLimits(path, Limits(rates=(Rate(1, 60),)), clock)
    for step in range(2_000):
        token = budget.take()
        assert token is not None, step
        budget.done(token, counts=True)
        clock.now += 1 / 3
        while (left := budget.delay()) > 0:  # to the last digit
            clock.now += left

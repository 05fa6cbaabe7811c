"""What is learned of an account from a provider's answers, on virtual time."""

from __future__ import annotations

import anyio
import pytest

from darkroom.core.errors import failure
from darkroom.providers.client.account import (
    LONGEST_DISTANCE_SECONDS,
    LONGEST_REFUSED_SECONDS,
    RAISE_SECONDS,
    Account,
    LearnedLimits,
    said_limits,
)
from darkroom.providers.client.http import retry_after
from darkroom.providers.provider import Limits, Rate

pytestmark = pytest.mark.anyio

MINUTE = Limits(rates=(Rate(60, 60.0),), concurrent_jobs=3)
BOTH = Limits(rates=(Rate(60, 60.0), Rate(2, 1.0)))
DAY = 86_400.0


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"ratelimit-limit": "30, 30;w=60, 1;w=1"}, {60.0: 30, 1.0: 1}),
        ({"ratelimit-limit": "30"}, {60.0: 30}),
        ({"x-ratelimit-limit": " 12 "}, {60.0: 12}),
        ({"ratelimit-limit": "0, 0;w=60"}, {}),
        ({"ratelimit-limit": "many"}, {}),
        ({"ratelimit-limit": "-5"}, {}),
        ({"ratelimit-limit": "1000;w=86400"}, {}),
        ({"ratelimit-limit": "99999999999999999999"}, {}),
        ({}, {}),
    ],
)
async def test_limits_are_read_as_far_as_they_can_be_understood(
    headers: dict[str, str], said: dict[float, int]
) -> None:
    assert said_limits(headers, MINUTE) == said


async def test_a_lower_limit_holds_at_once_and_is_raised_slowly_again() -> None:
    learned = LearnedLimits(BOTH)
    lower = learned.hear({"ratelimit-limit": "30, 30;w=60, 1;w=1"})
    assert lower is not None
    assert lower.rates == (Rate(30, 60.0), Rate(1, 1.0))
    higher = {"ratelimit-limit": "60, 60;w=60, 2;w=1"}
    assert learned.hear(higher) is None, "not at once"
    seen: list[int] = []
    for _ in range(10):
        await anyio.sleep(RAISE_SECONDS)
        learned.hear(higher)
        seen.append(learned.limits.rates[0].requests)
    assert seen[0] == 37
    assert seen == sorted(seen)
    assert learned.limits.rates == BOTH.rates


async def test_a_provider_that_says_more_than_its_page_raises_nothing() -> None:
    learned = LearnedLimits(MINUTE)
    assert learned.hear({"ratelimit-limit": "600;w=60"}) is None
    assert learned.limits == MINUTE


async def test_a_window_that_no_page_names_is_kept_to_as_well() -> None:
    learned = LearnedLimits(MINUTE)
    learned.hear({"ratelimit-limit": "3;w=10"})
    assert set(learned.limits.rates) == {Rate(60, 60.0), Rate(3, 10.0)}


@pytest.mark.parametrize("said", [None, 0.0, 0.4])
async def test_a_refusal_that_repeats_grows_the_distance_whatever_little_was_said(
    said: float | None,
) -> None:
    account, waits = Account(MINUTE), list[float]()
    for _ in range(14):
        waits.append(account.put_off(said))
        assert account.put_off(said) == waits[-1], "what was on its way already is the same refusal"
        await anyio.sleep(waits[-1])
    assert waits[:4] == [3, 6, 12, 24]
    assert waits[-1] == LONGEST_DISTANCE_SECONDS


async def test_what_was_said_is_obeyed_and_no_longer_than_an_hour() -> None:
    account = Account(MINUTE)
    assert account.put_off(7.0) == 7.0
    assert Account(MINUTE).put_off(DAY) == LONGEST_DISTANCE_SECONDS
    assert retry_after({"retry-after": str(DAY)}, 1e9) == LONGEST_DISTANCE_SECONDS


async def test_a_success_ends_the_growing() -> None:
    account = Account(MINUTE)
    for _ in range(5):
        await anyio.sleep(account.put_off(None))
    account.answered(charged=True)
    assert account.put_off(None) == 3


async def test_a_provider_that_takes_nothing_for_25_hours_is_given_up_and_asked_anew_later() -> (
    None
):
    account, began = Account(MINUTE), anyio.current_time()
    tries = 0
    while not account.giving_up:
        await anyio.sleep(account.put_off(None))
        tries += 1
        assert anyio.current_time() - began < LONGEST_REFUSED_SECONDS + 2 * 3_600
        assert tries < 50
        if anyio.current_time() - began >= LONGEST_REFUSED_SECONDS:
            account.put_off(None)
            break
    assert account.giving_up
    await anyio.sleep(61)
    assert not account.giving_up
    assert account.put_off(None) == 3


async def test_one_request_at_a_growing_distance_tries_a_refused_account() -> None:
    account = Account(MINUTE)
    assert account.wait() == 0.0
    account.refused(failure("insufficient_credits", "P"))
    account.refused(failure("insufficient_credits", "P"))
    assert account.wait() == pytest.approx(900)
    assert account.wait(look=True) == 0.0, "looks need no credits"
    await anyio.sleep(901)
    assert account.wait() == 0.0
    assert account.wait() > 0, "one tries, the others wait"
    account.refused(failure("insufficient_credits", "P"))
    assert account.wait() == pytest.approx(1_800)
    account.answered(charged=False)
    assert account.refusal is not None, "a read says nothing of credits"
    account.answered(charged=True)
    assert account.refusal is None
    assert account.wait() == 0.0


async def test_a_suspended_key_is_looked_at_less_and_less_and_starts_nothing_for_its_day() -> None:
    account = Account(MINUTE, suspended_seconds=DAY)
    suspended = failure("suspended", "P")
    account.refused(suspended)
    looks = 0
    for _ in range(24 * 60):
        if account.wait(look=True) == 0.0:
            looks += 1
            account.refused(suspended)
        assert account.wait(eager=True) > 0
        await anyio.sleep(59.9)
    assert looks < 40
    account.answered(charged=False)
    assert account.wait() == 0.0


async def test_a_person_who_mended_it_need_not_wait_for_the_next_try() -> None:
    account = Account(MINUTE)
    account.refused(failure("auth_failed", "P"))
    assert account.wait(eager=True) == pytest.approx(60)
    await anyio.sleep(61)
    assert account.wait() > 0
    assert account.wait(eager=True) == 0.0

"""Limits on attempts to sign in."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chalk_flask.admins import SignInThrottle, TooManyAttemptsError
from chalk_flask.admins.throttle import MAX_KEYS
from tests.support.clock import FakeClock


@pytest.fixture
def throttle(clock: FakeClock) -> SignInThrottle:
    return SignInThrottle(clock.time)


def accepted(count: Callable[[str, str], None], name: str, address: str) -> bool:
    try:
        count(name, address)
    except TooManyAttemptsError:
        return False
    return True


def test_account_has_5_attempts_in_any_minute(throttle: SignInThrottle, clock: FakeClock) -> None:
    times = []
    for second in range(600):
        if accepted(throttle.count_password, "kim", f"192.0.2.{second % 256}"):
            times.append(second)
        clock.advance(1)
    assert len(times) == 50
    assert all(later - earlier >= 60 for earlier, later in zip(times, times[5:], strict=False))


def test_address_has_20_attempts_in_a_minute(throttle: SignInThrottle, clock: FakeClock) -> None:
    results = [accepted(throttle.count_password, f"name-{number}", "192.0.2.1") for number in range(25)]
    assert results == [True] * 20 + [False] * 5
    assert accepted(throttle.count_password, "name-24", "192.0.2.2")
    clock.advance(60)
    assert accepted(throttle.count_password, "name-24", "192.0.2.1")


@pytest.mark.parametrize(("other", "expected"), [("2001:db8::2", False), ("2001:db8:0:1::1", True)])
def test_network_of_an_ipv6_address_counts(throttle: SignInThrottle, other: str, expected: bool) -> None:
    for number in range(20):
        throttle.count_password(f"name-{number}", "2001:db8::1")
    assert accepted(throttle.count_password, "kim", other) is expected


@pytest.mark.parametrize("name", ["KIM", " kim "])
def test_spelling_of_a_name_does_not_evade_the_limit(throttle: SignInThrottle, name: str) -> None:
    for number in range(5):
        throttle.count_password("kim", f"192.0.2.{number}")
    assert not accepted(throttle.count_password, name, "192.0.2.9")


def test_rejected_attempt_says_when_and_does_not_count(throttle: SignInThrottle, clock: FakeClock) -> None:
    for number in range(5):
        throttle.count_password("kim", f"192.0.2.{number}")
    clock.advance(10.5)
    for _ in range(30):
        with pytest.raises(TooManyAttemptsError) as rejection:
            throttle.count_password("kim", "192.0.2.9")
        assert rejection.value.retry_after == 50
    assert accepted(throttle.count_password, "lee", "192.0.2.9")
    clock.advance(49.5)
    assert accepted(throttle.count_password, "kim", "192.0.2.9")


def test_codes_of_an_account_are_limited_by_minute_and_hour(throttle: SignInThrottle, clock: FakeClock) -> None:
    results = []
    for minute in range(60):
        results += [accepted(throttle.count_code, "a-1", f"192.0.2.{minute}") for _ in range(6)]
        clock.advance(60)
    assert results == ([True] * 5 + [False]) * 4 + [False] * 6 * 56
    clock.advance(1)
    assert accepted(throttle.count_code, "a-1", "192.0.2.1")


def test_memory_is_bounded_and_contains_no_name(throttle: SignInThrottle) -> None:
    for number in range(MAX_KEYS + 10):
        throttle.count_password(f"secret-{number}", f"198.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    for limit in (throttle._by_account, throttle._by_address):
        assert len(limit._attempts) == MAX_KEYS
    assert "secret-" not in repr(throttle._by_account._attempts._entries)


@pytest.mark.parametrize("name", ["", "\udc80", "x" * 1_000_000])
def test_any_text_counts_as_a_name(throttle: SignInThrottle, name: str) -> None:
    results = [accepted(throttle.count_password, name, f"192.0.2.{number}") for number in range(6)]
    assert results == [True] * 5 + [False]


def test_known_browser_is_not_locked_out_by_others(throttle: SignInThrottle) -> None:
    for number in range(20):
        accepted(throttle.count_password, f"name-{number % 2}", "192.0.2.1")
    assert not accepted(throttle.count_password, "name-1", "192.0.2.1")
    throttle.count_password("name-1", "192.0.2.1", "browser-1")
    throttle.count_code("a-1", "192.0.2.1", "browser-1")


def test_known_browsers_have_5_attempts_each_and_15_together(throttle: SignInThrottle, clock: FakeClock) -> None:
    def accepts(browser: str) -> bool:
        return accepted(lambda name, address: throttle.count_password(name, address, browser), "kim", "192.0.2.1")

    assert [accepts("browser-1") for _ in range(6)] == [True] * 5 + [False]
    assert [accepts(f"other-{number}") for number in range(20)] == [True] * 10 + [False] * 10
    assert accepted(throttle.count_password, "kim", "192.0.2.1")
    clock.advance(60)
    assert accepts("browser-1")

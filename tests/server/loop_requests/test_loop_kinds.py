"""Kinds of requests: when they count as short."""

from __future__ import annotations

import pytest

from chalk_flask.server.loop_requests.loop_kinds import MAX_LOOP_SECONDS, LoopKinds

SHORT, LONG = 0.0, 2 * MAX_LOOP_SECONDS


def test_new_kind_is_short_after_two_short_requests() -> None:
    kinds = LoopKinds()
    found = []
    for _ in range(3):
        found.append("page" in kinds)
        kinds.record("page", SHORT)
    assert found == [False, False, True]


def test_new_kind_with_a_long_request_is_not_short() -> None:
    kinds = LoopKinds()
    kinds.record("page", LONG)
    for _ in range(2):
        kinds.record("page", SHORT)
    assert "page" not in kinds


def test_kind_that_was_short_for_long_may_have_two_long_requests() -> None:
    kinds = LoopKinds()
    for _ in range(100):
        kinds.record("page", SHORT)
    kinds.record("page", LONG)
    kinds.record_long("page")
    assert "page" in kinds
    kinds.record("page", LONG)
    assert "page" not in kinds


def test_kind_is_short_again_after_ten_short_requests_at_most() -> None:
    kinds = LoopKinds()
    for _ in range(100):
        kinds.record("page", LONG)
    for _ in range(10):
        assert "page" not in kinds
        kinds.record("page", SHORT)
    assert "page" in kinds


def test_kind_of_which_every_third_request_is_long_is_not_short() -> None:
    kinds = LoopKinds()
    for number in range(300):
        kinds.record("page", LONG if number % 3 == 0 else SHORT)
    assert "page" not in kinds


def test_kinds_do_not_affect_each_other() -> None:
    kinds = LoopKinds()
    for _ in range(2):
        kinds.record("page", SHORT)
        kinds.record("export", LONG)
    assert ("page" in kinds, "export" in kinds, "other" in kinds) == (True, False, False)


def test_number_of_kinds_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalk_flask.server.loop_requests.loop_kinds._MAX_KINDS", 10)
    kinds = LoopKinds()
    for number in range(1000):
        kinds.record(str(number), SHORT)
        kinds.record(str(number), SHORT)
    assert len(kinds._scores) <= 10
    assert "999" in kinds


def test_known_kind_removes_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalk_flask.server.loop_requests.loop_kinds._MAX_KINDS", 10)
    kinds = LoopKinds()
    for number in range(10):
        kinds.record(str(number), SHORT)
        kinds.record(str(number), SHORT)
    kinds.record("9", LONG)
    assert all(str(number) in kinds for number in range(9))

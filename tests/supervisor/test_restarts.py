"""Delays of replacements, and the end of a crash loop."""

from __future__ import annotations

import signal

import pytest

from chalk_flask.supervisor import CrashLoopError
from chalk_flask.supervisor.restarts import RestartPolicy


def test_early_deaths_delay_the_next_start_and_end_as_a_crash_loop() -> None:
    policy = RestartPolicy()
    delays = [policy.delay_after(1, 0.5, float(now), was_ready=True) for now in range(4)]
    assert delays == [0.0, 0.5, 1.0, 2.0]
    with pytest.raises(CrashLoopError, match=r"5 serving processes ended within 10 seconds .* exit code 1: "):
        policy.delay_after(1, 9.9, 4.0, was_ready=True)


def test_deaths_are_forgotten_after_a_minute() -> None:
    policy = RestartPolicy()
    for now in range(0, 600, 20):
        assert policy.delay_after(-signal.SIGSEGV, 1.0, float(now), was_ready=True) <= 2.0


def test_killed_process_that_served_is_replaced_at_once_each_time() -> None:
    policy = RestartPolicy()
    assert {policy.delay_after(-signal.SIGKILL, 1.0, float(now), was_ready=True) for now in range(20)} == {0.0}
    assert {policy.delay_after(1, 10.0, float(now), was_ready=True) for now in range(20)} == {0.0}


def test_process_that_is_killed_before_it_serves_is_replaced_after_a_pause() -> None:
    policy = RestartPolicy()
    assert {policy.delay_after(-signal.SIGKILL, 1.0, float(now), was_ready=False) for now in range(20)} == {0.5}

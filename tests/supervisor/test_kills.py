"""Serving processes that are killed under load: a sample of `python -m tests.supervisor.kills`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.supervisor.kills import run_kills


@pytest.mark.slow
def test_killed_processes_cause_no_wrong_response_and_lose_no_write(tmp_path: Path) -> None:
    figures = run_kills(tmp_path, kills=6, processes=2, users=200, rng=random.Random(3))
    assert (figures["wrong_examples"], figures["lost"], figures["refused"]) == ([], [], 0)
    assert figures["exit_code"] == 0
    assert figures["complete"] > 100

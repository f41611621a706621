"""Mixed load: a sample of `python -m tests.server.loop_requests.mixed_load`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.loop_requests.mixed_load import run_mixed_load


@pytest.mark.slow
def test_responses_under_mixed_load_are_those_of_the_memory_backend(tmp_path: Path) -> None:
    figures = run_mixed_load(tmp_path, seconds=1.5, users=200, seed=7, phase_seconds=1.5, long_seconds=5.0)
    assert (figures["examples"], figures["failures"]) == ([], [])
    assert figures["in_loop"] > 0
    assert figures["in_threads"] > 0
    assert figures["compared"] > 20

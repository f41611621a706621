"""Backups of a service under load: a sample of `python -m tests.backup.rounds`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backup.rounds import Progress, find_problem, run_rounds


@pytest.mark.slow
@pytest.mark.on_backend("sqlite", "json")
def test_backups_of_a_service_under_load_have_the_state_of_a_commit(tmp_path: Path, backend: str) -> None:
    figures = run_rounds(tmp_path, backend, 2)
    assert figures["problems"] == []
    assert (figures["backups"], figures["broken"], figures["states"]) == (2, 0, 2)


@pytest.mark.parametrize(
    ("write", "imported", "problem"),
    [
        (4, 2, "write 4 is not between 5 and 7"),
        (9, 2, "write 9 is not between 5 and 7"),
        (5, 0, "import 0 is not between 1 and 2"),
        (8, 3, ""),
    ],
)
def test_states_that_lack_acknowledged_changes_are_found(write: int, imported: int, problem: str) -> None:
    state = {"write": write, "imported": imported}
    assert find_problem(state, Progress(5, 1), Progress(7, 2)) == problem

"""Faults of the disk during writes: a sample of `python -m tests.faults.rounds`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.faults.library import Kind, Operation
from tests.faults.rounds import Round, choose
from tests.support.paths import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["sqlite", "json"])
def test_store_survives_faults_at_any_call(storage: str) -> None:
    command = [sys.executable, "-m", "tests.faults.rounds", "--backend", storage, "--rounds", "16"]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert completed.returncode == 0, completed.stderr
    figures = json.loads(completed.stdout)
    assert (figures["rounds"], figures["broken"]) == (16, 0)
    assert figures["possible"] > 500, "calls of every action are found"
    assert 3 <= figures["former"] <= 15, "faults have an effect"


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["sqlite", "json"])
def test_store_without_roster_survives_faults_of_first_load(storage: str) -> None:
    command = [sys.executable, "-m", "tests.faults.rounds", "--backend", storage, "--first-loads", "--rounds", "16"]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert completed.returncode == 0, completed.stderr
    figures = json.loads(completed.stdout)
    assert (figures["rounds"], figures["broken"]) == (16, 0)
    assert 3 <= figures["former"] <= 15, "faults have an effect"


def test_rounds_are_spread_over_all_possible_ones() -> None:
    possible = [Round("import", Operation.WRITE, Kind.KILL, number) for number in range(1, 11)]
    assert [each.number for each in choose(possible, 4)] == [1, 3, 6, 8]
    assert [each.number for each in choose(possible, 12)] == [*range(1, 11), 1, 2]

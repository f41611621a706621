"""The service beside clients that misuse it: honest requests succeed, and slow senders are disconnected."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

HOLD_SECONDS = 13
"""Longer than head_timeout, so that slow senders miss it."""
MAX_RATIO, MAX_MILLISECONDS = 30.0, 2000.0
"""Generous bounds, which a busy machine keeps, and which a server without free threads does not."""


@pytest.mark.slow
def test_honest_clients_are_served_beside_clients_that_misuse(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "--users", "1000", "--only", "availability", "--load", "python"]
    completed = subprocess.run(
        [*command, "--hold", str(HOLD_SECONDS), "--json", tmp_path / "figures.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert completed.returncode == 0, completed.stderr
    sys.stdout.write(completed.stdout)  # the figures, which pytest shows with -s
    figures: dict[str, float] = json.loads((tmp_path / "figures.json").read_text())
    assert figures["availability.failed"] == 0
    assert figures["availability.dripping"] == 0
    for kind in ("silent", "head", "body", "unread", "sockets"):
        assert figures[f"availability.{kind}"] < MAX_RATIO, completed.stdout
    for kind in ("stream", "filter"):
        assert figures[f"availability.{kind}"] < MAX_MILLISECONDS, completed.stdout

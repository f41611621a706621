"""Backups of a store to which another process writes all the time."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chalk_flask.roster.imports.run_files import held_package_path, store_folder
from tests.backup.conftest import Place
from tests.backup.writer import RECORDS
from tests.support.paths import ROOT

BACKUPS = 25
"""Number of backups of each backend."""


class Writer:
    """Process that writes. `last` is the number of its last commit that has ended."""

    last = 0

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._lines = process.stdout
        self.read_line()
        threading.Thread(target=self._follow, daemon=True).start()

    def read_line(self) -> None:
        assert self._lines
        self.last = int(self._lines.readline())

    def _follow(self) -> None:
        assert self._lines
        for line in self._lines:
            self.last = int(line)


@contextmanager
def running_writer(place: Place) -> Iterator[Writer]:
    """Write to a store until the block ends."""
    command = [sys.executable, "-m", "tests.backup.writer", place.settings.storage, place.settings.data]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Writer(process)
        finally:
            process.kill()


def restored_number(place: Place) -> int:
    """Return the number in a restored store, which must be that of one commit, with its held package."""
    with place.open() as store, store.read("default") as snapshot:
        bodies = {record.body for record in snapshot.scan("clock")}
        assert len(list(snapshot.keys("clock"))) == RECORDS
    [state] = map(json.loads, bodies)
    if state["held"]:
        package = held_package_path(store_folder(place.settings), "default", state["held"])
        assert package.read_bytes() == b"%d" % state["number"] * 1000
    return int(state["number"])


@pytest.mark.slow
@pytest.mark.on_backend("json", "sqlite")
def test_each_backup_under_load_has_the_state_of_a_commit(tmp_path: Path, backend: str) -> None:
    place = Place(tmp_path / "busy", backend)
    place.folder.mkdir()
    numbers = []
    with running_writer(place) as writer:
        for count in range(BACKUPS):
            before = writer.last
            archive = place.back_up()
            restored = Place(tmp_path / f"restored-{count}", backend)
            restored.restore(archive)
            numbers.append(restored_number(restored))
            assert before <= numbers[-1], "no commit is missing that ended before the backup began"
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > BACKUPS // 3, "the writer went on meanwhile"

"""Detection of complete files in a drop folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chalk_flask.drop_folder.file_observer import MAX_INCOMPLETE_SECONDS, FileObserver
from tests.support.packages import PackageBuilder

CONTENT = PackageBuilder().zip_bytes()


class Folder:
    """Observed folder, with a clock that the test sets."""

    def __init__(self, folder: Path) -> None:
        self.path, self.time = folder, 0.0
        self.files = FileObserver(10, lambda: self.time)

    def complete_after(self, seconds: float) -> list[str]:
        """Return the names of the files that are complete after this time."""
        self.time += seconds
        return [path.name for path in self.files.observe(self._present())]

    def _present(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.path.iterdir():
            yield path, path.stat()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_file_is_complete_when_it_has_not_changed(folder: Folder) -> None:
    (folder.path / "a.zip").write_bytes(CONTENT)
    assert folder.complete_after(0) == []
    assert folder.complete_after(9.9) == []
    assert folder.complete_after(0.1) == ["a.zip"]


def test_growing_file_starts_again(folder: Folder) -> None:
    path = folder.path / "a.zip"
    path.write_bytes(CONTENT[:100])
    folder.complete_after(0)
    path.write_bytes(CONTENT)
    assert folder.complete_after(10) == []
    os.utime(path, ns=(1, 1))
    assert folder.complete_after(10) == []
    other = folder.path.parent / "other.zip"
    other.write_bytes(CONTENT)
    os.utime(other, ns=(1, 1))
    other.replace(path)
    assert folder.complete_after(10) == []
    assert folder.complete_after(10) == ["a.zip"]


def test_file_without_the_end_of_a_zip_is_given_up_in_the_end(folder: Folder) -> None:
    (folder.path / "a.zip").write_bytes(CONTENT[:-40])
    folder.complete_after(0)
    assert folder.complete_after(600) == []
    assert folder.complete_after(MAX_INCOMPLETE_SECONDS) == ["a.zip"]


def test_oldest_file_is_first(folder: Folder) -> None:
    for name, age in (("a.zip", 3), ("b.zip", 1), ("c.zip", 2)):
        (folder.path / name).write_bytes(CONTENT)
        os.utime(folder.path / name, (age, age))
    folder.complete_after(0)
    assert folder.complete_after(10) == ["b.zip", "c.zip", "a.zip"]
    folder.files.forget(folder.path / "a.zip")
    assert len(folder.files.paths) == 2

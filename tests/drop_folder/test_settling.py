"""Detection of complete files in a drop folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chalk_flask.drop_folder.settling import MAX_INCOMPLETE_SECONDS, SettlingFiles
from tests.support.packages import PackageBuilder

CONTENT = PackageBuilder().zip_bytes()


class Observer:
    """Observed folder, with a clock that the test sets."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.time = folder, 0.0
        self.files = SettlingFiles(10, lambda: self.time)

    def complete_after(self, seconds: float) -> list[str]:
        """Return the names of the files that are complete after this time."""
        self.time += seconds
        return [path.name for path in self.files.observe(self._present())]

    def _present(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.folder.iterdir():
            yield path, path.stat()


@pytest.fixture
def observer(tmp_path: Path) -> Observer:
    return Observer(tmp_path)


def test_file_is_complete_when_it_has_not_changed(observer: Observer) -> None:
    (observer.folder / "a.zip").write_bytes(CONTENT)
    assert observer.complete_after(0) == []
    assert observer.complete_after(9.9) == []
    assert observer.complete_after(0.1) == ["a.zip"]


def test_growing_file_starts_again(observer: Observer) -> None:
    path = observer.folder / "a.zip"
    path.write_bytes(CONTENT[:100])
    observer.complete_after(0)
    path.write_bytes(CONTENT)
    assert observer.complete_after(10) == []
    os.utime(path, ns=(1, 1))
    assert observer.complete_after(10) == []
    other = observer.folder.parent / "other.zip"
    other.write_bytes(CONTENT)
    os.utime(other, ns=(1, 1))
    other.replace(path)
    assert observer.complete_after(10) == []
    assert observer.complete_after(10) == ["a.zip"]


def test_file_without_the_end_of_a_zip_is_given_up_in_the_end(observer: Observer) -> None:
    (observer.folder / "a.zip").write_bytes(CONTENT[:-40])
    observer.complete_after(0)
    assert observer.complete_after(600) == []
    assert observer.complete_after(MAX_INCOMPLETE_SECONDS) == ["a.zip"]


def test_oldest_file_is_first(observer: Observer) -> None:
    for name, age in (("a.zip", 3), ("b.zip", 1), ("c.zip", 2)):
        (observer.folder / name).write_bytes(CONTENT)
        os.utime(observer.folder / name, (age, age))
    observer.complete_after(0)
    assert observer.complete_after(10) == ["b.zip", "c.zip", "a.zip"]
    observer.files.forget(observer.folder / "a.zip")
    assert observer.files.count == 2

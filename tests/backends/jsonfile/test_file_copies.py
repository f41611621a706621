"""Second names of files, and copies where the file system allows no second name."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from backends.jsonfile.file_copies import link_or_copy

FILE_OF_THE_KERNEL = Path("/proc/version")
"""File in a file system of its own, on each Linux system."""


def test_file_gets_a_second_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "link").symlink_to("a")
    link_or_copy(tmp_path / "link", tmp_path / "b")
    assert (tmp_path / "b").samefile(tmp_path / "a")
    assert not (tmp_path / "b").is_symlink()


@pytest.mark.skipif(not FILE_OF_THE_KERNEL.exists(), reason="only Linux has /proc")
def test_file_of_another_file_system_is_copied(tmp_path: Path) -> None:
    assert FILE_OF_THE_KERNEL.stat().st_dev != tmp_path.stat().st_dev
    link_or_copy(FILE_OF_THE_KERNEL, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == FILE_OF_THE_KERNEL.read_bytes()
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        link_or_copy(tmp_path / "a", tmp_path / "b")

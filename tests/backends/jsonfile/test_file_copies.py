"""Second names of files, and copies where the file system allows no second name."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from backends.jsonfile.file_copies import link_or_copy

SHARED_MEMORY = Path("/dev/shm")


def test_file_gets_a_second_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "link").symlink_to("a")
    link_or_copy(tmp_path / "link", tmp_path / "b")
    assert (tmp_path / "b").samefile(tmp_path / "a")
    assert not (tmp_path / "b").is_symlink()


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="there is no second file system")
def test_file_of_another_file_system_is_copied(tmp_path: Path) -> None:
    source = SHARED_MEMORY / f"chalk-{os.getpid()}"
    try:
        source.write_bytes(b"x" * 3_000_000)
        if source.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("there is no second file system")
        link_or_copy(source, tmp_path / "b")
        assert (tmp_path / "b").read_bytes() == source.read_bytes()
        assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600
    finally:
        source.unlink()


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        link_or_copy(tmp_path / "a", tmp_path / "b")

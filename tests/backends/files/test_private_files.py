"""Private files: new files in the folder of another user belong to that user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backends.files.private_files import create_private_file, make_folder, open_private
from tests.support.storage.owners import give_to_other_user, owner_of, owners_below, requires_root

pytestmark = requires_root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder of another user."""
    folder = tmp_path / "folder"
    folder.mkdir()
    give_to_other_user(folder)
    return folder


def test_new_files_and_folders_have_the_owner_of_their_folder(folder: Path) -> None:
    os.close(open_private(str(folder / "file"), os.O_WRONLY | os.O_CREAT))
    make_folder(folder / "a" / "b")
    create_private_file(folder / "a" / "b" / "lock")
    assert owners_below(folder) == {owner_of(folder)}
    assert (folder / "file").stat().st_mode & 0o777 == 0o600


def test_existing_file_keeps_its_owner_and_content(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    before = owner_of(tmp_path / "mine")
    (folder / "link").symlink_to(tmp_path / "mine")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with pytest.raises(OSError, match="symbolic links"):
        open_private(str(folder / "link"), flags)
    create_private_file(folder / "link")
    assert (owner_of(tmp_path / "mine"), (tmp_path / "mine").read_text()) == (before, "x")

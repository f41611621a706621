from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chalk_flask.files import (
    atomic_write,
    create_once,
    make_private_folder,
    move_into_place,
    open_exclusive,
    open_regular_file,
    open_without_links,
    path_without_link,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_make_private_folder_creates_missing_parents(tmp_path: Path) -> None:
    make_private_folder(tmp_path / "a" / "b")
    make_private_folder(tmp_path / "a" / "b")
    assert (mode(tmp_path / "a"), mode(tmp_path / "a" / "b")) == (0o700, 0o700)


def test_make_private_folder_leaves_an_existing_folder_unchanged(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_private_folder(tmp_path)
    assert mode(tmp_path) == 0o755


def test_make_private_folder_rejects_a_file_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_private_folder(tmp_path / "file")


def test_open_exclusive_creates_a_private_file_once(tmp_path: Path) -> None:
    with open_exclusive(tmp_path / "file") as file:
        file.write(b"content")
        file.seek(0)
        assert file.read() == b"content"
    assert mode(tmp_path / "file") == 0o600
    with pytest.raises(FileExistsError):
        open_exclusive(tmp_path / "file")


def test_move_into_place_replaces_the_target(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("new")
    (tmp_path / "target").write_text("old")
    move_into_place(tmp_path / "source", tmp_path / "target")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("target", "new")]


@pytest.mark.parametrize("sync_parent", [True, False])
def test_atomic_write_replaces_the_file_at_the_end(tmp_path: Path, sync_parent: bool) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_write(path, sync_parent=sync_parent) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write_leaves_nothing_of_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyError), atomic_write(path) as file:
        file.write(b"new")
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write_uses_the_given_part_and_keeps_a_foreign_one(tmp_path: Path) -> None:
    part = tmp_path / ".part"
    with atomic_write(tmp_path / "file", part) as file:
        file.write(b"content")
        assert part.exists()
    part.write_text("of another writer")
    with pytest.raises(FileExistsError), atomic_write(tmp_path / "file", part):
        pass
    assert part.read_text() == "of another writer"
    assert (tmp_path / "file").read_text() == "content"


def test_create_once_lets_the_first_writer_decide(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: create_once(path, b"%d" % n * 1000), range(8)))
    content = path.read_bytes()
    assert content == content[:1] * 1000
    create_once(path, b"later")
    assert path.read_bytes() == content
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_special_file_is_not_opened_as_a_regular_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(OSError, match="not a regular file"):
            open_regular_file(path)


def test_link_of_this_user_is_resolved_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    assert path_without_link(tmp_path / "link") == (tmp_path / "file").resolve()
    assert path_without_link(tmp_path / "missing") == tmp_path.resolve() / "missing"
    assert path_without_link(Path()) == Path.cwd()
    with pytest.raises(OSError, match="symbolic links"):
        open_without_links(tmp_path / "link")


def test_link_of_another_user_behind_one_of_this_user_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "second").symlink_to("file")
    (tmp_path / "link").symlink_to("second")
    assert path_without_link(tmp_path / "link") == tmp_path.resolve() / "file"
    if os.geteuid() == 0:  # only root can give a link to another user
        os.chown(tmp_path / "second", 65534, 65534, follow_symlinks=False)
        assert path_without_link(tmp_path / "link") == tmp_path.resolve() / "second"


def test_links_of_this_user_are_resolved_one_after_another(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "second").symlink_to("folder/.")
    (tmp_path / "first").symlink_to(tmp_path / "second")
    (tmp_path / "up").symlink_to("folder/..")
    (tmp_path / "loop").symlink_to("loop")
    assert path_without_link(tmp_path / "first") == tmp_path.resolve() / "folder"
    assert path_without_link(tmp_path / "up") == tmp_path.resolve()
    assert path_without_link(tmp_path / "loop") == tmp_path.resolve() / "loop"


def test_atomic_write_names_the_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, atomic_write(tmp_path / "missing" / "report.html"):
        pass
    assert (raised.value.filename, raised.value.strerror) == (str(tmp_path / "missing"), "there is no such folder")


def test_atomic_write_names_the_file_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as raised, atomic_write(tmp_path / "file" / "report.html"):
        pass
    assert raised.value.filename == str(tmp_path / "file" / "report.html")

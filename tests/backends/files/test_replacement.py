"""Replacement of the files of a store: in full or not at all, whenever the process ends."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from backends import Move, StorageUnavailableError, finish_restore, open_store, replace_files, store_exists
from backends.files.replacement import finish_replacement
from backends.records import Collection


def folder_of(tmp_path: Path, name: str) -> Path:
    """Return a folder with a former store and data, and with new ones."""
    folder = tmp_path / name
    for path in ("store", "data/key", "new/store", "new/data/key"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("new" if path.startswith("new") else "old")
    return folder


def moves(folder: Path) -> list[Move]:
    return [
        Move(folder / "data", folder / "data.before", is_aside=True),
        Move(folder / "store", folder / "store.before", is_aside=True),
        Move(folder / "new/data", folder / "data"),
        Move(folder / "new/store", folder / "store"),
    ]


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


REPLACED = {"store": "new", "data/key": "new", "store.before": "old", "data.before/key": "old"}


def test_files_are_replaced_and_former_ones_kept(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "f")
    replace_files(folder / "store", moves(folder))
    assert contents(folder) == REPLACED
    assert not finish_replacement(folder / "store")


def run_until(folder: Path, count: int) -> bool:
    """Replace the files in a process that ends before its n-th rename or unlink; return True if it ended earlier."""
    if (child := os.fork()) == 0:
        renames = itertools.count()

        def stop(*_: object) -> None:
            if next(renames) >= count:
                os._exit(1)

        import sys

        sys.addaudithook(lambda event, _: stop() if event in ("os.rename", "os.remove") else None)
        replace_files(folder / "store", moves(folder))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_replacement_is_completed_wherever_it_was_interrupted(tmp_path: Path) -> None:
    for count in itertools.count():
        folder = folder_of(tmp_path, str(count))
        has_ended = run_until(folder, count)
        before = contents(folder)
        moved = tmp_path / f"moved-{count}"
        folder.rename(moved)
        assert finish_replacement(moved / "store") == (count > 0 and not has_ended)
        if count > 0:
            assert contents(moved) == REPLACED
        else:
            assert contents(moved) == before, "without a plan, nothing has changed"
        if has_ended:
            break
    assert count == 6


def test_file_in_the_way_is_not_overwritten(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "f")
    with pytest.raises(StorageUnavailableError, match="exists: move it away"):
        replace_files(folder / "store", [Move(folder / "new/store", folder / "store")])
    (folder / "store").unlink()
    assert finish_replacement(folder / "store")
    assert (folder / "store").read_text() == "new"


def test_unreadable_plan_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    for content in (b"", b"{}", b"[1]", b'[["a","b"]]'):
        (tmp_path / ".chalk.db.moves").write_bytes(content)
        with pytest.raises(StorageUnavailableError, match=r"moves is unreadable: delete it"):
            finish_replacement(tmp_path / "chalk.db")


def open_and_close(url: str) -> None:
    open_store(url, [Collection("a")]).close()


@pytest.mark.parametrize("access", [store_exists, finish_restore, open_and_close], ids=("exists", "finish", "open"))
def test_every_access_to_a_store_completes_its_replacement(tmp_path: Path, access: Callable[[str], object]) -> None:
    open_and_close(f"sqlite:///{tmp_path}/new.db")
    (tmp_path / ".chalk.db.moves").write_text('[["new.db", "chalk.db", false]]')
    access(f"sqlite:///{tmp_path}/chalk.db")
    assert (tmp_path / "chalk.db").exists()
    assert not (tmp_path / "new.db").exists()

"""Names of backups, and which of them are deleted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from chalk_flask.backup import delete_leftovers, delete_old_backups, new_backup_path

STORE, OTHER = "1a2b3c4d5e6f", "ffffffff5e6f"


def test_name_has_store_time_and_form(tmp_path: Path) -> None:
    now = datetime(2026, 1, 31, 1, 30, tzinfo=UTC)
    assert new_backup_path(tmp_path, STORE, now, is_encrypted=False).name == (
        "chalk-flask-1a2b3c4d-20260131T013000Z.tar.gz"
    )
    assert new_backup_path(tmp_path, STORE, now, is_encrypted=True).suffix == ".enc"


def test_oldest_backups_of_the_store_are_deleted(tmp_path: Path) -> None:
    times = [datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3, 11)]
    own = [new_backup_path(tmp_path, STORE, time, is_encrypted=time.month == 2) for time in times]
    kept = [
        new_backup_path(tmp_path, OTHER, times[0], is_encrypted=False),
        *(tmp_path / name for name in ("chalk-flask-1a2b3c4d-old.tar.gz", "notes.txt")),
        tmp_path / f"{own[0].name}.part",
    ]
    for path in (*own, *kept):
        path.touch()
    assert list(delete_old_backups(tmp_path, STORE, 2)) == [own[0].name, own[1].name]
    assert sorted(tmp_path.iterdir()) == sorted([*own[2:], *kept])
    assert list(delete_old_backups(tmp_path, STORE, 2)) == []


def test_incomplete_files_of_killed_backups_are_deleted(tmp_path: Path) -> None:
    former = new_backup_path(tmp_path, STORE, datetime(2026, 1, 1, tzinfo=UTC), is_encrypted=False)
    leftovers = [tmp_path / f".{former.name}.part", tmp_path / ".own.tar.gz.part"]
    kept = [former, tmp_path / f".{former.name.replace(STORE[:8], OTHER[:8])}.part", tmp_path / ".x.part"]
    for path in (*leftovers, *kept):
        path.touch()
    delete_leftovers(tmp_path / "own.tar.gz", STORE)
    assert sorted(tmp_path.iterdir()) == sorted(kept)

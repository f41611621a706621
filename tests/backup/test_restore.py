"""Restore: the same contents, what changes on purpose, and places that must not be replaced."""

from __future__ import annotations

import io
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from backends import CONTROL, Backend, Record, StoreInUseError
from chalk_flask.audit.events import read_events
from chalk_flask.backup import ArchiveError, BackupError, Manifest
from chalk_flask.backup.archive import SourceFile, describe_file, write_archive
from chalk_flask.roster.changes.sequence import COLLECTION as SEQUENCE
from chalk_flask.roster.changes.sequence import last_sequence, oldest_resumable_sequence
from chalk_flask.roster.imports.run_files import store_folder
from chalk_flask.settings.data_folder import STORE_ID_FILE, StoreIdFile
from chalk_flask.settings.storage_location import storage_location
from chalk_flask.storage import COLLECTIONS
from tests.backup.conftest import Place, packed, unpacked

FILES = ("json", "sqlite")


def records(store: Backend) -> dict[tuple[str, str], list[Record]]:
    """Return all records by tenant and collection, without the audit log."""
    found = {}
    for tenant in store.tenants():
        with store.read(tenant) as snapshot:
            for collection in COLLECTIONS:
                if collection.name != "audit" and (some := list(snapshot.scan(collection.name))):
                    found[tenant, collection.name] = some
    return found


@pytest.mark.on_backend(*FILES)
def test_restored_store_has_the_same_records_and_id(place: Place, other: Place) -> None:
    other.restore(place.back_up())
    with place.open() as old, other.open() as new:
        assert records(new) == records(old) != {}
        assert new.store_id == old.store_id
        assert new.check() == []
        key = store_folder(other.settings).name
        assert StoreIdFile.read(other.data) == StoreIdFile(new.store_id, storage_location(other.settings.storage), key)
    assert other.contents() == ("old", "old")


@pytest.mark.on_backend(*FILES)
def test_restored_files_are_private_and_complete(place: Place, other: Place) -> None:
    other.restore(place.back_up())
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in other.folder.rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert not [name for name in other.files() if "restoring" in name or "moves" in name]


@pytest.mark.on_backend(*FILES)
def test_held_packages_move_to_the_folder_of_the_new_place(place: Place, other: Place) -> None:
    held = store_folder(place.settings) / "default" / "run-1.zip"
    held.parent.mkdir(parents=True)
    held.write_bytes(b"package")
    other.restore(place.back_up())
    assert (store_folder(other.settings) / "default" / "run-1.zip").read_bytes() == b"package"


@pytest.mark.on_backend(*FILES)
def test_sessions_and_setup_links_end_and_the_restore_is_recorded(place: Place, other: Place) -> None:
    with place.open() as store, store.write(CONTROL) as control:
        for collection in ("sessions", "setup_link", "administrators"):
            control.put(collection, [Record("x", b"{}", {})])
    other.restore(place.back_up())
    with other.open() as store:
        with store.read(CONTROL) as control:
            assert [name for name in ("sessions", "setup_link", "administrators") if control.exists(name)] == [
                "administrators"
            ]
        assert [(event["event"], event["by"]) for event in read_events(store, CONTROL)] == [
            ("backup.restored", "operator")
        ]


@pytest.mark.on_backend("sqlite")
def test_followers_of_the_lost_changes_must_read_everything_again(place: Place, other: Place) -> None:
    with place.open() as store, store.write("default") as transaction:
        transaction.put(SEQUENCE, [Record(":state", b'{"last":900,"purged":1}')])
    other.restore(place.back_up())
    with other.open() as store, store.read("default") as snapshot:
        assert oldest_resumable_sequence(snapshot) == last_sequence(snapshot) > 10**9


@pytest.mark.on_backend(*FILES)
def test_existing_store_or_folder_is_replaced_only_on_request(place: Place, other: Place) -> None:
    archive = place.back_up()
    other.folder.mkdir()
    other.fill("former")
    before = other.files()
    with pytest.raises(BackupError, match=r"already at .*--replace"):
        other.restore(archive)
    assert other.files() == before
    result = other.restore(archive, replace=True)
    assert other.contents() == ("old", "old")
    store, data = (
        next(path for path in result.moved_aside if path.name.startswith(name)) for name in ("chalk", "data")
    )
    assert (data / "secrets.key").read_text() == "former"
    store.rename(other.folder / f"{store.name.partition('.before')[0]}-former")
    for path in (other.folder / "data" / "secrets.key", other.folder):
        assert path.exists()


@pytest.mark.on_backend(*FILES)
def test_former_store_that_was_moved_aside_can_be_opened(place: Place, other: Place) -> None:
    archive = place.back_up()
    other.folder.mkdir()
    other.fill("former")
    [former] = [path for path in other.restore(archive, replace=True).moved_aside if path.name.startswith("chalk")]
    for name in ("chalk.db", "chalk", "data"):
        if (other.folder / name).exists():
            (other.folder / name).rename(other.folder / f"restored-{name}")
    former.rename(other.folder / former.name.partition(".before")[0])
    (other.folder / "data").mkdir()
    (other.folder / "data" / "secrets.key").write_text("former")
    assert other.contents() == ("former", "former")


@pytest.mark.on_backend(*FILES)
def test_damaged_store_can_be_replaced(place: Place, other: Place) -> None:
    archive = place.back_up()
    other.folder.mkdir()
    other.fill("former")
    damaged = other.folder / ("chalk.db" if other.backend == "sqlite" else "chalk/store.json")
    damaged.write_bytes(b"x" * 5000)
    other.restore(archive, replace=True)
    assert other.contents() == ("old", "old")


@pytest.mark.on_backend("json")
def test_open_json_store_is_not_replaced(place: Place) -> None:
    archive = place.back_up()
    with place.open(), pytest.raises(StoreInUseError, match="is in use: stop the service"):
        place.restore(archive, replace=True)
    place.restore(archive, replace=True)


@pytest.mark.on_backend("sqlite")
def test_wal_without_its_database_is_not_mixed_with_the_new_one(place: Place, other: Place) -> None:
    archive = place.back_up()
    other.folder.mkdir()
    (other.folder / "chalk.db-wal").write_bytes(b"former")
    with pytest.raises(BackupError, match=r"chalk\.db-wal"):
        other.restore(archive)
    other.restore(archive, replace=True)
    assert other.contents() == ("old", "old")


@pytest.mark.on_backend("sqlite")
def test_folder_data_with_files_of_another_store_is_not_replaced(place: Place, other: Place) -> None:
    (other.data / "imports" / "1234").mkdir(parents=True)
    with pytest.raises(BackupError, match=r"also used by another store, see .*1234: name another folder with --data"):
        other.restore(place.back_up(), replace=True)
    (other.data / "imports" / "1234").rmdir()
    (other.data / STORE_ID_FILE).write_bytes(StoreIdFile("1a2b", "/srv/district.db", "1234").encode())
    with pytest.raises(BackupError, match=r"belongs to another store, which was at /srv/district\.db: name another"):
        other.restore(place.back_up(), replace=True)


@pytest.mark.on_backend("sqlite")
def test_links_of_the_operator_stay_in_place(place: Place, other: Place, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    other.folder.mkdir()
    (other.folder / "chalk.db").symlink_to(disk / "district.db")
    other.restore(place.back_up())
    assert other.contents() == ("old", "old")
    assert (disk / "district.db").is_file()


@pytest.mark.on_backend("sqlite")
def test_backup_of_another_backend_is_rejected(place: Place, other: Place) -> None:
    with pytest.raises(BackupError, match="a store of the backend sqlite, not json"):
        Place(other.folder, "json").restore(place.back_up())
    assert not other.folder.exists() or not list(other.folder.iterdir())


@pytest.mark.on_backend("sqlite")
def test_backup_of_a_later_schema_version_is_rejected(place: Place, other: Place) -> None:
    files = unpacked(place.back_up())
    files["manifest.json"] = files["manifest.json"].replace(b'"schemaVersion": 1', b'"schemaVersion": 2')
    with pytest.raises(BackupError, match="has schema version 2, but this program supports versions up to 1"):
        other.restore(packed(files))


@pytest.mark.on_backend("sqlite")
def test_store_that_cannot_be_opened_changes_nothing(place: Place, other: Place) -> None:
    with closing(sqlite3.connect(place.folder / "chalk.db")) as connection:
        connection.execute("PRAGMA user_version = 7")
    with pytest.raises(ArchiveError, match=r"the store in the backup cannot be used: .* schema version 7"):
        other.restore(archive_of(place.folder / "chalk.db"))
    assert other.files() == []


def archive_of(database: Path) -> bytes:
    """Return an archive of a database that `backup` would reject."""
    source = SourceFile("store/chalk.db", database, database.stat().st_size)
    manifest = Manifest("1", "2026-01-31T00:00:00.000Z", "0.1.0", "sqlite", 1, "", [describe_file(source)])
    output = io.BytesIO()
    write_archive(output, manifest, [source], None)
    return output.getvalue()

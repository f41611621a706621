"""Creation of backups: what is in an archive, and what a damaged store or a second backup leads to."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path

import pytest
from filelock import FileLock

from backends import CONTROL
from chalk_flask.audit.events import read_events
from chalk_flask.backup import BackupError, create_backup
from chalk_flask.roster.imports.run_files import store_folder
from chalk_flask.settings import load_settings
from tests.backup.conftest import Place, unpacked

FILES = ("json", "sqlite")


@pytest.mark.on_backend(*FILES)
def test_archive_has_store_data_and_a_manifest_with_checksums(place: Place) -> None:
    (place.data / "reads").mkdir()
    (place.data / "reads" / "2026-01-31.jsonl").write_text("{}\n")
    files = unpacked(place.back_up())
    manifest = json.loads(files.pop("manifest.json"))
    assert files["data/secrets.key"] == b"old"
    assert files["data/reads/2026-01-31.jsonl"] == b"{}\n"
    assert [file["name"] for file in manifest["files"]] == list(files)
    for file in manifest["files"]:
        content = files[file["name"]]
        assert (file["size"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    with place.open() as store:
        assert manifest["storeId"] == store.store_id
    assert (manifest["backend"], manifest["schemaVersion"], manifest["archiveVersion"]) == (place.backend, 1, 1)


@pytest.mark.on_backend(*FILES)
def test_archive_omits_locks_parts_other_stores_and_process_state(place: Place) -> None:
    own = store_folder(place.settings)
    for path in (
        own / "a.part" / "run-1.zip",
        own / "default" / ".run-1.part",
        place.data / "imports/1234/b/run-2.zip",
        place.data / "metrics" / "counter_1.db",
    ):
        path.parent.mkdir(parents=True)
        path.write_text("x")
    for name in ("jobs-1.lock", ".hidden", "webhooks-1234.results", "shared-state.db", "shared-state.db-wal"):
        (place.data / name).write_text("x")
    names = [name for name in unpacked(place.back_up()) if name.startswith("data/")]
    assert sorted(names) == ["data/imports/a.part/run-1.zip", "data/secrets.key"]


@pytest.mark.on_backend("sqlite")
def test_archive_follows_links_of_the_operator(place: Place, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "2026-01-31.jsonl").write_text("{}\n")
    (place.data / "reads").symlink_to(tmp_path / "logs")
    (place.data / "console.key").symlink_to(place.data / "secrets.key")
    (place.data / "loop").symlink_to(place.data)
    files = unpacked(place.back_up())
    assert files["data/reads/2026-01-31.jsonl"] == b"{}\n"
    assert files["data/console.key"] == b"old"
    assert not any("loop" in name for name in files)


@pytest.mark.on_backend("sqlite")
def test_store_inside_of_the_folder_data_is_archived_once(place: Place) -> None:
    settings = load_settings({"storage": place.settings.storage, "data": str(place.folder)})
    output = io.BytesIO()
    with place.open() as store:
        create_backup(store, settings, lambda: nullcontext(output), requested_by="operator")
    assert sorted(unpacked(output.getvalue())) == ["data/data/secrets.key", "manifest.json", "store/chalk.db"]


@pytest.mark.on_backend(*FILES)
def test_backup_leaves_nothing_behind_and_is_recorded(place: Place) -> None:
    before = place.files()
    place.back_up()
    assert {name for name in place.files() if "audit" not in name}.difference(before) <= {"data/.backup.lock"}
    with place.open() as store:
        [event] = read_events(store, CONTROL)
    assert (event["event"], event["by"], event["encrypted"]) == ("backup.created", "operator", False)


@pytest.mark.on_backend("sqlite")
def test_event_that_cannot_be_stored_is_logged(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("chalk_flask.backup.backup.EVENT_TIMEOUT_SECONDS", 0.05)
    with place.open() as store, ExitStack() as writers:

        @contextmanager
        def open_output() -> Iterator[io.BytesIO]:
            yield io.BytesIO()
            writers.enter_context(store.write("default"))

        result = create_backup(store, place.settings, open_output, requested_by="operator")
    assert f"backup.created of the backup {result.manifest.id} was not stored: StorageBusyError" in caplog.text


@pytest.mark.on_backend("sqlite")
def test_damaged_store_yields_no_archive(place: Place) -> None:
    with closing(sqlite3.connect(place.folder / "chalk.db")) as connection, connection:
        connection.execute("INSERT INTO _many (id, path, value) SELECT 99, 1, 'x'")
        connection.execute("INSERT INTO _paths (id, collection, path) VALUES (1, 'users', 'x')")
    with pytest.raises(BackupError, match="no backup was written, because the store is damaged: 1 values of users"):
        place.back_up()


@pytest.mark.on_backend("sqlite")
def test_second_backup_at_the_same_time_is_rejected(place: Place) -> None:
    (place.data / ".backup").mkdir()
    (place.data / ".backup" / "leftover").write_text("x")
    with FileLock(place.data / ".backup.lock"), pytest.raises(BackupError, match="another backup"):
        place.back_up()
    place.back_up()
    assert not (place.data / ".backup").exists(), "files of a killed backup are deleted"


@pytest.mark.on_backend("sqlite")
def test_name_that_does_not_fit_is_rejected_with_the_remedy(place: Place) -> None:
    (place.data / ("x" * 200)).write_text("x")
    with pytest.raises(BackupError, match="too long for a backup: move the file out"):
        place.back_up()

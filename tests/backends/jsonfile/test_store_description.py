"""A JSON store describes itself, and a tenant without `current.json` is refused or repaired."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from backends import Backend, DamagedStoreError, NewerStoreError, Record, open_store, store_exists
from backends.jsonfile import JSONFileBackend
from backends.jsonfile.store_description import SCHEMA_VERSION
from backends.testing import COLLECTIONS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder with a store of tenant `t`, which has two people and a group."""
    folder = tmp_path / "chalk"
    with open_folder(folder) as store:
        put(store, "people", Record("a", b"1", {"name": "x"}), Record("b", b"2"))
        put(store, "groups", Record("g", b"3"))
    return folder


def open_folder(folder: Path) -> Backend:
    return open_store(f"json:///{folder}", COLLECTIONS)


def repair(folder: Path) -> list[str]:
    return JSONFileBackend.repair(f"json:///{folder}", COLLECTIONS)


def put(store: Backend, collection: str, *records: Record) -> None:
    with store.write("t") as transaction:
        transaction.put(collection, records)


def contents(folder: Path) -> dict[str, list[Record]]:
    with open_folder(folder) as store, store.read("t") as snapshot:
        return {collection.name: list(snapshot.scan(collection.name)) for collection in COLLECTIONS}


def change_json(path: Path, **members: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | members))


def test_store_has_a_version_an_id_and_its_tenants(folder: Path) -> None:
    data = json.loads((folder / "store.json").read_text())
    assert (data["schemaVersion"], data["tenants"]) == (SCHEMA_VERSION, ["t"])
    assert re.fullmatch("[0-9a-f]{32}", data["id"])
    with open_folder(folder) as store:
        assert store.store_id == data["id"]


def test_newer_store_is_refused_with_both_versions(folder: Path) -> None:
    change_json(folder / "store.json", schemaVersion=SCHEMA_VERSION + 1)
    for call in (open_folder, repair):
        with pytest.raises(NewerStoreError, match=f"version {SCHEMA_VERSION + 1}.* up to {SCHEMA_VERSION}"):
            call(folder)


def test_unknown_members_survive_a_commit(folder: Path) -> None:
    change_json(folder / "store.json", color="red")
    change_json(folder / "t" / "current.json", note={"by": "operator"})
    with open_folder(folder) as store:
        put(store, "people", Record("c", b"3"))
        with store.write("other") as transaction:
            transaction.put("people", [Record("d", b"4")])
    assert json.loads((folder / "t" / "current.json").read_text())["note"] == {"by": "operator"}
    data = json.loads((folder / "store.json").read_text())
    assert (data["color"], data["tenants"]) == ("red", ["other", "t"])


def test_store_without_description_is_described_by_its_first_write(folder: Path) -> None:
    (folder / "store.json").unlink()
    before = contents(folder)
    assert not (folder / "store.json").exists()
    assert [record.key for record in before["people"]] == ["a", "b"]
    with open_folder(folder) as store:
        put(store, "notes", Record("n", b"1"))
        assert store.store_id == json.loads((folder / "store.json").read_text())["id"]


@pytest.mark.parametrize("described", [True, False])
def test_data_without_current_json_is_refused_and_repaired(folder: Path, described: bool) -> None:
    before, files = contents(folder), {path.name for path in (folder / "t").iterdir()}
    (folder / "t" / "current.json").unlink()
    if not described:
        (folder / "store.json").unlink()
    assert store_exists(f"json:///{folder}")
    with pytest.raises(DamagedStoreError, match=r"t/current\.json is missing.*check --repair"):
        open_folder(folder)
    assert {path.name for path in (folder / "t").iterdir()} == files - {"current.json"}
    [repaired, *_] = repair(folder)
    assert "current.json" in repaired
    assert contents(folder) == before


def test_invalid_current_json_is_repaired(folder: Path) -> None:
    before = contents(folder)
    (folder / "t" / "current.json").write_text('{"revision":1,')
    assert repair(folder)
    assert contents(folder) == before


def test_vanished_tenant_folder_is_refused_and_not_repaired(folder: Path) -> None:
    shutil.rmtree(folder / "t")
    with pytest.raises(DamagedStoreError, match="is missing"):
        open_folder(folder)
    with pytest.raises(DamagedStoreError, match="records of tenant 't' are lost"):
        repair(folder)


def test_repair_ignores_an_unfinished_commit(folder: Path) -> None:
    before = contents(folder)
    [live] = (folder / "t").glob("people.*.json")
    (folder / "t" / "people.99999999999999999.json").write_text("[\n")
    (folder / "t" / "current.json").unlink()
    assert live.name in repair(folder)[0]
    assert contents(folder) == before


def test_repair_refuses_an_incomplete_file(folder: Path) -> None:
    [live] = (folder / "t").glob("people.*.json")
    live.write_bytes(live.read_bytes()[:-3])
    (folder / "t" / "current.json").unlink()
    with pytest.raises(DamagedStoreError, match="truncated"):
        repair(folder)
    assert not (folder / "t" / "current.json").exists()


def test_first_commit_of_a_killed_writer_does_not_stop_the_store(folder: Path) -> None:
    (folder / "new").mkdir()
    (folder / "new" / "people.17.json").write_text("[\n")
    with open_folder(folder) as store:
        assert store.tenants() == ["t"]
        with store.write("new") as transaction:
            transaction.put("people", [Record("a", b"1")])
        assert store.tenants() == ["new", "t"]


def test_repair_leaves_an_intact_store_as_it_is(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*.json")}
    assert repair(folder) == []
    assert {path: path.read_bytes() for path in folder.rglob("*.json")} == before

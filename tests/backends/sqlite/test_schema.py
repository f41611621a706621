"""A SQLite store describes itself: version, id and parts. A missing part is refused, or rebuilt from the bodies."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from backends import (
    Backend,
    Collection,
    Compare,
    DamagedStoreError,
    Field,
    NewerStoreError,
    Query,
    Record,
    StorageError,
    Value,
    open_store,
    store_exists,
)
from backends.records import normalize
from backends.sqlite import SQLiteBackend
from backends.sqlite.schema import SCHEMA_VERSION


def values_of(body: bytes) -> Mapping[str, Value]:
    """Return the values of a person: name, age and tags, as in the body."""
    data = json.loads(body)
    return {"name": data["name"], "age": data["age"], "tags": tuple(data["tags"])}


FIELDS = (Field("name", indexed=True), Field("age", "number"), Field("tags", multi_valued=True))
PEOPLE = Collection("people", FIELDS, values_of=values_of, tracks_escapes=True)
NOTES = Collection("notes", bumps_revision=False)
PEOPLE_COUNT = 1200


def person(number: int) -> Record:
    body = json.dumps({"name": f"n{number % 7}", "age": number, "tags": [f"t{number % 3}", "all"]}).encode()
    return Record(f"p{number:04}", body, values_of(body))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """File with a store of people of two tenants."""
    path = tmp_path / "chalk.db"
    with open_path(path) as store:
        for tenant in ("a", "b"):
            with store.write(tenant) as transaction:
                transaction.put("people", map(person, range(PEOPLE_COUNT)))
                transaction.put("notes", [Record("n", b"1")])
    return path


def open_path(path: Path, *collections: Collection) -> Backend:
    return open_store(f"sqlite:///{path}", collections or (PEOPLE, NOTES))


def run_sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def records(path: Path, tenant: str = "a") -> list[Record]:
    with open_path(path) as store, store.read(tenant) as snapshot:
        return list(snapshot.scan("people"))


def make_old(path: Path) -> None:
    """Remove the description, as in a store of a version of the program that did not write one."""
    run_sql(path, "DROP TABLE _store", "PRAGMA user_version = 0")


def schema_version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def test_store_has_a_version_and_an_id_that_stays(path: Path, tmp_path: Path) -> None:
    assert schema_version(path) == SCHEMA_VERSION
    ids = set()
    for file in (path, path, tmp_path / "other.db"):
        with open_path(file) as store:
            assert re.fullmatch("[0-9a-f]{32}", store.store_id)
            ids.add(store.store_id)
    assert len(ids) == 2


def test_newer_store_is_refused_with_both_versions(path: Path) -> None:
    run_sql(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(NewerStoreError, match=f"version {SCHEMA_VERSION + 1}.* up to {SCHEMA_VERSION}"):
        open_path(path)
    with pytest.raises(NewerStoreError):
        SQLiteBackend.repair(f"sqlite:///{path}", [PEOPLE, NOTES])
    assert schema_version(path) == SCHEMA_VERSION + 1


def test_store_without_description_is_described_by_its_first_write(path: Path) -> None:
    make_old(path)
    with open_path(path) as store:
        assert store.store_id == ""
        with store.read("a") as snapshot:
            assert len(list(snapshot.keys("people"))) == PEOPLE_COUNT
    assert schema_version(path) == 0
    with open_path(path) as store:
        with store.write("a") as transaction:
            transaction.put("notes", [Record("n", b"2")])
        described = store.store_id
    assert schema_version(path) == SCHEMA_VERSION
    run_sql(path, 'DROP INDEX "people:name"')
    with pytest.raises(DamagedStoreError, match="the index people:name of people is missing"):
        open_path(path)
    SQLiteBackend.repair(f"sqlite:///{path}", [PEOPLE, NOTES])
    with open_path(path) as store:
        assert store.store_id == described


def test_store_of_an_earlier_version_gets_the_index_of_escapes(path: Path) -> None:
    with open_path(path) as store, store.write("a") as transaction:
        transaction.put("people", [Record("p0003", b'{"name":"\\"","age":1,"tags":[]}', {"name": '"', "age": 1.0})])
    make_old(path)
    run_sql(path, 'DROP INDEX "people:_escapes"')
    with open_path(path) as store, store.read("a") as snapshot:
        assert snapshot.find(Query("people", Compare("name", ">=", ""))).has_escapes
        assert not snapshot.find(Query("people", Compare("name", ">=", "n"))).has_escapes


DAMAGE = {
    "the table _many": ["DROP TABLE _many"],
    "the table _paths": ["DROP TABLE _paths"],
    "the table _store": ["DROP TABLE _store"],
    "the index _many:value of _many": ['DROP INDEX "_many:value"'],
    "the index people:name of people": ['DROP INDEX "people:name"'],
    "the index people:_key of people": ['DROP INDEX "people:_key"'],
    "the index people:_escapes of people": ['DROP INDEX "people:_escapes"'],
    "the column age of people": ["ALTER TABLE people DROP COLUMN age"],
    "the column name of people": ['DROP INDEX "people:name"', "ALTER TABLE people DROP COLUMN name"],
}


@pytest.mark.parametrize("part", DAMAGE)
def test_missing_part_is_refused_and_rebuilt_from_the_bodies(path: Path, part: str) -> None:
    before = records(path), records(path, "b")
    with open_path(path) as store:
        run_sql(path, *DAMAGE[part])
        assert f"{part} is missing" in " ".join(store.check())
    with pytest.raises(DamagedStoreError, match=f"{part}.* is missing.*check --repair"):
        open_path(path)
    assert f"created {part}" in SQLiteBackend.repair(f"sqlite:///{path}", [PEOPLE, NOTES])
    assert (records(path), records(path, "b")) == before
    with open_path(path) as store:
        assert store.check() == []
        with store.read("a") as snapshot:
            assert len(list(snapshot.keys("people", Compare("tags", "=", "t1")))) == PEOPLE_COUNT / 3
            assert list(snapshot.keys("people", Compare("age", ">", PEOPLE_COUNT - 2))) == [f"p{PEOPLE_COUNT - 1}"]


@pytest.mark.parametrize("sql", ["DROP TABLE people", "DROP TABLE _tenants"])
def test_lost_records_are_refused_and_not_repaired(path: Path, sql: str) -> None:
    run_sql(path, sql)
    content = path.read_bytes()
    with pytest.raises(DamagedStoreError, match="is missing"):
        open_path(path)
    with pytest.raises(DamagedStoreError, match="restore a backup"):
        SQLiteBackend.repair(f"sqlite:///{path}", [PEOPLE, NOTES])
    assert path.read_bytes() == content


@pytest.mark.parametrize("old", [False, True])
def test_new_field_gets_its_values_from_the_bodies(tmp_path: Path, old: bool) -> None:
    path = tmp_path / "chalk.db"
    with open_path(path, Collection("people", FIELDS[1:])) as store, store.write("a") as transaction:
        transaction.put("people", [Record(p.key, p.body, {"age": p.values["age"]}) for p in map(person, range(20))])
    if old:
        make_old(path)
    assert records(path) == [normalize(person(number), PEOPLE) for number in range(20)]


def test_repair_leaves_an_intact_store_as_it_is(path: Path) -> None:
    with open_path(path) as store, store.read("a") as snapshot:
        revision = snapshot.revision
    assert SQLiteBackend.repair(f"sqlite:///{path}", [PEOPLE, NOTES]) == []
    with open_path(path) as store, store.read("a") as snapshot:
        assert snapshot.revision == revision


def test_empty_file_is_not_a_store(tmp_path: Path) -> None:
    path = tmp_path / "chalk.db"
    path.touch()
    assert store_exists(f"sqlite:///{path}")
    with pytest.raises(DamagedStoreError, match="is an empty file"):
        open_path(path)
    assert path.stat().st_size == 0


def test_folder_in_place_of_the_file_is_not_a_store(tmp_path: Path) -> None:
    path = tmp_path / "chalk.db"
    path.mkdir()
    assert store_exists(f"sqlite:///{path}")
    with pytest.raises(DamagedStoreError, match="is a folder"):
        open_path(path)


def test_killed_creation_leaves_no_store(tmp_path: Path) -> None:
    (tmp_path / ".chalk.db.new").write_bytes(b"SQLite format 3\0 half")
    with open_path(tmp_path / "chalk.db") as store, store.write("a") as transaction:
        transaction.put("people", [person(1)])
    assert not (tmp_path / ".chalk.db.new").exists()
    assert (tmp_path / "chalk.db").stat().st_mode & 0o777 == 0o600
    assert [record.key for record in records(tmp_path / "chalk.db")] == ["p0001"]


def damaged_copies(path: Path, count: int) -> Iterator[Path]:
    """Yield copies of a store with bytes flipped, or the end cut off, at `count` places each."""
    content = path.read_bytes()
    for position in range(0, len(content), len(content) // count):
        flipped = content[:position] + bytes([content[position] ^ 0xA5]) * 64 + content[position + 64 :]
        for number, damaged in enumerate((flipped[: len(content)], content[:position])):
            copy = path.with_name(f"damaged-{position}-{number}.db")
            copy.write_bytes(damaged)
            yield copy


def read_all(path: Path) -> None:
    with open_path(path) as store:
        for tenant in store.tenants():
            with store.read(tenant) as snapshot:
                for name in store.collections:
                    list(snapshot.scan(name))
                    snapshot.find(Query(name)).body()
                    snapshot.find(Query(name, limit=5, offset=3)).body()
                    snapshot.get_many(name, list(snapshot.keys(name)))


def check(path: Path) -> None:
    with open_path(path) as store:
        store.check()


def write(path: Path) -> None:
    with open_path(path) as store, store.write("a") as transaction:
        transaction.put("people", map(person, range(0, PEOPLE_COUNT, 7)))
        transaction.delete("people", ["p0001"])


@pytest.mark.parametrize("count", [8, pytest.param(80, marks=pytest.mark.slow)])
def test_damage_raises_errors_of_the_contract_only(path: Path, count: int) -> None:
    raised: list[str] = []
    for damaged in damaged_copies(path, count):
        for work in (check, read_all, write):
            try:
                work(damaged)
            except StorageError as error:
                raised.append(str(error))
    assert len(raised) > count
    assert all(raised)

"""Tests of `scan` and `tenants`: a copy of a store must contain the same records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings

from backends import (
    MAX_DYNAMIC_PATH_LENGTH,
    MAX_DYNAMIC_VALUES,
    Backend,
    Collection,
    Compare,
    InvalidQueryError,
    Query,
    Record,
    Value,
    open_store,
    repair_store,
    value_problems,
)
from backends.base import normalize
from backends.testing.base import COLLECTIONS, TENANT, Conformance, fill, find_keys, needs, person, record
from backends.testing.property_based import DATA, QUERY_LISTS, Data, results, with_body

__all__ = ["RecordsConformance"]


def _values_of(body: bytes) -> Mapping[str, Value]:
    """Return the values of a person from its body, which has the form of `described_person`."""
    data = json.loads(body)
    if "name" not in data:
        raise ValueError("not a person")
    return {"name": data["name"], "age": data["age"], "tags": tuple(data["tags"])}


DERIVED_COLLECTIONS = (replace(COLLECTIONS[0], values_of=_values_of), *COLLECTIONS[1:])
"""The collections of the suite. The bodies of the first one determine its values."""


def described_person(number: int) -> Record:
    """Return the record with key `p<number>` whose body contains its values."""
    key = f"p{number:03}"
    document = {"key": key, "name": f"name {number % 7}", "age": number, "tags": ["all", f"t{number % 3}"]}
    body = json.dumps(document).encode()
    return Record(key, body, _values_of(body))


class RecordsConformance(Conformance):
    """Tests of the methods that a copy, a check and a repair of a store use."""

    copies: ClassVar[int] = 60
    """Number of generated data sets that are copied to memory and back."""

    def test_scan_returns_whole_records_in_key_order(self, store: Backend) -> None:
        people = [person(number) for number in range(2500)]
        fill(store, "people", reversed(people))
        with store.read(TENANT) as snapshot:
            assert list(snapshot.scan("people")) == sorted(_normalized(people), key=lambda one: one.key)
            assert list(snapshot.scan("groups")) == []
            assert [type(one.values.get("age", 0.0)) for one in snapshot.scan("people")] == [float] * 2500

    @needs("durable")
    def test_repair_rebuilds_values_that_differ_from_bodies(self, url: str) -> None:
        people = [described_person(number) for number in range(30)]
        stored = [one._replace(values={"name": "other", "tags": ("x",)}) if one.key < "p010" else one for one in people]
        with open_store(url, DERIVED_COLLECTIONS) as store:
            fill(store, "people", stored)
            [problem] = value_problems(store)
            assert "people: the values of 10 records" in problem
        [action] = repair_store(url, DERIVED_COLLECTIONS)
        assert "10 records of people" in action
        with open_store(url, DERIVED_COLLECTIONS) as store, store.read(TENANT) as snapshot:
            assert list(snapshot.scan("people")) == _normalized(people)
            assert find_keys(snapshot, Compare("tags", "=", "t1")) == [
                one.key for one in people if one.values["age"] in range(1, 30, 3)
            ]
            assert value_problems(store) == []

    @needs("durable")
    def test_repair_changes_nothing_in_an_intact_store(self, url: str) -> None:
        with open_store(url, DERIVED_COLLECTIONS) as store:
            fill(store, "people", [described_person(1), Record("unreadable", b"{}", {"name": "x"})])
            with store.read(TENANT) as snapshot:
                before = snapshot.revision, list(snapshot.scan("people"))
        assert repair_store(url, DERIVED_COLLECTIONS) == []
        with open_store(url, DERIVED_COLLECTIONS) as store, store.read(TENANT) as snapshot:
            assert (snapshot.revision, list(snapshot.scan("people"))) == before

    @needs("durable")
    def test_store_id_stays_when_the_store_is_opened_again(self, url: str) -> None:
        ids = set()
        for number in range(3):
            with open_store(url, COLLECTIONS) as store:
                fill(store, "people", [person(number)])
                ids.add(store.store_id)
        assert len(ids) == 1

    def test_scan_returns_normalized_values(self, store: Backend) -> None:
        first = record("a", name="", age=-0.0, tags=("b", "a", "b"), scores=(2, 1.5, 2), metadata__x="one")
        fill(store, "people", [first, record("b", name=None, tags=(), metadata__y=("z", "y")), Record("c", b"1")])
        with store.read(TENANT) as snapshot:
            assert [(one.key, one.body, dict(one.values)) for one in snapshot.scan("people")] == [
                (
                    "a",
                    first.body,
                    {"name": "", "age": 0.0, "tags": ("a", "b"), "scores": (1.5, 2.0), "metadata.x": ("one",)},
                ),
                ("b", record("b", name=None, tags=(), metadata__y=("z", "y")).body, {"metadata.y": ("y", "z")}),
                ("c", b"1", {}),
            ]

    def test_scan_in_a_transaction_returns_its_own_writes(self, store: Backend) -> None:
        fill(store, "people", [person(1), person(2)])
        with store.write(TENANT) as transaction:
            transaction.put("people", [record("p001", tags=("new",)), person(3)])
            transaction.delete("people", ["p002"])
            assert list(transaction.scan("people")) == _normalized([record("p001", tags=("new",)), person(3)])

    def test_scan_shows_one_point_in_time_and_one_tenant(self, store: Backend) -> None:
        fill(store, "people", [person(number) for number in range(1500)])
        fill(store, "people", [record("other", tags=("x",))], "another")
        with store.read(TENANT) as snapshot:
            records = snapshot.scan("people")
            first = next(records)
            with store.write(TENANT) as transaction:
                transaction.delete("people", [person(number).key for number in range(1500)])
            assert [first, *records] == sorted(_normalized(map(person, range(1500))), key=lambda one: one.key)
        with store.read(TENANT) as snapshot:
            assert list(snapshot.scan("people")) == []

    def test_unfinished_scan_does_not_block_writers_or_readers(self, store: Backend) -> None:
        fill(store, "people", [person(number) for number in range(1500)])
        with store.read(TENANT) as snapshot:
            next(snapshot.scan("people"))
        fill(store, "people", [record("later")])
        with store.read(TENANT) as snapshot:
            assert len(find_keys(snapshot)) == 1501

    def test_tenants_with_records_are_listed(self, store: Backend) -> None:
        assert store.tenants() == []
        names = ["default", "Default", "_control", "", "..", "a/b", "a%2Fb", "ü 李'\"%_\0", "x" * 60]
        for name in names:
            fill(store, "notes", [record("n")], name)
        with store.read("stranger") as snapshot:
            assert find_keys(snapshot) == []
        assert store.tenants() == sorted(names)

    def test_values_of_dynamic_fields_are_limited_in_number(self, store: Backend) -> None:
        texts = tuple(f"value {number}" for number in range(MAX_DYNAMIC_VALUES))
        separate: dict[str, Value] = {f"metadata.{number:03}": text for number, text in enumerate(texts)}
        in_one_path: dict[str, Value] = {"metadata.x": texts}
        fill(store, "people", [_with_values("a", separate), _with_values("b", in_one_path)])
        for values in separate | {"metadata.x": "one more"}, in_one_path | {"metadata.y": "one more"}:
            with pytest.raises(InvalidQueryError, match=f"{MAX_DYNAMIC_VALUES}"):
                fill(store, "people", [_with_values("c", values)])
        with store.read(TENANT) as snapshot:
            last = MAX_DYNAMIC_VALUES - 1
            assert find_keys(snapshot, Compare(f"metadata.{last:03}", "=", f"value {last}")) == ["a"]
            assert find_keys(snapshot, Compare("metadata.x", "=", f"value {last}")) == ["b"]
            assert find_keys(snapshot, Compare("metadata.x", "=", "one more")) == []

    def test_paths_of_dynamic_fields_are_limited_in_length(self, store: Backend) -> None:
        first = "metadata." + "a" * 20_000
        rest = MAX_DYNAMIC_PATH_LENGTH - len(first) - len("metadata.")
        fill(store, "people", [_with_values("a", {first: "x", "metadata." + "b" * rest: "y"})])
        with pytest.raises(InvalidQueryError, match=f"{MAX_DYNAMIC_PATH_LENGTH}"):
            fill(store, "people", [_with_values("b", {first: "x", "metadata." + "b" * (rest + 1): "y"})])
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot, Compare(first, "=", "x")) == ["a"]
            assert find_keys(snapshot, Compare("metadata." + "b" * rest, "=", "y")) == ["a"]

    def test_generated_records_survive_a_copy_to_memory_and_back(self, store: Backend) -> None:
        count = 0

        @settings(max_examples=self.copies, deadline=None, suppress_health_check=list(HealthCheck))
        @given(DATA, QUERY_LISTS)
        def agree(data: Data, queries: list[Query]) -> None:
            nonlocal count
            count += 1
            with open_store("memory:", COLLECTIONS) as memory:
                _put(store, f"from {count}", data)
                _copy(store, f"from {count}", memory, TENANT)
                _copy(memory, TENANT, store, f"to {count}")
            with store.read(f"from {count}") as before, store.read(f"to {count}") as after:
                for one in COLLECTIONS:
                    expected = _normalized(
                        [with_body(key, values) for key, values in sorted(data[one.name].items())], one
                    )
                    assert list(before.scan(one.name)) == list(after.scan(one.name)) == expected
                for query in queries:
                    assert results(before, query) == results(after, query)

        agree()


def _with_values(key: str, values: dict[str, Value]) -> Record:
    return Record(key, record(key).body, values)


def _put(store: Backend, tenant: str, data: Data) -> None:
    with store.write(tenant) as transaction:
        for name, records in data.items():
            transaction.put(name, [with_body(key, values) for key, values in records.items()])


def _copy(source: Backend, tenant: str, target: Backend, name: str) -> None:
    with source.read(tenant) as snapshot, target.write(name) as transaction:
        for one in COLLECTIONS:
            transaction.put(one.name, snapshot.scan(one.name))


def _normalized(records: Iterable[Record], owner: Collection = COLLECTIONS[0]) -> list[Record]:
    return [normalize(one, owner) for one in records]

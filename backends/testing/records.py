"""Whole records as they come out, and that putting them elsewhere loses nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from hypothesis import HealthCheck, given, settings

from backends import Backend, Collection, Query, Record, open_store
from backends.base import normalize
from backends.testing.base import COLLECTIONS, TENANT, Conformance, fill, found, person, record
from backends.testing.property_based import ASKED, DATA, Data, answer, made

__all__ = ["RecordsConformance"]


class RecordsConformance(Conformance):
    """`records` and `tenants`: what a copy of a store is made of."""

    copies: ClassVar[int] = 60
    """Generated data sets that are carried to memory and back."""

    def test_records_come_whole_and_in_key_order(self, store: Backend) -> None:
        people = [person(number) for number in range(2500)]
        fill(store, "people", reversed(people))
        with store.read(TENANT) as at:
            assert list(at.scan("people")) == sorted(_plain(people), key=lambda each: each.key)
            assert list(at.scan("groups")) == []
            assert [type(each.values.get("age", 0.0)) for each in at.scan("people")] == [float] * 2500

    def test_the_values_of_a_record_have_one_form(self, store: Backend) -> None:
        kept = record("a", name="", age=-0.0, tags=("b", "a", "b"), scores=(2, 1.5, 2), metadata__x="one")
        fill(store, "people", [kept, record("b", name=None, tags=(), metadata__y=("z", "y")), Record("c", b"1")])
        with store.read(TENANT) as at:
            assert [(each.key, each.body, dict(each.values)) for each in at.scan("people")] == [
                (
                    "a",
                    kept.body,
                    {"name": "", "age": 0.0, "tags": ("a", "b"), "scores": (1.5, 2.0), "metadata.x": ("one",)},
                ),
                ("b", record("b", name=None, tags=(), metadata__y=("z", "y")).body, {"metadata.y": ("y", "z")}),
                ("c", b"1", {}),
            ]

    def test_a_transaction_gives_the_records_that_it_wrote(self, store: Backend) -> None:
        fill(store, "people", [person(1), person(2)])
        with store.write(TENANT) as transaction:
            transaction.put("people", [record("p001", tags=("new",)), person(3)])
            transaction.delete("people", ["p002"])
            assert list(transaction.scan("people")) == _plain([record("p001", tags=("new",)), person(3)])

    def test_records_are_those_of_one_moment_and_of_one_tenant(self, store: Backend) -> None:
        fill(store, "people", [person(number) for number in range(1500)])
        fill(store, "people", [record("theirs", tags=("x",))], "another")
        with store.read(TENANT) as at:
            records = at.scan("people")
            first = next(records)
            with store.write(TENANT) as transaction:
                transaction.delete("people", [person(number).key for number in range(1500)])
            assert [first, *records] == sorted(_plain(map(person, range(1500))), key=lambda each: each.key)
        with store.read(TENANT) as at:
            assert list(at.scan("people")) == []

    def test_who_stops_half_way_through_the_records_hinders_nobody(self, store: Backend) -> None:
        fill(store, "people", [person(number) for number in range(1500)])
        with store.read(TENANT) as at:
            next(at.scan("people"))
        fill(store, "people", [record("later")])
        with store.read(TENANT) as at:
            assert len(found(at)) == 1501

    def test_every_tenant_that_has_a_record_is_named(self, store: Backend) -> None:
        assert store.tenants() == []
        names = ["default", "Default", "_control", "", "..", "a/b", "a%2Fb", "ü 李'\"%_\0", "x" * 60]
        for name in names:
            fill(store, "notes", [record("n")], name)
        with store.read("stranger") as at:
            assert found(at) == []
        assert store.tenants() == sorted(names)

    def test_generated_records_are_the_same_after_a_way_through_memory_and_back(self, store: Backend) -> None:
        sets = 0

        @settings(max_examples=self.copies, deadline=None, suppress_health_check=list(HealthCheck))
        @given(DATA, ASKED)
        def agree(data: Data, queries: list[Query]) -> None:
            nonlocal sets
            sets += 1
            with open_store("memory:", COLLECTIONS) as memory:
                _put(store, f"from {sets}", data)
                _carry(store, f"from {sets}", memory, TENANT)
                _carry(memory, TENANT, store, f"to {sets}")
            with store.read(f"from {sets}") as before, store.read(f"to {sets}") as after:
                for one in COLLECTIONS:
                    given = _plain([made(key, held) for key, held in sorted(data[one.name].items())], one)
                    assert list(before.scan(one.name)) == list(after.scan(one.name)) == given
                for query in queries:
                    assert answer(before, query) == answer(after, query)

        agree()


def _put(store: Backend, tenant: str, data: Data) -> None:
    with store.write(tenant) as transaction:
        for name, records in data.items():
            transaction.put(name, [made(key, held) for key, held in records.items()])


def _carry(source: Backend, tenant: str, target: Backend, name: str) -> None:
    with source.read(tenant) as at, target.write(name) as transaction:
        for one in COLLECTIONS:
            transaction.put(one.name, at.scan(one.name))


def _plain(records: Iterable[Record], owner: Collection = COLLECTIONS[0]) -> list[Record]:
    return [normalize(each, owner) for each in records]

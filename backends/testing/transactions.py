"""Tests of snapshots, transactions, tenants, revisions and versions."""

from __future__ import annotations

from collections.abc import Iterator

from backends import MATCH_NONE, Backend, Compare, OrderBy, Query, Record, Transaction, Value
from backends.testing.base import TENANT, Conformance, SimulatedError, fill, find_keys, person, record, roll_back

__all__ = ["TransactionConformance"]

TENANTS = ["default", "Default", "_control", "", ".", "..", "a/b", "a%2Fb", "ü 李'\"%_\0", "x" * 60]


class TransactionConformance(Conformance):
    """Tests of visibility, isolation and rollback."""

    def test_snapshot_does_not_change_during_later_commits(self, store: Backend) -> None:
        fill(store, "people", [person(number) for number in range(600)])
        with store.read(TENANT) as before:
            page, keys = before.find(Query("people")), before.keys("people")
            first = next(page.chunks)
            with store.write(TENANT) as transaction:
                transaction.delete("people", [f"p{number:03}" for number in range(0, 600, 2)])
                transaction.put("people", [record("p001", name="new")])
                with store.read(TENANT) as meanwhile:
                    assert find_keys(meanwhile) == find_keys(before)
            with store.read(TENANT) as after:
                assert len(find_keys(after)) == 300
                assert find_keys(after, Compare("name", "=", "new")) == ["p001"]
            assert b",".join([first, *page.chunks]) == b",".join(person(number).body for number in range(600))
            assert len(list(keys)) == 600
            assert find_keys(before, Compare("name", "=", "new")) == []
            assert before.get_many("people", ["p001"]) == {"p001": person(1).body}

    def test_snapshot_shows_its_creation_time_even_if_first_read_later(self, store: Backend) -> None:
        with store.read(TENANT) as before:
            fill(store, "people", [person(1)])
            assert find_keys(before) == []
            assert before.revision == 0

    def test_transaction_sees_its_own_writes(self, store: Backend) -> None:
        fill(store, "people", [person(1), person(2)])
        with store.write(TENANT) as transaction:
            transaction.put("people", [record("p001", name="changed", tags=("new",)), person(3)])
            transaction.delete("people", ["p002", "unknown"])
            assert find_keys(transaction) == ["p001", "p003"]
            assert find_keys(transaction, Compare("tags", "=", "new")) == ["p001"]
            assert find_keys(transaction, Compare("tags", "=", "t1")) == []
            assert set(transaction.get_many("people", ["p001", "p002", "p003"])) == {"p001", "p003"}
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot) == ["p001", "p003"]

    def test_put_replaces_the_whole_record(self, store: Backend) -> None:
        fill(store, "people", [record("a", name="old", age=1, tags=("x", "y"), metadata__house="red")])
        fill(store, "people", [record("a", tags=("y", "z"))])
        with store.read(TENANT) as snapshot:
            for old_value in (
                Compare("name", "~", ""),
                Compare("age", ">", -1e300),
                Compare("tags", "=", "x"),
                Compare("metadata.house", "=", "red"),
            ):
                assert find_keys(snapshot, old_value) == []
            assert find_keys(snapshot, Compare("tags", "=", "z")) == ["a"]

    def test_the_last_of_equal_keys_in_one_put_wins(self, store: Backend) -> None:
        fill(store, "people", [record("a", name="one", tags=("1",)), record("a", name="two", tags=("2", "2"))])
        with store.read(TENANT) as snapshot:
            assert snapshot.find(Query("people")).body() == record("a", name="two", tags=("2", "2")).body
            assert find_keys(snapshot, Compare("tags", "=", "1")) == []

    def test_deleted_record_can_be_stored_again(self, store: Backend) -> None:
        with store.write(TENANT) as transaction:
            transaction.put("people", [person(1)])
            transaction.delete("people", ["p001", "p001"])
            assert find_keys(transaction) == []
            transaction.put("people", [person(1)])
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot, Compare("tags", "=", "all")) == ["p001"]

    def test_failed_transaction_writes_nothing(self, store: Backend) -> None:
        fill(store, "people", [person(1), person(2)])
        with store.read(TENANT) as snapshot:
            before = snapshot.find(Query("people")).body(), snapshot.revision

        def work(transaction: Transaction) -> None:
            transaction.put("people", [person(3), record("p001", tags=("changed",))])
            transaction.put("groups", [record("g")])
            transaction.delete("people", ["p002"])

        roll_back(store, work)
        with store.read(TENANT) as snapshot:
            assert (snapshot.find(Query("people")).body(), snapshot.revision) == before
            assert find_keys(snapshot, Compare("tags", "=", "changed")) == []
            assert find_keys(snapshot, collection="groups") == []

    def test_error_of_a_record_iterator_rolls_back_the_transaction(self, store: Backend) -> None:
        def many() -> Iterator[Record]:
            yield from map(person, range(1500))
            raise SimulatedError

        def work(transaction: Transaction) -> None:
            transaction.put("people", [person(1)])
            transaction.put("people", many())

        roll_back(store, work)
        fill(store, "people", [person(5)])
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot) == ["p005"]

    def test_transaction_closed_early_is_rolled_back(self, store: Backend) -> None:
        transaction = store.write(TENANT)
        transaction.put("people", [person(1)])
        transaction.close()
        transaction.close()
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot) == []
        fill(store, "people", [person(2)])

    def test_later_changes_to_a_record_do_not_affect_the_store(self, store: Backend) -> None:
        values: dict[str, Value] = {"name": "before", "tags": ("x",)}
        one = Record("a", b'{"key":"a"}', values)
        with store.write(TENANT) as transaction:
            transaction.put("people", [one])
            values["name"] = "after"
            values["metadata.house"] = "red"
            assert find_keys(transaction, Compare("name", "=", "before")) == ["a"]
        values.clear()
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot, Compare("name", "=", "before")) == ["a"]
            assert find_keys(snapshot, Compare("metadata.house", "=", "red")) == []
            bodies = snapshot.get_many("people", ["a"])
            bodies["a"] = b"changed"
            assert snapshot.get_many("people", ["a"]) == {"a": b'{"key":"a"}'}

    def test_tenants_never_see_each_other(self, store: Backend) -> None:
        for tenant in TENANTS:
            fill(
                store, "people", [record("same", name=f"of {tenant}", tags=(tenant,)), record(f"own {tenant}")], tenant
            )
        for tenant in TENANTS:
            with store.read(tenant) as snapshot:
                assert find_keys(snapshot) == sorted(["same", f"own {tenant}"])
                assert find_keys(snapshot, Compare("name", "~", "of ")) == ["same"]
                assert find_keys(snapshot, Compare("tags", "=", tenant)) == ["same"]
                assert snapshot.find(Query("people", order=(OrderBy("tags"),), limit=0)).total == 2
        with store.write("_control") as transaction:
            transaction.delete("people", list(transaction.keys("people")))
        for tenant in TENANTS:
            with store.read(tenant) as snapshot:
                assert len(find_keys(snapshot)) == (0 if tenant == "_control" else 2)

    def test_unknown_tenant_has_no_records(self, store: Backend) -> None:
        with store.read("stranger") as snapshot:
            assert (find_keys(snapshot), snapshot.revision, snapshot.get_many("people", ["a"])) == ([], 0, {})

    def test_revision_rises_with_commits_to_collections_that_bump_it(self, store: Backend) -> None:
        revisions = [0]
        for change in range(4):
            with store.write(TENANT) as transaction:
                assert transaction.revision == revisions[-1]
                if change == 3:
                    transaction.delete("people", ["p001"])
                else:
                    transaction.put("people" if change else "groups", [Record(f"p00{change}", b"{}")])
            with store.read(TENANT) as snapshot:
                revisions.append(snapshot.revision)
        assert revisions == sorted(set(revisions))

    def test_exists_sees_own_writes_and_no_other_tenant(self, store: Backend) -> None:
        with store.write(TENANT) as transaction:
            assert not transaction.exists("people")
            transaction.put("people", [person(1)])
            assert transaction.exists("people")
            transaction.delete("people", ["p001"])
            assert not transaction.exists("people")
            transaction.put("people", [person(1)])
        with store.read(TENANT) as snapshot, store.read("another") as other:
            assert snapshot.exists("people", Compare("tags", "=", "all"))
            assert not snapshot.exists("people", MATCH_NONE)
            assert not snapshot.exists("groups")
            assert not other.exists("people")

    def test_revision_is_unchanged_by_other_commits(self, store: Backend) -> None:
        fill(store, "people", [person(1)])
        with store.read(TENANT) as before:
            fill(store, "notes", [record("n", state="new")])
            fill(store, "people", [person(2)], "another")
            with store.write(TENANT):
                pass
            roll_back(store, lambda transaction: transaction.put("people", [person(3)]))
            with store.read(TENANT) as after:
                assert after.revision == before.revision
                assert find_keys(after, collection="notes") == ["n"]

    def test_read_at_least_a_version_sees_all_earlier_commits(self, store: Backend) -> None:
        for number in range(5):
            fill(store, "people", [person(number)])
            version = store.version("another")
            for _ in range(3):
                with store.read(TENANT, at_least=version) as snapshot:
                    assert len(find_keys(snapshot)) == number + 1

    def test_version_changes_after_every_commit(self, store: Backend) -> None:
        versions = [store.version(TENANT)]
        for number in range(30):
            fill(store, "notes" if number % 2 else "people", [record(f"n{number % 3}")])
            versions.append(store.version(TENANT))
        with store.write(TENANT) as transaction:
            transaction.delete("notes", ["n0"])
        versions.append(store.version(TENANT))
        assert all(one != two for index, one in enumerate(versions) for two in versions[:index])

    def test_check_of_an_intact_store_finds_nothing(self, store: Backend) -> None:
        fill(store, "people", [person(number) for number in range(50)])
        fill(store, "notes", [record("n")], "_control")
        assert store.check() == []

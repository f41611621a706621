"""Tests of every node and operator of the query tree on every kind of field."""

from __future__ import annotations

from itertools import combinations

import pytest

from backends import (
    FOLDED_KEY,
    KEY,
    MATCH_ALL,
    And,
    Backend,
    Compare,
    In,
    Not,
    Operator,
    Or,
    OrderBy,
    Query,
    Record,
    Subquery,
    Where,
)
from backends.testing.base import TENANT, Conformance, document_keys, fill, find_keys, record

__all__ = ["QueryConformance"]

# The records a and b have all fields, c and d have some, and e has none.
SAMPLE = (
    record("a", name="ada", age=36, tags=("math", "first"), scores=(1.5, -2), metadata__house="red", home__street="x"),
    record("b", name="bob", age=7, tags=("math",), scores=(10,), metadata__house=("blue", "green")),
    record("c", name="Cyd", tags=(), scores=(0, 100.25), metadata__other="red"),
    record("d", name="", age=-0.5, tags=("",), scores=()),
    Record("e", b'{"key":"e"}', {"name": None, "metadata.house": None}),
)
SAMPLE_GROUPS = (
    record("g1", title="ada", members=("a", "b", "unknown"), size=7),
    record("g2", title="red", members=("c",), size=100.25),
    record("g3", title="empty", members=()),
)

LEAVES: list[tuple[Where, str]] = [
    (Compare("name", "=", "ada"), "a"),
    (Compare("name", "=", ""), "d"),
    (Compare("name", "<", "bob"), "acd"),
    (Compare("name", "<=", "bob"), "abcd"),
    (Compare("name", ">", "ada"), "b"),
    (Compare("name", ">=", "ada"), "ab"),
    (Compare("name", "~", "d"), "ac"),
    (Compare("name", "~", ""), "abcd"),
    (Compare("age", "=", 7), "b"),
    (Compare("age", "=", 7.0), "b"),
    (Compare("age", "<", 7), "d"),
    (Compare("age", "<=", 7), "bd"),
    (Compare("age", ">", 7), "a"),
    (Compare("age", ">=", 7), "ab"),
    (Compare("age", ">", -1e300), "abd"),
    (Compare("age", "<", float("inf")), "abd"),
    (Compare("tags", "=", "math"), "ab"),
    (Compare("tags", "=", ""), "d"),
    (Compare("tags", "<", "g"), "ad"),
    (Compare("tags", "<=", "first"), "ad"),
    (Compare("tags", ">", "first"), "ab"),
    (Compare("tags", ">=", "math"), "ab"),
    (Compare("tags", "~", "irs"), "a"),
    (Compare("scores", "=", 10), "b"),
    (Compare("scores", "<", 0), "a"),
    (Compare("scores", "<=", 0), "ac"),
    (Compare("scores", ">", 9.5), "bc"),
    (Compare("scores", ">=", 100.25), "c"),
    (Compare("home.street", "=", "x"), "a"),
    (Compare("metadata.house", "=", "red"), "a"),
    (Compare("metadata.house", "=", "green"), "b"),
    (Compare("metadata.house", "<", "c"), "b"),
    (Compare("metadata.house", "<=", "green"), "b"),
    (Compare("metadata.house", ">", "green"), "a"),
    (Compare("metadata.house", ">=", "green"), "ab"),
    (Compare("metadata.house", "~", "re"), "ab"),
    (Compare("metadata.nothing", "=", "red"), ""),
    (Compare("metadata.nothing", "<=", "red"), ""),
    (Compare(KEY, "=", "c"), "c"),
    (Compare(KEY, "<", "c"), "ab"),
    (Compare(KEY, "<=", "c"), "abc"),
    (Compare(KEY, ">", "c"), "de"),
    (Compare(KEY, ">=", "c"), "cde"),
    (Compare(KEY, "~", "c"), "c"),
    (In("name", ("ada", "Cyd", "unknown", "ada")), "ac"),
    (In("age", (7, 36.0, 8)), "ab"),
    (In("tags", ("first", "math")), "ab"),
    (In("scores", (-2, 1.5, 0)), "ac"),
    (In("metadata.house", ("red", "blue", "green")), "ab"),
    (In(KEY, ("e", "a", "z")), "ae"),
    (In("name", ()), ""),
    (In("tags", ()), ""),
    (In(KEY, ()), ""),
]

SUBQUERIES: list[tuple[Where, str]] = [
    (In(KEY, Subquery("groups", "members", MATCH_ALL)), "abc"),
    (In(KEY, Subquery("groups", "members", Compare("size", "<", 10))), "ab"),
    (In(KEY, Subquery("groups", "members", Compare("size", ">", 1000))), ""),
    (In("name", Subquery("groups", "title", MATCH_ALL)), "a"),
    (In("metadata.house", Subquery("groups", "title", Compare(KEY, "=", "g2"))), "a"),
    (In("age", Subquery("groups", "size", MATCH_ALL)), "b"),
    (In("scores", Subquery("groups", "size", MATCH_ALL)), "c"),
    (In("tags", Subquery("people", "tags", Compare(KEY, "=", "b"))), "ab"),
    (In("name", Subquery("people", "name", Compare("scores", ">", 9))), "bc"),
    (In("metadata.house", Subquery("people", "metadata.other", MATCH_ALL)), "a"),
    (In(KEY, Subquery("people", KEY, Not(Compare("age", ">", 0)))), "cde"),
    (In(KEY, Subquery("groups", "members", In(KEY, Subquery("groups", KEY, Compare("title", "~", "d"))))), "abc"),
    (In("tags", Subquery("people", "tags", In(KEY, Subquery("groups", "members", MATCH_ALL)))), "ab"),
    (In(KEY, Subquery("notes", KEY, MATCH_ALL)), ""),
]

TREES: list[tuple[Where, str]] = [
    (MATCH_ALL, "abcde"),
    (And(()), "abcde"),
    (Or(()), ""),
    (Not(Or(())), "abcde"),
    (Not(And(())), ""),
    (And((Compare("tags", "=", "math"), Compare("tags", "=", "first"))), "a"),
    (And((Compare("age", ">", 0), Not(Compare("name", "=", "ada")))), "b"),
    (Or((Compare("name", "=", "ada"), Compare("scores", "=", 10), Compare("tags", "=", "math"))), "ab"),
    (And((Or((Compare(KEY, "=", "a"), Compare(KEY, "=", "e"))), Not(Compare("name", "~", "")))), "e"),
    (Not(Not(Compare("age", "=", 7))), "b"),
    (Not(And((Compare("age", "<", 10), Compare("name", "~", "b")))), "acde"),
    (Not(Or((Compare("age", "<", 10), Compare("tags", "~", "m")))), "ce"),
]


ORDERS: list[tuple[tuple[OrderBy, ...], str]] = [
    ((), "abcde"),
    ((OrderBy(KEY, descending=True),), "edcba"),
    ((OrderBy("name"),), "dcabe"),
    ((OrderBy("name", descending=True),), "ebacd"),
    ((OrderBy("age"),), "dbace"),
    ((OrderBy("age", descending=True),), "ceabd"),
    ((OrderBy("tags"),), "dabce"),
    ((OrderBy("tags", descending=True),), "cebad"),
    ((OrderBy("scores"),), "acbde"),
    ((OrderBy("scores", descending=True),), "debca"),
    ((OrderBy("metadata.house"),), "bacde"),
    ((OrderBy("metadata.house", descending=True),), "cdeab"),
    ((OrderBy("metadata.nothing", descending=True),), "abcde"),
    ((OrderBy("home.street"), OrderBy("age", descending=True)), "acebd"),
    ((OrderBy("home.street", descending=True), OrderBy(KEY, descending=True)), "edcba"),
]


def nested(levels: int) -> Where:
    """Return `tags = "math"` nested in `levels` levels of Not and And, with an even number of Not."""
    where: Where = Compare("tags", "=", "math")
    for level in range(levels):
        where = Not(where) if level % 2 else And((where,))
    return where


class QueryConformance(Conformance):
    """Tests of conditions and orders on five records with different missing fields."""

    @pytest.fixture
    def sample(self, store: Backend) -> Backend:
        """Return the store with the sample."""
        with store.write(TENANT) as transaction:
            transaction.put("people", SAMPLE)
            transaction.put("groups", SAMPLE_GROUPS)
        return store

    @pytest.mark.parametrize("conditions", [LEAVES, SUBQUERIES, TREES], ids=["leaves", "subqueries", "trees"])
    def test_condition_finds_the_matching_records(self, sample: Backend, conditions: list[tuple[Where, str]]) -> None:
        for where, keys in conditions:
            with sample.read(TENANT) as snapshot:
                assert find_keys(snapshot, where) == list(keys), where

    @pytest.mark.parametrize("conditions", [LEAVES, SUBQUERIES, TREES], ids=["leaves", "subqueries", "trees"])
    def test_not_is_the_complement_and_matches_missing_fields(
        self, sample: Backend, conditions: list[tuple[Where, str]]
    ) -> None:
        for where, keys in conditions:
            with sample.read(TENANT) as snapshot:
                assert find_keys(snapshot, Not(where)) == [key for key in "abcde" if key not in keys], where

    def test_order_sorts_missing_values_and_breaks_ties_by_key(self, sample: Backend) -> None:
        for order, keys in ORDERS:
            with sample.read(TENANT) as snapshot:
                assert document_keys(snapshot.find(Query("people", order=order)).body()) == list(keys), order

    def test_record_with_several_matches_is_returned_once(self, sample: Backend) -> None:
        fill(sample, "groups", [record(f"x{number}", members=("a", "b", "a")) for number in range(5)])
        with sample.read(TENANT) as snapshot:
            assert find_keys(snapshot, In(KEY, Subquery("groups", "members", MATCH_ALL))) == ["a", "b", "c"]
            assert find_keys(snapshot, Compare("tags", "~", "")) == ["a", "b", "d"]

    def test_folded_key_is_the_key_without_letter_case(self, store: Backend) -> None:
        fill(store, "people", [record(key) for key in ("A-1", "a-1", "B-2", "STRASSE", "stra\u00dfe")])
        fill(store, "groups", [record("G", title="b-2"), record("STRA\u00dfE", members=("b-2",))])
        conditions: list[tuple[Where, list[str]]] = [
            (Compare(FOLDED_KEY, "=", "a-1"), ["A-1", "a-1"]),
            (Compare(FOLDED_KEY, "=", "A-1"), []),
            (Compare(FOLDED_KEY, ">=", "b"), ["B-2", "STRASSE", "stra\u00dfe"]),
            (Compare(FOLDED_KEY, "~", "ss"), ["STRASSE", "stra\u00dfe"]),
            (In(FOLDED_KEY, ("b-2", "a-1")), ["A-1", "B-2", "a-1"]),
            (In(FOLDED_KEY, Subquery("groups", "title", MATCH_ALL)), ["B-2"]),
            (In(FOLDED_KEY, Subquery("groups", "members", MATCH_ALL)), ["B-2"]),
            (In(FOLDED_KEY, Subquery("groups", FOLDED_KEY, MATCH_ALL)), ["STRASSE", "stra\u00dfe"]),
            (In(KEY, Subquery("groups", FOLDED_KEY, MATCH_ALL)), []),
            (Not(Compare(FOLDED_KEY, "<", "strasse")), ["STRASSE", "stra\u00dfe"]),
        ]
        with store.read(TENANT) as snapshot:
            for where, keys in conditions:
                assert find_keys(snapshot, where) == keys, where
            ordered = snapshot.find(Query("people", order=(OrderBy(FOLDED_KEY, descending=True),)))
            assert document_keys(ordered.body()) == ["STRASSE", "stra\u00dfe", "B-2", "A-1", "a-1"]

    def test_tree_of_200_levels_is_evaluated(self, sample: Backend) -> None:
        with sample.read(TENANT) as snapshot:
            assert find_keys(snapshot, nested(200)) == ["a", "b"]

    def test_twelve_nested_subqueries_are_evaluated(self, sample: Backend) -> None:
        where: Where = Compare("tags", "=", "math")
        for _ in range(12):
            both = (Compare("name", "~", ""), In("tags", Subquery("people", "tags", where)))
            where = And((Not(Not(Compare("name", "~", ""))), And(both)))
        with sample.read(TENANT) as snapshot:
            assert find_keys(snapshot, where) == ["a", "b"]

    def test_2000_terms_are_evaluated(self, sample: Backend) -> None:
        terms = tuple(Compare("name", "=", f"name {number}") for number in range(2000))
        with sample.read(TENANT) as snapshot:
            assert find_keys(snapshot, Or((*terms, Compare("tags", "=", "first")))) == ["a"]
            assert find_keys(snapshot, And((*map(Not, terms), Compare("tags", "=", "math")))) == ["a", "b"]

    @pytest.mark.parametrize("field", ["tags", "metadata.house", "scores", "name"])
    def test_alternatives_on_one_field_match_as_each_of_them_alone(self, sample: Backend, field: str) -> None:
        values = (-2, 1.5, 10) if field == "scores" else ("math", "e", "")
        operators: tuple[Operator, ...] = ("=", "<", ">=") if field == "scores" else ("=", "<", ">=", "~")
        leaves = [Compare(field, operator, value) for operator in operators for value in values]
        with sample.read(TENANT) as snapshot:
            found = [set(snapshot.keys("people", leaf)) for leaf in leaves]
            for (one, first), (two, second) in combinations(zip(leaves, found, strict=True), 2):
                alternatives = Or((one, Compare(KEY, "=", "e"), two))
                assert set(snapshot.keys("people", alternatives)) == first | second | {"e"}, alternatives
            assert find_keys(snapshot, Not(Or(tuple(leaves)))) == sorted(set("abcde").difference(*found))

    @pytest.mark.parametrize("field", ["name", "tags", "metadata.house", KEY])
    @pytest.mark.parametrize("count", [199, 200, 201, 401])
    def test_in_finds_values_with_nul_among_many(self, sample: Backend, field: str, count: int) -> None:
        with_nul = ("ada\0", "\0", "a\0b")
        fill(
            sample,
            "people",
            [record(f"{text}!", name=text, tags=(text,), metadata__house=text) for text in with_nul]
            + [record(text, name="other") for text in with_nul],
        )
        expected = list(with_nul) if field == KEY else [f"{text}!" for text in with_nul]
        plain = tuple(f"unknown {number}" for number in range(count - 3))
        unknown_nul = tuple(f"unknown\0{number}" for number in range(count - 3))
        with sample.read(TENANT) as snapshot:
            for others in plain, unknown_nul, plain + unknown_nul:
                assert find_keys(snapshot, In(field, (*with_nul, *others))) == sorted(expected)
                assert find_keys(snapshot, In(field, (*others, with_nul[2]))) == [expected[2]]
                assert find_keys(snapshot, In(field, others)) == []
                assert len(find_keys(snapshot, Not(In(field, (*others, *with_nul))))) == len(SAMPLE) + 3

    @pytest.mark.parametrize("field", ["name", "tags", "metadata.house", KEY])
    def test_in_accepts_50000_text_values(self, sample: Backend, field: str) -> None:
        unknown = tuple(f"unknown {number}" for number in range(50_000))
        with sample.read(TENANT) as snapshot:
            assert find_keys(snapshot, In(field, (*unknown, "ada", "math", "red", "a"))) == [
                key for key in "abc" if key == "a" or (field == "tags" and key == "b")
            ]
            assert find_keys(snapshot, In(field, unknown)) == []

    def test_in_accepts_50000_numbers(self, sample: Backend) -> None:
        with sample.read(TENANT) as snapshot:
            assert find_keys(snapshot, In("age", tuple(range(50_000)))) == ["a", "b"]
            assert find_keys(snapshot, In("scores", tuple(number + 0.25 for number in range(50_000)))) == ["c"]

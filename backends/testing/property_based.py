"""Generated records and queries: the backend must answer each as memory does, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeAlias

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends import (
    KEY,
    And,
    Backend,
    Collection,
    Compare,
    Field,
    In,
    Key,
    Not,
    Or,
    OrderBy,
    Query,
    Record,
    Snapshot,
    Subquery,
    Value,
    Where,
    open_store,
)
from backends.testing.base import COLLECTIONS, Conformance, record

__all__ = ["PropertyConformance"]

QUERIES = 12
"""Queries asked of every generated data set."""

# Few letters, so that values meet; among them what patterns, quoting and encodings stumble over.
TEXTS = st.text(st.sampled_from("aAbé\u0301%_'\"\\\0😀\uffff"), max_size=3)
NUMBERS = st.sampled_from([-1e300, -1, -0.5, -0.0, 0, 0.1, 0.5, 1, 2, 2**53, 1e300])
KEYS = st.text(st.sampled_from("abc%\0😀\uffff"), max_size=2)

Data: TypeAlias = dict[str, dict[str, dict[str, Value]]]


def values(collection: Collection) -> st.SearchStrategy[dict[str, Value]]:
    """Values for some of a collection's fields, so that every field is missing now and then."""
    return st.fixed_dictionaries(
        {}, optional={path: strategy for field in collection.fields for path, strategy in kept(field)}
    )


def kept(field: Field) -> list[tuple[str, st.SearchStrategy[Value]]]:
    """What a record may hold for a field, by path."""
    single: st.SearchStrategy[Key] = NUMBERS if field.kind == "number" else TEXTS
    several = st.lists(single, max_size=3).map(tuple)
    if field.is_dynamic:
        return [(field.path[:-1] + name, several) for name in ("x", "y")]
    return [(field.path, several if field.multi_valued else st.none() | single)]


def paths(collection: Collection, kind: str) -> list[str]:
    """The paths of one kind that may be asked of a collection; one of them was never given a value."""
    fields = [field for field in collection.fields if field.kind == kind]
    plain = [field.path for field in fields if not field.is_dynamic]
    dynamic = [field.path[:-1] + name for field in fields if field.is_dynamic for name in ("x", "y", "z")]
    return plain + dynamic + ([KEY] if kind == "text" else [])


@st.composite
def leaves(draw: st.DrawFn, collection: Collection, depth: int) -> Where:
    """A comparison, or a semi-join with values or with another tree's records."""
    kind = draw(st.sampled_from(["text", "text", "number"]))
    single: st.SearchStrategy[Key] = NUMBERS if kind == "number" else TEXTS | KEYS
    field = draw(st.sampled_from(paths(collection, kind) or [KEY]))
    single = KEYS if field == KEY else single
    form = draw(st.sampled_from(["compare", "compare", "among", "select"][: 4 if depth else 3]))
    if form == "among":
        return In(field, draw(st.lists(single, max_size=4).map(tuple)))
    if form == "select":
        other = draw(st.sampled_from(COLLECTIONS))
        source = draw(st.sampled_from(paths(other, "text" if field == KEY else kind) or [KEY]))
        if source != KEY or kind == "text":
            return In(field, Subquery(other.name, source, draw(trees(other, depth - 1))))
    operators = ["=", "<", "<=", ">", ">=", "~"] if kind == "text" or field == KEY else ["=", "<", "<=", ">", ">="]
    return Compare(field, draw(st.sampled_from(operators)), draw(single))


def trees(collection: Collection, depth: int = 2) -> st.SearchStrategy[Where]:
    """Trees of all nodes over a collection; selects nest `depth` deep."""

    def grown(inner: st.SearchStrategy[Where]) -> st.SearchStrategy[Where]:
        terms = st.lists(inner, max_size=3).map(tuple)
        return st.builds(Not, inner) | st.builds(And, terms) | st.builds(Or, terms)

    return st.recursive(leaves(collection, depth), grown, max_leaves=4)


def queries(collection: Collection) -> st.SearchStrategy[Query]:
    """Pages of a collection, some of them far outside."""
    order = st.builds(OrderBy, st.sampled_from(paths(collection, "text") + paths(collection, "number")), st.booleans())
    return st.builds(
        Query,
        st.just(collection.name),
        trees(collection),
        st.lists(order, max_size=2).map(tuple),
        st.sampled_from([0, 0, 0, 1, 2, 5, 10**18 - 1]),
        st.sampled_from([None, None, 0, 1, 2, 5, 10**18 - 1]),
    )


DATA: st.SearchStrategy[Data] = st.fixed_dictionaries(
    {one.name: st.dictionaries(KEYS, values(one), max_size=8) for one in COLLECTIONS}
)
ASKED = st.lists(st.one_of([queries(one) for one in COLLECTIONS]), min_size=QUERIES, max_size=QUERIES)


class PropertyConformance(Conformance):
    """Memory is the oracle."""

    examples: ClassVar[int] = 200
    """Data sets that are generated, each with a dozen queries."""

    def test_generated_queries_are_answered_as_memory_answers_them(
        self, store: Backend, record_testsuite_property: Callable[[str, object], None]
    ) -> None:
        asked = 0
        with open_store("memory:", COLLECTIONS) as memory:

            @settings(max_examples=self.examples, deadline=None, suppress_health_check=list(HealthCheck))
            @given(DATA, ASKED)
            def agree(data: Data, queries: list[Query]) -> None:
                nonlocal asked
                tenant = f"data set {asked}"
                for one in store, memory:
                    put_all(one, tenant, data)
                with store.read(tenant) as at, memory.read(tenant) as expected:
                    for query in queries:
                        assert answer(at, query) == answer(expected, query)
                asked += len(queries)

            agree()
        record_testsuite_property(f"generated queries, {type(self).__name__}", asked)
        assert asked >= self.examples * QUERIES


def put_all(store: Backend, tenant: str, data: Data) -> None:
    """The data set in one transaction, in the tenant's place for it."""
    with store.write(tenant) as transaction:
        for name, records in data.items():
            # Twice for some: a put replaces, and nothing of what it replaced may be found.
            transaction.put(name, [Record(key, b'{"old":1}', held) for key, held in list(records.items())[::2]])
            transaction.put(name, [made(key, held) for key, held in records.items()])


def made(key: str, held: dict[str, Value]) -> Record:
    """A record whose body tells all of it."""
    return Record(key, record(key, **held).body, held)


def answer(at: Snapshot, query: Query) -> tuple[bytes, int, list[str], bool]:
    """All that can be asked with one query."""
    page = at.find(query)
    return (
        page.body(),
        page.total,
        list(at.keys(query.collection, query.where)),
        at.exists(query.collection, query.where),
    )

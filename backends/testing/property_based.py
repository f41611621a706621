"""Property-based tests: generated records and queries must give the same bytes as with the memory backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeAlias

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends import (
    FOLDED_KEY,
    KEY,
    And,
    Backend,
    Collection,
    Compare,
    Field,
    In,
    Not,
    Or,
    OrderBy,
    Query,
    Record,
    Scalar,
    Snapshot,
    Subquery,
    Value,
    Where,
    open_store,
)
from backends.testing.base import COLLECTIONS, Conformance, record

__all__ = ["PropertyConformance"]

QUERIES_PER_DATA_SET = 12
"""Number of queries on each generated data set."""

# Few letters, so that values often match. Some are special in patterns, quoting and encodings.
TEXTS = st.text(st.sampled_from("aAbé\u0301%_'\"\\\0😀\uffff"), max_size=3)
NUMBERS = st.sampled_from([-1e300, -1, -0.5, -0.0, 0, 0.1, 0.5, 1, 2, 2**53, 1e300])
KEYS = st.text(st.sampled_from("aAbc%\0😀\uffff"), max_size=2)

Data: TypeAlias = dict[str, dict[str, dict[str, Value]]]


def values(collection: Collection) -> st.SearchStrategy[dict[str, Value]]:
    """Generate values for some fields of the collection, so that each field is sometimes missing."""
    return st.fixed_dictionaries(
        {}, optional={path: strategy for field in collection.fields for path, strategy in field_values(field)}
    )


def field_values(field: Field) -> list[tuple[str, st.SearchStrategy[Value]]]:
    """Return the strategies for the values of a field, by path."""
    single: st.SearchStrategy[Scalar] = NUMBERS if field.kind == "number" else TEXTS
    several = st.lists(single, max_size=3).map(tuple)
    if field.is_dynamic:
        return [(field.path[:-1] + name, several) for name in ("x", "y")]
    return [(field.path, several if field.multi_valued else st.none() | single)]


def paths(collection: Collection, kind: str) -> list[str]:
    """Return the paths of one type that queries can use, including a path that never has a value."""
    fields = [field for field in collection.fields if field.kind == kind]
    plain = [field.path for field in fields if not field.is_dynamic]
    dynamic = [field.path[:-1] + name for field in fields if field.is_dynamic for name in ("x", "y", "z")]
    return plain + dynamic + ([KEY, FOLDED_KEY] if kind == "text" else [])


@st.composite
def leaves(draw: st.DrawFn, collection: Collection, depth: int) -> Where:
    """Generate a comparison, or a semi-join with values or a subquery."""
    kind = draw(st.sampled_from(["text", "text", "number"]))
    single: st.SearchStrategy[Scalar] = NUMBERS if kind == "number" else TEXTS | KEYS
    field = draw(st.sampled_from(paths(collection, kind) or [KEY]))
    single = KEYS if field in (KEY, FOLDED_KEY) else single
    form = draw(st.sampled_from(["compare", "compare", "in", "subquery"][: 4 if depth else 3]))
    if form == "in":
        return In(field, draw(st.lists(single, max_size=4).map(tuple)))
    if form == "subquery":
        other = draw(st.sampled_from(COLLECTIONS))
        source = draw(st.sampled_from(paths(other, "text" if field == KEY else kind) or [KEY]))
        if source != KEY or kind == "text":
            return In(field, Subquery(other.name, source, draw(trees(other, depth - 1))))
    operators = ["=", "<", "<=", ">", ">=", "~"] if kind == "text" or field == KEY else ["=", "<", "<=", ">", ">="]
    return Compare(field, draw(st.sampled_from(operators)), draw(single))


def trees(collection: Collection, depth: int = 2) -> st.SearchStrategy[Where]:
    """Generate trees of all nodes on a collection, with subqueries of at most `depth` levels."""

    def extend(inner: st.SearchStrategy[Where]) -> st.SearchStrategy[Where]:
        terms = st.lists(inner, max_size=3).map(tuple)
        return st.builds(Not, inner) | st.builds(And, terms) | st.builds(Or, terms)

    return st.recursive(leaves(collection, depth), extend, max_leaves=4)


def queries(collection: Collection) -> st.SearchStrategy[Query]:
    """Generate queries on a collection, some with offsets and limits beyond its size."""
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
QUERY_LISTS = st.lists(
    st.one_of([queries(one) for one in COLLECTIONS]), min_size=QUERIES_PER_DATA_SET, max_size=QUERIES_PER_DATA_SET
)


class PropertyConformance(Conformance):
    """Tests against the memory backend as reference."""

    examples: ClassVar[int] = 200
    """Number of generated data sets, each with 12 queries."""

    def test_generated_queries_match_the_memory_backend(
        self, store: Backend, record_testsuite_property: Callable[[str, object], None]
    ) -> None:
        query_count = 0
        with open_store("memory:", COLLECTIONS) as memory:

            @settings(max_examples=self.examples, deadline=None, suppress_health_check=list(HealthCheck))
            @given(DATA, QUERY_LISTS)
            def agree(data: Data, queries: list[Query]) -> None:
                nonlocal query_count
                tenant = f"data set {query_count}"
                for one in store, memory:
                    put_all(one, tenant, data)
                with store.read(tenant) as snapshot, memory.read(tenant) as expected:
                    for query in queries:
                        assert results(snapshot, query) == results(expected, query)
                query_count += len(queries)

            agree()
        record_testsuite_property(f"generated queries, {type(self).__name__}", query_count)
        assert query_count >= self.examples * QUERIES_PER_DATA_SET


def put_all(store: Backend, tenant: str, data: Data) -> None:
    """Store the data set in one transaction."""
    with store.write(tenant) as transaction:
        for name, records in data.items():
            # Every second record is stored twice: a replaced value must not be found.
            transaction.put(name, [Record(key, b'{"old":1}', values) for key, values in list(records.items())[::2]])
            transaction.put(name, [with_body(key, values) for key, values in records.items()])


def with_body(key: str, values: dict[str, Value]) -> Record:
    """Return a record whose body contains its key and values."""
    return Record(key, record(key, **values).body, values)


def results(snapshot: Snapshot, query: Query) -> tuple[bytes, int, list[str], bool]:
    """Return the results of all read methods for one query."""
    page = snapshot.find(query)
    return (
        page.body(),
        page.total,
        list(snapshot.keys(query.collection, query.where)),
        snapshot.exists(query.collection, query.where),
    )

"""Comparison of the values of stored records with their bodies, and rebuilding of the values.

Only collections with `values_of` can be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection as Items
from collections.abc import Iterator, Mapping

from backends.base import Backend, Snapshot
from backends.query import Scalar
from backends.records import Collection, Record, Value, limit_dynamic_values, normalize

__all__ = ["rebuild_values", "value_problems"]

_MAX_LISTED_PATHS = 8


def value_problems(store: Backend) -> list[str]:
    """Return one sentence for each collection of a tenant with values that differ from the bodies.

    The sentences contain no values. Bodies that cannot be read are not compared.
    """
    problems = []
    for tenant in store.tenants():
        with store.read(tenant) as snapshot:
            for collection in _comparable(store):
                if problem := _problem(snapshot, collection):
                    problems.append(f"{problem} in tenant {tenant!r}: run `chalk-flask check --repair`")
    return problems


def rebuild_values(store: Backend, names: Items[str] | None = None) -> list[str]:
    """Replace the values that differ from the bodies; return one sentence for each changed collection of a tenant.

    `names` selects collections; None selects all.
    """
    changes = []
    for tenant in store.tenants():
        for collection in _comparable(store):
            if (names is None or collection.name in names) and (count := _rebuild(store, tenant, collection)):
                changes.append(f"rebuilt the values of {count} records of {collection.name} in tenant {tenant!r}")
    return changes


def _comparable(store: Backend) -> list[Collection]:
    return [collection for collection in store.collections.values() if collection.values_of is not None]


def _problem(snapshot: Snapshot, collection: Collection) -> str | None:
    count, paths = 0, Counter[str]()
    for stored, expected in _differences(snapshot, collection):
        count += 1
        differences = stored.values.items() ^ expected.values.items()
        paths.update({collection.field_for(path).path for path, _ in differences})
    if not count:
        return None
    listed = ", ".join([*sorted(paths)[:_MAX_LISTED_PATHS], *(["..."] if len(paths) > _MAX_LISTED_PATHS else [])])
    return f"{collection.name}: the values of {count} records differ from their bodies ({listed})"


def _rebuild(store: Backend, tenant: str, collection: Collection) -> int:
    with store.read(tenant) as snapshot:
        if next(_differences(snapshot, collection), None) is None:
            return 0
    count = 0

    def count_records(snapshot: Snapshot) -> Iterator[Record]:
        nonlocal count
        for _, expected in _differences(snapshot, collection):
            count += 1
            yield expected

    # The snapshot is read under the write lock, so no commit comes in between. It ends before the commit.
    with store.write(tenant) as transaction, store.read(tenant) as snapshot:
        transaction.put(collection.name, count_records(snapshot))
    return count


def _differences(snapshot: Snapshot, collection: Collection) -> Iterator[tuple[Record, Record]]:
    """Yield each record whose values differ from its body, as it is stored and as it should be."""
    if collection.values_of is None:
        return
    for stored in snapshot.scan(collection.name):
        try:
            values = collection.values_of(stored.body)
        except ValueError:
            continue
        derived = normalize(stored._replace(values=values), collection)
        expected = normalize(stored._replace(values=limit_dynamic_values(values, collection)), collection)
        if stored.values in (derived.values, expected.values):
            continue
        # Records of earlier versions can have more values than the limits allow. Which ones are left out is open.
        if expected.values == derived.values or not _is_subset(stored.values, derived.values, collection):
            yield stored, expected


def _is_subset(some: Mapping[str, Value], every: Mapping[str, Value], collection: Collection) -> bool:
    """Return True if only values of dynamic fields are missing in `some`, and not all of them."""
    fixed = collection.fields_by_path.keys()
    if any(some.get(path) != every.get(path) for path in fixed):
        return False
    dynamic = {(path, value) for path in some.keys() - fixed for value in _as_tuple(some[path])}
    return bool(dynamic) and all(value in _as_tuple(every.get(path)) for path, value in dynamic)


def _as_tuple(value: Value) -> tuple[Scalar, ...]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)

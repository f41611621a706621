"""Collections, records and helpers that all parts of the suite share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, TypeVar

import pytest

from backends import (
    MATCH_ALL,
    Backend,
    Collection,
    Field,
    Query,
    Record,
    Snapshot,
    Transaction,
    Value,
    Where,
    open_store,
)

__all__ = [
    "COLLECTIONS",
    "TENANT",
    "Conformance",
    "SimulatedError",
    "document_keys",
    "fill",
    "find_keys",
    "needs",
    "person",
    "record",
    "roll_back",
]

TENANT = "default"

PEOPLE = Collection(
    "people",
    (
        Field("name", indexed=True),
        Field("age", "number", indexed=True),
        Field("tags", multi_valued=True, indexed=True),
        Field("scores", "number", multi_valued=True),
        Field("home.street"),
        Field("metadata.*"),
    ),
    tracks_escapes=True,
)
GROUPS = Collection(
    "groups", (Field("title"), Field("members", multi_valued=True, indexed=True), Field("size", "number"))
)
NOTES = Collection("notes", (Field("state"),), bumps_revision=False)

COLLECTIONS = (PEOPLE, GROUPS, NOTES)
"""Text, number, multi-valued and dynamic fields; the last collection does not bump the revision."""

Test = TypeVar("Test", bound=Callable[..., None])


def needs(attribute: str) -> Callable[[Test], Test]:
    """Return a decorator for tests that run only if a class attribute is true.

    The attributes are `durable`, `shared`, `has_shared_values`, `has_leases` and `broken_url`.
    """

    def mark(test: Test) -> Test:
        test.needs = attribute  # type: ignore[attr-defined]  # functions accept attributes, but their type does not declare it
        return test

    return mark


class Conformance:
    """Base of the parts of the suite. It opens the store at the subclass's `url`."""

    durable: ClassVar[bool] = True
    shared: ClassVar[bool] = True
    has_shared_values: ClassVar[bool] = False
    has_leases: ClassVar[bool] = False

    def __init_subclass__(cls, **rest: Any) -> None:
        """Remove the tests of capabilities that the backend does not have, so that they are not reported as skipped.

        The parts of the suite keep all tests.
        """
        super().__init_subclass__(**rest)
        if f"{cls.__module__}.".startswith(f"{__package__}."):
            return
        for name in dir(cls):
            attribute = getattr(getattr(cls, name), "needs", None)
            if attribute and not getattr(cls, attribute, False):
                setattr(cls, name, None)

    @pytest.fixture
    def url(self) -> str:
        """Return the URL of a store that does not exist yet. Every subclass overrides this."""
        raise NotImplementedError("define the fixture `url`: the URL of a store that does not exist yet")

    @pytest.fixture
    def store(self, url: str) -> Iterator[Backend]:
        """Yield the open, empty store."""
        with open_store(url, COLLECTIONS) as store:
            yield store


def record(key: str, **values: Value) -> Record:
    """Return a record whose body contains its key and values; `home__street` is the path `home.street`."""
    document = {"key": key, "values": [list(v) if isinstance(v, tuple) else v for v in values.values()]}
    # Spaces and raw characters: the store must return the bytes, not encode the document again.
    body = json.dumps(document, ensure_ascii=False).encode()
    return Record(key, body, {path.replace("__", "."): value for path, value in values.items()})


def person(number: int) -> Record:
    """Return the record with key `p<number>`: one of seven names, and no age for every fifth number."""
    age = None if number % 5 == 0 else number
    return record(f"p{number:03}", name=f"name {number % 7}", age=age, tags=(f"t{number % 3}", "all"))


def fill(store: Backend, collection: str, records: Iterable[Record], tenant: str = TENANT) -> None:
    """Store the records in one transaction."""
    with store.write(tenant) as transaction:
        transaction.put(collection, records)


class SimulatedError(Exception):
    """Error of the caller's own code during a transaction."""


def roll_back(store: Backend, work: Callable[[Transaction], None]) -> None:
    """Run `work` in a transaction that then fails with SimulatedError."""
    with pytest.raises(SimulatedError):
        _write_and_fail(store, work)


def _write_and_fail(store: Backend, work: Callable[[Transaction], None]) -> None:
    with store.write(TENANT) as transaction:
        work(transaction)
        raise SimulatedError


def find_keys(snapshot: Snapshot, where: Where = MATCH_ALL, collection: str = "people") -> list[str]:
    """Return the keys of the records that `find` returns; assert that `keys` and `exists` agree."""
    page = snapshot.find(Query(collection, where))
    keys = document_keys(page.body())
    assert page.total == len(keys)
    assert keys == list(snapshot.keys(collection, where))
    assert snapshot.exists(collection, where) == bool(keys)
    return keys


def document_keys(body: bytes) -> list[str]:
    """Return the keys of the documents of a page that `record` created."""
    return [document["key"] for document in json.loads(b"[" + body + b"]")]


def parameter_id(value: object) -> str:
    """Return a parameter as a short, printable part of a test id."""
    return ascii(value)[:100]

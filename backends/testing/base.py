"""The collections that the suite stores, and what all of its parts start from."""

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
    "SimulatedFailure",
    "break_off",
    "documents",
    "fill",
    "found",
    "needs",
    "person",
    "record",
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
)
GROUPS = Collection(
    "groups", (Field("title"), Field("members", multi_valued=True, indexed=True), Field("size", "number"))
)
NOTES = Collection("notes", (Field("state"),), bumps_revision=False)

COLLECTIONS = (PEOPLE, GROUPS, NOTES)
"""Text, number, many and dynamic fields; two served collections and one that is not."""

Test = TypeVar("Test", bound=Callable[..., None])


def needs(attribute: str) -> Callable[[Test], Test]:
    """Marks a test for suites whose class has the attribute, and has it true: `durable`, `shared`, `broken_url`."""

    def mark(test: Test) -> Test:
        test.needs = attribute  # type: ignore[attr-defined]  # functions take attributes; their type does not say so
        return test

    return mark


class Conformance:
    """A part of the suite: opens the store that the subclass's `url` names."""

    durable: ClassVar[bool] = True
    shared: ClassVar[bool] = True

    def __init_subclass__(cls, **rest: Any) -> None:
        """Tests of what the backend does not claim are no tests of this class: they are absent, not skipped."""
        super().__init_subclass__(**rest)
        for name in dir(cls):
            attribute = getattr(getattr(cls, name), "needs", None)
            if attribute and not getattr(cls, attribute, False):
                setattr(cls, name, None)

    @pytest.fixture
    def url(self) -> str:
        """Where a store may be made. Every subclass gives its own."""
        raise NotImplementedError("give the fixture `url`: the URL of a store that does not exist yet")

    @pytest.fixture
    def store(self, url: str) -> Iterator[Backend]:
        """The open, empty store."""
        with open_store(url, COLLECTIONS) as store:
            yield store


def record(key: str, **values: Value) -> Record:
    """A record whose body tells its key and a version; `home__street` stands for the path `home.street`."""
    document = {"key": key, "values": [list(v) if isinstance(v, tuple) else v for v in values.values()]}
    # Spaces and raw characters: bodies are bytes to keep, not documents to write again.
    body = json.dumps(document, ensure_ascii=False).encode()
    return Record(key, body, {path.replace("__", "."): value for path, value in values.items()})


def person(number: int) -> Record:
    """One of many: key `p000` and on, seven names in turn, no age for every fifth."""
    age = None if number % 5 == 0 else number
    return record(f"p{number:03}", name=f"name {number % 7}", age=age, tags=(f"t{number % 3}", "all"))


def fill(store: Backend, collection: str, records: Iterable[Record], tenant: str = TENANT) -> None:
    """Put the records in one transaction."""
    with store.write(tenant) as transaction:
        transaction.put(collection, records)


class SimulatedFailure(Exception):
    """What a caller's own code may raise in the middle of a transaction."""


def break_off(store: Backend, work: Callable[[Transaction], None]) -> None:
    """Start a transaction, let `work` write in it, and fail; the failure comes through, unless `work` has its own."""
    with pytest.raises(SimulatedFailure):
        _write_and_fail(store, work)


def _write_and_fail(store: Backend, work: Callable[[Transaction], None]) -> None:
    with store.write(TENANT) as transaction:
        work(transaction)
        raise SimulatedFailure


def found(at: Snapshot, where: Where = MATCH_ALL, collection: str = "people") -> list[str]:
    """The keys of the matching records as `find` gives them; `keys` and `exists` must agree."""
    page = at.find(Query(collection, where))
    keys = documents(page.body())
    assert page.total == len(keys)
    assert keys == list(at.keys(collection, where))
    assert at.exists(collection, where) == bool(keys)
    return keys


def documents(body: bytes) -> list[str]:
    """The keys of the documents of a page that `record` made."""
    return [document["key"] for document in json.loads(b"[" + body + b"]")]


def shown(value: object) -> str:
    """A parameter as part of a test's name: printable and short."""
    return ascii(value)[:100]

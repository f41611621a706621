"""Look-ups of stored bodies in the order of the store: they return what the snapshot returns for the same keys."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import Backend, Record, batched, open_store
from chalk_flask.roster.diff import stored_bodies
from chalk_flask.roster.diff.stored_bodies import StoredBodies
from chalk_flask.storage import COLLECTIONS
from tests.conftest import url_in

COUNT = 1200


@pytest.fixture(params=["memory", "sqlite"])
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """Store with records that are stored in a random order."""
    keys = [f"e-{number}" for number in range(COUNT)]
    random.Random(1).shuffle(keys)
    with open_store(url_in(tmp_path, request.param), COLLECTIONS) as store:
        for tenant in ("other", "default"):
            records = [Record(key, f'{{"of":"{tenant} {key}"}}'.encode(), {}) for key in keys]
            with store.write(tenant) as transaction:
                transaction.put("enrollments", records)
        yield store


def stored_order(store: Backend) -> list[str]:
    with store.read("default") as snapshot:
        return [key for key, _ in snapshot.in_storage_order("enrollments")] or list(snapshot.keys("enrollments"))


@pytest.mark.parametrize("seed", range(12))
def test_bodies_are_those_of_the_snapshot(filled: Backend, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(seed)
    for name in ("CHUNK_RECORDS", "MAX_AHEAD_RECORDS", "MIN_TRIED_RECORDS"):
        monkeypatch.setattr(stored_bodies, name, draw.randint(1, 300))
    keys = stored_order(filled)
    keys = [key for key in keys if draw.random() < draw.choice((1.0, 0.9, 0.3))]
    for _ in range(draw.choice((0, 0, 3, 100))):
        start = draw.randrange(len(keys))
        part = keys[start : start + draw.randrange(60)]
        keys[start : start + len(part)] = draw.choice(([], part + part, part[::-1], ["new", *part]))
    if draw.random() < 0.2:
        draw.shuffle(keys)
    with filled.read("default") as snapshot:
        found = StoredBodies(snapshot, "enrollments", in_order=draw.random() < 0.8)
        for batch in batched(keys, draw.randint(1, 200)):
            assert found.get_many(batch) == snapshot.get_many("enrollments", batch)


def test_rows_in_stored_order_need_no_look_up(filled: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = stored_order(filled)
    looked_up: list[str] = []
    with filled.read("default") as snapshot:
        is_ordered = any(True for _ in snapshot.in_storage_order("enrollments"))
        get_many = snapshot.get_many

        def get_and_list(collection: str, some: list[str]) -> dict[str, bytes]:
            looked_up.extend(some)
            return get_many(collection, some)

        monkeypatch.setattr(snapshot, "get_many", get_and_list)
        found = StoredBodies(snapshot, "enrollments", in_order=True)
        for batch in batched([*keys[:700], "new", *keys[705:]], 100):
            found.get_many(batch)
    assert looked_up == (["new"] if is_ordered else [*keys[:700], "new", *keys[705:]])

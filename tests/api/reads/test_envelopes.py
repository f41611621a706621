"""Documents and envelopes in response bodies."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from backends import Backend
from chalk_flask.oneroster.schemas import RESOURCES
from tests.api.reads.conftest import LARGE_COLLECTION, put_users, response_blocks
from tests.support.api_client import CHALK, IMS, Consumer, items
from tests.support.small_roster import COLLECTIONS, ROSTER


@pytest.mark.every_backend
@pytest.mark.reading("A-02", "A-20")
def test_no_value_is_empty_and_every_reference_resolves(consumer: Consumer) -> None:
    for path in [path for path in COLLECTIONS if path.count("/") == 1]:
        for item in items(consumer.get(path)):
            check_values(item)
            for reference in references(item):
                assert set(reference) == {"href", "sourcedId", "type"}
                response = consumer.get(reference["href"].removeprefix("http://localhost"))
                assert response.json is not None
                assert response.json[reference["type"]]["sourcedId"] == reference["sourcedId"]


def check_values(item: dict[str, Any]) -> None:
    for name, value in item.items():
        assert value is not None
        assert value != ""
        assert not isinstance(value, bool), name
    for flag in ("enabledUser", "primary", "asian", "white"):
        assert item.get(flag, "true") in ("true", "false")


def references(item: dict[str, Any]) -> list[dict[str, str]]:
    values = [element for value in item.values() for element in (value if isinstance(value, list) else [value])]
    return [value for value in values if isinstance(value, dict) and "href" in value]


@pytest.mark.reading("A-18", "A-19")
def test_due_dates_are_date_times_and_scores_are_numbers(consumer: Consumer) -> None:
    assert items(consumer.get("/lineItems?fields=dueDate&limit=1")) == [{"dueDate": "2023-10-09T00:00:00.000Z"}]
    assert b'"score":87.5,' in consumer.get("/results/x-1").data
    assert b'"score":300,' in consumer.get("/results/x-2").data


def test_stream_blocks_have_bounded_sizes(store: Backend, app: Flask) -> None:
    put_users(store, LARGE_COLLECTION)
    sizes = [len(block) for block in response_blocks(app, f"{CHALK}/users")]
    assert len(sizes) > 3
    assert all(64 * 1024 <= size <= 800 * 1024 for size in sizes[:-1])
    assert sizes[-1] <= 800 * 1024


def test_large_document_is_split_into_blocks(store: Backend, app: Flask) -> None:
    children = [f"s-{n}" for n in range(30_000)]
    with store.write("default") as transaction:
        transaction.put("orgs", [RESOURCES["orgs"].record({**ROSTER["orgs"][0], "children": children})])
    for path in ("/orgs", "/orgs/d-1"):
        sizes = [len(block) for block in response_blocks(app, IMS + path)]
        assert sum(sizes) > 2_000_000
        assert max(sizes) <= 800 * 1024
    body = Consumer(app).get("/orgs/d-1").json
    assert body is not None
    assert len(body["org"]["children"]) == len(children)

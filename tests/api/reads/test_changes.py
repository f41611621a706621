"""The change feed: a follower that starts with a full read ends with the result of a new full read."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from chalk_flask import create_app
from chalk_flask.api.reads.changes import MAX_PAGE_BYTES
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import ALL, DEFAULT, GRADEBOOK, ROSTER_CORE
from chalk_flask.roster.changes import sequence
from tests.conftest import services_of, url_in
from tests.support.api_client import CHALK, Consumer, error_message
from tests.support.histories import RandomChanges, load, read_all
from tests.support.packages import PackageBuilder
from tests.support.roster_writes import write_rows
from tests.support.small_roster import row

CHANGES = f"{CHALK}/changes"
HISTORIES_PER_SEED = 10
"""Histories per seed and backend: 60 with two seeds and three backends."""


@pytest.fixture
def app(backend: str, tmp_path: Path) -> Iterator[Flask]:
    app = create_app(storage=url_in(tmp_path / "store", backend))
    load(app, PackageBuilder(), tmp_path)
    yield app
    services_of(app).store.close()


def read_page(consumer: Consumer, query: str) -> dict[str, Any]:
    response = consumer.get(f"{CHANGES}?{query}")
    assert response.status_code == 200, response.text
    assert response.json is not None
    page: dict[str, Any] = response.json
    assert response.headers["Link"] == f'<{page["next"]}>; rel="next"'
    return page


def follow(consumer: Consumer, since: int, limit: int) -> Iterator[dict[str, Any]]:
    """Yield the changes after a sequence number, page by page, along the next links."""
    page = read_page(consumer, f"since={since}&limit={limit}")
    while True:
        numbers = [change["sequence"] for change in page["changes"]]
        assert numbers == sorted(set(numbers))
        assert all(number > since for number in numbers)
        yield from page["changes"]
        since = page["sequence"]
        if not page["more"]:
            assert numbers[-1:] <= [since]
            return
        page = read_page(consumer, page["next"].partition("?")[2])


@pytest.mark.reading("F-03")
@pytest.mark.every_backend
@pytest.mark.parametrize("seed", range(2))
def test_follower_ends_with_the_same_roster_as_a_full_read(app: Flask, tmp_path: Path, seed: int) -> None:
    history, consumer = RandomChanges(app, tmp_path, seed), Consumer(app)
    for _ in range(HISTORIES_PER_SEED):
        since = read_page(consumer, "since=latest")["sequence"]
        roster = read_all(consumer)
        for _ in range(history.random.randrange(1, 5)):
            history.step()
        for change in follow(consumer, since, history.random.choice([1, 2, 500])):
            record = change["record"]
            roster[change["entity"], change["sourcedId"]] = record
            deleted = record["status"] == "tobedeleted"
            assert change["type"] == f"{change['entity']}.{'deleted' if deleted else 'updated'}"
        assert roster == read_all(consumer)


def test_parameter_without_a_value_counts_as_absent(app: Flask) -> None:
    consumer = Consumer(app)
    assert read_page(consumer, "since=0&limit=&wait=&include=&began=") == read_page(consumer, "since=0")
    assert "since must be" in error_message(consumer.get(f"{CHANGES}?since="), 400, "invalid_data", "invalid data")


@pytest.mark.on_backend("memory", "sqlite")
def test_first_load_is_410_for_followers_of_an_empty_tenant(tmp_path: Path, backend: str) -> None:
    app = create_app(storage=url_in(tmp_path / "store", backend))
    consumer = Consumer(app)
    empty_page = read_page(consumer, "since=latest")
    assert empty_page["next"].endswith("?since=0&began=empty")
    timer = threading.Timer(0.3, load, (app, PackageBuilder(), tmp_path))
    timer.start()
    response = consumer.get(f"{CHANGES}?since=0&wait=20")
    timer.join()
    error_message(response, 410, "gone", "unknown object")
    error_message(consumer.get(empty_page["next"].removeprefix("http://localhost")), 410, "gone", "unknown object")
    assert read_page(consumer, "since=latest") == read_page(consumer, "since=1") == read_page(consumer, "since=0")
    load(app, PackageBuilder().set("users", "pupil-1", givenName="Ada"), tmp_path)
    assert read_page(consumer, "since=0") == read_page(consumer, "since=1")
    assert len(read_page(consumer, "since=0")["changes"]) == 1
    services_of(app).store.close()


@pytest.mark.reading("F-01", "F-02")
def test_first_load_and_unchanged_records_get_no_numbers(app: Flask, tmp_path: Path) -> None:
    consumer = Consumer(app)
    assert read_page(consumer, "since=latest") == {
        "changes": [],
        "sequence": 1,
        "more": False,
        "next": f"http://localhost{CHANGES}?since=1",
    }
    assert load(app, PackageBuilder(), tmp_path) == "unchanged"
    load(app, PackageBuilder().set("users", "pupil-1", givenName="Ada"), tmp_path)
    page = read_page(consumer, "since=1&include=ids")
    assert [(change["type"], change["sourcedId"]) for change in page["changes"]] == [("user.updated", "pupil-1")]
    assert set(page["changes"][0]) == {"sequence", "type", "entity", "sourcedId"}
    assert page["next"].endswith(f"?since={page['sequence']}&include=ids")


def test_record_that_changed_twice_is_listed_once(app: Flask, tmp_path: Path) -> None:
    consumer = Consumer(app)
    for name in ("One", "Two"):
        load(app, PackageBuilder().set("users", "pupil-1", givenName=name), tmp_path)
    [change] = read_page(consumer, "since=1")["changes"]
    assert change["record"]["givenName"] == "Two"
    assert change["record"]["orgs"][0]["href"] == f"http://localhost{CHALK}/orgs/org-2"


@pytest.mark.every_backend
@pytest.mark.reading("F-07")
def test_page_with_large_records_ends_early_and_next_continues(app: Flask) -> None:
    consumer, numbers = Consumer(app), range(6)
    texts = ["x" * (300_000 if number != 3 else 2_000_000) for number in numbers]
    write_rows(app, {"resources": [row(f"r-{n}", vendorResourceId="v", title=texts[n]) for n in numbers]})
    changes = list(follow(consumer, 1, 500))
    assert [(change["sourcedId"], change["record"]["title"]) for change in changes] == [
        (f"r-{number}", texts[number]) for number in numbers
    ]
    since, sizes = 1, []
    while (page := read_page(consumer, f"since={since}&limit=500"))["more"]:
        sizes.append(sum(len(change["record"]["title"]) for change in page["changes"]))
        assert sizes[-1] <= MAX_PAGE_BYTES or len(page["changes"]) == 1
        since = page["sequence"]
    assert len(sizes) in (3, 4)
    whole = read_page(consumer, "since=1&include=ids")
    assert (len(whole["changes"]), whole["more"]) == (6, False)


@pytest.mark.reading("F-06")
@pytest.mark.parametrize("since", ["1", "latest"])
def test_waiting_request_returns_when_something_changes(app: Flask, tmp_path: Path, since: str) -> None:
    consumer = Consumer(app)
    timer = threading.Timer(0.5, load, (app, PackageBuilder().set("users", "pupil-1", givenName="Ada"), tmp_path))
    timer.start()
    start = time.monotonic()
    page = read_page(consumer, f"since={since}&wait=20")
    timer.join()
    assert len(page["changes"]) == 1
    assert time.monotonic() - start < 10
    since = read_page(consumer, "since=latest")["sequence"]  # a late commit gets a new timestamp and a new number
    start = time.monotonic()
    assert read_page(consumer, f"since={since}&wait=1")["changes"] == []
    assert time.monotonic() - start >= 1


@pytest.mark.reading("F-04")
def test_number_before_a_purge_or_of_another_store_is_410(app: Flask, tmp_path: Path) -> None:
    consumer = Consumer(app)
    load(app, PackageBuilder().drop("results", "result-1"), tmp_path)
    latest = read_page(consumer, "since=1")["sequence"]
    with services_of(app).store.write("default") as transaction:
        transaction.delete("results", ["result-1"])
        numbers = sequence.ChangeSequence(transaction, first=False)
        numbers.remove("results", ["result-1"])
        numbers.store()
    for since in (0, latest - 1, latest + 1):
        message = error_message(consumer.get(f"{CHANGES}?since={since}"), 410, "gone", "unknown object")
        assert "since=latest" in message
    assert read_page(consumer, f"since={latest}")["changes"] == []


@pytest.mark.parametrize(
    "query",
    [
        *("", "since=-1", "since=x", "since=1&since=2", "since=1&limit=0", "since=1&limit=10001", "since=1&wait=31"),
        *("since=1&include=all", "since=1&filter=x", "since=%2B1", "since=1&limit=1e3"),
    ],
)
def test_invalid_parameter_is_rejected(app: Flask, query: str) -> None:
    error_message(Consumer(app).get(f"{CHANGES}?{query}"), 400, "invalid_data", "invalid data")


@pytest.mark.reading("F-05")
def test_feed_contains_what_the_scopes_open(app: Flask, tmp_path: Path) -> None:
    changed = PackageBuilder().set("users", "pupil-1", givenName="Ada").set("demographics", "pupil-1", sex="male")
    load(app, changed.set("results", "result-1", score="1"), tmp_path)
    tokens = services_of(app).tokens

    def entities(scopes: Any) -> list[str]:
        token, _ = tokens.create("some", scopes)
        return sorted(change["entity"] for change in read_page(Consumer(app, token), "since=1")["changes"])

    assert entities(ALL) == ["demographics", "result", "user"]
    assert entities(DEFAULT) == ["result", "user"]
    assert entities([ROSTER_CORE]) == ["user"]
    token, _ = tokens.create("grades", [GRADEBOOK])
    error_message(Consumer(app, token).get(f"{CHANGES}?since=1"), 403, "forbidden", "forbidden")
    token, _ = tokens.create("school", ALL, restrictions=AccessRestrictions(orgs=frozenset({"org-2"})))
    assert "restricted" in error_message(Consumer(app, token).get(f"{CHANGES}?since=1"), 403, "forbidden", "forbidden")
    token, _ = tokens.create("no results", ALL, restrictions=AccessRestrictions(denied=frozenset({"results"})))
    assert "result" not in [change["entity"] for change in read_page(Consumer(app, token), "since=1")["changes"]]


def test_feed_is_under_chalks_root_only(app: Flask) -> None:
    assert Consumer(app).get("/ims/oneroster/v1p1/changes?since=1").status_code == 404
    assert app.test_client().get(f"{CHANGES}?since=1").status_code == 401


@pytest.mark.reading("L-06")
def test_feed_omits_references_to_denied_collections(app: Flask, tmp_path: Path) -> None:
    load(app, PackageBuilder().set("users", "pupil-1", givenName="Ada"), tmp_path)
    restrictions = AccessRestrictions(denied=frozenset({"orgs"}))
    token, _ = services_of(app).tokens.create("no orgs", ALL, restrictions=restrictions)
    [change] = read_page(Consumer(app, token), "since=1")["changes"]
    assert change["record"]["orgs"] == []
    assert {"user": change["record"]} == Consumer(app, token).get(f"{CHALK}/users/pupil-1").json

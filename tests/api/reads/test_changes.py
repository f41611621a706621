"""The feed of changes: a follower who began with a full read ends with what a new full read gives."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from chalk_flask import create_app
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import ALL, DEFAULT, GRADEBOOK, ROSTER_CORE
from chalk_flask.roster.changes import sequence
from tests.conftest import BACKENDS, services_of, url_in
from tests.support.api_client import CHALK, Consumer, error_message
from tests.support.histories import History, everything, load
from tests.support.packages import Made

CHANGES = f"{CHALK}/changes"
WHEN = "2026-09-01T10:00:00.000Z"
HISTORIES = 20
"""Each of five seeds on each of three backends follows so many: 300 in all."""


@pytest.fixture
def app(backend: str, tmp_path: Path) -> Iterator[Flask]:
    made = create_app(storage=url_in(tmp_path / "store", backend))
    load(made, Made(), tmp_path)
    yield made
    services_of(made).store.close()


def asked(consumer: Consumer, query: str) -> dict[str, Any]:
    answer = consumer.get(f"{CHANGES}?{query}")
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    data: dict[str, Any] = answer.json
    assert answer.headers["Link"] == f'<{data["next"]}>; rel="next"'
    return data


def followed(consumer: Consumer, since: int, limit: int) -> Iterator[dict[str, Any]]:
    """The changes after a number, page by page, along the links."""
    data = asked(consumer, f"since={since}&limit={limit}")
    while True:
        numbers = [change["sequence"] for change in data["changes"]]
        assert numbers == sorted(set(numbers))
        assert all(number > since for number in numbers)
        yield from data["changes"]
        since = data["sequence"]
        if not data["more"]:
            assert numbers[-1:] <= [since]
            return
        data = asked(consumer, data["next"].partition("?")[2])


@pytest.mark.reading("F-03")
@pytest.mark.parametrize("seed", range(5))
def test_follower_ends_with_the_same_roster_as_a_full_read(app: Flask, tmp_path: Path, seed: int) -> None:
    history, consumer = History(app, tmp_path, seed), Consumer(app)
    for _ in range(HISTORIES):
        since = asked(consumer, "since=latest")["sequence"]
        known = everything(consumer)
        for _ in range(history.draw.randrange(1, 5)):
            history.step()
        for change in followed(consumer, since, history.draw.choice([1, 2, 500])):
            record = change["record"]
            known[change["entity"], change["sourcedId"]] = record
            gone = record["status"] == "tobedeleted"
            assert change["type"] == f"{change['entity']}.{'deleted' if gone else 'updated'}"
        assert known == everything(consumer)


@pytest.mark.parametrize("kind", BACKENDS)
def test_first_load_is_410_for_followers_of_an_empty_tenant(tmp_path: Path, kind: str) -> None:
    made = create_app(storage=url_in(tmp_path / "store", kind))
    consumer = Consumer(made)
    nothing = asked(consumer, "since=latest")
    assert nothing["next"].endswith("?since=0&began=empty")
    timer = threading.Timer(0.3, load, (made, Made(), tmp_path))
    timer.start()
    answer = consumer.get(f"{CHANGES}?since=0&wait=20")
    timer.join()
    error_message(answer, 410, "gone", "unknown object")
    error_message(consumer.get(nothing["next"].removeprefix("http://localhost")), 410, "gone", "unknown object")
    assert asked(consumer, "since=latest") == asked(consumer, "since=1") == asked(consumer, "since=0")
    load(made, Made().set("users", "pupil-1", givenName="Ada"), tmp_path)
    assert asked(consumer, "since=0") == asked(consumer, "since=1")
    assert len(asked(consumer, "since=0")["changes"]) == 1
    services_of(made).store.close()


@pytest.mark.reading("F-01", "F-02")
def test_first_load_and_unchanged_records_get_no_numbers(app: Flask, tmp_path: Path) -> None:
    consumer = Consumer(app)
    assert asked(consumer, "since=latest") == {
        "changes": [],
        "sequence": 1,
        "more": False,
        "next": f"http://localhost{CHANGES}?since=1",
    }
    assert load(app, Made(), tmp_path) == "unchanged"
    load(app, Made().set("users", "pupil-1", givenName="Ada"), tmp_path)
    data = asked(consumer, "since=1&include=ids")
    assert [(each["type"], each["sourcedId"]) for each in data["changes"]] == [("user.updated", "pupil-1")]
    assert set(data["changes"][0]) == {"sequence", "type", "entity", "sourcedId"}
    assert data["next"].endswith(f"?since={data['sequence']}&include=ids")


def test_record_that_changed_twice_is_listed_once(app: Flask, tmp_path: Path) -> None:
    consumer = Consumer(app)
    for name in ("One", "Two"):
        load(app, Made().set("users", "pupil-1", givenName=name), tmp_path)
    [change] = asked(consumer, "since=1")["changes"]
    assert change["record"]["givenName"] == "Two"
    assert change["record"]["orgs"][0]["href"] == f"http://localhost{CHALK}/orgs/org-2"


@pytest.mark.reading("F-06")
@pytest.mark.parametrize("since", ["1", "latest"])
def test_waiting_request_returns_when_something_changes(app: Flask, tmp_path: Path, since: str) -> None:
    consumer = Consumer(app)
    timer = threading.Timer(0.5, load, (app, Made().set("users", "pupil-1", givenName="Ada"), tmp_path))
    timer.start()
    began = time.monotonic()
    data = asked(consumer, f"since={since}&wait=20")
    timer.join()
    assert len(data["changes"]) == 1
    assert time.monotonic() - began < 10
    since = asked(consumer, "since=latest")["sequence"]  # a commit that came late is stamped, and numbered, again
    began = time.monotonic()
    assert asked(consumer, f"since={since}&wait=1")["changes"] == []
    assert time.monotonic() - began >= 1


@pytest.mark.reading("F-04")
def test_number_before_a_purge_or_of_another_store_is_410(app: Flask, tmp_path: Path) -> None:
    consumer = Consumer(app)
    load(app, Made().drop("results", "result-1"), tmp_path)
    latest = asked(consumer, "since=1")["sequence"]
    with services_of(app).store.write("default") as transaction:
        transaction.delete("results", ["result-1"])
        numbers = sequence.ChangeSequence(transaction, first=False)
        numbers.remove("results", ["result-1"])
        numbers.store()
    for since in (0, latest - 1, latest + 1):
        message = error_message(consumer.get(f"{CHANGES}?since={since}"), 410, "gone", "unknown object")
        assert "since=latest" in message
    assert asked(consumer, f"since={latest}")["changes"] == []


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
    made = Made().set("users", "pupil-1", givenName="Ada").set("demographics", "pupil-1", sex="male")
    load(app, made.set("results", "result-1", score="1"), tmp_path)
    tokens = services_of(app).tokens

    def entities(scopes: Any) -> list[str]:
        token, _ = tokens.create("some", scopes)
        return sorted(each["entity"] for each in asked(Consumer(app, token), "since=1")["changes"])

    assert entities(ALL) == ["demographics", "result", "user"]
    assert entities(DEFAULT) == ["result", "user"]
    assert entities([ROSTER_CORE]) == ["user"]
    token, _ = tokens.create("grades", [GRADEBOOK])
    error_message(Consumer(app, token).get(f"{CHANGES}?since=1"), 403, "forbidden", "forbidden")
    token, _ = tokens.create("school", ALL, limits=AccessRestrictions(orgs=frozenset({"org-2"})))
    assert "limited" in error_message(Consumer(app, token).get(f"{CHANGES}?since=1"), 403, "forbidden", "forbidden")
    token, _ = tokens.create("no results", ALL, limits=AccessRestrictions(denied=frozenset({"results"})))
    assert "result" not in [each["entity"] for each in asked(Consumer(app, token), "since=1")["changes"]]


def test_feed_is_under_chalks_root_only(app: Flask) -> None:
    assert Consumer(app).get("/ims/oneroster/v1p1/changes?since=1").status_code == 404
    assert app.test_client().get(f"{CHANGES}?since=1").status_code == 401

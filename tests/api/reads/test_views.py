"""Collections and single objects: parents in the path, deleted records, snapshots of streams."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

from backends import Backend, Record
from chalk_flask import create_app
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import ROSTER as ROSTER_SCOPE
from chalk_flask.tenants.store import TenantStore
from tests.api.conftest import envelope_name
from tests.api.reads.conftest import LARGE_COLLECTION, put_users, response_blocks
from tests.conftest import services_of, url_in
from tests.support.api_client import CHALK, IMS, Consumer, error_message, items
from tests.support.small_roster import EMPTY, ROSTER, UNKNOWN_PARENTS, session

UNKNOWN_OBJECT = ("unknown_object", "unknown object")


def test_known_parent_without_members_is_an_empty_collection(consumer: Consumer) -> None:
    for path in EMPTY:
        response = consumer.get(path)
        assert response.json == {envelope_name(path): []}, path
        assert response.headers["X-Total-Count"] == "0", path


@pytest.mark.reading("A-11", "N-04")
@pytest.mark.parametrize("path", UNKNOWN_PARENTS)
def test_unknown_or_mismatched_parent_is_404(consumer: Consumer, path: str) -> None:
    for root in (CHALK, IMS):
        error_message(consumer.get(root + path), 404, *UNKNOWN_OBJECT)


@pytest.mark.reading("A-11")
def test_lenient_parent_turns_unknown_parents_into_empty_collections(serve: Callable[..., Flask]) -> None:
    consumer = Consumer(serve(lenient_parent=True))
    for path in UNKNOWN_PARENTS:
        response = consumer.get(path)
        assert response.status_code == 200, path
        assert response.json == {envelope_name(path): []}, path
        assert response.headers["X-Total-Count"] == "0", path


@pytest.mark.reading("A-04", "A-12")
@pytest.mark.parametrize(
    "path",
    [
        *("/schools/d-1", "/schools/p-1", "/students/u-4", "/teachers/u-1", "/teachers/u-9", "/terms/g-2"),
        *("/terms/g-1", "/gradingPeriods/t-1", "/users/U-1", "/users/nope", "/demographics/u-3"),
        *("/categories/cat-5", "/lineItems/l-3", "/results/x-4"),
    ],
)
def test_object_of_another_type_or_deleted_gradebook_object_is_404(consumer: Consumer, path: str) -> None:
    error_message(consumer.get(path), 404, *UNKNOWN_OBJECT)


@pytest.mark.reading("A-04")
@pytest.mark.parametrize(("name", "deleted"), [("categories", "cat-5"), ("lineItems", "l-3"), ("results", "x-4 x-5")])
def test_filter_can_select_deleted_gradebook_objects(consumer: Consumer, name: str, deleted: str) -> None:
    assert consumer.ids(f"/{name}?filter=status='tobedeleted'") == deleted.split()
    assert consumer.ids(f"/{name}?filter=dateLastModified>'2024-03-31'") == deleted.split()
    everything = consumer.ids(f"/{name}?filter=dateLastModified>'2020-01-01' AND sourcedId!='none'")
    assert everything == sorted(row["sourcedId"] for row in ROSTER[name])
    assert not set(deleted.split()) & set(consumer.ids(f"/{name}?filter=sourcedId!='none'"))


@pytest.mark.reading("A-04")
def test_deleted_line_item_is_a_known_parent(consumer: Consumer) -> None:
    path = "/classes/c-1/lineItems/l-3/results"
    assert consumer.ids(path) == []
    assert consumer.ids(f"{path}?filter=status='tobedeleted'") == ["x-4"]
    assert consumer.ids("/classes/c-1/results?filter=status='tobedeleted'") == ["x-4", "x-5"]


@pytest.mark.reading("N-06")
def test_deleted_roster_records_are_listed_and_read(consumer: Consumer) -> None:
    assert "u-8" in consumer.ids("/users")
    response = consumer.get("/users/u-8")
    assert response.json is not None
    assert response.json["user"]["status"] == "tobedeleted"


@pytest.mark.reading("Q-01")
@pytest.mark.parametrize(("root", "default_limit"), [(CHALK, None), (IMS, 100)])
def test_default_limit_depends_on_the_root(serve: Callable[..., Flask], root: str, default_limit: int | None) -> None:
    app = serve()
    put_users(services_of(app).store, 250)
    response = Consumer(app).get(f"{root}/users?filter=sourcedId>='v'")
    assert len(items(response)) == (default_limit or 250)
    assert response.headers["X-Total-Count"] == "250"
    assert ("Link" in response.headers) is bool(default_limit)


@pytest.mark.reading("N-05")
@pytest.mark.every_backend
def test_grading_periods_of_a_school_year_belong_to_terms_by_date(app: Flask) -> None:
    sessions = [
        session("y", "schoolYear", "2023-08-01", "2024-07-31"),
        session("s-1", "semester", "2023-08-01", "2024-01-31", parent="y"),
        session("s-2", "semester", "2024-01-31", "2024-07-31", parent="y"),
        session("q-1", "gradingPeriod", "2023-08-01", "2023-10-31", parent="y"),
        session("q-2", "gradingPeriod", "2023-10-31", "2024-01-31", parent="y"),
        session("q-3", "gradingPeriod", "2024-01-31", "2024-04-30", parent="y"),
        session("across", "gradingPeriod", "2023-12-01", "2024-02-28", parent="y"),
        session("late", "gradingPeriod", "2023-08-01", "2024-02-01", parent="s-1"),
        session("z", "schoolYear", "2023-08-01", "2024-07-31"),
        session("other", "gradingPeriod", "2023-08-01", "2023-10-31", parent="z"),
        session("alone", "term", "2023-08-01", "2024-07-31"),
        session("without", "gradingPeriod", "2023-08-01", "2023-10-31"),
    ]
    with services_of(app).store.write("default") as transaction:
        transaction.put("academicSessions", map(RESOURCES["academicSessions"].record, sessions))
    consumer = Consumer(app)
    assert consumer.ids("/terms/s-1/gradingPeriods") == ["late", "q-1", "q-2"]
    assert consumer.ids("/terms/s-2/gradingPeriods") == ["q-3"]
    assert consumer.ids("/terms/alone/gradingPeriods") == []


@pytest.mark.reading("A-12")
def test_session_that_only_hidden_classes_refer_to_is_no_term(served: Flask) -> None:
    restricted, denied = (
        Consumer(served, services_of(served).tokens.create("x", [ROSTER_SCOPE], restrictions=restrictions)[0])
        for restrictions in (
            AccessRestrictions(orgs=frozenset({"s-1"})),
            AccessRestrictions(denied=frozenset({"classes"})),
        )
    )
    for consumer in (restricted, denied):
        assert consumer.get("/terms/m-1").status_code == 200
        for path in ("/terms/y-1", "/terms/y-1/classes", "/terms/y-1/gradingPeriods"):
            error_message(consumer.get(path), 404, *UNKNOWN_OBJECT)


@pytest.mark.reading("Q-22")
@pytest.mark.parametrize(
    ("path", "count"),
    [
        (f"{IMS}/users", 100),
        (f"{IMS}/users?limit=40", 40),
        (f"{IMS}/users?limit=40&offset=240", 19),
        (f"{IMS}/users?offset=250", 9),
        (f"{IMS}/users?offset=259", 0),
        (f"{IMS}/users?offset=1000", 0),
        (f"{IMS}/users?filter=role='teacher'", 2),
        (f"{CHALK}/users", 259),
        (f"{CHALK}/users?offset=200", 59),
        (f"{CHALK}/users?limit=7&fields=sourcedId", 7),
        (f"{IMS}/schools/s-2/teachers", 1),
    ],
)
def test_x_count_is_the_number_of_records_in_the_response(serve: Callable[..., Flask], path: str, count: int) -> None:
    app = serve()
    put_users(services_of(app).store, 250)
    response = Consumer(app).get(path)
    assert len(items(response)) == int(response.headers["X-Count"]) == count


@pytest.mark.reading("Q-22")
def test_x_counts_of_all_pages_add_up_to_the_total(serve: Callable[..., Flask]) -> None:
    app = serve()
    put_users(services_of(app).store, 250)
    consumer, received, total = Consumer(app), 0, 1
    ids: set[str] = set()
    while received < total:
        response = consumer.get(f"/users?limit=60&offset={received}")
        ids |= {item["sourcedId"] for item in items(response)}
        received, total = received + int(response.headers["X-Count"]), int(response.headers["X-Total-Count"])
    assert received == total == len(ids) == 259


@pytest.mark.reading("N-05")
def test_cycle_of_sessions_ends(serve: Callable[..., Flask]) -> None:
    app = serve()
    cycle = RESOURCES["academicSessions"].record({**ROSTER["academicSessions"][1], "parent": "g-4"})
    with services_of(app).store.write("default") as transaction:
        transaction.put("academicSessions", [cycle])
    assert Consumer(app).ids("/terms/t-1/gradingPeriods") == ["g-1", "g-2", "g-3", "g-4"]


def test_tenant_sees_nothing_of_another_tenant(serve: Callable[..., Flask]) -> None:
    app = serve()
    TenantStore(services_of(app).store).create("other")
    token, _ = services_of(app).tokens.create("other", [ROSTER_SCOPE], "other")
    other = Consumer(app, token)
    assert other.ids("/users") == []
    error_message(other.get("/users/u-1"), 404, *UNKNOWN_OBJECT)
    error_message(other.get("/classes/c-1/students"), 404, *UNKNOWN_OBJECT)


@pytest.mark.every_backend
def test_stream_shows_one_revision_despite_writes(store: Backend, app: Flask) -> None:
    put_users(store, LARGE_COLLECTION)
    stream = response_blocks(app, f"{CHALK}/users?fields=givenName")
    first_block = next(stream)
    put_users(store, LARGE_COLLECTION + 5, givenName="Changed")
    users = json.loads(first_block + b"".join(stream))["users"]
    assert users == [{"givenName": "Ada"}] * LARGE_COLLECTION


@pytest.mark.on_backend("memory", "sqlite")
def test_abandoned_stream_closes_its_snapshot(store: Backend, app: Flask) -> None:
    put_users(store, LARGE_COLLECTION)
    for _ in range(50):
        stream = response_blocks(app, f"{CHALK}/users")
        next(stream)
        stream.close()
    put_users(store, 1, givenName="Changed")
    assert Consumer(app).get("/users/v-00000").status_code == 200


ALTERNATIVES = ",".join(f"no-{number}" for number in range(100))


@pytest.mark.every_backend
@pytest.mark.reading("Q-31")
def test_query_beyond_the_time_limit_is_503(backend: str, tmp_path: Path) -> None:
    app = create_app(storage=url_in(tmp_path, backend), query_milliseconds=1)
    put_users_with_identifiers(services_of(app).store, LARGE_COLLECTION)
    filters = f"filter=userIds.identifier~'{ALTERNATIVES}' OR username~'no'"
    for query, advice in ((filters, "fewer values"), (f"{filters}&sort=familyName", "leave out sort")):
        response = Consumer(app).get(f"/users?{query}")
        message = error_message(response, 503, "server_busy", "server_busy")
        assert advice in message
        assert "no-1" not in message
        assert int(response.headers["Retry-After"]) > 0
    services_of(app).store.close()


def put_users_with_identifiers(store: Backend, number: int) -> None:
    """Store users with an identifier each, so that a filter compares each of them with all of its values."""
    template, users = ROSTER["users"][0], RESOURCES["users"]
    with store.write("default") as transaction:
        transaction.put(
            "users",
            (
                users.record(
                    {**template, "sourcedId": f"v-{n:05}", "userIds": [{"type": "sis", "identifier": f"pupil {n}"}]}
                )
                for n in range(number)
            ),
        )


@pytest.mark.reading("Q-31")
def test_time_limit_of_queries_does_not_end_a_slow_stream(serve: Callable[..., Flask]) -> None:
    app = serve(query_milliseconds=2000)
    put_users(services_of(app).store, LARGE_COLLECTION)
    stream = response_blocks(app, f"{CHALK}/users")
    blocks = []
    for _ in range(3):
        blocks.append(next(stream))
        time.sleep(0.8)
    assert len(json.loads(b"".join([*blocks, *stream]))["users"]) == LARGE_COLLECTION + len(ROSTER["users"])


@pytest.mark.reading("Q-31")
def test_change_feed_beyond_the_time_limit_is_503(serve: Callable[..., Flask]) -> None:
    app = serve(query_milliseconds=1)
    entries = (Record(f"users/{n}", b"{}", {"number": -1.0, "collection": "users"}) for n in range(50_000))
    with services_of(app).store.write("default") as transaction:
        transaction.put("sequence", [Record(":state", b'{"last":5,"purged":0}'), *entries])
    response = Consumer(app).get(f"{CHALK}/changes?since=0")
    error_message(response, 503, "server_busy", "server_busy")
    assert int(response.headers["Retry-After"]) > 0

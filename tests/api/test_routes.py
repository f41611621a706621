"""Every operation of the standard answers, under both roots, with the right records (digest sections 2 and 12)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask

from chalk_flask.api.routes import ROUTES
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.tenants.store import TenantStore
from tests.conftest import services_of
from tests.support.api_client import CHALK, IMS, Consumer, error_message, items
from tests.support.paths import DATA
from tests.support.small_roster import COLLECTIONS, EMPTY, ROSTER, SINGLES, UNKNOWN_PARENTS

OPERATIONS = json.loads((DATA / "operations.json").read_text())["operations"]
GETS = [operation for operation in OPERATIONS if operation["method"] == "GET"]

ENVELOPES = {operation["operationId"]: operation["envelope"] for operation in GETS} | {
    "getCategoriesForClass": "categories"
}


def operation(path: str) -> str:
    """The operation whose path has these words where ids may be anything."""
    parts = path.split("/")
    for route in ROUTES:
        template = route.path.split("/")
        if len(template) == len(parts) and all(
            t.startswith("{") or t == p for t, p in zip(template, parts, strict=True)
        ):
            return route.operation
    raise AssertionError(path)


@pytest.mark.reading("A-21")
def test_routes_are_the_operations_of_the_standard_and_one_more() -> None:
    ours = {
        (
            r.operation,
            r.path,
            r.is_collection,
            r.scope,
            r.resource_type.name if r.is_collection else r.resource_type.singular_name,
        )
        for r in ROUTES
    }
    theirs = {(o["operationId"], o["path"], o["kind"] == "collection", o["scope"], o["envelope"]) for o in GETS}
    assert len(theirs) == 55
    assert len(ROUTES) == 56
    assert {row[0] for row in ours - theirs} == {"getCategoriesForClass"}
    assert not theirs - ours


def test_expected_paths_cover_every_operation() -> None:
    tried = {operation(path) for path in [*COLLECTIONS, *SINGLES]}
    assert tried == {route.operation for route in ROUTES}
    nested = {route.operation for route in ROUTES if route.parents}
    assert {operation(path) for path in UNKNOWN_PARENTS} == nested
    # Neither a teacher without classes nor a class without categories is in the roster.
    assert nested - {operation(path) for path in EMPTY} == {"getClassesForTeacher", "getCategoriesForClass"}


@pytest.mark.reading("A-07", "A-08", "A-09", "A-12", "A-13", "N-01", "N-02", "N-03", "N-05", "N-08")
@pytest.mark.parametrize("root", [CHALK, IMS, f"{CHALK}/sis", f"{IMS}/sis"])
@pytest.mark.parametrize("path", COLLECTIONS)
def test_a_collection_holds_the_records_that_its_path_means(consumer: Consumer, root: str, path: str) -> None:
    answer = consumer.get(root + path)
    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    assert answer.json is not None
    assert list(answer.json) == [ENVELOPES[operation(path)]]
    wanted = COLLECTIONS[path].split()
    assert [item["sourcedId"] for item in items(answer)] == wanted
    assert answer.headers["X-Total-Count"] == answer.headers["X-Count"] == str(len(wanted))


@pytest.mark.parametrize("root", [CHALK, IMS, f"{CHALK}/sis", f"{IMS}/sis"])
@pytest.mark.parametrize("path", SINGLES)
def test_a_single_read_answers_one_object(consumer: Consumer, root: str, path: str) -> None:
    answer = consumer.get(root + path)
    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    assert answer.json is not None
    assert list(answer.json) == [ENVELOPES[operation(path)]]
    assert answer.json[ENVELOPES[operation(path)]]["sourcedId"] == SINGLES[path]
    assert answer.headers["X-Total-Count"] == "1"


@pytest.mark.parametrize("path", EMPTY)
def test_known_parent_without_members_is_an_empty_collection(consumer: Consumer, path: str) -> None:
    answer = consumer.get(path)
    assert answer.json == {ENVELOPES[operation(path)]: []}
    assert answer.headers["X-Total-Count"] == "0"


@pytest.mark.reading("A-11", "N-04")
@pytest.mark.parametrize("path", UNKNOWN_PARENTS)
def test_unknown_or_mismatched_parent_is_404(consumer: Consumer, path: str) -> None:
    for root in (CHALK, IMS):
        error_message(consumer.get(root + path), 404, "unknown_object", "unknown object")


@pytest.mark.reading("A-11")
@pytest.mark.parametrize("path", UNKNOWN_PARENTS)
def test_lenient_parent_turns_unknown_parents_into_empty_collections(serve: Any, path: str) -> None:
    answer = Consumer(serve(lenient_parent=True)).get(path)
    assert answer.status_code == 200
    assert answer.json == {ENVELOPES[operation(path)]: []}
    assert answer.headers["X-Total-Count"] == "0"


@pytest.mark.reading("A-04", "A-12")
@pytest.mark.parametrize(
    "path",
    [
        *("/schools/d-1", "/schools/p-1", "/students/u-4", "/teachers/u-1", "/teachers/u-9", "/terms/m-1"),
        *("/terms/g-1", "/gradingPeriods/t-1", "/users/U-1", "/users/nope", "/demographics/u-3"),
        *("/categories/cat-5", "/lineItems/l-3", "/results/x-4"),
    ],
)
def test_object_of_another_type_or_deleted_gradebook_object_is_404(consumer: Consumer, path: str) -> None:
    error_message(consumer.get(path), 404, "unknown_object", "unknown object")


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
    answer = consumer.get("/users/u-8")
    assert answer.json is not None
    assert answer.json["user"]["status"] == "tobedeleted"


@pytest.mark.reading("N-07")
@pytest.mark.parametrize("root", [CHALK, IMS])
def test_lineitems_alias_works_below_a_class(consumer: Consumer, root: str) -> None:
    assert consumer.ids(f"{root}/classes/c-1/lineitems") == ["l-1", "l-4"]
    assert consumer.ids(f"{root}/sis/classes/c-1/lineitems/l-1/results") == ["x-1", "x-2"]


@pytest.mark.reading("Q-11")
@pytest.mark.parametrize("path", ["/users/", "/users/u-1/", "/classes/c-1/students/", "/sis/schools/s-1/terms/"])
def test_one_trailing_slash_is_ignored(consumer: Consumer, path: str) -> None:
    assert consumer.get(path).json == consumer.get(path.rstrip("/")).json
    assert consumer.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/users//", "//users", "/Users", "/users/u-1/x", "/sis/sis/users", "/", ""])
def test_other_paths_are_404(consumer: Consumer, path: str) -> None:
    error_message(consumer.get(IMS + path), 404, "unknown_object", "unknown object")


@pytest.mark.reading("Q-01")
@pytest.mark.parametrize(("root", "page"), [(CHALK, None), (IMS, 100)])
def test_default_limit_depends_on_the_root(serve: Any, root: str, page: int | None) -> None:
    app: Flask = serve()
    put_users(app, 250)
    answer = Consumer(app).get(f"{root}/users?filter=sourcedId>='v'")
    assert len(items(answer)) == (page or 250)
    assert answer.headers["X-Total-Count"] == "250"
    assert ("Link" in answer.headers) is bool(page)


def put_users(app: Flask, number: int) -> None:
    users = RESOURCES["users"]
    with services_of(app).store.write("default") as transaction:
        template = ROSTER["users"][0]
        transaction.put("users", [users.record({**template, "sourcedId": f"v-{n:05}"}) for n in range(number)])


@pytest.mark.reading("A-02", "A-20")
def test_no_value_is_empty_and_every_reference_resolves(consumer: Consumer) -> None:
    for path in [path for path in COLLECTIONS if path.count("/") == 1]:
        for item in items(consumer.get(path)):
            check_object(item)
            for reference in references(item):
                assert set(reference) == {"href", "sourcedId", "type"}
                answer = consumer.get(reference["href"].removeprefix("http://localhost"))
                assert answer.json is not None
                assert answer.json[reference["type"]]["sourcedId"] == reference["sourcedId"]


@pytest.mark.reading("A-18", "A-19")
def test_due_dates_are_date_times_and_scores_are_numbers(consumer: Consumer) -> None:
    assert items(consumer.get("/lineItems?fields=dueDate&limit=1")) == [{"dueDate": "2023-10-09T00:00:00.000Z"}]
    assert b'"score":87.5,' in consumer.get("/results/x-1").data
    assert b'"score":300,' in consumer.get("/results/x-2").data


def check_object(item: dict[str, Any]) -> None:
    for name, value in item.items():
        assert value is not None
        assert value != ""
        assert not isinstance(value, bool), name
    for flag in ("enabledUser", "primary", "asian", "white"):
        assert item.get(flag, "true") in ("true", "false")


def references(item: dict[str, Any]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for value in item.values():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict) and "href" in each:
                found.append(each)
    return found


@pytest.mark.reading("N-05")
def test_cycle_of_sessions_ends(serve: Any) -> None:
    app: Flask = serve()
    sessions = RESOURCES["academicSessions"]
    looped = [{**ROSTER["academicSessions"][1], "parent": "g-4"}]
    with services_of(app).store.write("default") as transaction:
        transaction.put("academicSessions", map(sessions.record, looped))
    assert Consumer(app).ids("/terms/t-1/gradingPeriods") == ["g-1", "g-2", "g-3", "g-4"]


def test_tenant_sees_nothing_of_another_tenant(serve: Any) -> None:
    app: Flask = serve()
    TenantStore(services_of(app).store).create("other")
    token, _ = services_of(app).tokens.create(
        "other", ["https://purl.imsglobal.org/spec/or/v1p1/scope/roster.readonly"], "other"
    )
    other = Consumer(app, token)
    assert other.ids("/users") == []
    error_message(other.get("/users/u-1"), 404, "unknown_object", "unknown object")
    error_message(other.get("/classes/c-1/students"), 404, "unknown_object", "unknown object")

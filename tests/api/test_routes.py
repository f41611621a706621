"""Routes: the operations of the standard, under both API roots."""

from __future__ import annotations

import pytest

from chalk_flask.api.routes import READ_ROUTES
from tests.api.conftest import OPERATIONS, envelope_name, operation_of
from tests.support.api_client import CHALK, IMS, Consumer, error_message, items
from tests.support.small_roster import COLLECTIONS, EMPTY, SINGLES, UNKNOWN_PARENTS


@pytest.mark.reading("A-21")
def test_routes_are_the_operations_of_the_standard_and_one_more() -> None:
    routes = {
        (
            route.operation,
            route.path,
            route.is_collection,
            route.scope,
            route.resource_type.name if route.is_collection else route.resource_type.singular_name,
        )
        for route in READ_ROUTES
    }
    standard = {
        (row["operationId"], row["path"], row["kind"] == "collection", row["scope"], row["envelope"])
        for row in OPERATIONS
        if row["method"] == "GET"
    }
    assert len(standard) == 55
    assert len(READ_ROUTES) == 56
    assert {row[0] for row in routes - standard} == {"getCategoriesForClass"}
    assert not standard - routes


def test_expected_paths_cover_every_operation() -> None:
    assert {operation_of(path) for path in [*COLLECTIONS, *SINGLES]} == {route.operation for route in READ_ROUTES}
    nested = {route.operation for route in READ_ROUTES if route.parents}
    assert {operation_of(path) for path in UNKNOWN_PARENTS} == nested
    # The roster has neither a teacher without classes nor a class without categories.
    assert nested - {operation_of(path) for path in EMPTY} == {"getClassesForTeacher", "getCategoriesForClass"}


@pytest.mark.every_backend
def test_every_route_returns_its_records(consumer: Consumer) -> None:
    for path in COLLECTIONS:
        check_collection(consumer, IMS, path)
    for path in SINGLES:
        check_single(consumer, IMS, path)


@pytest.mark.parametrize("root", [CHALK, f"{CHALK}/sis", f"{IMS}/sis"])
@pytest.mark.reading("A-07", "A-08", "A-09", "A-12", "A-13", "N-01", "N-02", "N-03", "N-05", "N-08")
def test_every_root_has_the_same_routes(consumer: Consumer, root: str) -> None:
    for path in COLLECTIONS:
        check_collection(consumer, root, path)
    for path in SINGLES:
        check_single(consumer, root, path)


def check_collection(consumer: Consumer, root: str, path: str) -> None:
    response = consumer.get(root + path)
    assert response.status_code == 200, path
    assert response.content_type == "application/json"
    assert response.json is not None
    assert list(response.json) == [envelope_name(path)], path
    expected = COLLECTIONS[path].split()
    assert [item["sourcedId"] for item in items(response)] == expected, path
    assert response.headers["X-Total-Count"] == response.headers["X-Count"] == str(len(expected)), path


def check_single(consumer: Consumer, root: str, path: str) -> None:
    response = consumer.get(root + path)
    assert response.status_code == 200, path
    assert response.content_type == "application/json"
    assert response.json is not None
    assert list(response.json) == [envelope_name(path)], path
    assert response.json[envelope_name(path)]["sourcedId"] == SINGLES[path]
    assert response.headers["X-Total-Count"] == response.headers["X-Count"] == "1", path


@pytest.mark.reading("N-07")
@pytest.mark.parametrize("root", [CHALK, IMS])
def test_lineitems_alias_works_below_a_class(consumer: Consumer, root: str) -> None:
    assert consumer.ids(f"{root}/classes/c-1/lineitems") == ["l-1", "l-4"]
    assert consumer.ids(f"{root}/sis/classes/c-1/lineitems/l-1/results") == ["x-1", "x-2"]


@pytest.mark.reading("N-07")
@pytest.mark.parametrize("root", [CHALK, IMS, f"{IMS}/sis"])
def test_lineitems_alias_works_at_the_top_level(consumer: Consumer, root: str) -> None:
    for path in ("", "/l-2", "?filter=title~'1'&limit=1"):
        assert consumer.get(f"{root}/lineitems{path}").json == consumer.get(f"{root}/lineItems{path}").json
    assert consumer.ids(f"{root}/lineitems") == ["l-1", "l-2", "l-4"]


@pytest.mark.reading("Q-11")
@pytest.mark.parametrize("path", ["/users/", "/users/u-1/", "/classes/c-1/students/", "/sis/schools/s-1/terms/"])
def test_one_trailing_slash_is_ignored(consumer: Consumer, path: str) -> None:
    assert consumer.get(path).json == consumer.get(path.rstrip("/")).json
    assert consumer.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/users//", "//users", "/Users", "/users/u-1/x", "/sis/sis/users", "/", ""])
def test_other_paths_are_404(consumer: Consumer, path: str) -> None:
    error_message(consumer.get(IMS + path), 404, "unknown_object", "unknown object")

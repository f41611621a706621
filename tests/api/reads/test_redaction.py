"""Reads of restricted tokens: visible rows, omitted references and redacted fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from flask import Flask

from chalk_flask.oneroster.schemas import FILES
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import ALL
from tests.conftest import services_of
from tests.support.api_client import CHALK, Consumer, error_message, items
from tests.support.small_roster import ROSTER

COLLECTION_NAMES = [
    "academicSessions",
    "categories",
    "classes",
    "courses",
    "demographics",
    "enrollments",
    "lineItems",
    "orgs",
    "resources",
    "results",
    "users",
]

RestrictedConsumer = Callable[..., Consumer]


@pytest.fixture
def restricted(served: Flask) -> RestrictedConsumer:
    """Factory of clients whose token has restrictions, given as on the command line."""

    def make(**named: list[str]) -> Consumer:
        token, _ = services_of(served).tokens.create("limited", ALL, restrictions=AccessRestrictions.parse(**named))
        return Consumer(served, token)

    return make


def visible_ids(consumer: Consumer) -> dict[str, str]:
    return {name: " ".join(consumer.ids(f"/{name}")) for name in COLLECTION_NAMES}


ALL_SESSIONS = "g-1 g-2 g-3 g-4 m-1 m-2 t-1 t-2 t-3 y-1"


@pytest.mark.reading("L-01")
def test_org_restriction_selects_rows_of_each_collection(restricted: RestrictedConsumer) -> None:
    assert visible_ids(restricted(orgs=["s-2"])) == {
        "academicSessions": ALL_SESSIONS,
        "categories": "cat-3 cat-4 cat-6",
        "classes": "c-3 c-4",
        "courses": "k-3 k-4",
        "demographics": "u-2",
        "enrollments": "e-7 e-8",
        "lineItems": "",
        "orgs": "d-1 s-2",
        "resources": "r-1 r-2 r-3",
        "results": "",
        "users": "u-2 u-3 u-5",
    }


@pytest.mark.reading("L-02")
def test_grade_restriction_applies_to_students_and_their_records(restricted: RestrictedConsumer) -> None:
    everything = visible_ids(restricted())
    assert visible_ids(restricted(grades=["09"])) == everything | {
        "users": "u-1 u-4 u-5 u-6 u-7 u-9",
        "demographics": "u-1",
        "enrollments": "e-1 e-10 e-3 e-5 e-6 e-8 e-9",
        "results": "x-1 x-3",
    }


@pytest.mark.reading("L-03")
def test_class_restriction_keeps_the_people_of_the_class(restricted: RestrictedConsumer) -> None:
    """U-8 is there although the enrollment is deleted, so that consumers learn of it."""
    assert visible_ids(restricted(classes=["c-1"])) == {
        "academicSessions": ALL_SESSIONS,
        "categories": "cat-1 cat-2 cat-3 cat-6",
        "classes": "c-1",
        "courses": "k-1",
        "demographics": "u-1 u-2",
        "enrollments": "e-1 e-2 e-3 e-4",
        "lineItems": "l-1 l-4",
        "orgs": "d-1 p-1 s-1 s-2 s-3",
        "resources": "r-1 r-2 r-3",
        "results": "x-1 x-2",
        "users": "u-1 u-2 u-4 u-8",
    }


@pytest.mark.reading("L-04")
def test_several_restrictions_apply_together(restricted: RestrictedConsumer) -> None:
    consumer = restricted(orgs=["s-1"], grades=["10"], classes=["c-1", "c-3"])
    assert consumer.ids("/users") == ["u-2", "u-4"]
    assert consumer.ids("/classes") == ["c-1"]
    assert consumer.ids("/results") == ["x-2"]


@pytest.mark.reading("L-06")
def test_denied_collection_is_empty_and_not_referenced(restricted: RestrictedConsumer) -> None:
    consumer = restricted(denied=["users", "orgs"])
    assert consumer.ids("/users") == consumer.ids("/schools") == []
    assert (
        consumer.get("/users/u-1").status_code == consumer.get("/classes/c-1/students/u-1/results").status_code == 404
    )
    [first, *_] = items(consumer.get("/enrollments"))
    assert "user" not in first
    assert "school" not in first
    assert first["class"]["sourcedId"] == "c-1"
    assert consumer.get("/courses/k-1").json["course"].keys().isdisjoint({"org"})  # type: ignore[index]  # it is JSON


@pytest.mark.reading("L-06")
def test_denied_collection_is_not_joined_through(restricted: RestrictedConsumer) -> None:
    consumer = restricted(denied=["enrollments"])
    assert consumer.ids("/classes/c-1/students") == consumer.ids("/students/u-1/classes") == []
    consumer = restricted(denied=["classes"])
    assert consumer.get("/classes/c-1/students").status_code == 404
    assert consumer.ids("/schools/s-1/terms") == []


@pytest.mark.reading("L-01")
@pytest.mark.parametrize(
    "path", ["/users/{}", "/students/{}", "/students/{}/classes", "/classes/c-3/students/{}/results"]
)
def test_hidden_id_looks_like_an_unknown_id(path: str, restricted: RestrictedConsumer) -> None:
    consumer = restricted(orgs=["s-2"])
    responses = {key: consumer.get(path.format(key)) for key in ("u-1", "nope")}
    bodies = []
    for key, response in responses.items():
        error_message(response, 404, "unknown_object", "unknown object")
        without_id = orjson.loads(response.get_data(as_text=True).replace(key, "ID"))
        bodies.append({**without_id, "statusInfoSet": None})
    assert bodies[0] == bodies[1]
    hidden, unknown = ([name for name, _ in response.headers] for response in responses.values())
    assert hidden == unknown


@pytest.mark.reading("L-05")
def test_references_to_hidden_records_are_omitted(restricted: RestrictedConsumer) -> None:
    consumer = restricted(orgs=["s-1"], grades=["10"])
    user: Any = consumer.get("/users/u-2").json
    assert [org["sourcedId"] for org in user["user"]["orgs"]] == ["s-1"]
    guardian: Any = consumer.get("/users/u-6").json
    assert guardian["user"]["agents"] == []
    district: Any = consumer.get("/orgs/d-1").json
    assert [org["sourcedId"] for org in district["org"]["children"]] == ["s-1"]
    school: Any = restricted(orgs=["s-2"]).get("/orgs/s-2").json
    assert "children" not in school["org"]


@pytest.mark.reading("L-05")
def test_rest_of_a_redacted_document_keeps_its_bytes(restricted: RestrictedConsumer, consumer: Consumer) -> None:
    everything, rest = consumer.get("/users/u-2"), restricted(orgs=["s-1"]).get("/users/u-2")
    body = orjson.loads(everything.data)
    body["user"]["orgs"].pop()
    assert rest.data == orjson.dumps(body)


@pytest.mark.reading("L-05")
def test_filter_does_not_match_hidden_references(restricted: RestrictedConsumer) -> None:
    consumer = restricted(orgs=["s-1"])
    assert consumer.ids("/users?filter=orgs.sourcedId='s-2'") == []
    assert "u-2" in consumer.ids("/users?filter=orgs!='s-2'")
    assert consumer.ids("/users?filter=orgs~'s-2' OR familyName='Xu'") == ["u-9"]
    assert consumer.ids("/orgs?filter=children>'s-1'") == []


@pytest.mark.reading("L-01")
def test_or_does_not_widen_the_visible_rows(restricted: RestrictedConsumer) -> None:
    consumer = restricted(orgs=["s-2"])
    response = consumer.get("/users?filter=status='active' OR status!='active'")
    assert [user["sourcedId"] for user in items(response)] == ["u-2", "u-3", "u-5"]
    assert response.headers["X-Total-Count"] == "3"


@pytest.mark.reading("L-05")
def test_sort_by_a_hideable_reference_is_a_warning(restricted: RestrictedConsumer) -> None:
    response = restricted(orgs=["s-1"]).get("/users?sort=orgs.sourcedId")
    assert response.json is not None
    assert response.json["statusInfoSet"][0]["imsx_codeMinor"] == "invalid_sort_field"
    assert "statusInfoSet" not in (restricted(orgs=["s-1"]).get("/enrollments?sort=user.sourcedId").json or {})


@pytest.mark.reading("L-07")
@pytest.mark.parametrize(
    ("redacted", "path"),
    [
        ("email", "email"),
        ("userIds", "userIds.type"),
        ("userIds.identifier", "userIds.identifier"),
        ("agents", "agents"),
        ("agents", "agents.sourcedId"),
        ("metadata.*", "metadata.anything"),
        ("metadata.a", "metadata.a.b"),
    ],
)
def test_redacted_field_looks_like_an_unknown_field(redacted: str, path: str, restricted: RestrictedConsumer) -> None:
    consumer = restricted(redacted=[redacted])
    response = consumer.get(f"/users?filter={path}!='x'")
    assert (
        error_message(response, 400, "invalid_filter_field", "invalid_filter_field") == f"Unknown filter field: {path}"
    )
    for query, minor in ((f"sort={path}", "invalid_sort_field"), (f"fields={path}", "invalid_selection_field")):
        response = consumer.get(f"/users?{query}")
        assert response.json is not None
        [notice] = response.json["statusInfoSet"]
        assert (notice["imsx_codeMinor"], notice["imsx_description"]) == (minor, path)


@pytest.mark.reading("L-07")
def test_redacted_field_is_in_no_body(restricted: RestrictedConsumer) -> None:
    consumer = restricted(redacted=["email", "userIds.identifier", "metadata.region", "agents"])
    for path in ("/users", "/students", "/classes/c-1/students", "/users?limit=3&offset=1"):
        response = consumer.get(path)
        assert b"@north" not in response.data
        assert all({"email", "agents"}.isdisjoint(user) for user in items(response))
    [ada, *_] = items(consumer.get("/users"))
    assert ada["userIds"] == [{"type": "LDAP"}, {"type": "SIS"}]
    school: Any = consumer.get("/orgs/s-3").json
    assert school["org"]["metadata"] == {"boards.lead": "Ada", "size": 3}


@pytest.mark.reading("L-07")
def test_metadata_without_visible_members_is_omitted(restricted: RestrictedConsumer) -> None:
    school: Any = restricted(redacted=["metadata.region", "metadata.boards", "metadata.size"]).get("/orgs/s-3").json
    assert "metadata" not in school["org"]


@pytest.mark.reading("L-08")
def test_etag_depends_on_the_restrictions(restricted: RestrictedConsumer, consumer: Consumer) -> None:
    narrow, same, other = (
        restricted(orgs=["s-1"]),
        restricted(orgs=["s-1"]),
        restricted(orgs=["s-1"], redacted=["email"]),
    )
    tags = [reader.get("/academicSessions").headers["ETag"] for reader in (narrow, same, other, consumer)]
    assert tags[0] == tags[1]
    assert len(set(tags)) == 3
    assert same.get("/academicSessions", {"If-None-Match": tags[0]}).status_code == 304
    assert other.get("/academicSessions", {"If-None-Match": tags[0]}).status_code == 200


@pytest.mark.reading("L-01")
def test_cached_parents_are_not_shared_between_policies(restricted: RestrictedConsumer, consumer: Consumer) -> None:
    other = restricted(orgs=["s-2"])
    for _ in range(2):
        assert consumer.get("/classes/c-1/students").status_code == 200
        assert other.get("/classes/c-1/students").status_code == 404


@pytest.mark.reading("L-05")
def test_cached_references_are_valid_for_one_revision(serve: Callable[..., Flask]) -> None:
    app = serve()
    token, _ = services_of(app).tokens.create("limited", ALL, restrictions=AccessRestrictions.parse(orgs=["s-1"]))
    consumer = Consumer(app, token)

    def orgs() -> list[str]:
        return [org["sourcedId"] for org in items(consumer.get("/users?filter=sourcedId='u-2'"))[0]["orgs"]]

    assert orgs() == orgs() == ["s-1"]
    below = next(row for row in ROSTER["orgs"] if row["sourcedId"] == "s-1") | {"parent": "s-2"}
    with services_of(app).store.write("default") as transaction:
        transaction.put("orgs", [FILES["orgs"].record(below)])
    assert orgs() == ["s-1", "s-2"]


@pytest.mark.reading("L-05", "L-07")
def test_every_chunk_of_a_stream_is_redacted(serve: Callable[..., Flask]) -> None:
    app = serve()
    [row] = [row for row in ROSTER["users"] if row["sourcedId"] == "u-2"]
    with services_of(app).store.write("default") as transaction:
        many = [row | {"sourcedId": f"v-{n:04}", "agents": [f"v-{n + 1:04}", "u-5"]} for n in range(1500)]
        transaction.put("users", [FILES["users"].record(user) for user in many])
    restrictions = AccessRestrictions.parse(orgs=["s-1"], redacted=["email"])
    consumer = Consumer(app, services_of(app).tokens.create("limited", ALL, restrictions=restrictions)[0])
    users = items(consumer.get(f"{CHALK}/users?filter=sourcedId>='v-'"))
    assert len(users) == 1500
    for n, user in enumerate(users):
        agents = [f"v-{n + 1:04}"] if n < 1499 else []
        assert [reference["sourcedId"] for reference in user["agents"]] == agents
        assert [reference["sourcedId"] for reference in user["orgs"]] == ["s-1"]
        assert "email" not in user


@pytest.mark.reading("L-07")
@pytest.mark.parametrize(
    ("redacted", "rest"),
    [
        ("metadata.a", {"a": None, "ab": 3}),
        ("metadata.a.b", {"a": {"c": [], "d": [{"b": 2}]}, "ab": 3}),
        ("metadata.a.d.b", {"a": {"b": 1, "c": []}, "a.b": {"x": 1}, "ab": 3}),
        ("metadata.a.b.x", {"a": {"b": 1, "c": [], "d": [{"b": 2}]}, "ab": 3}),
        ("metadata.ab", {"a": {"b": 1, "c": [], "d": [{"b": 2}]}, "a.b": {"x": 1}}),
    ],
)
def test_metadata_is_redacted_at_any_depth(redacted: str, rest: dict[str, Any], serve: Callable[..., Flask]) -> None:
    """Names may hold dots, lists are no step of a path, and what was empty before stays."""
    app = serve()
    metadata = {"a": {"b": 1, "c": [], "d": [{"b": 2}]}, "a.b": {"x": 1}, "ab": 3}
    row = next(row for row in ROSTER["orgs"] if row["sourcedId"] == "s-1") | {"metadata": metadata}
    with services_of(app).store.write("default") as transaction:
        transaction.put("orgs", [FILES["orgs"].record(row)])
    token, _ = services_of(app).tokens.create(
        "limited", ALL, restrictions=AccessRestrictions.parse(redacted=[redacted])
    )
    org: Any = Consumer(app, token).get("/orgs/s-1").json
    assert org["org"]["metadata"] == {name: value for name, value in rest.items() if value is not None}

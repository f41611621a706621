"""Outputs to restricted credentials other than plain reads: change feed, webhooks, nested paths and messages."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import ALL, GRADEBOOK, ROSTER_CORE
from tests.api.writes.conftest import Tool
from tests.conftest import services_of
from tests.outbox.conftest import sent_changes, subscribe
from tests.support.api_client import CHALK, Consumer, create_token, error_message, items
from tests.support.roster_writes import write_rows
from tests.support.small_roster import ROSTER, Row, fill


@pytest.fixture
def filled(app: Flask) -> Flask:
    """Application with the small roster."""
    fill(services_of(app).store)
    return app


def restricted_tool(app: Flask, **restrictions: list[str]) -> Tool:
    """Return a tool whose token has restrictions, given as on the command line."""
    token, _ = services_of(app).tokens.create("restricted", ALL, restrictions=AccessRestrictions.parse(**restrictions))
    assert token is not None
    return Tool(app, token)


def change_everything(app: Flask) -> None:
    """Write each visible gradebook record again, and delete some, so that the change feed lists them."""
    tool = Tool(app)
    for name in ("categories", "lineItems", "results"):
        for record in (tool.get(f"/{name}").json or {})[name]:
            singular = {"categories": "category", "lineItems": "lineItem", "results": "result"}[name]
            assert tool.send(f"/{name}/{record['sourcedId']}", {singular: record}).status_code == 200
    assert tool.delete("/results/x-2").status_code == 204
    assert tool.delete("/lineItems/l-4").status_code == 204


@pytest.mark.reading("F-05", "L-06")
@pytest.mark.every_backend
@pytest.mark.parametrize(
    ("denied", "member", "entity"),
    [
        ("users", "student", "result"),
        ("lineItems", "lineItem", "result"),
        ("classes", "class", "lineItem"),
        ("categories", "category", "lineItem"),
        ("academicSessions", "gradingPeriod", "lineItem"),
    ],
)
def test_feed_omits_references_to_denied_collections(filled: Flask, denied: str, member: str, entity: str) -> None:
    change_everything(filled)
    page: Any = restricted_tool(filled, denied=[denied]).get(f"{CHALK}/changes?since=0").json
    records = [change["record"] for change in page["changes"] if change["entity"] == entity]
    assert {record["status"] for record in records} == {"active", "tobedeleted"}
    assert not [record for record in records if member in record]
    whole: Any = Consumer(filled).get(f"{CHALK}/changes?since=0").json
    assert all(member in change["record"] for change in whole["changes"] if change["entity"] == entity)


@pytest.mark.reading("L-09")
def test_webhook_with_an_org_filter_hides_other_orgs(filled: Flask) -> None:
    subscribe(filled, orgs=["s-1"], entities=["user", "org", "course"], full=True)
    reimport(filled, "orgs", "courses", "users")
    records = {(change["entity_type"], change["sourced_id"]): change["entity"] for change in sent_changes(filled)}
    consumer = restricted_tool(filled, orgs=["s-1"])
    for (entity, key), record in records.items():
        if entity == "course" and key != "k-1":
            assert "org" not in record or record["org"]["sourcedId"] in ("s-1", "d-1")
            continue
        path = {"user": "users", "org": "orgs", "course": "courses"}[entity]
        assert {entity: record} == consumer.get(f"{CHALK}/{path}/{key}").json
    assert [org["sourcedId"] for org in records["user", "u-2"]["orgs"]] == ["s-1"]
    assert [org["sourcedId"] for org in records["org", "d-1"]["children"]] == ["s-1"]


@pytest.mark.reading("L-11")
@pytest.mark.parametrize(("school", "later", "agents"), [("s-2", "s-1", ["u-6"]), ("s-1", "s-2", [])])
def test_webhook_sees_references_at_the_end_of_the_transaction(
    filled: Flask, monkeypatch: pytest.MonkeyPatch, school: str, later: str, agents: list[str]
) -> None:
    monkeypatch.setattr("chalk_flask.roster.changes.writer.BATCH_SIZE", 1)
    reimport(filled, "users", changes={"u-6": {"orgs": [school]}})
    subscribe(filled, orgs=["s-1"], entities=["user"], full=True)
    reimport(filled, "users", changes={"u-1": {"givenName": "Eda"}, "u-6": {"orgs": [later]}})
    [entity] = [change["entity"] for change in sent_changes(filled) if change["sourced_id"] == "u-1"]
    assert [agent["sourcedId"] for agent in entity["agents"]] == agents


@pytest.mark.reading("L-10")
def test_change_of_hidden_references_alone_is_not_sent(filled: Flask) -> None:
    subscribe(filled, orgs=["s-1"], entities=["user"], full=False)
    reimport(filled, "users", changes={"u-2": {"orgs": ["s-1", "s-3"]}, "u-1": {"agents": ["u-5"]}})
    assert [(change["sourced_id"], change["changedFields"]) for change in sent_changes(filled)] == [("u-1", ["agents"])]


@pytest.mark.reading("L-09")
def test_webhook_excludes_metadata_in_lists(filled: Flask) -> None:
    subscribe(filled, entities=["user"], excluded=["metadata.seats.lead"], full=True)
    reimport(filled, "users", changes={"u-1": {"metadata": {"seats": [{"lead": "Cy", "row": 1}, {"lead": "Di"}]}}})
    [change] = [change for change in sent_changes(filled) if change["sourced_id"] == "u-1"]
    assert change["entity"]["metadata"] == {"seats": [{"row": 1}]}


@pytest.mark.reading("L-12")
@pytest.mark.every_backend
@pytest.mark.parametrize(
    ("restrictions", "shown"),
    [
        ({"classes": ["c-1"]}, {"cat-1": None, "cat-2": "c-1", "cat-3": None, "cat-6": None}),
        ({"classes": ["c-3"]}, {"cat-3": None, "cat-4": "c-3"}),
        ({"orgs": ["s-2"]}, {"cat-3": None, "cat-4": "c-3", "cat-6": "c-4"}),
        ({"grades": ["09"]}, {"cat-1": "c-2", "cat-2": "c-1", "cat-3": None, "cat-4": "c-3", "cat-6": "c-4"}),
        ({"denied": ["classes"]}, dict.fromkeys(["cat-1", "cat-2", "cat-3", "cat-4", "cat-6"])),
        ({"classes": ["c-1"], "denied": ["lineItems"]}, {"cat-2": "c-1", "cat-3": None}),
    ],
)
def test_category_of_a_hidden_class_is_hidden(
    filled: Flask, restrictions: dict[str, list[str]], shown: dict[str, str | None]
) -> None:
    """Cat-1 belongs to c-2, but c-1 uses it. Cat-6 belongs to c-4, but a deleted line item of c-1 refers to it."""
    consumer = restricted_tool(filled, **restrictions)
    response = consumer.get("/categories")
    assert {one["sourcedId"]: one.get("metadata", {}).get("classId") for one in items(response)} == shown
    assert response.headers["X-Total-Count"] == str(len(shown))
    unknown = "There is no category {!r}."
    message = error_message(consumer.get("/categories/none"), 404, "unknown_object", "unknown object")
    assert message == unknown.format("none")
    for category in ROSTER["categories"]:
        key = category["sourcedId"]
        single = consumer.get(f"/categories/{key}")
        if key in shown:
            assert single.json["category"].get("metadata", {}).get("classId") == shown[key]  # type: ignore[index]  # it is JSON
        else:
            assert error_message(single, 404, "unknown_object", "unknown object") == unknown.format(key)
    for class_id in ("c-1", "c-2", "c-3", "c-4"):
        expected = sorted(key for key, shown_id in shown.items() if shown_id == class_id)
        assert consumer.ids(f"/categories?filter=metadata.classId='{class_id}'") == expected
        assert consumer.ids(f"/categories?filter=metadata.classId!='{class_id}'") == sorted(shown.keys() - expected)
    assert consumer.ids("/categories?filter=metadata.classId~'c'") == sorted(key for key in shown if shown[key])


@pytest.mark.reading("L-12")
@pytest.mark.every_backend
def test_class_of_a_category_is_compared_without_letter_case(filled: Flask) -> None:
    classes = [row | {"sourcedId": row["sourcedId"].upper()} for row in ROSTER["classes"]]
    categories: list[Row] = [
        {**ROSTER["categories"][2], "sourcedId": f"k-{number}", "metadata": {"classId": class_id}}
        for number, class_id in enumerate(["C-1", "c-1", "C-3", ["C-3", "C-1"], [["C-3"], {"x": "C-3"}], "C-9", 5, ""])
    ]
    write_rows(filled, {"classes": classes, "categories": categories})
    consumer = restricted_tool(filled, orgs=["s-1"])
    shown = {
        one["sourcedId"]: one.get("metadata", {}).get("classId")
        for one in items(consumer.get("/categories?filter=sourcedId~'k-'"))
    }
    assert shown == {"k-0": "C-1", "k-1": "c-1", "k-3": ["C-1"], "k-7": ""}
    assert consumer.ids("/categories?filter=metadata.classId='C-3' AND sourcedId~'k-'") == []
    assert consumer.ids("/categories?filter=metadata.classId='c-1' AND sourcedId~'k-'") == ["k-0", "k-1", "k-3"]
    assert consumer.ids("/classes/C-1/categories?filter=sourcedId~'k-'") == ["k-0", "k-1", "k-3", "k-7"]


@pytest.mark.reading("L-12")
@pytest.mark.every_backend
def test_nested_path_and_order_do_not_reveal_a_hidden_class(filled: Flask) -> None:
    consumer = restricted_tool(filled, classes=["c-1"])
    assert consumer.ids("/classes/c-1/categories") == ["cat-1", "cat-2", "cat-3", "cat-6"]
    sorted_by_class: Any = consumer.get("/categories?sort=metadata.classId").json
    assert sorted_by_class["statusInfoSet"][0]["imsx_codeMinor"] == "invalid_sort_field"
    assert [one["sourcedId"] for one in sorted_by_class["categories"]] == ["cat-1", "cat-2", "cat-3", "cat-6"]
    selected = items(consumer.get("/categories?fields=sourcedId,metadata"))
    assert [one for one in selected if "metadata" in one] == [{"sourcedId": "cat-2", "metadata": {"classId": "c-1"}}]
    assert "statusInfoSet" not in (
        restricted_tool(filled, grades=["09"]).get("/categories?sort=metadata.classId").json or {}
    )


@pytest.mark.reading("L-12")
def test_visible_line_item_always_has_its_category(filled: Flask) -> None:
    for restrictions in ({"classes": ["c-1"]}, {"classes": ["c-2"]}, {"orgs": ["s-1"]}):
        consumer = restricted_tool(filled, **restrictions)
        line_items = items(consumer.get("/lineItems?filter=status='active' OR status='tobedeleted'"))
        assert line_items
        for line_item in line_items:
            assert consumer.get(f"/categories/{line_item['category']['sourcedId']}").status_code == 200
        assert "statusInfoSet" not in (consumer.get("/lineItems?sort=category.sourcedId").json or {})


@pytest.mark.reading("F-05", "L-12")
def test_feed_omits_classes_of_categories_if_classes_are_denied(filled: Flask) -> None:
    change_everything(filled)
    page: Any = restricted_tool(filled, denied=["classes"]).get(f"{CHALK}/changes?since=0").json
    records = [change["record"] for change in page["changes"] if change["entity"] == "category"]
    assert len(records) == 5
    assert not [record for record in records if "metadata" in record]


@pytest.mark.reading("L-09", "L-12")
def test_webhook_with_an_org_filter_hides_categories_of_other_classes(filled: Flask) -> None:
    subscribe(filled, orgs=["s-1"], entities=["category"], full=True)
    rows = [row | {"title": "New"} for row in ROSTER["categories"]]
    write_rows(filled, {"categories": rows})
    sent = {change["sourced_id"]: change["entity"].get("metadata") for change in sent_changes(filled)}
    assert sent == {"cat-1": {"classId": "c-2"}, "cat-2": {"classId": "c-1"}, "cat-3": None, "cat-6": None}


@pytest.mark.reading("L-10", "L-12")
def test_webhook_hears_no_change_of_a_hidden_class(filled: Flask) -> None:
    subscribe(filled, orgs=["s-1"], entities=["category"], full=False)
    moved = {"cat-3": {"classId": "c-3"}, "cat-4": {"classId": "c-1"}, "cat-6": {"classId": "c-3"}}
    write_rows(
        filled,
        {
            "categories": [
                row | {"metadata": moved[row["sourcedId"]]} for row in ROSTER["categories"] if row["sourcedId"] in moved
            ]
        },
    )
    sent = [(change["sourced_id"], change["action"]) for change in sent_changes(filled)]
    # Cat-3 is used by c-2, so it stays visible. Cat-6 leads from one hidden class to another.
    assert sent == [("cat-4", "created")]


@pytest.mark.reading("L-07")
@pytest.mark.every_backend
@pytest.mark.parametrize(("redacted", "other"), [("parent", "children"), ("children", "parent")])
def test_redacted_field_hides_the_other_end_of_its_link(filled: Flask, redacted: str, other: str) -> None:
    consumer = restricted_tool(filled, redacted=[redacted])
    for path in ("/orgs", "/academicSessions", "/schools", "/orgs/d-1", "/orgs/p-1", "/terms/t-1", "/gradingPeriods"):
        response = consumer.get(path)
        assert response.status_code == 200
        assert b'"parent"' not in response.data
        assert b'"children"' not in response.data
    for name in (redacted, other):
        for path in ("/orgs", "/academicSessions"):
            error_message(
                consumer.get(f"{path}?filter={name}='d-1'"), 400, "invalid_filter_field", "invalid_filter_field"
            )
            for query in (f"sort={name}", f"fields={name}"):
                body: Any = consumer.get(f"{path}?{query}").json
                [notice] = body["statusInfoSet"]
                assert notice["imsx_description"] == name
    assert consumer.ids("/terms/t-1/gradingPeriods") == []


@pytest.mark.reading("L-07")
@pytest.mark.every_backend
def test_code_of_a_course_does_not_reveal_its_redacted_title(filled: Flask) -> None:
    [course] = [row for row in ROSTER["courses"] if row["sourcedId"] == "k-2"]
    write_rows(filled, {"courses": [course | {"title": "Secret course", "courseCode": None}]})
    consumer = restricted_tool(filled, redacted=["title"])
    assert b"Secret" not in consumer.get("/courses").data
    error_message(
        consumer.get("/courses?filter=courseCode='Secret course'"), 400, "invalid_filter_field", "invalid_filter_field"
    )
    seen: Any = restricted_tool(filled, redacted=["courseCode"]).get("/courses/k-2").json
    assert seen["course"]["title"] == "Secret course"
    assert "courseCode" not in seen["course"]


@pytest.mark.reading("L-09")
@pytest.mark.parametrize("excluded", ["parent", "children", "org.parent", "org.children"])
def test_field_that_a_webhook_excludes_hides_the_other_end_of_its_link(filled: Flask, excluded: str) -> None:
    subscribe(filled, entities=["org"], excluded=[excluded], full=True)
    reimport(filled, "orgs", changes={"s-3": {"parent": "s-1"}, "s-1": {"children": ["s-3"]}, "p-1": {"name": "New"}})
    changes = {change["sourced_id"]: change for change in sent_changes(filled)}
    assert changes["p-1"]["changedFields"] == ["name"]
    assert not [key for key, change in changes.items() if {"parent", "children"} & change["entity"].keys()]
    assert {key for key, change in changes.items() if change["changedFields"] != ["dateLastModified"]} == {"p-1"}


def reimport(app: Flask, *names: str, changes: dict[str, Row] | None = None) -> None:
    """Write records of these collections as an import does: some with changes, or all of them with other metadata."""
    rows = {
        name: [
            row | (changes or {}).get(row["sourcedId"], {"metadata": {"round": 2}})
            for row in ROSTER[name]
            if changes is None or row["sourcedId"] in changes
        ]
        for name in names
    }
    write_rows(app, rows)


@pytest.mark.reading("L-07")
@pytest.mark.every_backend
@pytest.mark.parametrize(
    ("redacted", "path", "ids"),
    [
        ("resources", "/classes/c-1/resources", []),
        ("resources", "/courses/k-1/resources", []),
        ("parent", "/terms/t-1/gradingPeriods", []),
        ("org", "/schools/s-1/courses", ["k-1"]),
        ("metadata.classId", "/classes/c-1/categories", ["cat-1", "cat-2", "cat-3", "cat-4", "cat-6"]),
        ("metadata.*", "/classes/c-1/categories", ["cat-1", "cat-2", "cat-3", "cat-4", "cat-6"]),
    ],
)
def test_nested_path_does_not_reveal_a_redacted_field(filled: Flask, redacted: str, path: str, ids: list[str]) -> None:
    assert restricted_tool(filled, redacted=[redacted]).ids(path) == ids


def test_missing_scope_is_named(filled: Flask) -> None:
    reader = Tool(filled, create_token(filled, (ROSTER_CORE,)))
    for response, scopes in (
        (reader.get("/results"), "gradebook.readonly"),
        (reader.get("/demographics"), "roster-demographics.readonly"),
        (reader.get("/schools/s-1/students"), "roster.readonly"),
        (reader.send("/results/x", {}), "gradebook.createput"),
        (reader.delete("/results/x"), "gradebook.delete"),
    ):
        assert error_message(response, 403, "forbidden", "forbidden").endswith(f"required scope: {scopes}.")
    grades = Tool(filled, create_token(filled, (GRADEBOOK,)))
    message = error_message(grades.get("/users"), 403, "forbidden", "forbidden")
    assert message.endswith("required scope: roster-core.readonly or roster.readonly.")

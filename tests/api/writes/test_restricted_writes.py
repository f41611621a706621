"""Writes of restricted grade tools: hidden members stay as they are, and no effect reaches a hidden record."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from flask import Flask

from backends import Record
from chalk_flask.roster.changes import grade_tool_records
from tests.api.writes.conftest import (
    FORBIDDEN,
    INVALID,
    LINE_ITEM,
    RESULT,
    UNKNOWN,
    Tool,
    record_of,
    restricted_tool,
    store,
    stored,
)
from tests.conftest import services_of
from tests.support.api_client import error_message, items
from tests.support.small_roster import Row


@pytest.mark.reading("W-14")
@pytest.mark.parametrize("sent", [{}, {"comment": "Bad"}, {"comment": ""}, {"comment": None}])
def test_put_keeps_a_redacted_member(filled: Flask, sent: dict[str, Any]) -> None:
    tool = restricted_tool(filled, redacted=["comment"])
    result = {name: value for name, value in RESULT.items() if name != "comment"}
    assert "comment" not in record_of(tool.send("/results/x-1", {"result": {**result, "score": 12, **sent}}))
    assert (stored(filled, "/results/x-1")["comment"], stored(filled, "/results/x-1")["score"]) == ("Good", 12)


@pytest.mark.reading("W-14")
def test_new_record_has_no_redacted_member(filled: Flask) -> None:
    tool = restricted_tool(filled, redacted=["comment"])
    record_of(tool.send("/results/new", {"result": {**RESULT, "comment": "Sent"}}))
    assert "comment" not in stored(filled, "/results/new")


@pytest.mark.reading("W-14")
def test_guess_of_a_redacted_value_is_not_confirmed(filled: Flask) -> None:
    """The response must not depend on the guess, and neither must the timestamp afterwards."""
    tool = restricted_tool(filled, redacted=["comment"])
    payload = {**RESULT, "score": 87.5, "scoreDate": "2023-10-10"}
    record_of(tool.send("/results/x-1", {"result": {**payload, "comment": "Bad"}}))
    first = stored(filled, "/results/x-1")
    for guess in ("Bad", "Good", "", "good"):
        response = tool.send("/results/x-1", {"result": {**payload, "comment": guess}})
        assert record_of(response)["dateLastModified"] == first["dateLastModified"]
    assert stored(filled, "/results/x-1") == first


@pytest.mark.reading("W-14")
@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({}, {"private": {"note": "x"}, "list": [{"note": 1}], "private.note": 2}),
        ({"color": "red"}, {"color": "red", "private": {"note": "x"}, "list": [{"note": 1}], "private.note": 2}),
        (
            {"private": {"note": "y", "shared": 5}, "list": [{"note": 9, "open": 2}], "private.note": 0},
            {"private": {"note": "x", "shared": 5}, "list": [{"note": 1, "open": 2}], "private.note": 2},
        ),
        (
            {"private": "y", "list": "z"},
            {"private": {"note": "x", "shared": 1}, "list": [{"note": 1, "open": 2}], "private.note": 2},
        ),
        (
            {"list": {"note": 1, "open": 3}},
            {"private": {"note": "x"}, "list": [{"note": 1, "open": 2}], "private.note": 2},
        ),
    ],
)
def test_put_keeps_redacted_parts_of_metadata(filled: Flask, sent: Row, expected: Row) -> None:
    metadata = {
        "private": {"note": "x", "shared": 1},
        "color": "blue",
        "list": [{"note": 1, "open": 2}],
        "private.note": 2,
    }
    store(filled, "results", "x-2", metadata=metadata)
    tool = restricted_tool(filled, redacted=["metadata.private.note", "metadata.list.note"])
    payload = {**RESULT, "student": {"sourcedId": "u-2"}, "metadata": sent}
    record_of(tool.send("/results/x-2", {"result": payload}))
    assert stored(filled, "/results/x-2")["metadata"] == expected


@pytest.mark.reading("W-14")
def test_put_keeps_all_metadata_if_it_is_redacted(filled: Flask) -> None:
    store(filled, "categories", "cat-3", metadata={"a": 1})
    tool = restricted_tool(filled, redacted=["metadata.*"])
    for metadata in ({}, {"b": 2}, None):
        record_of(tool.send("/categories/cat-3", {"category": {"title": "Renamed", "metadata": metadata}}))
        assert stored(filled, "/categories/cat-3")["metadata"] == {"a": 1}


@pytest.mark.reading("W-14")
def test_put_keeps_a_redacted_reference(filled: Flask) -> None:
    tool = restricted_tool(filled, redacted=["gradingPeriod"])
    for sent in ({}, {"gradingPeriod": {"sourcedId": "g-3"}}, {"gradingPeriod": {"sourcedId": "none"}}):
        record_of(tool.send("/lineItems/l-1", {"lineItem": {**LINE_ITEM, "category": {"sourcedId": "cat-1"}, **sent}}))
        assert stored(filled, "/lineItems/l-1")["gradingPeriod"]["sourcedId"] == "g-1"


@pytest.mark.reading("W-14")
@pytest.mark.parametrize(
    ("denied", "path", "member"),
    [
        ("users", "/results/x-1", "student"),
        ("lineItems", "/results/x-1", "lineItem"),
        ("classes", "/lineItems/l-1", "class"),
        ("categories", "/lineItems/l-1", "category"),
        ("academicSessions", "/lineItems/l-1", "gradingPeriod"),
    ],
)
def test_put_keeps_references_to_denied_collections(filled: Flask, denied: str, path: str, member: str) -> None:
    tool = restricted_tool(filled, denied=[denied])
    before = stored(filled, path)
    name = "result" if path.startswith("/results") else "lineItem"
    seen = record_of(tool.get(path))
    assert member not in seen
    changed = {"score": 1} if name == "result" else {"title": "Other"}
    assert member not in record_of(tool.send(path, {name: {**seen, **changed}}))
    assert stored(filled, path) == before | changed | {"dateLastModified": stored(filled, path)["dateLastModified"]}
    messages = {
        error_message(tool.send(path, {name: {**seen, member: {"sourcedId": key}}}), 422, *INVALID).replace(key, "")
        for key in (before[member]["sourcedId"], "none")
    }
    assert len(messages) == 1


@pytest.mark.reading("W-14")
def test_put_keeps_a_required_member_that_is_redacted(filled: Flask) -> None:
    tool = restricted_tool(filled, redacted=["title", "scoreDate"])
    seen = record_of(tool.get("/lineItems/l-1"))
    record_of(tool.send("/lineItems/l-1", {"lineItem": {**seen, "description": "Chapter 2"}}))
    after = stored(filled, "/lineItems/l-1")
    assert (after["title"], after["description"]) == ("Item l-1", "Chapter 2")
    for path, name, payload, member in (
        ("/lineItems/new", "lineItem", LINE_ITEM, "title"),
        ("/results/new", "result", RESULT, "scoreDate"),
        ("/categories/new", "category", {"title": "Quiz"}, "title"),
    ):
        assert member in error_message(tool.send(path, {name: payload}), 403, *FORBIDDEN)
        assert Tool(filled).get(path).status_code == 404


@pytest.mark.reading("W-14")
def test_deletion_keeps_hidden_members_of_the_tombstone(filled: Flask) -> None:
    tool = restricted_tool(filled, redacted=["comment"], denied=["users"])
    seen = record_of(tool.get("/results/x-1"))
    record_of(tool.send("/results/x-1", {"result": {**seen, "status": "tobedeleted"}}))
    [after] = items(Tool(filled).get("/results?filter=status='tobedeleted' AND sourcedId='x-1'"))
    assert (after["comment"], after["student"]["sourcedId"]) == ("Good", "u-1")


@pytest.mark.reading("W-14")
@pytest.mark.parametrize(
    ("redacted", "member", "values"),
    [("resultValueMax", "resultValueMin", [1, 99, 101]), ("resultValueMin", "resultValueMax", [50, 1, -1])],
)
def test_limits_do_not_reveal_a_redacted_limit(filled: Flask, redacted: str, member: str, values: list[int]) -> None:
    tool = restricted_tool(filled, redacted=[redacted])
    seen = record_of(tool.get("/lineItems/l-1"))
    messages = {
        error_message(tool.send("/lineItems/l-1", {"lineItem": {**seen, member: value}}), 403, *FORBIDDEN)
        for value in values
    }
    assert len(messages) == 1
    assert member in messages.pop()
    record_of(tool.send("/lineItems/l-1", {"lineItem": {**seen, "description": "Same limits"}}))


@pytest.mark.reading("W-14")
def test_score_status_does_not_reveal_a_redacted_score(filled: Flask) -> None:
    store(filled, "results", "x-2", scoreStatus="exempt", score=None)
    tool = restricted_tool(filled, redacted=["score"])
    for key in ("x-1", "x-2"):
        seen = record_of(tool.get(f"/results/{key}"))
        response = tool.send(f"/results/{key}", {"result": {**seen, "scoreStatus": "submitted"}})
        assert "scoreStatus" in error_message(response, 403, *FORBIDDEN)


@pytest.mark.reading("W-15")
@pytest.mark.parametrize(
    "restrictions", [{"grades": ["09"]}, {"denied": ["results"]}, {"orgs": ["s-1"]}, {"classes": ["c-1"]}]
)
def test_line_item_with_hidden_results_is_not_deleted(filled: Flask, restrictions: dict[str, list[str]]) -> None:
    if set(restrictions) & {"orgs", "classes"}:
        store(filled, "results", "x-2", student="u-3")
    tool = restricted_tool(filled, **restrictions)
    before = Tool(filled).get("/results").json
    payload = {**record_of(tool.get("/lineItems/l-1")), "status": "tobedeleted"}
    for response in (tool.delete("/lineItems/l-1"), tool.send("/lineItems/l-1", {"lineItem": payload})):
        error_message(response, 403, *FORBIDDEN)
    assert Tool(filled).get("/results").json == before
    assert stored(filled, "/lineItems/l-1")["status"] == "active"
    assert tool.delete("/lineItems/l-4").status_code == 204


@pytest.mark.reading("W-15")
def test_line_item_with_hidden_results_does_not_change_class(filled: Flask) -> None:
    tool = restricted_tool(filled, grades=["09"])
    seen = record_of(tool.get("/lineItems/l-1"))
    moved = {**seen, "class": {"sourcedId": "c-2"}}
    error_message(tool.send("/lineItems/l-1", {"lineItem": moved}), 403, *FORBIDDEN)
    record_of(tool.send("/lineItems/l-1", {"lineItem": {**seen, "title": "Renamed"}}))
    record_of(tool.send("/lineItems/l-4", {"lineItem": {**moved, "sourcedId": "l-4"}}))


CATEGORY_WRITES = [
    lambda tool, key: tool.delete(f"/categories/{key}"),
    lambda tool, key: tool.send(f"/categories/{key}", {"category": {"title": "Renamed"}}),
    lambda tool, key: tool.send(f"/categories/{key}", {"category": {"title": "Tests", "status": "tobedeleted"}}),
    lambda tool, key: tool.send("/categories", {"category": {"title": "Renamed", "sourcedId": key}}),
]


@pytest.mark.reading("W-15")
@pytest.mark.parametrize("restrictions", [{"classes": ["c-3"]}, {"orgs": ["s-2"]}, {"denied": ["lineItems"]}])
@pytest.mark.parametrize("write", CATEGORY_WRITES)
def test_shared_category_is_not_changed(filled: Flask, restrictions: dict[str, list[str]], write: Any) -> None:
    """Cat-3 is used by a hidden class, cat-4 by no class: the responses are the same. Cat-2 is of a hidden class."""
    tool = restricted_tool(filled, **restrictions)
    before = Tool(filled).get("/categories").json
    messages = {error_message(write(tool, key), 403, *FORBIDDEN) for key in ("cat-3", "cat-4")}
    assert len(messages) == 1
    response = write(tool, "cat-2")
    if "denied" in restrictions:
        error_message(response, 403, *FORBIDDEN)
    else:
        error_message(response, 404, *UNKNOWN)
    assert Tool(filled).get("/categories").json == before
    error_message(tool.delete("/categories/none"), 404, *UNKNOWN)


@pytest.mark.reading("W-15")
def test_put_of_an_unchanged_shared_category_changes_nothing(filled: Flask) -> None:
    tool = restricted_tool(filled, classes=["c-3"])
    seen = record_of(tool.get("/categories/cat-3"))
    assert record_of(tool.send("/categories/cat-3", {"category": seen})) == seen
    error_message(tool.send("/categories/cat-3", {"category": {"title": "Mine"}}), 403, *FORBIDDEN)


@pytest.mark.reading("W-15")
def test_tool_changes_and_deletes_its_own_category(filled: Flask) -> None:
    tool, other = restricted_tool(filled, classes=["c-3"]), restricted_tool(filled, classes=["c-3"])
    assert tool.send("/categories/mine", {"category": {"title": "Quiz"}}).status_code == 201
    error_message(other.send("/categories/mine", {"category": {"title": "Taken"}}), 403, *FORBIDDEN)
    assert tool.send("/categories/mine", {"category": {"title": "Quizzes"}}).status_code == 200
    item = {**LINE_ITEM, "class": {"sourcedId": "c-3"}, "category": {"sourcedId": "mine"}}
    assert tool.send("/lineItems/i", {"lineItem": item}).status_code == 201
    error_message(tool.delete("/categories/mine"), 422, *INVALID)
    assert tool.send("/categories/mine", {"category": {"title": "Tests"}}).status_code == 200
    assert tool.delete("/lineItems/i").status_code == 204
    Tool(filled).send("/lineItems/hidden", {"lineItem": {**LINE_ITEM, "category": {"sourcedId": "mine"}}})
    error_message(tool.delete("/categories/mine"), 403, *FORBIDDEN)
    error_message(tool.send("/categories/mine", {"category": {"title": "Quiz"}}), 403, *FORBIDDEN)
    assert Tool(filled).delete("/lineItems/hidden").status_code == 204
    assert tool.delete("/categories/mine").status_code == 204


@pytest.mark.reading("W-15")
def test_default_category_is_shared(filled: Flask) -> None:
    tool = restricted_tool(filled, classes=["c-3"])
    assert tool.send("/lineItems/i", {"lineItem": {**LINE_ITEM, "class": {"sourcedId": "c-3"}}}).status_code == 201
    error_message(tool.send("/categories/uncategorized", {"category": {"title": "Mine"}}), 403, *FORBIDDEN)


@pytest.mark.reading("W-15")
def test_line_item_without_visible_categories_is_not_created(filled: Flask) -> None:
    """Its default would be created in a denied collection. The response does not depend on that collection."""
    tool = restricted_tool(filled, denied=["categories"])
    first = error_message(tool.send("/lineItems/i", {"lineItem": LINE_ITEM}), 403, *FORBIDDEN)
    assert "category" in first
    store(filled, "categories", "cat-3", title="Uncategorized")
    assert error_message(tool.send("/lineItems/i", {"lineItem": LINE_ITEM}), 403, *FORBIDDEN) == first


@pytest.mark.reading("W-08")
@pytest.mark.parametrize("restrictions", [{"orgs": ["s-2"]}, {"classes": ["c-3"]}, {"grades": ["11"]}])
def test_write_of_a_hidden_record_is_404(filled: Flask, restrictions: dict[str, list[str]]) -> None:
    tool = restricted_tool(filled, **restrictions)
    before = {path: Tool(filled).get(path).json for path in ("/lineItems", "/results")}
    message = error_message(tool.delete("/results/none"), 404, *UNKNOWN)
    for key in ("x-1", "x-2", "x-4"):
        unknown = message.replace("'none'", f"'{key}'")
        assert error_message(tool.delete(f"/results/{key}"), 404, *UNKNOWN) == unknown
        assert error_message(tool.send(f"/results/{key}", {"result": RESULT}), 404, *UNKNOWN) == unknown
        deletion = {**RESULT, "status": "tobedeleted"}
        assert error_message(tool.send(f"/results/{key}", {"result": deletion}), 404, *UNKNOWN) == unknown
    assert {path: Tool(filled).get(path).json for path in before} == before


@pytest.mark.reading("W-15")
def test_category_with_a_note_of_an_earlier_version_has_no_owner(filled: Flask) -> None:
    tool = restricted_tool(filled, classes=["c-3"])
    assert tool.send("/categories/mine", {"category": {"title": "Quiz"}}).status_code == 201
    values = {"collection": "categories", "record": "mine"}
    with services_of(filled).store.write("default") as transaction:
        transaction.put(grade_tool_records.COLLECTION, [Record("categories/mine", orjson.dumps(values), values)])
    error_message(tool.send("/categories/mine", {"category": {"title": "Mine"}}), 403, *FORBIDDEN)
    assert Tool(filled).send("/categories/mine", {"category": {"title": "Ours"}}).status_code == 200


@pytest.mark.reading("W-07", "W-14")
@pytest.mark.parametrize(
    "restrictions",
    [
        {"redacted": ["startDate"]},
        {"redacted": ["endDate"]},
        {"redacted": ["parent"]},
        {"redacted": ["gradingPeriod"]},
        {"denied": ["academicSessions"]},
    ],
)
def test_no_default_period_depends_on_hidden_values(filled: Flask, restrictions: dict[str, list[str]]) -> None:
    tool = restricted_tool(filled, **restrictions)
    payload = {"lineItem": {**LINE_ITEM, "dueDate": "2023-10-09T08:00:00.000Z"}}
    assert "gradingPeriod" not in record_of(tool.send("/lineItems/new", payload))
    created = stored(filled, "/lineItems/new")
    assert ("gradingPeriod" in created, created["category"]["sourcedId"]) == (False, "uncategorized")
    store(filled, "lineItems", "l-4", gradingPeriod=None)
    for key, expected in (("l-1", "g-1"), ("l-4", None)):
        record_of(tool.send(f"/lineItems/{key}", {"lineItem": {**LINE_ITEM, "title": "Renamed"}}))
        assert stored(filled, f"/lineItems/{key}").get("gradingPeriod", {}).get("sourcedId") == expected


@pytest.mark.reading("W-07", "W-14")
@pytest.mark.parametrize("redacted", ["title", "metadata.classId", "metadata.*"])
def test_no_default_category_depends_on_hidden_values(filled: Flask, redacted: str) -> None:
    tool = restricted_tool(filled, redacted=[redacted])
    for title in ("Global", "Uncategorized"):
        store(filled, "categories", "cat-3", title=title)
        record_of(tool.send("/lineItems/l-1", {"lineItem": LINE_ITEM}))
        assert stored(filled, "/lineItems/l-1")["category"]["sourcedId"] == "cat-1"
        if redacted != "title":
            assert "category is required" in error_message(
                tool.send("/lineItems/new", {"lineItem": LINE_ITEM}), 422, *INVALID
            )
    assert Tool(filled).get("/categories/uncategorized").status_code == 404


@pytest.mark.reading("W-05", "W-14")
@pytest.mark.parametrize("hidden", [{"secret": ["x", "y"]}, {"secret": {"n" * 1000: "x"}}])
def test_limits_of_metadata_do_not_reveal_redacted_parts(filled: Flask, hidden: Row) -> None:
    store(filled, "results", "x-2", metadata=hidden)
    tool = restricted_tool(filled, redacted=["metadata.secret"])
    payload = {**RESULT, "student": {"sourcedId": "u-2"}}
    shown: Row = {"list": [str(number) for number in range(500)]}
    long: Row = {"p" * (32_768 - len("metadata.")): "x"}
    for metadata in (shown, long):
        record_of(tool.send("/results/x-2", {"result": {**payload, "metadata": metadata}}))
        assert stored(filled, "/results/x-2")["metadata"] == hidden | metadata
        too_much = {**metadata, "more": "x"}
        error_message(tool.send("/results/x-2", {"result": {**payload, "metadata": too_much}}), 422, *INVALID)
    ignored = {"secret": ["sent"] * 501, "list": ["a"]}
    record_of(tool.send("/results/x-2", {"result": {**payload, "metadata": ignored}}))
    assert stored(filled, "/results/x-2")["metadata"] == hidden | {"list": ["a"]}


@pytest.mark.reading("W-05", "W-14")
@pytest.mark.every_backend
def test_filters_find_the_metadata_of_four_writers(filled: Flask) -> None:
    """Each of them sends as many values, and as long paths, as it may, and sees nothing of the others."""
    names = ["first", "second", "third", "fourth"]
    sent: dict[str, Row] = {
        name: {name: [f"{name} {number}" for number in range(498)], name + "x" * 32_000: "long"} for name in names
    }
    payload = {**RESULT, "student": {"sourcedId": "u-2"}}
    for name in names:
        others = [f"metadata.{part}" for other in names if other != name for part in sent[other]]
        writer = restricted_tool(filled, redacted=others)
        record_of(writer.send("/results/x-2", {"result": {**payload, "metadata": sent[name]}}))
        for reader in (writer, Tool(filled)):
            assert reader.ids(f"/results?filter=metadata.{name}='{name} 497'") == ["x-2"]
            assert reader.ids(f"/results?filter=metadata.{name}{'x' * 32_000}='long'") == ["x-2"]
    for name in names:
        assert Tool(filled).ids(f"/results?filter=metadata.{name}='{name} 497'") == ["x-2"]
    assert stored(filled, "/results/x-2")["metadata"] == sent["first"] | sent["second"] | sent["third"] | sent["fourth"]


@pytest.mark.reading("W-05", "W-14")
@pytest.mark.parametrize("hidden", [{}, {"secret": "x"}])
def test_other_value_than_an_object_does_not_reveal_redacted_parts(filled: Flask, hidden: Row) -> None:
    tool = restricted_tool(filled, redacted=["metadata.secret"])
    payload = {**RESULT, "student": {"sourcedId": "u-2"}}
    store(filled, "results", "x-2", metadata={"color": "blue", **hidden})
    for invalid in ("text", 5, ["text"], [{"color": "red"}]):
        response = tool.send("/results/x-2", {"result": {**payload, "metadata": invalid}})
        assert "metadata" in error_message(response, 422, *INVALID)
    absent_values: tuple[Any, ...] = ("", [], {}, None)
    for absent in absent_values:
        store(filled, "results", "x-2", metadata={"color": "blue", **hidden})
        record_of(tool.send("/results/x-2", {"result": {**payload, "metadata": absent}}))
        assert stored(filled, "/results/x-2").get("metadata", {}) == hidden

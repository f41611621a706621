"""Writes of categories by grade tools that do not see the class to which a category belongs."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from tests.api.writes.conftest import (
    FORBIDDEN,
    INVALID,
    LINE_ITEM,
    UNKNOWN,
    Tool,
    record_of,
    restricted_tool,
    store,
    stored,
)
from tests.support.api_client import error_message
from tests.support.roster_writes import write_rows
from tests.support.small_roster import DELETED, ROSTER

TITLE = {"title": "Quiz"}


def item_of(class_id: str, **members: Any) -> dict[str, Any]:
    return {"lineItem": {**LINE_ITEM, "class": {"sourcedId": class_id}, **members}}


@pytest.mark.reading("L-12", "W-08")
@pytest.mark.every_backend
@pytest.mark.parametrize("restrictions", [{"classes": ["c-1"]}, {"orgs": ["s-1"]}])
def test_write_of_a_category_of_a_hidden_class_is_404(filled: Flask, restrictions: dict[str, list[str]]) -> None:
    tool = restricted_tool(filled, **restrictions)
    before = stored(filled, "/categories/cat-4")
    unknown = error_message(tool.delete("/categories/none"), 404, *UNKNOWN).replace("'none'", "'cat-4'")
    for metadata in ({}, {"classId": "c-1"}, {"classId": "c-3"}):
        response = tool.send("/categories/cat-4", {"category": {"title": "Elsewhere", "metadata": metadata}})
        assert error_message(response, 404, *UNKNOWN) == unknown
    assert error_message(tool.delete("/categories/cat-4"), 404, *UNKNOWN) == unknown
    response = tool.send("/lineItems/new", item_of("c-1", category={"sourcedId": "cat-4"}))
    nothing = tool.send("/lineItems/new", item_of("c-1", category={"sourcedId": "none"}))
    messages = [error_message(one, 422, *INVALID) for one in (response, nothing)]
    assert messages[0].replace("cat-4", "none") == messages[1]
    assert stored(filled, "/categories/cat-4") == before


@pytest.mark.reading("L-12", "W-04")
@pytest.mark.every_backend
@pytest.mark.parametrize("key", ["new", "mine", "cat-1", "cat-3"])
def test_category_names_no_hidden_class(filled: Flask, key: str) -> None:
    tool = restricted_tool(filled, classes=["c-1"])
    record_of(tool.send("/categories/mine", {"category": {**TITLE, "metadata": {"classId": "c-1"}}}))
    before = Tool(filled).get("/categories").json
    messages = set()
    for class_id in ("c-2", "none", "C-2"):
        for value in (class_id, [class_id], ["c-1", class_id]):
            response = tool.send(f"/categories/{key}", {"category": {**TITLE, "metadata": {"classId": value}}})
            message = error_message(response, 422, *INVALID)
            assert message == f"metadata.classId: there is no class with the id '{class_id}'."
            messages.add(message.replace(class_id, ""))
    assert len(messages) == 1
    assert Tool(filled).get("/categories").json == before
    record_of(Tool(filled).send("/categories/any", {"category": {**TITLE, "metadata": {"classId": "none"}}}))


@pytest.mark.reading("L-12", "W-14", "W-15")
@pytest.mark.every_backend
def test_put_of_an_unchanged_category_keeps_its_hidden_class(filled: Flask) -> None:
    """Line items of c-1 use cat-1, which belongs to c-2, and cat-3, which belongs to no class."""
    tool = restricted_tool(filled, classes=["c-1"])
    store(filled, "categories", "cat-1", metadata={"color": "red", "classId": ["c-2", "c-1"], "size": 3})
    assert tool.send("/lineItems/i", item_of("c-1", category={"sourcedId": "cat-3"})).status_code == 201
    for key, metadata in (("cat-1", {"color": "red", "classId": ["c-1"], "size": 3}), ("cat-3", None)):
        before, seen = stored(filled, f"/categories/{key}"), record_of(tool.get(f"/categories/{key}"))
        assert seen.get("metadata") == metadata
        assert record_of(tool.send(f"/categories/{key}", {"category": seen})) == seen
        assert stored(filled, f"/categories/{key}") == before
    for key in ("cat-1", "cat-3"):  # an assigned category responds as one without a class
        guess = {**record_of(tool.get(f"/categories/{key}")), "metadata": {"classId": "c-1"}}
        error_message(tool.send(f"/categories/{key}", {"category": guess}), 403, *FORBIDDEN)


@pytest.mark.reading("L-12", "W-14")
@pytest.mark.every_backend
def test_tool_that_no_longer_sees_the_class_of_its_category_keeps_it(filled: Flask) -> None:
    tool = restricted_tool(filled, orgs=["s-1"])
    metadata = {"color": "red", "classId": "c-1"}
    record_of(tool.send("/categories/mine", {"category": {**TITLE, "metadata": metadata}}))
    record_of(tool.send("/lineItems/i", item_of("c-2", category={"sourcedId": "mine"})))
    [klass] = [row for row in ROSTER["classes"] if row["sourcedId"] == "c-1"]
    write_rows(filled, {"classes": [klass | {"school": "s-2"}]})
    assert record_of(tool.get("/categories/mine"))["metadata"] == {"color": "red"}
    for sent, shown, kept in (
        ({"color": "blue"}, {"color": "blue"}, {"color": "blue", "classId": "c-1"}),
        ({}, None, {"classId": "c-1"}),
        ({"classId": "c-2"}, {"classId": ["c-2"]}, {"classId": ["c-1", "c-2"]}),
        ({"classId": ["c-2"], "size": 1}, {"classId": ["c-2"], "size": 1}, {"classId": ["c-1", "c-2"], "size": 1}),
        ({"classId": "", "size": 1}, {"size": 1}, {"classId": ["c-1"], "size": 1}),
    ):
        response = tool.send("/categories/mine", {"category": {"title": "Tests", "metadata": sent}})
        assert record_of(response).get("metadata") == shown
        assert stored(filled, "/categories/mine")["metadata"] == kept


@pytest.mark.reading("L-12", "W-14")
def test_put_keeps_the_class_of_a_category_if_classes_are_denied(filled: Flask) -> None:
    tool = restricted_tool(filled, denied=["classes"])
    for sent in ({}, {"classId": "c-1"}, {"classId": "none"}, {"classId": ["c-2"]}):
        payload = {"title": "Renamed", "metadata": {**sent, "color": "red"}}
        assert record_of(tool.send("/categories/cat-1", {"category": payload}))["metadata"] == {"color": "red"}
        assert stored(filled, "/categories/cat-1")["metadata"] == {"classId": "c-2", "color": "red"}


@pytest.mark.reading("L-12", "W-07")
@pytest.mark.every_backend
def test_default_category_changes_no_hidden_category(filled: Flask) -> None:
    """The id of the default category belongs to a deleted category of a hidden class."""
    hidden = {**ROSTER["categories"][0], **DELETED, "sourcedId": "uncategorized", "metadata": {"classId": "c-3"}}
    write_rows(filled, {"categories": [hidden]})
    tool = restricted_tool(filled, classes=["c-1"])
    created = record_of(tool.send("/lineItems/new", item_of("c-1")))
    assert created["category"]["sourcedId"] != "uncategorized"
    assert record_of(tool.get(f"/categories/{created['category']['sourcedId']}"))["title"] == "Uncategorized"
    path = "/categories?filter=sourcedId='uncategorized' AND status='tobedeleted'"
    [kept] = (Tool(filled).get(path).json or {})["categories"]
    assert (kept["title"], kept["metadata"]) == ("Homework", {"classId": "c-3"})

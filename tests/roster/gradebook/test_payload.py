"""Payloads of grade tools: normalized values, and errors that name the invalid member."""

from __future__ import annotations

from typing import Any

import pytest

from backends import Backend
from chalk_flask.oneroster.fields.composites import MAX_METADATA_PATH_LENGTH, MAX_METADATA_VALUES
from chalk_flask.oneroster.resource_type import NO_TIMESTAMP
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.gradebook.writes import InvalidPayloadError
from chalk_flask.roster.integrity.checker import check_store
from tests.roster.conftest import bodies, objects
from tests.roster.gradebook.conftest import ITEM, RESULT, delete, get, put


@pytest.mark.reading("W-03", "W-04", "W-06")
@pytest.mark.parametrize(
    ("name", "payload", "message"),
    [
        ("lineItems", {**ITEM, "class": {"sourcedId": "nope"}}, "class: there is no class with the id 'nope'"),
        ("lineItems", {**ITEM, "category": {"sourcedId": "class-1"}}, "category: there is no category"),
        ("lineItems", {**ITEM, "gradingPeriod": {"sourcedId": "x"}}, "gradingPeriod: there is no academicSession"),
        ("lineItems", {**ITEM, "class": {"sourcedId": "class-1", "type": "org"}}, "class: 'org' is not the type"),
        ("lineItems", {**ITEM, "class": "class-1"}, "class: 'class-1' is not a reference"),
        ("lineItems", {**ITEM, "class": {}}, "class: None is not text"),
        ("lineItems", {**ITEM, "class": {"sourcedId": 5}}, "class: 5 is not text"),
        ("lineItems", {**ITEM, "resultValueMin": 11}, "resultValueMin: 11 is greater than resultValueMax 10.5"),
        ("lineItems", {**ITEM, "resultValueMax": "many"}, "resultValueMax: 'many' is not a base-10 number"),
        ("lineItems", {**ITEM, "resultValueMax": True}, "resultValueMax: True is not a number"),
        ("lineItems", {**ITEM, "title": ["x"]}, r"title: \['x'\] is not text"),
        ("lineItems", {**ITEM, "title": "", "dueDate": None}, "title is required; dueDate is required"),
        ("lineItems", {**ITEM, "dueDate": "soon"}, "dueDate: 'soon' is not a date-time"),
        ("lineItems", {**ITEM, "status": "gone"}, "status: 'gone' is not one of: active, tobedeleted"),
        ("lineItems", {**ITEM, "metadata": "x"}, "metadata: 'x' is not an object"),
        ("results", {**RESULT, "lineItem": {"sourcedId": "cat-1"}}, "lineItem: there is no lineItem"),
        ("results", {**RESULT, "student": {"sourcedId": "Pupil-1"}}, "student: there is no user"),
        ("results", {**RESULT, "student": {"sourcedId": "pupil-1", "type": "teacher"}}, "student: 'teacher' is not"),
        ("results", {**RESULT, "score": None}, "score is required"),
        ("results", {**RESULT, "score": None, "scoreStatus": "partially graded"}, "score is required"),
        ("results", {**RESULT, "score": None, "status": "fully graded"}, "score is required"),
        ("results", {**RESULT, "status": "Fully Graded"}, "status: 'Fully Graded' is not one of: active, tobedeleted"),
        ("results", {**RESULT, "status": ["fully graded"]}, "status: "),
        ("lineItems", {**ITEM, "status": "fully graded"}, "status: 'fully graded' is not one of"),
        ("results", {**RESULT, "scoreStatus": "graded"}, "scoreStatus: 'graded' is not one of"),
        ("results", {**RESULT, "scoreDate": "2026-02-30"}, "scoreDate: '2026-02-30' is not a calendar date"),
        ("results", {}, "lineItem is required; student is required; scoreDate is required"),
        ("categories", {}, "title is required"),
    ],
)
def test_invalid_payload_is_rejected_with_member_name(
    roster: Backend, name: str, payload: dict[str, Any], message: str
) -> None:
    before = bodies(roster)
    with pytest.raises(InvalidPayloadError, match=message):
        put(roster, name, "x", payload)
    assert bodies(roster) == before


@pytest.mark.reading("A-19", "W-03", "W-05", "W-06")
@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"score": 300}, {"score": 300}),
        ({"score": -0.5}, {"score": -0.5}),
        ({"score": "87.50"}, {"score": 87.5}),
        ({"score": 80.0}, {"score": 80}),
        ({"scoreStatus": "exempt"}, {"scoreStatus": "exempt", "score": 9.25}),
        ({"scoreStatus": "exempt", "score": None}, {"scoreStatus": "exempt", "score": None}),
        ({"scoreStatus": None}, {"scoreStatus": "fully graded", "score": 9.25}),
        ({"scoreStatus": ""}, {"scoreStatus": "fully graded", "score": 9.25}),
        ({"scoreStatus": None, "score": 0}, {"scoreStatus": "fully graded", "score": 0}),
        ({"scoreStatus": None, "score": None}, {"scoreStatus": "not submitted", "score": None}),
        ({"scoreStatus": "not submitted", "score": None}, {"scoreStatus": "not submitted", "score": None}),
        ({"scoreStatus": "submitted", "score": ""}, {"scoreStatus": "submitted", "score": None}),
        ({"scoreStatus": "submitted", "score": 3}, {"scoreStatus": "submitted", "score": 3}),
        ({"scoreStatus": None, "status": "fully graded"}, {"scoreStatus": "fully graded", "status": "active"}),
        ({"scoreStatus": None, "status": "submitted", "score": None}, {"scoreStatus": "submitted", "status": "active"}),
        ({"scoreStatus": "exempt", "status": "fully graded"}, {"scoreStatus": "exempt", "status": "active"}),
        ({"comment": ""}, {"comment": None}),
        ({"scoreDate": "2026-09-09T22:15:00.000Z"}, {"scoreDate": "2026-09-09"}),
        ({"dateLastModified": "yesterday", "shoeSize": 44}, {"shoeSize": None}),
        ({"student": {"sourcedId": "pupil-1", "type": "student", "href": "x"}}, {}),
        ({"metadata": {"a": {"b": [1, None, {"c": ""}]}}}, {"metadata": {"a": {"b": [1, None, {"c": ""}]}}}),
        ({"metadata": {"href": "/users/x", "\\/": "\\/"}}, {"metadata": {"href": "/users/x", "\\/": "\\/"}}),
        ({"metadata": {}}, {"metadata": None}),
    ],
)
def test_lenient_payload_is_normalized(roster: Backend, members: dict[str, Any], expected: dict[str, Any]) -> None:
    put(roster, "results", "r", {**RESULT, **members})
    record = get(roster, "results", "r")
    assert {name: record.get(name) for name in expected} == expected
    assert record["dateLastModified"] not in ("yesterday", NO_TIMESTAMP)
    assert check_store(roster).problems == []


def nested(value: Any, *names: str) -> dict[str, Any]:
    """Return metadata in which objects with these names surround the value."""
    for name in reversed(names):
        value = {name: value}
    metadata: dict[str, Any] = value
    return metadata


TEXTS = [f"value {number}" for number in range(MAX_METADATA_VALUES)]
TIMESTAMP = "2026-09-01T10:00:00.000Z"
LONG_NAME = "x" * (MAX_METADATA_PATH_LENGTH - len("metadata."))


@pytest.mark.reading("W-05")
@pytest.mark.parametrize(
    ("metadata", "limit"),
    [
        (dict.fromkeys((*TEXTS, "more"), "x"), MAX_METADATA_VALUES),
        ({"list": [*TEXTS, "more"]}, MAX_METADATA_VALUES),
        ({"list": ["same"] * (MAX_METADATA_VALUES + 1)}, MAX_METADATA_VALUES),
        ({"rows": [{"a": text, "b": text} for text in TEXTS]}, MAX_METADATA_VALUES),
        (nested([[[TEXTS, "more"]]], "a", "b"), MAX_METADATA_VALUES),
        ({LONG_NAME + "x": True}, MAX_METADATA_PATH_LENGTH),
        (nested({"a": 1, "b": 2}, "x" * 20_000), MAX_METADATA_PATH_LENGTH),
        (nested({str(n): n for n in range(100)}, *("x" * 100,) * 10), MAX_METADATA_PATH_LENGTH),
    ],
    ids=["members", "list", "repeated", "rows", "nested list", "name", "nested name", "many names"],
)
def test_metadata_beyond_a_limit_is_rejected(roster: Backend, metadata: dict[str, Any], limit: int) -> None:
    with pytest.raises(InvalidPayloadError, match=f"metadata: .* {limit} "):
        put(roster, "categories", "x", {"title": "x", "metadata": metadata})
    assert "x" not in objects(roster, "categories")


LONG_TEXT = "x" * 65_537


@pytest.mark.reading("W-16")
@pytest.mark.parametrize(
    ("name", "payload", "member"),
    [
        ("categories", {"title": LONG_TEXT}, "title"),
        ("lineItems", {**ITEM, "description": LONG_TEXT}, "description"),
        ("results", {**RESULT, "comment": LONG_TEXT}, "comment"),
        ("categories", {"title": "x", "metadata": {"rows": [{"a": "short"}, {"b": LONG_TEXT}]}}, "metadata"),
    ],
)
def test_text_beyond_the_limit_is_rejected(roster: Backend, name: str, payload: dict[str, Any], member: str) -> None:
    before = bodies(roster)
    with pytest.raises(InvalidPayloadError, match=f"^{member}: the text has 65537 characters; at most 65536 "):
        put(roster, name, "x", payload)
    assert bodies(roster) == before


@pytest.mark.reading("W-16")
def test_text_of_the_maximum_length_is_stored_unchanged(roster: Backend) -> None:
    put(roster, "categories", "x", {"title": "é" * 65_536})
    assert get(roster, "categories", "x")["title"] == "é" * 65_536


@pytest.mark.every_backend
@pytest.mark.reading("W-05")
@pytest.mark.parametrize(
    "metadata",
    [
        dict.fromkeys(TEXTS, "x"),
        {"list": TEXTS},
        {LONG_NAME: "x"},
        {"rows": [{"a" * 3_000: text, "b" * 3_000: text} for text in TEXTS[:250]]},
        {"nothing": [None, {}, []] * 2000},
        {"text": "x" * 65_536},
    ],
    ids=["members", "list", "name", "rows", "empty", "long text"],
)
def test_metadata_within_the_limits_is_stored_unchanged(roster: Backend, metadata: dict[str, Any]) -> None:
    put(roster, "categories", "x", {"title": "x", "metadata": metadata})
    assert get(roster, "categories", "x")["metadata"] == metadata
    assert check_store(roster).problems == []


@pytest.mark.every_backend
def test_stored_metadata_beyond_the_limits_does_not_prevent_a_deletion(roster: Backend) -> None:
    metadata = dict.fromkeys((*TEXTS, "more"), "x")  # earlier versions stored any number
    data = {"sourcedId": "x", "status": "active", "dateLastModified": TIMESTAMP, "title": "x", "metadata": metadata}
    with roster.write("default") as transaction:
        transaction.put("categories", [FILES["categories"].record(data)])
    delete(roster, "categories", "x")
    assert get(roster, "categories", "x")["status"] == "tobedeleted"
    assert get(roster, "categories", "x")["metadata"] == metadata

"""Paging, sorting and field selection (digest 4.2, 4.4, 4.5; design section 5)."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.support.api_client import CHALK, IMS, Consumer, error_message, items
from tests.support.small_roster import ROSTER

USERS = [row["sourcedId"] for row in ROSTER["users"]]


def links(answer: TestResponse) -> dict[str, str]:
    """The Link header: relation to URL. No comma may stand inside a URL."""
    found = {}
    for entry in answer.headers["Link"].split(", "):
        url, relation = entry.split("; ")
        assert (url[0], url[-1]) == ("<", ">")
        assert "," not in url
        found[relation.removeprefix('rel="').removesuffix('"')] = url[1:-1]
    return found


@pytest.mark.parametrize("root", [CHALK, IMS])
def test_limit_and_offset_cut_a_page_and_the_total_counts_before(consumer: Consumer, root: str) -> None:
    answer = consumer.get(f"{root}/users?limit=2&offset=3")
    assert [item["sourcedId"] for item in items(answer)] == USERS[3:5]
    assert answer.headers["X-Total-Count"] == answer.headers["X-Count"] == str(len(USERS))


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 9, 10, 10_000, 10**18 - 1])
def test_walking_along_next_visits_every_record_once(consumer: Consumer, limit: int) -> None:
    """A-15, Q-02"""
    url, seen = f"/users?limit={limit}&sort=role", []
    while url:
        answer = consumer.get(url)
        seen += [item["sourcedId"] for item in items(answer)]
        url = links(answer).get("next", "").removeprefix("http://localhost")
    assert sorted(seen) == USERS


@pytest.mark.parametrize(
    ("limit", "offset", "expected"),
    [
        (3, 0, {"first": 0, "next": 3, "last": 6}),
        (3, 3, {"first": 0, "prev": 0, "next": 6, "last": 6}),
        (3, 6, {"first": 0, "prev": 3, "last": 6}),
        (4, 1, {"first": 0, "prev": 0, "next": 5, "last": 8}),
        (4, 5, {"first": 0, "prev": 1, "last": 8}),
        (100, 0, {"first": 0, "last": 0}),
        (3, 900, {"first": 0, "prev": 897, "last": 6}),
    ],
)
def test_links_lead_to_the_pages_around(consumer: Consumer, limit: int, offset: int, expected: dict[str, int]) -> None:
    """A-17"""
    found = links(consumer.get(f"/users?limit={limit}&offset={offset}"))
    base = f"http://localhost{IMS}/users?limit={limit}&offset="
    assert found == {relation: f"{base}{start}" for relation, start in expected.items()}


def test_links_of_an_empty_set_lead_to_its_beginning(consumer: Consumer) -> None:
    found = links(consumer.get("/users?limit=5&filter=familyName='Nobody'"))
    assert {relation: url.rpartition("=")[2] for relation, url in found.items()} == {"first": "0", "last": "0"}


def test_links_keep_every_other_parameter_encoded_and_the_path_as_it_was_asked(consumer: Consumer) -> None:
    query = "fields=sourcedId,grades&filter=grades~'09,10'+AND+status='active'&x=%C3%A9&limit=1"
    answer = consumer.get(f"/sis/schools/s-1/students/?{query}")
    following = links(answer)["next"]
    assert following == (
        f"http://localhost{IMS}/sis/schools/s-1/students/?fields=sourcedId%2Cgrades"
        "&filter=grades~%2709%2C10%27%20AND%20status%3D%27active%27&x=%C3%A9&limit=1&offset=1"
    )
    assert [item["sourcedId"] for item in items(consumer.get(following.removeprefix("http://localhost")))] == ["u-2"]


def test_the_root_without_pages_has_links_only_when_a_limit_is_asked_for(consumer: Consumer) -> None:
    """Q-01"""
    assert "Link" not in consumer.get(f"{CHALK}/users?offset=1").headers
    assert "Link" in consumer.get(f"{CHALK}/users?offset=1&limit=1").headers
    assert len(consumer.ids(f"{CHALK}/users?offset=1")) == len(USERS) - 1


@pytest.mark.parametrize("offset", [9, 10, 10**18 - 1])
def test_an_offset_beyond_the_end_is_an_empty_page(consumer: Consumer, offset: int) -> None:
    answer = consumer.get(f"/users?offset={offset}")
    assert answer.json == {"users": []}
    assert answer.headers["X-Total-Count"] == str(len(USERS))


WRONG = [
    "0",
    "-1",
    "1e9",
    "%2B1",
    "+1",
    "1_000",
    "1.0",
    "",
    "%20",
    "1%20",
    "abc",
    "١",
    "０",
    "9" * 19,
    "0x1",
    "1,2",
    "%00",
]


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("name", ["limit", "offset"])
def test_a_bad_limit_or_offset_is_refused(consumer: Consumer, name: str, value: str) -> None:
    """Q-03"""
    if (name, value) == ("offset", "0"):
        assert consumer.get("/users?offset=0").status_code == 200
    else:
        assert name in error_message(consumer.get(f"/users?{name}={value}"), 400, "invalid_data", "invalid data")


@pytest.mark.parametrize("name", ["limit", "offset", "sort", "orderBy", "filter", "fields"])
def test_a_parameter_given_twice_is_refused(consumer: Consumer, name: str) -> None:
    """Q-04"""
    answer = consumer.get(f"/users?{name}=1&{name}=1")
    assert error_message(answer, 400, "invalid_data", "invalid data") == f"{name} is given more than once."


@pytest.mark.parametrize("query", ["limit%20=2", "limit+=0", "Limit=0", "foo=1&foo=2", "&&=&", "%ff=%ff", "LIMIT", "?"])
def test_unknown_parameters_are_ignored(consumer: Consumer, query: str) -> None:
    """Q-04"""
    assert consumer.ids(f"/users?{query}") == USERS


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1&limit=1", "offset=-1", "sort=x", "orderBy=x", "filter=x", "filter="]
)
def test_a_single_read_knows_fields_alone(consumer: Consumer, query: str) -> None:
    """Q-04"""
    assert consumer.get(f"/users/u-1?{query}").json == consumer.get("/users/u-1").json


def test_above_the_maximum_of_the_operator_a_limit_is_refused(serve: Callable[..., Flask]) -> None:
    """A-15, Q-02"""
    limited = Consumer(serve(max_limit=3))
    assert limited.ids("/users?limit=3") == USERS[:3]
    assert "3" in error_message(limited.get("/users?limit=4"), 400, "invalid_data", "invalid data")
    assert limited.ids("/users") == USERS[:3]
    assert limited.ids(f"{CHALK}/users") == USERS


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("orgs?sort=name", "p-1 d-1 s-1 s-2 s-3"),
        ("orgs?sort=name&orderBy=desc", "s-3 s-2 s-1 d-1 p-1"),
        ("orgs?sort=name&orderBy=ASC", "p-1 d-1 s-1 s-2 s-3"),
        ("orgs?sort=type&orderBy=desc", "s-1 s-2 s-3 d-1 p-1"),
        ("orgs?sort=parent", "s-1 s-2 s-3 p-1 d-1"),
        ("orgs?sort=parent.sourcedId&orderBy=Desc", "d-1 p-1 s-1 s-2 s-3"),
        ("orgs?orderBy=desc", "s-3 s-2 s-1 p-1 d-1"),
        ("orgs?sort=&orderBy=", "d-1 p-1 s-1 s-2 s-3"),
        ("orgs?sort=%20name%20", "p-1 d-1 s-1 s-2 s-3"),
        ("orgs?sort=metadata.region", "s-3 d-1 p-1 s-1 s-2"),
        ("results?sort=score", "x-3 x-1 x-2"),
        ("lineItems?sort=resultValueMax&orderBy=desc", "l-1 l-4 l-2"),
        ("users?sort=familyName&limit=5&offset=1", "u-2 u-4 u-3 u-1 u-6"),
        ("users?sort=grades&limit=2", "u-1 u-2"),
        ("academicSessions?sort=schoolYear&limit=2", "g-1 g-2"),
        ("enrollments?sort=endDate&limit=1", "e-5"),
        ("users?sort=dateLastModified&orderBy=desc&limit=1", "u-8"),
    ],
)
def test_records_are_sorted_by_any_path_and_then_by_id(consumer: Consumer, query: str, expected: str) -> None:
    """Q-16"""
    assert consumer.ids(f"/{query}") == expected.split()


@pytest.mark.parametrize("value", ["up", "descending", "1", "asc,desc", "%20asc"])
def test_a_bad_order_is_refused(consumer: Consumer, value: str) -> None:
    """Q-16"""
    assert "orderBy" in error_message(consumer.get(f"/users?orderBy={value}"), 400, "invalid_data", "invalid data")


@pytest.mark.parametrize(
    "name", ["shoeSize", "familyname", "password", "orgs.href", "metadata", "*", "a'b\"c", "é" * 500]
)
def test_an_unknown_sort_field_is_a_warning_and_the_default_order(consumer: Consumer, name: str) -> None:
    """A-03"""
    answer = consumer.get(f"/users?orderBy=desc&sort={quote(name)}")
    assert answer.status_code == 200
    assert answer.json is not None
    assert list(answer.json) == ["users", "statusInfoSet"]
    assert [item["sourcedId"] for item in items(answer)] == USERS
    assert answer.json["statusInfoSet"] == [
        {
            "imsx_codeMajor": "success",
            "imsx_severity": "warning",
            "imsx_operationRefIdentifier": "getAllUsers",
            "imsx_description": name[:200],
            "imsx_codeMinor": "invalid_sort_field",
        }
    ]


@pytest.mark.parametrize(
    ("fields", "members"),
    [
        ("givenName,familyName", ["givenName", "familyName"]),
        ("familyName,%20givenName%20,,familyName", ["givenName", "familyName"]),
        ("sourcedId", ["sourcedId"]),
        ("orgs", ["orgs"]),
        ("middleName", []),
        ("metadata,status", ["status"]),
    ],
)
def test_selected_fields_come_and_no_others(consumer: Consumer, fields: str, members: list[str]) -> None:
    """Q-17"""
    answer = consumer.get(f"/users/u-1?fields={fields}")
    whole = consumer.get("/users/u-1").json
    assert answer.json is not None
    assert whole is not None
    assert answer.json == {"user": {name: whole["user"][name] for name in members}}
    listed = items(consumer.get(f"/users?limit=3&fields={fields}"))
    assert listed[0] == answer.json["user"]
    assert len(listed) == 3


@pytest.mark.parametrize(
    "fields", ["shoeSize", "givenName,shoeSize", "GivenName", "orgs.sourcedId", "password", "href"]
)
@pytest.mark.parametrize("path", ["/users", "/users/u-1"])
def test_an_unknown_field_selects_everything_with_a_warning(consumer: Consumer, path: str, fields: str) -> None:
    """A-03, Q-17"""
    answer = consumer.get(f"{path}?fields={fields}").json
    assert answer is not None
    [warning] = answer.pop("statusInfoSet")
    assert answer == consumer.get(path).json
    assert warning["imsx_codeMajor"] == "success"
    assert warning["imsx_severity"] == "warning"
    assert warning["imsx_codeMinor"] == "invalid_selection_field"
    assert warning["imsx_description"] == fields.removeprefix("givenName,")


@pytest.mark.parametrize("fields", ["", ",", "%20", "%20,%20,,", "+"])
@pytest.mark.parametrize("path", ["/users", "/users/u-1"])
def test_a_blank_selection_is_refused(consumer: Consumer, path: str, fields: str) -> None:
    minor = "invalid_blank_selection_field"
    error_message(consumer.get(f"{path}?fields={fields}"), 400, minor, minor)


def test_two_warnings_stand_side_by_side(consumer: Consumer) -> None:
    answer = consumer.get("/users?sort=a&fields=b").json
    assert answer is not None
    assert [entry["imsx_codeMinor"] for entry in answer["statusInfoSet"]] == [
        "invalid_sort_field",
        "invalid_selection_field",
    ]

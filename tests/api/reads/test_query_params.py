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
def test_limit_and_offset_select_a_page_of_the_total(consumer: Consumer, root: str) -> None:
    answer = consumer.get(f"{root}/users?limit=2&offset=3")
    assert [item["sourcedId"] for item in items(answer)] == USERS[3:5]
    assert answer.headers["X-Total-Count"] == answer.headers["X-Count"] == str(len(USERS))


@pytest.mark.reading("A-15", "Q-02")
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 9, 10, 10_000, 10**18 - 1])
def test_next_links_visit_every_record_once(consumer: Consumer, limit: int) -> None:
    url, seen = f"/users?limit={limit}&sort=role", []
    while url:
        answer = consumer.get(url)
        seen += [item["sourcedId"] for item in items(answer)]
        url = links(answer).get("next", "").removeprefix("http://localhost")
    assert sorted(seen) == USERS


@pytest.mark.reading("A-17")
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
def test_links_lead_to_the_neighbor_pages(
    consumer: Consumer, limit: int, offset: int, expected: dict[str, int]
) -> None:
    found = links(consumer.get(f"/users?limit={limit}&offset={offset}"))
    base = f"http://localhost{IMS}/users?limit={limit}&offset="
    assert found == {relation: f"{base}{start}" for relation, start in expected.items()}


def test_links_of_an_empty_collection_lead_to_offset_0(consumer: Consumer) -> None:
    found = links(consumer.get("/users?limit=5&filter=familyName='Nobody'"))
    assert {relation: url.rpartition("=")[2] for relation, url in found.items()} == {"first": "0", "last": "0"}


def test_links_keep_path_and_other_parameters(consumer: Consumer) -> None:
    query = "fields=sourcedId,grades&filter=grades~'09,10'+AND+status='active'&x=%C3%A9&limit=1"
    answer = consumer.get(f"/sis/schools/s-1/students/?{query}")
    following = links(answer)["next"]
    assert following == (
        f"http://localhost{IMS}/sis/schools/s-1/students/?fields=sourcedId%2Cgrades"
        "&filter=grades~%2709%2C10%27%20AND%20status%3D%27active%27&x=%C3%A9&limit=1&offset=1"
    )
    assert [item["sourcedId"] for item in items(consumer.get(following.removeprefix("http://localhost")))] == ["u-2"]


@pytest.mark.reading("Q-01")
def test_chalks_root_has_links_only_with_a_limit(consumer: Consumer) -> None:
    assert "Link" not in consumer.get(f"{CHALK}/users?offset=1").headers
    assert "Link" in consumer.get(f"{CHALK}/users?offset=1&limit=1").headers
    assert len(consumer.ids(f"{CHALK}/users?offset=1")) == len(USERS) - 1


@pytest.mark.parametrize("offset", [9, 10, 10**18 - 1])
def test_offset_beyond_the_end_is_an_empty_page(consumer: Consumer, offset: int) -> None:
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


@pytest.mark.reading("Q-03")
@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("name", ["limit", "offset"])
def test_invalid_limit_or_offset_is_rejected(consumer: Consumer, name: str, value: str) -> None:
    if (name, value) == ("offset", "0"):
        assert consumer.get("/users?offset=0").status_code == 200
    else:
        assert name in error_message(consumer.get(f"/users?{name}={value}"), 400, "invalid_data", "invalid data")


@pytest.mark.reading("Q-04")
@pytest.mark.parametrize("name", ["limit", "offset", "sort", "orderBy", "filter", "fields"])
def test_repeated_parameter_is_rejected(consumer: Consumer, name: str) -> None:
    answer = consumer.get(f"/users?{name}=1&{name}=1")
    assert error_message(answer, 400, "invalid_data", "invalid data") == f"{name} is given more than once."


@pytest.mark.reading("Q-04")
@pytest.mark.parametrize("query", ["limit%20=2", "limit+=0", "Limit=0", "foo=1&foo=2", "&&=&", "%ff=%ff", "LIMIT", "?"])
def test_unknown_parameters_are_ignored(consumer: Consumer, query: str) -> None:
    assert consumer.ids(f"/users?{query}") == USERS


@pytest.mark.reading("Q-04")
@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1&limit=1", "offset=-1", "sort=x", "orderBy=x", "filter=x", "filter="]
)
def test_single_read_ignores_all_parameters_but_fields(consumer: Consumer, query: str) -> None:
    assert consumer.get(f"/users/u-1?{query}").json == consumer.get("/users/u-1").json


@pytest.mark.reading("A-15", "Q-02")
def test_limit_above_max_limit_is_rejected(serve: Callable[..., Flask]) -> None:
    limited = Consumer(serve(max_limit=3))
    assert limited.ids("/users?limit=3") == USERS[:3]
    assert "3" in error_message(limited.get("/users?limit=4"), 400, "invalid_data", "invalid data")
    assert limited.ids("/users") == USERS[:3]
    assert limited.ids(f"{CHALK}/users") == USERS


@pytest.mark.reading("Q-16")
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
def test_records_are_sorted_by_path_and_then_by_id(consumer: Consumer, query: str, expected: str) -> None:
    assert consumer.ids(f"/{query}") == expected.split()


@pytest.mark.reading("Q-16")
@pytest.mark.parametrize("value", ["up", "descending", "1", "asc,desc", "%20asc"])
def test_invalid_order_is_rejected(consumer: Consumer, value: str) -> None:
    assert "orderBy" in error_message(consumer.get(f"/users?orderBy={value}"), 400, "invalid_data", "invalid data")


@pytest.mark.reading("A-03")
@pytest.mark.parametrize(
    "name", ["shoeSize", "familyname", "password", "orgs.href", "metadata", "*", "a'b\"c", "é" * 500]
)
def test_unknown_sort_field_is_a_warning(consumer: Consumer, name: str) -> None:
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


@pytest.mark.reading("Q-17")
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
def test_fields_selects_members(consumer: Consumer, fields: str, members: list[str]) -> None:
    answer = consumer.get(f"/users/u-1?fields={fields}")
    whole = consumer.get("/users/u-1").json
    assert answer.json is not None
    assert whole is not None
    assert answer.json == {"user": {name: whole["user"][name] for name in members}}
    listed = items(consumer.get(f"/users?limit=3&fields={fields}"))
    assert listed[0] == answer.json["user"]
    assert len(listed) == 3


@pytest.mark.reading("A-03", "Q-17")
@pytest.mark.parametrize(
    "fields", ["shoeSize", "givenName,shoeSize", "GivenName", "orgs.sourcedId", "password", "href"]
)
@pytest.mark.parametrize("path", ["/users", "/users/u-1"])
def test_unknown_field_selects_everything_with_a_warning(consumer: Consumer, path: str, fields: str) -> None:
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
def test_blank_selection_is_rejected(consumer: Consumer, path: str, fields: str) -> None:
    minor = "invalid_blank_selection_field"
    error_message(consumer.get(f"{path}?fields={fields}"), 400, minor, minor)


def test_two_warnings_are_both_returned(consumer: Consumer) -> None:
    answer = consumer.get("/users?sort=a&fields=b").json
    assert answer is not None
    assert [entry["imsx_codeMinor"] for entry in answer["statusInfoSet"]] == [
        "invalid_sort_field",
        "invalid_selection_field",
    ]

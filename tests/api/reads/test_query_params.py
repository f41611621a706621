"""Query parameters: pages, links, filters, sorting and field selection."""

from __future__ import annotations

import random
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from chalk_flask.api.errors import ApiError
from chalk_flask.api.reads import query_params
from chalk_flask.api.reads.query_params import QueryParams, parse_query_params
from chalk_flask.api.routes import READ_ROUTES, ROOTS
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.permissions.policy import UNRESTRICTED
from tests.conftest import services_of
from tests.support.api_client import CHALK, IMS, Consumer, error_message, items
from tests.support.small_roster import ROSTER, user

USERS = [row["sourcedId"] for row in ROSTER["users"]]


def links(response: TestResponse) -> dict[str, str]:
    """Return the URL of each relation in the Link header. URLs must not contain commas."""
    urls = {}
    for entry in response.headers["Link"].split(", "):
        url, relation = entry.split("; ")
        assert (url[0], url[-1]) == ("<", ">")
        assert "," not in url
        urls[relation.removeprefix('rel="').removesuffix('"')] = url[1:-1]
    return urls


@pytest.mark.parametrize("root", [CHALK, IMS])
def test_limit_and_offset_select_a_page_of_the_total(consumer: Consumer, root: str) -> None:
    response = consumer.get(f"{root}/users?limit=2&offset=3")
    assert [item["sourcedId"] for item in items(response)] == USERS[3:5]
    assert (response.headers["X-Total-Count"], response.headers["X-Count"]) == (str(len(USERS)), "2")


@pytest.mark.reading("A-15", "Q-02")
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 9, 10, 10_000, 10**18 - 1])
def test_next_links_visit_every_record_once(consumer: Consumer, limit: int) -> None:
    url, ids = f"/users?limit={limit}&sort=role", []
    while url:
        response = consumer.get(url)
        ids += [item["sourcedId"] for item in items(response)]
        url = links(response).get("next", "").removeprefix("http://localhost")
    assert sorted(ids) == USERS


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
    urls = links(consumer.get(f"/users?limit={limit}&offset={offset}"))
    base = f"http://localhost{IMS}/users?limit={limit}&offset="
    assert urls == {relation: f"{base}{start}" for relation, start in expected.items()}


def test_links_of_an_empty_collection_lead_to_offset_0(consumer: Consumer) -> None:
    urls = links(consumer.get("/users?limit=5&filter=familyName='Unused'"))
    assert {relation: url.rpartition("=")[2] for relation, url in urls.items()} == {"first": "0", "last": "0"}


def test_links_keep_path_and_other_parameters(consumer: Consumer) -> None:
    query = "fields=sourcedId,grades&filter=grades~'09,10'+AND+status='active'&x=%C3%A9&limit=1"
    response = consumer.get(f"/sis/schools/s-1/students/?{query}")
    next_url = links(response)["next"]
    assert next_url == (
        f"http://localhost{IMS}/sis/schools/s-1/students/?fields=sourcedId%2Cgrades"
        "&filter=grades~%2709%2C10%27%20AND%20status%3D%27active%27&x=%C3%A9&limit=1&offset=1"
    )
    assert [item["sourcedId"] for item in items(consumer.get(next_url.removeprefix("http://localhost")))] == ["u-2"]


@pytest.mark.reading("Q-01")
def test_chalks_root_has_links_only_with_a_limit(consumer: Consumer) -> None:
    assert "Link" not in consumer.get(f"{CHALK}/users?offset=1").headers
    assert "Link" in consumer.get(f"{CHALK}/users?offset=1&limit=1").headers
    assert len(consumer.ids(f"{CHALK}/users?offset=1")) == len(USERS) - 1


@pytest.mark.parametrize("offset", [9, 10, 10**18 - 1])
def test_offset_beyond_the_end_is_an_empty_page(consumer: Consumer, offset: int) -> None:
    response = consumer.get(f"/users?offset={offset}")
    assert response.json == {"users": []}
    assert response.headers["X-Total-Count"] == str(len(USERS))


INVALID_NUMBERS = [
    "-1",
    "1e9",
    "%2B1",
    "+1",
    "1_000",
    "1.0",
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
@pytest.mark.parametrize("name", ["limit", "offset"])
def test_invalid_limit_or_offset_is_rejected(consumer: Consumer, name: str) -> None:
    for value in INVALID_NUMBERS:
        response = consumer.get(f"/users?{name}={value}")
        assert name in error_message(response, 400, "invalid_data", "invalid data"), value


@pytest.mark.reading("Q-03")
@pytest.mark.parametrize("root", [CHALK, IMS])
@pytest.mark.parametrize("query", ["limit=", "offset=", "limit=&offset=", "limit", "sort=role&limit=&offset"])
def test_limit_or_offset_without_a_value_counts_as_absent(consumer: Consumer, root: str, query: str) -> None:
    response = consumer.get(f"{root}/users?{query}")
    without = consumer.get(f"{root}/users?{'sort=role' if 'sort' in query else ''}")
    assert (response.status_code, response.json) == (200, without.json)
    assert ("Link" in response.headers) == ("Link" in without.headers)
    assert consumer.ids(f"{root}/users?limit=&offset=7") == USERS[7:]


@pytest.mark.reading("Q-03")
def test_zero_is_an_offset_and_no_limit(consumer: Consumer) -> None:
    assert consumer.get("/users?offset=0").status_code == 200
    assert "limit" in error_message(consumer.get("/users?limit=0"), 400, "invalid_data", "invalid data")


@pytest.mark.reading("Q-04")
@pytest.mark.parametrize("name", ["limit", "offset", "sort", "orderBy", "filter", "fields"])
def test_repeated_parameter_is_rejected(consumer: Consumer, name: str) -> None:
    response = consumer.get(f"/users?{name}=1&{name}=1")
    assert (
        error_message(response, 400, "invalid_data", "invalid data")
        == f"The parameter {name} is repeated. Send it once."
    )


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
    consumer = Consumer(serve(max_limit=3))
    assert consumer.ids("/users?limit=3") == USERS[:3]
    assert "3" in error_message(consumer.get("/users?limit=4"), 400, "invalid_data", "invalid data")
    assert consumer.ids("/users") == USERS[:3]
    assert consumer.ids(f"{CHALK}/users") == USERS


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
        ("orgs?sort=name&orderBy=acs", "p-1 d-1 s-1 s-2 s-3"),
        ("orgs?sort=name&orderBy=Acs", "p-1 d-1 s-1 s-2 s-3"),
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
@pytest.mark.parametrize("value", ["up", "descending", "1", "asc,desc", "%20asc", "dcs", "acsending"])
def test_invalid_order_is_rejected(consumer: Consumer, value: str) -> None:
    assert "orderBy" in error_message(consumer.get(f"/users?orderBy={value}"), 400, "invalid_data", "invalid data")


@pytest.mark.reading("A-03")
@pytest.mark.parametrize(
    "name", ["shoeSize", "familyname", "password", "orgs.href", "metadata", "*", "a'b\"c", "é" * 500]
)
def test_unknown_sort_field_is_a_warning(consumer: Consumer, name: str) -> None:
    response = consumer.get(f"/users?orderBy=desc&sort={quote(name)}")
    assert response.status_code == 200
    assert response.json is not None
    assert list(response.json) == ["users", "statusInfoSet"]
    assert [item["sourcedId"] for item in items(response)] == USERS
    assert response.json["statusInfoSet"] == [
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
    response = consumer.get(f"/users/u-1?fields={fields}")
    record = consumer.get("/users/u-1").json
    assert response.json is not None
    assert record is not None
    assert response.json == {"user": {name: record["user"][name] for name in members}}
    listed = items(consumer.get(f"/users?limit=3&fields={fields}"))
    assert listed[0] == response.json["user"]
    assert len(listed) == 3


@pytest.mark.reading("A-03", "Q-17")
@pytest.mark.parametrize(
    "fields", ["shoeSize", "givenName,shoeSize", "GivenName", "orgs.sourcedId", "password", "href"]
)
@pytest.mark.parametrize("path", ["/users", "/users/u-1"])
def test_unknown_field_selects_everything_with_a_warning(consumer: Consumer, path: str, fields: str) -> None:
    response = consumer.get(f"{path}?fields={fields}").json
    assert response is not None
    [warning] = response.pop("statusInfoSet")
    assert response == consumer.get(path).json
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
    response = consumer.get("/users?sort=a&fields=b").json
    assert response is not None
    assert [entry["imsx_codeMinor"] for entry in response["statusInfoSet"]] == [
        "invalid_sort_field",
        "invalid_selection_field",
    ]


@pytest.mark.reading("A-05", "Q-10", "Q-12", "Q-14", "Q-15")
@pytest.mark.parametrize(
    ("collection", "text", "expected"),
    [
        ("users", "familyName='jones'", "u-2"),
        ("users", "familyName='O'Brien'", "u-1 u-6"),
        ("users", "familyName='O''Brien' AND role='GUARDIAN'", "u-6"),
        ("users", "familyName='Jones AND Sons'", "u-4"),
        ("users", "familyName~'jones'", "u-2 u-4"),
        ("users", 'familyName="jones"', "u-2"),
        ("users", "familyName=\"O'Brien\" AND role='guardian'", "u-6"),
        ("users", "role='guardian' OR familyName=\"jones\"", "u-2 u-6"),
        ("users", "familyName='MÜLLER'", "u-3"),
        ("users", "givenName='çELIK'", "u-3"),
        ("users", "familyName~'%'", "u-5"),
        ("users", "familyName~'_'", ""),
        ("users", "familyName>='y'", "u-7 u-8"),
        ("users", "familyName<'b'", "u-5"),
        ("users", "middleName='mary ann'", "u-5"),
        ("users", "middleName!='x'", "u-1 u-2 u-3 u-4 u-5 u-6 u-7 u-8 u-9"),
        ("users", "middleName>=''", "u-5"),
        ("users", "role='student' AND status='active'", "u-1 u-2 u-3"),
        ("users", "role='teacher' OR role='aide'", "u-4 u-5 u-9"),
        ("users", "role='principal'", ""),
        ("users", "status!='active'", "u-8"),
        ("users", "sourcedId='U-1'", ""),
        ("users", "sourcedId='u-1'", "u-1"),
        ("users", "sourcedId>'u-7'", "u-8 u-9"),
        ("users", "email='U-4@NORTH.example'", "u-4"),
        ("users", "enabledUser=FALSE", "u-3"),
        ("users", "enabledUser!='true'", "u-3"),
        ("users", "orgs='s-2'", "u-2 u-3 u-5"),
        ("users", "orgs.sourcedId='s-2,s-1'", "u-2"),
        ("users", "orgs.sourcedId~'s-2,d-'", "u-2 u-3 u-5 u-7"),
        ("users", "orgs!='s-1,s-2'", "u-1 u-3 u-4 u-5 u-6 u-7 u-8 u-9"),
        ("users", "agents.sourcedId='u-6'", "u-1"),
        ("users", "grades='09'", "u-1"),
        ("users", "grades~'09,10'", "u-1 u-2"),
        ("users", "grades!='09'", "u-2 u-3 u-4 u-5 u-6 u-7 u-8 u-9"),
        ("users", "userIds.type='ldap'", "u-1"),
        ("users", "userIds.identifier='77' AND userIds.type='SIS'", "u-1"),
        ("users", "dateLastModified>'2024-03-01'", "u-1 u-2 u-3 u-4 u-5 u-6 u-7 u-8 u-9"),
        ("users", "dateLastModified>'2024-03-01T09:30:00.000Z'", "u-8"),
        ("users", "dateLastModified>='2024-03-01T10:30:00+01:00' AND role='teacher'", "u-4 u-5"),
        ("users", "dateLastModified<='2024-03-01T09:29:59.9999Z'", ""),
        ("users", "dateLastModified~'2024-04'", "u-8"),
        ("enrollments", "role='student' AND class='c-2'", "e-5 e-6"),
        ("enrollments", "class.sourcedId='c-3'", "e-7 e-8"),
        ("enrollments", "endDate<'2023-09-06T10:00:00Z'", "e-5"),
        ("enrollments", "beginDate='2023-09-04' AND primary='true'", "e-3"),
        ("enrollments", "beginDate~'-09-' AND user='u-3'", "e-7"),
        ("classes", "subjects='chemistry'", "c-1"),
        ("classes", "subjects~'chemistry,physics'", "c-1"),
        ("classes", "terms='t-1,t-2'", "c-2"),
        ("classes", "periods>='2'", "c-1"),
        ("classes", "school.sourcedId='s-2' AND location='annex'", "c-4"),
        ("courses", "subjects='physics,chemistry'", "k-1"),
        ("resources", "roles='teacher,student'", "r-1"),
        ("resources", "importance='PRIMARY'", "r-1"),
        ("orgs", "metadata.region='north'", "s-3"),
        ("orgs", "metadata.boards.lead='ADA'", "s-3"),
        ("orgs", "metadata.size='3'", "s-3"),
        ("orgs", "metadata.nothing='x'", ""),
        ("orgs", "metadata.nothing!='x'", "d-1 p-1 s-1 s-2 s-3"),
        ("orgs", "children='p-1'", "s-2"),
        ("orgs", "identifier~'nces-s'", "s-1 s-2 s-3"),
        ("results", "score=87.5", "x-1"),
        ("results", "score>='87.50'", "x-1 x-2"),
        ("results", "score<0", "x-3"),
        ("results", "score~'7.'", "x-1"),
        ("results", "scoreStatus='Fully Graded' AND student='u-2'", "x-2"),
        ("lineItems", "resultValueMax='12.5'", "l-2"),
        ("lineItems", "dueDate='2023-10-09'", "l-1 l-2 l-4"),
        ("academicSessions", "schoolYear='2024' AND type='schoolyear'", "y-1"),
        ("academicSessions", "schoolYear>2023 AND startDate>='2024-01-01'", "t-2 t-3"),
        ("academicSessions", "schoolYear>2024", ""),
        ("demographics", "birthDate<'2009-01-01'", "u-2"),
        ("demographics", "asian='False'", "u-1"),
        ("schools/s-1/students", "familyName~'o'", "u-1 u-2 u-8"),
        ("classes/c-1/students", "sourcedId!='u-1'", "u-2"),
        ("schools", "type='district'", ""),
        ("categories", "metadata.classId='c-1'", "cat-2"),
    ],
)
def test_filter_selects_records(consumer: Consumer, collection: str, text: str, expected: str) -> None:
    ids = expected.split()
    response = consumer.get(f"/{collection}?filter={quote(text, safe='')}")
    assert response.headers["X-Total-Count"] == str(len(ids))
    assert consumer.ids(f"/{collection}?filter={quote(text, safe='')}") == sorted(ids)
    assert consumer.ids(f"/{collection}?filter={quote_plus(text)}") == sorted(ids)


@pytest.mark.reading("Q-21")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("email='ada+x@north.example'", "plus"),
        ("email='ADA+X@north.example'", "plus"),
        ("email~'+x@'", "plus"),
        ("email>='ada+x@north.example' AND email<='ada+x@north.example'", "plus"),
        ("email!='ada+x@north.example'", "blank"),
        ("username='ada x'", "blank"),
        ("phone='+1 555'", "plus"),
        ("sms='+1 555'", "plus"),
        ("phone~' 555'", "blank plus"),
        ("phone='1 555'", "blank"),
    ],
)
def test_raw_plus_in_a_filter_finds_the_address(app: Flask, text: str, expected: str) -> None:
    plus = user("plus", "student", "Ada", "X", ["s-1"], email="Ada+x@north.example", phone="+1 555", sms="+1 555")
    blank = user("blank", "student", "Ada", "X", ["s-1"], username="Ada x", phone="1 555")
    with services_of(app).store.write("default") as transaction:
        transaction.put("users", map(RESOURCES["users"].record, [plus, blank]))
    consumer = Consumer(app)
    assert consumer.ids(f"/users?filter={text}") == expected.split()
    assert consumer.ids(f"/users?filter={quote(text, safe='')}") == expected.split()


@pytest.mark.reading("Q-05")
def test_raw_filter_is_accepted(consumer: Consumer) -> None:
    assert consumer.ids("/users?filter=role='student' AND status='active'&limit=1") == ["u-1"]
    assert consumer.ids("/users?filter=") == consumer.ids("/users")
    assert consumer.ids("/users?filter=%20") == consumer.ids("/users")


def test_bytes_that_are_not_utf_8_match_nothing(consumer: Consumer) -> None:
    assert consumer.ids("/users?filter=familyName='%ff%fe'") == []
    assert consumer.ids("/users?filter=familyName='%00'") == []


@pytest.mark.parametrize("text", ["shoeSize='1'", "familyname='x'", "orgs.type='org'", "status='active' AND shoe='x'"])
def test_unknown_filter_field_is_rejected_by_name(consumer: Consumer, text: str) -> None:
    response = consumer.get(f"/users?filter={quote(text)}")
    message = error_message(response, 400, "invalid_filter_field", "invalid_filter_field")
    assert message.startswith("Unknown filter field: ")
    assert message.removeprefix("Unknown filter field: ").partition(". ")[0] in text


@pytest.mark.reading("Q-09", "Q-10")
@pytest.mark.parametrize(
    "text",
    [
        *("status=active", "status='active' and role='student'", "a", "status='active", "status=‘active’"),
        *("status='a' OR status='b' OR status='c'", "dateLastModified>'soon'", "password='x'", "orgs.href='x'"),
        *("enabledUser='maybe'", "(status='active')", "shoeSize"),
    ],
)
def test_malformed_filter_is_rejected(consumer: Consumer, text: str) -> None:
    error_message(consumer.get(f"/users?filter={quote(text)}"), 400, "invalid_data", "invalid data")


def test_parsing_with_a_cache_is_parsing_without() -> None:
    """The parts of a query that a client repeats are cached without the offset."""
    offsets = ["0", "7", "999", "", "x", "-1", "1234567890123456789"]
    others = ["Offset=3", "off%73et=4", "limit=5", "limit=0", "limit=", "%6cimit=5", "sort=familyName", "orderBy=desc"]
    others += [
        "fields=role",
        "fields=",
        "filter=role%3D%27student%27",
        "x=offset=1",
        "offset",
        "x%25=1",
        "x=1;offset=2",
    ]
    parts = [*(f"offset={offset}" for offset in offsets), *others]
    rng, routes = random.Random(11), [route for route in READ_ROUTES if route.path in ("/users", "/users/{id}")]

    def result(parse: Callable[..., object], *arguments: object) -> object:
        try:
            return parse(*arguments)
        except ApiError as error:
            return error.code, error.description

    found = set()
    for _ in range(3000):
        query = "&".join(rng.choices(parts, k=rng.randint(1, 4))).encode()
        arguments = (rng.choice(routes), rng.choice(ROOTS), query, rng.choice([0, 3]), UNRESTRICTED)
        parsed = result(parse_query_params, *arguments)
        assert parsed == result(query_params._parse, *arguments), query
        found.add(type(parsed))
    assert found == {QueryParams, tuple}

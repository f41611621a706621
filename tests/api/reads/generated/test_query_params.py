"""Generated query strings: the server never fails."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from chalk_flask.api.routes import READ_ROUTES
from tests.support.api_client import Consumer, error_message

NAMES = ["limit", "offset", "sort", "orderBy", "filter", "fields", "other", "limit ", ""]
FIELDS = sorted(
    {name for route in READ_ROUTES for name in route.resource_type.filter_paths}
    | {"metadata.a.b", "password", "shoe", "href"}
)
PREDICATES = ["=", "!=", "<", "<=", ">", ">=", "~", "==", ""]
VALUES = ["a", "09,10", "2024-03-01", "2024-03-01T00:00:00.00001Z", "0001-01-01T00:00:00+14:00", "5", "-1e308", "true",
          "", "'", "%", "\x00", "é", "😀", "9" * 400, ","]  # fmt: skip

clauses = st.builds(
    "{}{}'{}'".format,
    st.sampled_from(FIELDS),
    st.sampled_from(PREDICATES),
    st.sampled_from(VALUES) | st.text(max_size=9),
)
filters = clauses | st.builds("{}{}{}".format, clauses, st.sampled_from([" AND ", " OR ", " and ", ""]), clauses)
values = (
    filters
    | st.sampled_from([*FIELDS, *VALUES, "asc", "desc", "DESC"])
    | st.integers(-1, 10**20).map(str)
    | st.lists(st.sampled_from(FIELDS), max_size=4).map(",".join)
    | st.text(max_size=20)
)
queries = st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=4)
paths = st.sampled_from(
    [route.path.replace("{", "").replace("}", "") for route in READ_ROUTES]
    + [
        "/users/u-1",
        "/schools/s-1/students",
        "/terms/t-1/gradingPeriods",
        "/classes/c-1/categories",
        "/classes/c-1/results",
    ]
)


@settings(max_examples=300, deadline=None)
@hypothesis.given(path=paths, query=queries)
def test_any_parameter_value_is_accepted_or_rejected(
    consumer: Consumer, path: str, query: list[tuple[str, str]]
) -> None:
    response = consumer.client.get(
        f"/ims/oneroster/v1p1{path}", query_string=query, headers={"Authorization": f"Bearer {consumer.token}"}
    )
    assert response.status_code in (200, 400, 404), (query, response.text)
    assert response.json is not None


@settings(max_examples=100, deadline=None)
@hypothesis.given(query=st.binary(max_size=40))
def test_any_query_bytes_are_accepted_or_rejected(consumer: Consumer, query: bytes) -> None:
    raw = query.replace(b"#", b"").decode("latin-1")
    environ = {"QUERY_STRING": raw, "HTTP_AUTHORIZATION": f"Bearer {consumer.token}"}
    response = consumer.client.get("/ims/oneroster/v1p1/users", environ_overrides=environ)
    assert response.status_code in (200, 400), (query, response.text)


@pytest.mark.parametrize(
    "template", ["filter=familyName~'{}'", "filter=grades='{}'", "sort={}", "fields={}", "limit={}", "{}"]
)
def test_long_values_are_accepted_or_rejected(consumer: Consumer, template: str) -> None:
    for value in ("x" * 100_000, "'" * 50_000, "a," * 50_000, "%" * 10_000):
        response = consumer.client.get(
            "/ims/oneroster/v1p1/users",
            query_string=template.format(value),
            headers={"Authorization": f"Bearer {consumer.token}"},
        )
        assert response.status_code in (200, 400), response.text[:200]


def test_thousands_of_parameters_are_parsed(consumer: Consumer) -> None:
    assert consumer.get("/users?" + "x=1&" * 20_000 + "limit=1000").status_code == 200
    error_message(consumer.get("/users?" + "limit=1&" * 20_000), 400, "invalid_data", "invalid data")

"""Generated restrictions and requests: a restricted read equals an unrestricted read of a reduced roster.

`tests.permissions.restricted_reads` reduces the roster in plain Python. A second application serves the result.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import orjson
import pytest
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from chalk_flask import create_app
from chalk_flask.api.routes import READ_ROUTES, ReadRoute
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import ALL
from tests.conftest import services_of, url_in
from tests.permissions.restricted_reads import REFERENCES, Restrictions, Row, redact, visible_roster
from tests.support.api_client import CHALK, IMS, Consumer
from tests.support.small_roster import DELETED, ROSTER, class_, enrollment, line_item, org, result, row, user

REQUESTS = int(os.environ.get("LIMITED_REQUESTS", "1200"))
"""Number of requests on all backends together."""
REQUESTS_PER_CASE = 4
SHARES = {"memory": 0.5, "sqlite": 0.5}
"""Share of each backend. JSON evaluates queries as memory does."""

NESTED = {"a": {"b": "1", "c": []}, "a.b": 2, "href": "/orgs/s-1", "agents": [{"href": "/users/u-1"}]}

ADDED_ROWS: dict[str, list[Row]] = {
    "orgs": [
        org("S/4 x", "school", parent="d-2", metadata={"boards": {"lead": "Bo", "seats": [{"lead": "Cy"}, {}]}}),
        org("d-2", "district", children=["S/4 x"]),
    ],
    "courses": [row("K 5", title="Latin", courseCode="LA", schoolYear="y-1", grades=["09"])],
    "classes": [
        class_("C/5", "K 5", "S/4 x", ["t-1"], grades=["09"]),
        class_("c-6", "k-2", "s-3", ["t-3"], resources=["r-1", "r-3"]),
    ],
    "users": [
        user("U 10", "student", "Jo", "Wu", ["S/4 x", "s-1"], grades=["KG"], agents=["u-6", "u-5"]),
        user("u-11", "parent", "Kit", "Wu", ["d-2"], agents=["U 10"], sms="1-556", email="href\\/\"x\"@north.example"),
        user("u-12", "student", "Lou", "Vo", ["s-3"], grades=["09", "kg"], metadata=NESTED),
        user('ü"\\,]}', "aide", "Nia", "Xo", ["s-2", "S/4 x"], agents=["u-1", "U 10"]),
        user("u-14", "aide", "Oz", "Xo", ["d-1", "s-1"], agents=['ü"\\,]}', "u-4"]),
        user("u-13", "teacher", "Mo", "Yi", ["s-3", "d-1"], userIds=[{"type": "LDAP", "identifier": "mo"}]),
    ],
    "demographics": [row("U 10", sex="other"), row("u-12", sex="male")],
    "enrollments": [
        enrollment("e-11", "C/5", "S/4 x", "U 10", "student"),
        enrollment("e-12", "c-6", "s-3", "u-12", "student"),
        enrollment("e-13", "c-6", "s-3", "u-13", "teacher"),
        enrollment("e-14", "C/5", "s-1", "u-2", "student"),
        enrollment("e-15", "c-6", "s-3", "U 10", "student", **DELETED),
    ],
    "categories": [
        row("cat-7", title="Of C/5", metadata={"classId": "C/5", "color": "red"}),
        row("cat-8", title="Of two", metadata={"color": "blue", "classId": ["c-1", "C/5"]}),
        row("cat-9", title="Of none", metadata={"classId": ""}),
    ],
    "lineItems": [line_item("l-5", "C/5", "cat-3"), line_item("l-6", "c-6", "cat-4"), line_item("l-7", "c-6", "cat-7")],
    "results": [
        result("x-6", "l-5", "U 10", 1),
        result("x-7", "l-6", "u-12", 2),
        result("x-8", "l-5", "u-2", 3),
        result("x-9", "l-2", "u-12", 4),
    ],
}  # fmt: skip
WHOLE = {name: [*rows, *ADDED_ROWS.get(name, [])] for name, rows in ROSTER.items()}

IDS = {name: [row["sourcedId"] for row in rows] for name, rows in WHOLE.items()}
REDACTABLE = ["email", "phone", "sms", "givenName", "familyName", "identifier", "username", "grades", "agents"]
REDACTABLE += ["userIds", "userIds.identifier", "title", "parent", "children", "org", "score", "comment", "resources"]
REDACTABLE += [
    "birthDate",
    "courseCode",
    "subjects",
    "enabledUser",
    *(["metadata.*", "metadata.a", "metadata.a.b"] * 2),
]
REDACTABLE += ["metadata.boards", "metadata.boards.lead", "metadata.region"]
OTHER_FIELDS = ["nonesuch", "metadata.region", "metadata.a.b", "metadata.boards.lead", "metadata.boards.seats.lead"]
OTHER_FIELDS += ["metadata.classId"]


def subsets(pool: list[str], minimum: int = 1, maximum: int = 4) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(pool), min_size=minimum, max_size=maximum, unique=True)


def rarely(strategy: st.SearchStrategy[list[str]], otherwise: Any) -> st.SearchStrategy[Any]:
    """Return the strategy in one of three cases, as restrictions of every kind together leave nothing visible."""
    return st.integers(0, 2).flatmap(lambda n: strategy if n == 0 else st.just(otherwise))


RESTRICTIONS = st.builds(
    Restrictions,
    orgs=st.none() | subsets(IDS["orgs"], 0, 5),
    grades=rarely(subsets(["09", "10", "KG", "kg", "none"], 0, 3), None),
    classes=rarely(subsets([*IDS["classes"], "nope"], 0, 5), None),
    denied=rarely(subsets([*WHOLE, "enrollments", "classes", "users"], 1, 2), ()),
    redacted=rarely(subsets(REDACTABLE, 1, 3), ()),
)

Params: TypeAlias = dict[str, Any]
"""Query parameters in which field names are separate from the text around them."""

Request: TypeAlias = tuple[ReadRoute, str, Params]


def value_of(path: str, record: Row) -> str:
    """Return the value at a path, for lists that of the first element."""
    value: Any = record
    for name in path.split("."):
        if isinstance(value, dict):
            value = value.get(name)
        elif value and name != "sourcedId":
            value = value[0].get(name)
        if isinstance(value, list) and value and not isinstance(value[0], dict):
            value = value[0]
    return str(value)


@st.composite
def clauses(draw: st.DrawFn, route: ReadRoute) -> tuple[str, str]:
    """Generate a field and the rest of its clause, with a value of some record, visible or not."""
    name = route.resource_type.name
    references = [path for path in route.resource_type.filter_paths if path.partition(".")[0] in REFERENCES[name]]
    paths = [path for path in route.resource_type.filter_paths if "*" not in path]
    field = draw(st.sampled_from([*paths, *OTHER_FIELDS]) | st.sampled_from(references or paths))
    value = value_of(field.removesuffix(".sourcedId"), draw(st.sampled_from(WHOLE[name])))
    if value == "None" or field == "nonesuch":
        value = draw(st.sampled_from(["x", *IDS["users"], *IDS["orgs"]]))
    operator = draw(st.sampled_from(["=", "=", "!=", "~", "<", ">="]))
    return field, f"{operator}'{value[: draw(st.integers(1, 30))] if operator == '~' else value}'"


def draw_path(draw: st.DrawFn, route: ReadRoute, visible: dict[str, list[Row]]) -> str:
    """Return a path of the route, in three of four cases through visible records that belong together."""
    targets = [parent.collection for parent in route.parents]
    targets += [] if route.is_collection else [route.resource_type.name]
    consistent = draw(st.integers(0, 3)) > 0
    ids: list[str] = []
    for n, target in reversed(list(enumerate(targets))):
        parent = route.parents[n + 1] if n + 1 < len(route.parents) else None
        owner = next((row for row in WHOLE[targets[-1]] if ids and row["sourcedId"] == ids[0]), None)
        if consistent and parent is not None and parent.within and owner is not None:
            ids.insert(0, owner[parent.within.removesuffix(".sourcedId")])
        elif consistent:
            ids.insert(0, draw(st.sampled_from([row["sourcedId"] for row in visible[target]] or ["none"])))
        else:
            ids.insert(0, draw(st.sampled_from([*IDS[target], "nope"])))
    remaining = iter(ids)
    return re.sub(r"{\w+}", lambda _: quote(next(remaining), safe=""), route.path)


@st.composite
def requests(draw: st.DrawFn, visible: dict[str, list[Row]]) -> Request:
    """Generate a route, a path of it, and parameters."""
    route = draw(st.sampled_from(READ_ROUTES))
    path = draw(st.sampled_from([IMS, CHALK])) + draw_path(draw, route, visible)
    params: Params = {}
    fields = st.sampled_from([*route.resource_type.fields, "nonesuch"])
    paths = [path for path in route.resource_type.filter_paths if "*" not in path]
    if draw(st.integers(0, 3)) == 0:
        params["fields"] = draw(st.lists(fields, min_size=1, max_size=4, unique=True))
    if route.is_collection:
        if draw(st.booleans()):
            params["filter"] = draw(st.lists(clauses(route), min_size=1, max_size=2))
            params["logical"] = draw(st.sampled_from([" AND ", " OR "]))
        if draw(st.booleans()):
            params["sort"] = draw(st.sampled_from([*paths, *OTHER_FIELDS]))
            params["orderBy"] = draw(st.sampled_from(["asc", "desc"]))
        if draw(st.booleans()):
            params["limit"], params["offset"] = draw(st.integers(1, 5)), draw(st.integers(0, 6))
    return route, path, params


@st.composite
def cases(draw: st.DrawFn) -> tuple[Restrictions, list[Request]]:
    """Generate restrictions and requests of a token that has them."""
    restrictions = draw(RESTRICTIONS)
    visible = visible_roster(WHOLE, restrictions)
    return restrictions, [draw(requests(visible)) for _ in range(REQUESTS_PER_CASE)]


UNKNOWN = "unknown{}unknown"
MESSAGE_REFERENCE = re.compile(rb'"imsx_messageRefIdentifier":"[^"]*"')


def query_string(params: Params, renamed: dict[str, str], unsorted: bool) -> str:
    """Return the query string, with other names for some fields."""

    def name(field: str) -> str:
        return renamed.get(field, field)

    parts: dict[str, str] = {key: str(params[key]) for key in ("orderBy", "limit", "offset") if key in params}
    if "fields" in params:
        parts["fields"] = ",".join(map(name, params["fields"]))
    if "filter" in params:
        parts["filter"] = params["logical"].join(name(field) + rest for field, rest in params["filter"])
    if "sort" in params:
        parts["sort"] = UNKNOWN.format(9) if unsorted else name(params["sort"])
    return "&".join(f"{key}={quote(value, safe='')}" for key, value in parts.items())


def field_names(params: Params) -> list[str]:
    fields = {*params.get("fields", []), *(field for field, _ in params.get("filter", []))}
    return sorted({*fields, params["sort"]} if "sort" in params else fields)


PATH_MEMBERS = ("org", "parent", "resources", "metadata")
"""Members that nested paths use and that can be redacted. The paths find records as if no record had them (L-07)."""


def without_path_members(row: Row, restrictions: Restrictions) -> Row:
    hidden = {name for name in PATH_MEMBERS if restrictions.redacts(name)}
    return {name: value for name, value in row.items() if name not in hidden}


class ServicePair:
    """A service with the whole roster for restricted tokens, and one with what their restrictions leave of it."""

    def __init__(self, url: str) -> None:
        self.whole, self.reduced = (create_app(storage=storage) for storage in (url, "memory:"))
        self._store(self.whole, WHOLE)
        self.unrestricted = Consumer(self.reduced)
        self.requests = 0

    def restricted_consumer(self, restrictions: Restrictions) -> Consumer:
        """Return a client with these restrictions, and reduce the roster of the other service to what they leave."""
        visible = visible_roster(WHOLE, restrictions)
        self._store(self.reduced, {n: [without_path_members(r, restrictions) for r in visible[n]] for n in visible})
        sets: dict[str, Any] = {
            name: None if (values := getattr(restrictions, name)) is None else frozenset(values)
            for name in ("orgs", "grades", "classes", "denied", "redacted")
        }
        token, _ = services_of(self.whole).tokens.create("restricted", ALL, restrictions=AccessRestrictions(**sets))
        return Consumer(self.whole, token)

    def close(self) -> None:
        for app in (self.whole, self.reduced):
            services_of(app).store.close()

    @staticmethod
    def _store(app: Flask, roster: dict[str, list[Row]]) -> None:
        with services_of(app).store.write("default") as transaction:
            for name, rows in roster.items():
                transaction.delete(name, IDS[name])
                transaction.put(name, [FILES[name].record(row) for row in rows])

    def compare(self, consumer: Consumer, restrictions: Restrictions, request: Request) -> None:
        """Send the request to both services. Redacted fields get unknown names in the request to the other one."""
        route, path, params = request
        name = route.resource_type.name
        hidden = [field for field in field_names(params) if restrictions.redacts(field)]
        # Warnings list fields in order, so the unknown name must sort as the redacted one.
        renamed = {field: UNKNOWN.format(n) if "." in field else f"{field}-unknown" for n, field in enumerate(hidden)}
        path_parts = params.get("sort", "").partition(".")
        member = params["sort"] if path_parts[0] == "metadata" else path_parts[0]
        unsorted = restrictions.may_hide_reference(name, member)
        actual = consumer.get(f"{path}?{query_string(params, {}, unsorted=False)}")
        expected = self.unrestricted.get(f"{path}?{query_string(params, renamed, unsorted)}")
        self.requests += 1
        original_names = {unknown: field for field, unknown in renamed.items()}
        original_names |= {UNKNOWN.format(9): params.get("sort", "")}
        body = orjson.loads(expected.data)
        if expected.status_code == 200:
            body = {key: self._redact(value, restrictions) for key, value in body.items()}
        text, link = orjson.dumps(body).decode(), expected.headers.get("Link")
        for unknown, field in original_names.items():
            text, link = text.replace(unknown, field), link and link.replace(unknown, field)
        context = (restrictions, actual.request.path, actual.request.query_string)
        assert actual.status_code == expected.status_code, (context, actual.text, expected.text)
        texts = [actual.text, text]
        if actual.status_code == 404:
            texts = [self._without_reason(text) for text in texts]
        actual_body, expected_body = (MESSAGE_REFERENCE.sub(b"", text.encode()) for text in texts)
        assert actual_body.decode() == expected_body.decode(), context
        assert actual.headers.get("Link") == link, context
        for header in ("X-Total-Count", "X-Count", "Content-Type"):
            assert actual.headers.get(header) == expected.headers.get(header), context

    @staticmethod
    def _without_reason(text: str) -> str:
        """Return the body of a 404 without its messages: only a caller without restrictions gets the reason."""
        body = orjson.loads(text)
        for entry in (body, *body.get("statusInfoSet", [])):
            entry.pop("message", None)
            entry.pop("imsx_description", None)
        return orjson.dumps(body).decode()

    @staticmethod
    def _redact(value: Any, restrictions: Restrictions) -> Any:
        """Redact documents. Entries of a statusInfoSet have no redactable members."""
        if isinstance(value, list):
            return [redact(item, restrictions) for item in value]
        return redact(value, restrictions)


@pytest.fixture(scope="module", params=SHARES)
def services(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ServicePair, int]]:
    """Pair of services, and the number of requests to send to them."""
    folder: Path = tmp_path_factory.mktemp("restrictions")
    pair = ServicePair(url_in(folder, request.param))
    yield pair, int(REQUESTS * SHARES[request.param])
    pair.close()


@pytest.mark.reading("L-01", "L-02", "L-03", "L-04", "L-05", "L-06", "L-07")
def test_restricted_reads_equal_reads_of_a_reduced_roster(services: tuple[ServicePair, int]) -> None:
    pair, request_count = services

    # Without the phase that shrinks failures: it would take minutes.
    @settings(
        max_examples=-(-request_count // REQUESTS_PER_CASE),
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def run(case: tuple[Restrictions, list[Request]]) -> None:
        restrictions, case_requests = case
        consumer = pair.restricted_consumer(restrictions)
        for request in case_requests:
            pair.compare(consumer, restrictions, request)

    run()
    assert pair.requests >= request_count

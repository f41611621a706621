"""Generated restrictions and requests: a restricted read equals an unrestricted read of a reduced roster.

`tests.support.restricted_reads` reduces the roster in plain Python. A second application serves the result.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from chalk_flask import create_app
from chalk_flask.api.routes import ROUTES, Route
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import ALL
from tests.conftest import services_of, url_in
from tests.support.api_client import CHALK, IMS, Consumer
from tests.support.restricted_reads import REFERENCES, Limited, Row, left, redacted
from tests.support.small_roster import DELETED, ROSTER, class_, enrollment, line_item, org, result, row, user

REQUESTS = int(os.environ.get("LIMITED_REQUESTS", "3000"))
"""How many requests of limited tokens are made, all backends together."""
AT_ONCE = 4
SHARES = {"memory": 0.45, "sqlite": 0.45, "json": 0.1}

NESTED = {"a": {"b": "1", "c": []}, "a.b": 2, "href": "/orgs/s-1", "agents": [{"href": "/users/u-1"}]}

MORE: dict[str, list[Row]] = {
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
    "lineItems": [line_item("l-5", "C/5", "cat-3"), line_item("l-6", "c-6", "cat-4")],
    "results": [
        result("x-6", "l-5", "U 10", 1),
        result("x-7", "l-6", "u-12", 2),
        result("x-8", "l-5", "u-2", 3),
        result("x-9", "l-2", "u-12", 4),
    ],
}  # fmt: skip
WHOLE = {name: [*rows, *MORE.get(name, [])] for name, rows in ROSTER.items()}

IDS = {name: [each["sourcedId"] for each in rows] for name, rows in WHOLE.items()}
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


def some(pool: list[str], least: int = 1, most: int = 4) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(pool), min_size=least, max_size=most, unique=True)


def seldom(wanted: st.SearchStrategy[list[str]], otherwise: Any) -> st.SearchStrategy[Any]:
    """Limits of every kind at once leave nothing to look at."""
    return st.integers(0, 2).flatmap(lambda n: wanted if n == 0 else st.just(otherwise))


LIMITS = st.builds(
    Limited,
    orgs=st.none() | some(IDS["orgs"], 0, 5),
    grades=seldom(some(["09", "10", "KG", "kg", "none"], 0, 3), None),
    classes=seldom(some([*IDS["classes"], "nope"], 0, 5), None),
    denied=seldom(some([*WHOLE, "enrollments", "classes", "users"], 1, 2), ()),
    redacted=seldom(some(REDACTABLE, 1, 3), ()),
)


def value_of(path: str, each: Row) -> str:
    held: Any = each
    for name in path.split("."):
        held = held.get(name) if isinstance(held, dict) else held[0].get(name) if held and name != "sourcedId" else held
        if isinstance(held, list) and held and not isinstance(held[0], dict):
            held = held[0]
    return str(held)


@st.composite
def clauses(draw: st.DrawFn, route: Route) -> tuple[str, str]:
    """A field and the rest of a clause on it, with a value that some record has, visible or not."""
    name = route.resource_type.name
    references = [path for path in route.resource_type.filter_paths if path.partition(".")[0] in REFERENCES[name]]
    others = [path for path in route.resource_type.filter_paths if "*" not in path]
    field = draw(st.sampled_from([*others, *OTHER_FIELDS]) | st.sampled_from(references or others))
    value = value_of(field.removesuffix(".sourcedId"), draw(st.sampled_from(WHOLE[name])))
    if value == "None" or field == "nonesuch":
        value = draw(st.sampled_from(["x", *IDS["users"], *IDS["orgs"]]))
    operator = draw(st.sampled_from(["=", "=", "!=", "~", "<", ">="]))
    return field, f"{operator}'{value[: draw(st.integers(1, 30))] if operator == '~' else value}'"


def place(draw: st.DrawFn, route: Route, visible: dict[str, list[Row]]) -> str:
    """A path of the route, more often than not through records that are visible and belong together."""
    targets = [parent.collection for parent in route.parents] + (
        [] if route.is_collection else [route.resource_type.name]
    )
    sound = draw(st.integers(0, 3)) > 0
    ids: list[str] = []
    for n, target in reversed(list(enumerate(targets))):
        parent = route.parents[n + 1] if n + 1 < len(route.parents) else None
        owner = next((row for row in WHOLE[targets[-1]] if ids and row["sourcedId"] == ids[0]), None)
        if sound and parent is not None and parent.within and owner is not None:
            ids.insert(0, owner[parent.within.removesuffix(".sourcedId")])
        else:
            pool = [row["sourcedId"] for row in visible[target]] if sound else IDS[target]
            ids.insert(0, draw(st.sampled_from([*(pool or ["none"])] if sound else [*pool, "nope"])))
    given_ids = iter(ids)
    return re.sub(r"{\w+}", lambda _: quote(next(given_ids), safe=""), route.path)


@st.composite
def requests(draw: st.DrawFn, visible: dict[str, list[Row]]) -> tuple[Route, str, dict[str, Any]]:
    """A route, a path of it, and parameters, in which fields still stand apart from the text around them."""
    route = draw(st.sampled_from(ROUTES))
    path = draw(st.sampled_from([IMS, CHALK])) + place(draw, route, visible)
    asked: dict[str, Any] = {}
    fields = st.sampled_from([*route.resource_type.fields, "nonesuch"])
    if draw(st.integers(0, 3)) == 0:
        asked["fields"] = draw(st.lists(fields, min_size=1, max_size=4, unique=True))
    if route.is_collection:
        if draw(st.booleans()):
            asked["filter"] = draw(st.lists(clauses(route), min_size=1, max_size=2))
            asked["logical"] = draw(st.sampled_from([" AND ", " OR "]))
        if draw(st.booleans()):
            asked["sort"] = draw(
                st.sampled_from([*(p for p in route.resource_type.filter_paths if "*" not in p), *OTHER_FIELDS])
            )
            asked["orderBy"] = draw(st.sampled_from(["asc", "desc"]))
        if draw(st.booleans()):
            asked["limit"], asked["offset"] = draw(st.integers(1, 5)), draw(st.integers(0, 6))
    return route, path, asked


@st.composite
def cases(draw: st.DrawFn) -> tuple[Limited, list[tuple[Route, str, dict[str, Any]]]]:
    """Limits, and what their bearer asks."""
    limits = draw(LIMITS)
    visible = left(WHOLE, limits)
    return limits, [draw(requests(visible)) for _ in range(AT_ONCE)]


def query(asked: dict[str, Any], names: dict[str, str], unsorted: bool) -> str:
    """The query string, with other names for some fields."""

    def name(field: str) -> str:
        return names.get(field, field)

    parts: dict[str, str] = {key: str(asked[key]) for key in ("orderBy", "limit", "offset") if key in asked}
    if "fields" in asked:
        parts["fields"] = ",".join(map(name, asked["fields"]))
    if "filter" in asked:
        parts["filter"] = asked["logical"].join(name(field) + rest for field, rest in asked["filter"])
    if "sort" in asked:
        parts["sort"] = UNKNOWN.format(9) if unsorted else name(asked["sort"])
    return "&".join(f"{key}={quote(value, safe='')}" for key, value in parts.items())


UNKNOWN = "unknown{}unknown"
REFERENCE = re.compile(rb'"imsx_messageRefIdentifier":"[^"]*"')


def named(asked: dict[str, Any]) -> list[str]:
    fields = [*asked.get("fields", []), *(field for field, _ in asked.get("filter", []))]
    return sorted({*fields, asked["sort"]} if "sort" in asked else {*fields})


class Pair:
    """A service with the whole roster, and one that is given what limits leave of it."""

    def __init__(self, url: str) -> None:
        self.limited, self.reduced = (create_app(storage=each) for each in (url, "memory:"))
        self._put(self.limited, WHOLE)
        self.unlimited = Consumer(self.reduced)
        self.requests = 0

    def given(self, limits: Limited) -> Consumer:
        """Who has these limits; the other service is made to hold what they leave."""
        self._put(self.reduced, left(WHOLE, limits))
        sets: dict[str, Any] = {
            name: None if (held := getattr(limits, name)) is None else frozenset(held)
            for name in ("orgs", "grades", "classes", "denied", "redacted")
        }
        token, _ = services_of(self.limited).tokens.create("limited", ALL, limits=AccessRestrictions(**sets))
        return Consumer(self.limited, token)

    def close(self) -> None:
        for app in (self.limited, self.reduced):
            services_of(app).store.close()

    @staticmethod
    def _put(app: Flask, roster: dict[str, list[Row]]) -> None:
        with services_of(app).store.write("default") as transaction:
            for name, rows in roster.items():
                transaction.delete(name, IDS[name])
                transaction.put(name, [FILES[name].record(each) for each in rows])

    def compare(self, consumer: Consumer, limits: Limited, route: Route, path: str, asked: dict[str, Any]) -> None:
        """Ask both; the fields that the limits redact are asked of the other service by names that nothing has."""
        name = route.resource_type.name
        hidden = [field for field in named(asked) if limits.redacts(field)]
        # Warnings name fields in order, so a field of nobody's comes where the redacted one would.
        names = {field: UNKNOWN.format(n) if "." in field else f"{field}-unknown" for n, field in enumerate(hidden)}
        member = asked.get("sort", "").partition(".")[0]
        unsorted = member in REFERENCES[name] and limits.uncertain(name, member)
        got = consumer.get(f"{path}?{query(asked, {}, unsorted=False)}")
        want = self.unlimited.get(f"{path}?{query(asked, names, unsorted)}")
        self.requests += 1
        back = {other: field for field, other in names.items()} | {UNKNOWN.format(9): asked.get("sort", "")}
        body = orjson.loads(want.data)
        if want.status_code == 200:
            body = {key: self._without(value, limits) for key, value in body.items()}
        text, link = orjson.dumps(body).decode(), want.headers.get("Link")
        for other, field in back.items():
            text, link = text.replace(other, field), link and link.replace(other, field)
        question = (limits, got.request.path, got.request.query_string)
        assert got.status_code == want.status_code, (question, got.text, want.text)
        assert REFERENCE.sub(b"", got.data).decode() == REFERENCE.sub(b"", text.encode()).decode(), question
        assert got.headers.get("Link") == link, question
        for header in ("X-Total-Count", "X-Count", "Content-Type"):
            assert got.headers.get(header) == want.headers.get(header), question

    @staticmethod
    def _without(value: Any, limits: Limited) -> Any:
        """Documents without what is redacted; the entries of a statusInfoSet have no such members."""
        if isinstance(value, list):
            return [redacted(each, limits) for each in value]
        return redacted(value, limits)


@pytest.fixture(scope="module", params=SHARES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pair, int]]:
    folder: Path = tmp_path_factory.mktemp("limits")
    made = Pair(url_in(folder, request.param))
    yield made, int(REQUESTS * SHARES[request.param])
    made.close()


@pytest.mark.reading("L-01", "L-02", "L-03", "L-04", "L-05", "L-06", "L-07")
def test_restricted_reads_equal_reads_of_a_reduced_roster(pair: tuple[Pair, int]) -> None:
    service, enough = pair

    # Failures are told as they are found: to make so many requests small takes minutes.
    @settings(
        max_examples=-(-enough // AT_ONCE),
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def run(case: tuple[Limited, list[tuple[Route, str, dict[str, Any]]]]) -> None:
        limits, wanted = case
        consumer = service.given(limits)
        for route, path, asked in wanted:
            service.compare(consumer, limits, route, path, asked)

    run()
    assert service.requests >= enough

"""An id of another tenant is answered as one that is nowhere: in status, body and headers, whatever is asked.

Two tenants hold rosters of one shape. The guest's has the keys of the host's with other content, and every record twice
more under keys that the host does not have: once with references to the keys of both, once to keys of its own.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, combinations, product
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import pytest
from flask import Flask

from backends import Backend
from chalk_flask import create_app
from chalk_flask.access import Tenants
from chalk_flask.access.scopes import ALL, DEMOGRAPHICS
from chalk_flask.api.routes import ROOTS, ROUTES, Route
from chalk_flask.oneroster.resource import Resource
from chalk_flask.oneroster.resources import FILES
from tests.api.conftest import IMS
from tests.api.expected import COLLECTIONS, SINGLES
from tests.api.roster import ROSTER, Row
from tests.conftest import BACKENDS, chalk_of, url_in

HOST, GUEST, NOWHERE = "aa-borea", "zz-auster", "zz-zephyr"
"""Words in the texts of the host's roster, in those of the guest's, and in none. The last two are neighbours."""

OWN, LINKED, ABSENT = "zf.", "zm.", "zn."
"""How the keys begin that the guest alone has, and keys that nobody has."""

TEXTS = frozenset(
    (
        *("title", "name", "identifier", "username", "givenName", "familyName", "middleName", "email", "phone"),
        *("comment", "description", "location", "classCode", "courseCode", "vendorResourceId", "cityOfBirth"),
    )
)
COMPARISONS = ("=", "!=", ">", ">=", "<", "<=", "~")
VARYING = re.compile(rb'"(imsx_messageRefIdentifier":"[^"]*|dateLastModified":"20(?!24-0[34])[^"]*)"')
"""The number of a message, and when a record was written that is not of the roster."""


def marked(row: Row, word: str) -> Row:
    """The record with the word in its texts, in a list of texts, in metadata and among its ids elsewhere."""
    texts = {name: f"{word} {value}" for name, value in row.items() if name in TEXTS}
    lists = {name: [f"{word} {each}" for each in row[name]] for name in ("subjects",) if name in row}
    metadata = {**row.get("metadata", {}), f"{word}Key": word}
    more: Row = {"userIds": [{"type": word, "identifier": word}]} if "username" in row else {}
    more |= {"cityOfBirth": word} if "birthDate" in row else {}
    return {**row, **texts, **lists, **more, "metadata": metadata}


def renamed(resource: Resource, row: Row, start: str, references: bool) -> Row:
    """The record under another key, its references to others too if that is wanted."""
    names = {reference.name for reference in resource.references} if references else set()
    changed = {name: moved(row[name], start) for name in names if name in row}
    return {**row, **changed, "sourcedId": start + row["sourcedId"]}


def moved(value: Any, start: str) -> Any:
    return [start + each for each in value] if isinstance(value, list) else start + value


def fill_both(store: Backend) -> None:
    for name, rows in ROSTER.items():
        resource = FILES[name]
        with store.write("host") as transaction:
            transaction.put(name, [resource.record(marked(row, HOST)) for row in rows])
        theirs = [marked(row, GUEST) for row in rows]
        own = [renamed(resource, row, OWN, references=True) for row in theirs]
        linked = [renamed(resource, row, LINKED, references=False) for row in theirs]
        with store.write("guest") as transaction:
            transaction.put(name, [resource.record(row) for row in chain(theirs, own, linked)])


Words: TypeAlias = tuple[str, str]
"""What is the guest's in a question, and what stands in its place in the twin of the question."""


@dataclass(frozen=True)
class Answer:
    """What came back, unpacked if it was compressed."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        return dict(self.headers).get(name, "")

    def told_of(self, asked: str) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
        """All of it but what it repeats of the question, what varies, and the hash that is its tag."""
        headers = sorted((name, "a tag" if name == "ETag" else v.replace(asked, "*")) for name, v in self.headers)
        body = VARYING.sub(b"", self.body.replace(asked.encode(), b"*"))
        return self.status, tuple(headers), body

    @property
    def whole(self) -> str:
        return f"{self.status} {self.headers} {self.body.decode()}"


@dataclass(frozen=True)
class Question:
    """A request but for its path."""

    query: str = ""
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""

    def about(self, words: Words) -> Question:
        """The same with the second word in place of the first."""
        return Question(self.query.replace(*words), self.method, self.headers, self.body.replace(*words))


PLAIN = Question()

Pair: TypeAlias = tuple[str, str, Question, Words]
"""A path, its twin, what is asked of both, and the words in which they differ."""


class Twins:
    """A service with both tenants, and a token for each."""

    def __init__(self, app: Flask) -> None:
        chalk = chalk_of(app)
        self.app = app
        self.statuses: set[int] = set()
        for name in ("host", "guest"):
            Tenants(chalk.store).create(name, demographics=True)
        fill_both(chalk.store)
        self.host, self.guest = (chalk.tokens.create(n, ALL, n)[0] for n in ("host", "guest"))

    def ask(self, token: str | None, path: str, question: Question = PLAIN) -> Answer:
        """What the application answers; without the test client, which takes longer than the answer."""
        sent = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in question.headers}
        environ = {
            "REQUEST_METHOD": question.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": quote(question.query, safe="=&,"),
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "localhost",
            "HTTP_AUTHORIZATION": f"Bearer {token}",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(question.body.encode()),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            **sent,
            **(
                {"CONTENT_LENGTH": str(len(question.body)), "CONTENT_TYPE": "application/json"} if question.body else {}
            ),
        }
        return self._answer(environ)

    def held(self, tenant: str) -> dict[str, dict[str, bytes]]:
        """All bodies of a tenant by collection and key."""
        store = chalk_of(self.app).store
        with store.read(tenant) as snapshot:
            return {name: snapshot.bodies(name, list(snapshot.keys(name))) for name in store.collections}

    def _answer(self, environ: dict[str, Any]) -> Answer:
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Any:
            started.append((status, headers))

        found: Any = self.app.wsgi_app(environ, start)
        try:
            body = b"".join(found)
        finally:
            getattr(found, "close", lambda: None)()
        status, headers = started[-1]
        self.statuses.add(int(status[:3]))
        if ("Content-Encoding", "gzip") in headers:
            body = gzip.decompress(body)
            headers = [(name, value) for name, value in headers if name != "Content-Length"]
        return Answer(int(status[:3]), tuple(headers), body)

    def differences(self, pairs: Iterator[Pair]) -> tuple[int, list[str]]:
        """How many questions of the host were compared, and those whose answers differ from their twins' or are bad."""
        compared, different = 0, []
        for path, twin, question, words in pairs:
            told = self.ask(self.host, path, question).told_of(words[0])
            compared += 1
            failed = told[0] >= 500 or GUEST in str(told)
            if failed or told != self.ask(self.host, twin, question.about(words)).told_of(words[1]):
                different.append(f"{question.method} {path}?{question.query} {question.headers}: {told}")
        return compared, different


def _twins(app: Flask) -> Iterator[Twins]:
    yield Twins(app)
    chalk_of(app).store.close()


@pytest.fixture(scope="module", params=BACKENDS)
def twins(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    yield from _twins(create_app(storage=url_in(tmp_path_factory.mktemp("twins"), request.param)))


@pytest.fixture(scope="module")
def lenient() -> Iterator[Twins]:
    yield from _twins(create_app(storage="memory:", lenient_parent=True))


@dataclass(frozen=True)
class Place:
    """A route with ids that the host knows."""

    route: Route
    path: str
    positions: tuple[int, ...]

    def with_keys(self, start: str, positions: tuple[int, ...]) -> str:
        """The path with the beginning in front of the ids at these positions."""
        parts = self.path.split("/")
        return "/".join(start + part if place in positions else part for place, part in enumerate(parts))


def _places() -> Iterator[Place]:
    known = [path.split("/") for path in (*COLLECTIONS, *SINGLES)]
    for route in ROUTES:
        for template in route.paths:
            words = template.split("/")
            ids = tuple(place for place, word in enumerate(words) if word.startswith("{"))
            found = next(path for path in known if _fits(path, route.path.split("/")))
            parts = [found[place] if place in ids else word for place, word in enumerate(words)]
            yield Place(route, "/".join(parts), ids)


def _fits(path: list[str], words: list[str]) -> bool:
    return len(path) == len(words) and all(w.startswith("{") or w == p for w, p in zip(words, path, strict=True))


PLACES = tuple(_places())
PREFIXES = [root.path + alias for root in ROOTS for alias in ("", "/sis")]

GZIP = (("Accept-Encoding", "gzip"),)
EVERYTHING_AT_ONCE = (
    "filter=status!='x' AND dateLastModified>'2020-01-01'&sort=dateLastModified&orderBy=desc&limit=2&offset=1"
    "&fields=sourcedId,status,metadata"
)
QUESTIONS = (
    *(Question(method=method) for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")),
    *(Question(query) for query in ("limit=1", "limit=2&offset=1", "offset=3", "limit=0", "limit=1&limit=1")),
    *(Question(query) for query in ("sort=status", "sort=dateLastModified&orderBy=desc", "sort=nope")),
    *(Question(query) for query in ("fields=sourcedId,metadata", "fields=nope", "fields=")),
    *(Question(f"filter={text}") for text in ("status='active'", "sourcedId!='x'", "nope='x'", "status")),
    Question(f"filter=sourcedId='{OWN}u-1'"),
    Question(EVERYTHING_AT_ONCE),
    Question(EVERYTHING_AT_ONCE, "HEAD"),
    Question(EVERYTHING_AT_ONCE, headers=GZIP),
    Question(headers=GZIP),
    Question(headers=(("If-None-Match", "*"),)),
)


def test_the_walk_leads_through_every_route_and_every_place_for_an_id() -> None:
    assert {place.route for place in PLACES} == set(ROUTES)
    ids = sum(path.count("{") for route in ROUTES for path in route.paths)
    assert sum(len(place.positions) for place in PLACES) == ids > 40


def ids_in_paths(twins: Twins, prefixes: list[str] = PREFIXES) -> Iterator[Pair]:
    """Every route below every prefix with every choice of ids that the guest alone has, asked in every way."""
    for place, prefix in product(PLACES, prefixes):
        chosen = chain.from_iterable(combinations(place.positions, n) for n in range(1, len(place.positions) + 1))
        for positions, start in product(chosen, (OWN, LINKED)):
            path, twin = (prefix + place.with_keys(each, positions) for each in (start, ABSENT))
            # What the guest holds of its own is no news to a server that the host asks with it.
            tag = twins.ask(twins.guest, path).header("ETag")
            questions = (
                (*QUESTIONS, Question(headers=(("If-None-Match", tag),))) if "sis" not in prefix else QUESTIONS[:2]
            )
            for question in questions:
                yield path, twin, question, (start, ABSENT)
            yield path + "/", twin + "/", Question(), (start, ABSENT)


def test_an_id_of_another_tenant_in_a_path_is_answered_as_one_that_is_nowhere(twins: Twins) -> None:
    """N-09"""
    compared, different = twins.differences(ids_in_paths(twins))
    assert different == []
    assert compared >= 5000


def test_nor_are_they_told_apart_where_an_unknown_parent_has_no_children(lenient: Twins) -> None:
    """A-11"""
    compared, different = lenient.differences(ids_in_paths(lenient, [ROOTS[0].path]))
    assert different == []
    assert compared >= 2000


def values_in_filters() -> Iterator[Pair]:
    """Every collection, filtered by each field with what the guest alone has there, and sorted and selected by it."""
    for place in PLACES:
        if not place.route.many:
            continue
        path = ROOTS[1].path + place.path
        for query, words in asked_of(place.route.resource):
            yield path, path, Question(query), words


def asked_of(resource: Resource) -> Iterator[tuple[str, Words]]:
    keys = {"sourcedId": resource.name, **{each.name: each.target for each in resource.references}}
    keys |= {f"{each.name}.sourcedId": each.target for each in resource.references}
    for field, target in keys.items():
        first = ROSTER[target][0]["sourcedId"]
        for comparison in COMPARISONS:
            yield f"filter={field}{comparison}'{OWN}{first}'", (OWN, ABSENT)
        yield f"filter={field}='{LINKED}{first}' OR {field}='{first}'&limit=1&sort={field}", (LINKED, ABSENT)
    for field, comparison in product(set(resource.paths) - set(keys) - {"metadata.*"}, COMPARISONS):
        yield f"filter={field}{comparison}'{GUEST}'", (GUEST, NOWHERE)
    for comparison in COMPARISONS:
        yield f"filter=metadata.{GUEST}Key{comparison}'{GUEST}'", (GUEST, NOWHERE)
    for query in (f"sort=metadata.{GUEST}Key", f"sort={GUEST}", f"fields={GUEST}", f"fields=metadata,{GUEST}Key"):
        yield query, (GUEST, NOWHERE)


def test_what_another_tenant_holds_in_a_filter_is_answered_as_what_nobody_holds(twins: Twins) -> None:
    """N-09"""
    compared, different = twins.differences(values_in_filters())
    assert different == []
    assert compared >= 3000


def test_an_answer_holds_nothing_of_another_tenant_also_where_both_have_the_key(twins: Twins) -> None:
    seen = 0
    for place, prefix, question in product(PLACES, PREFIXES, (Question(), Question(EVERYTHING_AT_ONCE, headers=GZIP))):
        # The guest asks first, so that what is remembered of its answers would show in the host's.
        guest, host = (twins.ask(token, prefix + place.path, question) for token in (twins.guest, twins.host))
        assert (guest.status, host.status) == (200, 200), place
        assert HOST not in guest.whole
        assert not any(word in host.whole for word in (GUEST, OWN, LINKED)), host.whole
        seen += HOST in host.whole and GUEST in guest.whole
    assert seen > 400


def test_tenants_do_not_share_tags(twins: Twins) -> None:
    for place, root in product(PLACES, ROOTS):
        path = root.path + place.path
        tags = {token: twins.ask(token, path).header("ETag") for token in (twins.guest, twins.host)}
        assert len(set(tags.values())) == 2
        for token, tag in tags.items():
            held = Question(headers=(("If-None-Match", tag),))
            assert [twins.ask(each, path, held).status for each in tags] == [
                304 if each == token else 200 for each in tags
            ]


@pytest.fixture(params=BACKENDS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Twins]:
    yield from _twins(create_app(storage=url_in(tmp_path, request.param)))


def writes_of_the_gradebook() -> Iterator[Pair]:
    """Records that the guest has: deleted, written, written anew, referred to by others, deleted again."""
    for name, prefix in product(("categories", "lineItems", "results"), PREFIXES):
        resource, row = FILES[name], ROSTER[name][0]
        key, words = row["sourcedId"], (OWN, ABSENT)
        paths = f"{prefix}/{name}/{OWN}{key}", f"{prefix}/{name}/{ABSENT}{key}"
        delete, put = Question(method="DELETE"), Question(method="PUT", body=put_body(resource, row, key=OWN + key))
        for question in (delete, put, put, PLAIN, delete, PLAIN, delete):
            yield paths[0], paths[1], question, words
        for reference in resource.references:
            strange = put_body(resource, row, key=f"{OWN}strange", **{reference.name: OWN + row[reference.name]})
            path, twin = (f"{prefix}/{name}/{start}strange" for start in words)
            yield path, twin, Question(method="PUT", body=strange), words


def put_body(resource: Resource, row: Row, key: str, **references: str) -> str:
    """What a grade tool sends: references by id alone."""
    held = {**row, **references, "sourcedId": key}
    named = {each.name: {"sourcedId": held[each.name]} for each in resource.references if each.name in held}
    return json.dumps({resource.single: {**held, **named}})


def test_a_gradebook_takes_ids_of_another_tenant_as_new_ones_and_changes_nothing_there(written: Twins) -> None:
    """N-09"""
    before = written.held("guest")
    compared, different = written.differences(writes_of_the_gradebook())
    assert different == []
    assert compared >= 100
    assert written.statuses >= {200, 201, 204, 404, 422}
    assert written.held("guest") == before


def demographics_in_every_way() -> Iterator[tuple[str, Question]]:
    """The two routes of demographics, with known and unknown ids, in every way and by every field."""
    resource, known = FILES["demographics"], ROSTER["demographics"][0]
    paths = ("/demographics", *(f"/demographics/{each}" for each in (known["sourcedId"], "u-3", "nope")))
    by_field = [
        Question(f"filter={field}{comparison}'{known.get(field, HOST)}'&sort={field}")
        for field, comparison in product(set(resource.paths) - {"metadata.*"}, COMPARISONS)
    ]
    selected = [Question(f"fields={name}") for name in resource.elements]
    for prefix, path in product(PREFIXES, paths):
        for question in (*QUESTIONS, *by_field, *selected) if path == paths[0] else QUESTIONS:
            yield prefix + path, question


def test_without_the_opt_in_demographics_are_as_where_there_are_none(twins: Twins) -> None:
    """N-10. The scope alone opens nothing: neither a filter nor a sort nor a count tells that there are any."""
    chalk = chalk_of(twins.app)
    tenants, opted_out, without = Tenants(chalk.store), "opted-out", "without"
    for name, wanted in ((opted_out, False), (without, True)):
        tenants.create(name, demographics=wanted)
        with chalk.store.write(name) as transaction:
            for each, rows in ROSTER.items():
                kept = rows if each != "demographics" or name == opted_out else []
                transaction.put(each, [FILES[each].record(marked(row, HOST)) for row in kept])
    tokens = {name: chalk.tokens.create(name, ALL, name)[0] for name in (opted_out, without)}

    found = [[twins.ask(t, *each).told_of("-") for t in tokens.values()] for each in demographics_in_every_way()]
    assert [pair for pair in found if pair[0] != pair[1] or pair[0][0] >= 500] == []
    assert len(found) > 900
    assert {status for (status, _, _), _ in found} >= {200, 400, 404}

    path = f"{IMS}/demographics"
    assert twins.ask(tokens[opted_out], path).body == b'{"demographics":[]}'
    tag = twins.ask(tokens[opted_out], path).header("ETag")
    tenants.set(opted_out, demographics=True)
    opened = twins.ask(tokens[opted_out], path, Question(headers=(("If-None-Match", tag),)))
    assert (opened.status, opened.header("X-Total-Count"), opened.body.count(b"birthDate")) == (200, "2", 2)
    tenants.set(opted_out, demographics=False)
    held = Question(headers=(("If-None-Match", opened.header("ETag")),))
    assert twins.ask(tokens[opted_out], path, held).body == b'{"demographics":[]}'


def test_with_the_opt_in_demographics_still_need_their_scope(twins: Twins) -> None:
    token, _ = chalk_of(twins.app).tokens.create("all but one", set(ALL) - {DEMOGRAPHICS}, "host")
    for path in ("/demographics", "/demographics/u-1", "/demographics/nope"):
        refused = twins.ask(token, IMS + path)
        assert (refused.status, refused.header("WWW-Authenticate")) == (403, 'Bearer error="insufficient_scope"')

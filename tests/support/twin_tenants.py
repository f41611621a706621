"""Two tenants in one service, and what is asked of it to find out whether one can tell what the other holds.

Two tenants hold rosters of one shape. The guest's has the keys of the host's with other content, and every record twice
more under keys that the host does not have: once with references to the keys of both, once to keys of its own.
"""

from __future__ import annotations

import gzip
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias
from urllib.parse import quote

from flask import Flask

from backends import Backend
from chalk_flask.api.routes import ROOTS, ROUTES, Route
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.permissions.scopes import ALL
from chalk_flask.tenants.store import TenantStore
from tests.conftest import services_of
from tests.support.small_roster import COLLECTIONS, ROSTER, SINGLES, Row

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


def renamed(resource: ResourceType, row: Row, start: str, references: bool) -> Row:
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
        chalk = services_of(app)
        self.app = app
        self.statuses: set[int] = set()
        for name in ("host", "guest"):
            TenantStore(chalk.store).create(name, demographics=True)
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
        store = services_of(self.app).store
        with store.read(tenant) as snapshot:
            return {name: snapshot.get_many(name, list(snapshot.keys(name))) for name in store.collections}

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

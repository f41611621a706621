"""Two tenants in one service, and requests that would reveal to one of them what the other stores.

Both rosters have one shape. The guest has the keys of the host with other content. It also has each record twice more
under keys that the host does not have. One refers to keys of both tenants, the other to keys of the guest alone.
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
from chalk_flask.api.routes import READ_ROUTES, ROOTS, ReadRoute
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.permissions.scopes import ALL
from chalk_flask.tenants.store import TenantStore
from tests.conftest import services_of
from tests.support.small_roster import COLLECTIONS, ROSTER, SINGLES, Row

HOST, GUEST, NOWHERE = "aa-borea", "zz-auster", "zz-zephyr"
"""Words in the texts of the host, of the guest, and of neither. The last two are neighbors in sort order."""

OWN_PREFIX, LINKED_PREFIX, UNKNOWN_PREFIX = "zf.", "zm.", "zn."
"""Prefixes of keys that only the guest has (the first two), and of keys that no tenant has."""

TEXTS = frozenset(
    (
        *("title", "name", "identifier", "username", "givenName", "familyName", "middleName", "email", "phone"),
        *("comment", "description", "location", "classCode", "courseCode", "vendorResourceId", "cityOfBirth"),
    )
)
COMPARISONS = ("=", "!=", ">", ">=", "<", "<=", "~")
VARYING = re.compile(rb'"(imsx_messageRefIdentifier":"[^"]*|dateLastModified":"20(?!24-0[34])[^"]*)"')
"""Parts of a body that vary: the id of a message, and timestamps of records that a test wrote."""


def with_word_in_texts(row: Row, word: str) -> Row:
    """Return the record with the word in its texts, in a list of texts, in metadata and in `userIds`."""
    texts = {name: f"{word} {value}" for name, value in row.items() if name in TEXTS}
    lists = {name: [f"{word} {text}" for text in row[name]] for name in ("subjects",) if name in row}
    metadata = {**row.get("metadata", {}), f"{word}Key": word}
    more: Row = {"userIds": [{"type": word, "identifier": word}]} if "username" in row else {}
    more |= {"cityOfBirth": word} if "birthDate" in row else {}
    return {**row, **texts, **lists, **more, "metadata": metadata}


def with_prefix(resource_type: ResourceType, row: Row, prefix: str, references: bool) -> Row:
    """Return the record with a prefix before its key and, if `references`, before the keys that it references."""
    names = {reference.name for reference in resource_type.references} if references else set()
    changed = {name: prefixed(row[name], prefix) for name in names if name in row}
    return {**row, **changed, "sourcedId": prefix + row["sourcedId"]}


def prefixed(value: Any, prefix: str) -> Any:
    return [prefix + key for key in value] if isinstance(value, list) else prefix + value


def fill_both(store: Backend) -> None:
    for name, rows in ROSTER.items():
        resource_type = FILES[name]
        with store.write("host") as transaction:
            transaction.put(name, [resource_type.record(with_word_in_texts(row, HOST)) for row in rows])
        theirs = [with_word_in_texts(row, GUEST) for row in rows]
        own = [with_prefix(resource_type, row, OWN_PREFIX, references=True) for row in theirs]
        linked = [with_prefix(resource_type, row, LINKED_PREFIX, references=False) for row in theirs]
        with store.write("guest") as transaction:
            transaction.put(name, [resource_type.record(row) for row in chain(theirs, own, linked)])


Words: TypeAlias = tuple[str, str]
"""A word of the guest in a request, and the unknown word that replaces it in the twin request."""


@dataclass(frozen=True)
class TwinResponse:
    """A response, decompressed."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        return dict(self.headers).get(name, "")

    def comparable(self, word: str) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
        """Return status, headers and body without the word of the request, varying parts and the ETag."""
        headers = sorted(
            (name, "a tag" if name == "ETag" else value.replace(word, "*")) for name, value in self.headers
        )
        body = VARYING.sub(b"", self.body.replace(word.encode(), b"*"))
        return self.status, tuple(headers), body

    @property
    def text(self) -> str:
        return f"{self.status} {self.headers} {self.body.decode()}"


@dataclass(frozen=True)
class TwinRequest:
    """A request without its path."""

    query: str = ""
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""

    def with_word(self, words: Words) -> TwinRequest:
        """Return the request with the second word in place of the first."""
        return TwinRequest(self.query.replace(*words), self.method, self.headers, self.body.replace(*words))


PLAIN_REQUEST = TwinRequest()

RequestPair: TypeAlias = tuple[str, str, TwinRequest, Words]
"""A path, its twin, the request to both, and the words in which they differ."""


class TwinTenants:
    """A service with both tenants and a token of each."""

    def __init__(self, app: Flask) -> None:
        services = services_of(app)
        self.app = app
        self.statuses: set[int] = set()
        for name in ("host", "guest"):
            TenantStore(services.store).create(name, demographics=True)
        fill_both(services.store)
        self.host, self.guest = (services.tokens.create(n, ALL, n)[0] for n in ("host", "guest"))

    def send(self, token: str | None, path: str, request: TwinRequest = PLAIN_REQUEST) -> TwinResponse:
        """Return the response of the application. The test client of Flask would take longer than the response."""
        sent = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in request.headers}
        environ = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": quote(request.query, safe="=&,"),
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "localhost",
            "HTTP_AUTHORIZATION": f"Bearer {token}",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(request.body.encode()),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            **sent,
            **({"CONTENT_LENGTH": str(len(request.body)), "CONTENT_TYPE": "application/json"} if request.body else {}),
        }
        return self._answer(environ)

    def bodies(self, tenant: str) -> dict[str, dict[str, bytes]]:
        """Return all stored bodies of a tenant by collection and key."""
        store = services_of(self.app).store
        with store.read(tenant) as snapshot:
            return {name: snapshot.get_many(name, list(snapshot.keys(name))) for name in store.collections}

    def _answer(self, environ: dict[str, Any]) -> TwinResponse:
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Any:
            started.append((status, headers))

        blocks: Any = self.app.wsgi_app(environ, start_response)
        try:
            body = b"".join(blocks)
        finally:
            getattr(blocks, "close", lambda: None)()
        status, headers = started[-1]
        headers = [(name, value) for name, value in headers if name != "X-Request-ID"]  # it is random
        self.statuses.add(int(status[:3]))
        if ("Content-Encoding", "gzip") in headers:
            body = gzip.decompress(body)
            headers = [(name, value) for name, value in headers if name != "Content-Length"]
        return TwinResponse(int(status[:3]), tuple(headers), body)

    def differences(self, pairs: Iterator[RequestPair]) -> tuple[int, list[str]]:
        """Send pairs as the host. Return their number, and descriptions of failures and of responses that differ."""
        compared, different = 0, []
        for path, twin, request, words in pairs:
            result = self.send(self.host, path, request).comparable(words[0])
            compared += 1
            failed = result[0] >= 500 or GUEST in str(result)
            if failed or result != self.send(self.host, twin, request.with_word(words)).comparable(words[1]):
                different.append(f"{request.method} {path}?{request.query} {request.headers}: {result}")
        return compared, different


@dataclass(frozen=True)
class RoutePath:
    """A path of a route with ids that the host has."""

    route: ReadRoute
    path: str
    positions: tuple[int, ...]

    def with_keys(self, prefix: str, positions: tuple[int, ...]) -> str:
        """Return the path with a prefix before the ids at these positions."""
        parts = self.path.split("/")
        return "/".join(prefix + part if n in positions else part for n, part in enumerate(parts))


def _places() -> Iterator[RoutePath]:
    paths = [path.split("/") for path in (*COLLECTIONS, *SINGLES)]
    for route in READ_ROUTES:
        for template in route.paths:
            words = template.split("/")
            ids = tuple(route_path for route_path, word in enumerate(words) if word.startswith("{"))
            path = next(path for path in paths if _fits(path, route.path.split("/")))
            parts = [path[n] if n in ids else word for n, word in enumerate(words)]
            yield RoutePath(route, "/".join(parts), ids)


def _fits(path: list[str], words: list[str]) -> bool:
    return len(path) == len(words) and all(w.startswith("{") or w == p for w, p in zip(words, path, strict=True))


ROUTE_PATHS = tuple(_places())
PREFIXES = [root.path + alias for root in ROOTS for alias in ("", "/sis")]

GZIP = (("Accept-Encoding", "gzip"),)
ALL_PARAMETERS = (
    "filter=status!='x' AND dateLastModified>'2020-01-01'&sort=dateLastModified&orderBy=desc&limit=2&offset=1"
    "&fields=sourcedId,status,metadata"
)
REQUESTS = (
    *(TwinRequest(method=method) for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")),
    *(TwinRequest(query) for query in ("limit=1", "limit=2&offset=1", "offset=3", "limit=0", "limit=1&limit=1")),
    *(TwinRequest(query) for query in ("sort=status", "sort=dateLastModified&orderBy=desc", "sort=nope")),
    *(TwinRequest(query) for query in ("fields=sourcedId,metadata", "fields=nope", "fields=")),
    *(TwinRequest(f"filter={text}") for text in ("status='active'", "sourcedId!='x'", "nope='x'", "status")),
    TwinRequest(f"filter=sourcedId='{OWN_PREFIX}u-1'"),
    TwinRequest(ALL_PARAMETERS),
    TwinRequest(ALL_PARAMETERS, "HEAD"),
    TwinRequest(ALL_PARAMETERS, headers=GZIP),
    TwinRequest(headers=GZIP),
    TwinRequest(headers=(("If-None-Match", "*"),)),
)

"""OneRoster provider with the habits of real ones: a server in a thread, whose roster a test may change."""

from __future__ import annotations

import gzip
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

__all__ = ["Provider", "Reply", "run_provider"]

ROOT = "/ims/oneroster/v1p1"
SECRET = "hush-4711"
TIMESTAMP = "2026-08-20T10:00:00.000Z"

Record = dict[str, Any]


def record(key: str, **members: Any) -> Record:
    """Return an active record."""
    return {"sourcedId": key, "status": "active", "dateLastModified": TIMESTAMP} | members


def ref(key: str, kind: str) -> Record:
    """Return a reference."""
    return {"sourcedId": key, "type": kind, "href": f"https://upstream.example/{kind}/{key}"}


def user(number: int, **members: Any) -> Record:
    """Return a pupil."""
    names = {"givenName": f"Grace{number}", "familyName": "Hopper", "username": f"grace{number}"}
    values = {"enabledUser": True, "role": "student", "orgs": [ref("s-1", "org")], **names, **members}
    return record(f"u-{number:03}", **values)


def enrollment(number: int) -> Record:
    """Return the enrollment of a pupil."""
    parts = {"class": ref("c-1", "class"), "school": ref("s-1", "org"), "user": ref(f"u-{number:03}", "user")}
    return record(f"e-{number:03}", role="student", primary=False, beginDate="2026-08-17", **parts)


def new_roster(users: int) -> dict[str, list[Any]]:
    """Return a roster with one school, one class and this number of pupils."""
    days = {"startDate": "2026-08-17", "endDate": "2027-06-12", "schoolYear": 2027}
    return {
        "orgs": [
            record("d-1", name="District", type="district"),
            record("s-1", name="School", type="school", parent=ref("d-1", "org")),
        ],
        "academicSessions": [record("t-1", title="Term", type="term", **days)],
        "courses": [record("k-1", title="Arithmetic", org=ref("d-1", "org"), grades=["05"])],
        "classes": [
            record(
                "c-1",
                title="Arithmetic 5a",
                classType="scheduled",
                course=ref("k-1", "course"),
                school=ref("s-1", "org"),
                terms=[ref("t-1", "academicSession")],
            )
        ],
        "users": [user(number) for number in range(users)],
        "enrollments": [enrollment(number) for number in range(users)],
        "demographics": [],
    }


def _sort_key(each: Any) -> str:
    return str(each.get("sourcedId") if isinstance(each, dict) else each)


@dataclass(frozen=True)
class Reply:
    """Response in place of the usual one. `drip_seconds` is the pause after each byte of the body."""

    status: int
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    drip_seconds: float = 0.0


@dataclass
class Provider:
    """Provider and its habits.

    `page_cap` limits pages. `total` changes X-Total-Count; None leaves it out. `links` adds Link headers. `replies`
    returns a reply in place of the usual one, or None, for the path below the root and the parameters. `answer`
    returns the reply for a page of a collection in place of `page`. `tokens` are the
    valid access tokens. `requests` are the paths and queries of all requests.
    """

    roster: dict[str, list[Any]]
    page_cap: int = 1_000
    total: Callable[[int], object] = lambda count: count
    links: bool = False
    accepts_sort: bool = True
    accepts_filter: bool = True
    max_limit: int | None = None
    replies: Callable[[str, dict[str, str]], Reply | None] = lambda path, query: None
    answer: Callable[[str, dict[str, str]], Reply] | None = None
    tokens: set[str] = field(default_factory=set)
    issued: int = 0
    requests: list[str] = field(default_factory=list)
    scheme: str = "http"
    port: int = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}{ROOT}"

    def names(self) -> list[str]:
        """Return the collections in the order of their first request."""
        return list(dict.fromkeys(urlsplit(path).path.rpartition("/")[2] for path in self.requests))

    def page(self, name: str, query: dict[str, str]) -> Reply:
        """Return the usual reply for a page."""
        records = self.roster[name]
        if condition := query.get("filter"):
            since = condition.partition("'")[2].strip("'")
            records = [each for each in records if each["dateLastModified"] >= since]
        limit, offset = min(int(query["limit"]), self.page_cap), int(query["offset"])
        if "sort" in query:
            records = sorted(records, key=_sort_key)
        headers = {} if (total := self.total(len(records))) is None else {"X-Total-Count": str(total)}
        if self.links and offset + limit < len(records):
            after = urlencode(query | {"limit": limit, "offset": offset + limit})
            headers["Link"] = f'<{self.url}/{name}?{after}>; rel="next"'
        return Reply(200, json.dumps({name: records[offset : offset + limit]}).encode(), headers)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet per response, which needs no acknowledgement in between
    provider: Provider

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.provider.requests.append(self.path)
        self.provider.issued += 1
        token = f"token-{self.provider.issued}"
        self.provider.tokens.add(token)
        self._send(Reply(200, json.dumps({"access_token": token, "token_type": "bearer"}).encode()))

    def do_GET(self) -> None:
        provider, parts = self.provider, urlsplit(self.path)
        provider.requests.append(self.path)
        name = parts.path.removeprefix(f"{ROOT}/")
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if reply := provider.replies(name, query):
            self._send(reply)
        elif self.headers["Authorization"].removeprefix("Bearer ") not in provider.tokens:
            self._send(Reply(401))
        elif self._rejects(query):
            self._send(Reply(400))
        elif name not in provider.roster:
            self._send(Reply(404))
        else:
            self._send((provider.answer or provider.page)(name, query))

    def _rejects(self, query: dict[str, str]) -> bool:
        provider = self.provider
        return (
            ("sort" in query and not provider.accepts_sort)
            or ("filter" in query and not provider.accepts_filter)
            or (provider.max_limit is not None and int(query.get("limit", 0)) > provider.max_limit)
        )

    def _send(self, reply: Reply) -> None:
        with suppress(OSError):
            body = reply.body
            self.send_response(reply.status)
            if "gzip" in self.headers.get("Accept-Encoding", "") and len(body) > 1000:
                body = gzip.compress(body)
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            for header, value in reply.headers.items():
                self.send_header(header, value)
            self.end_headers()
            for byte in [body[i : i + 1] for i in range(len(body))] if reply.drip_seconds else [body]:
                self.wfile.write(byte)
                self.wfile.flush()
                time.sleep(reply.drip_seconds)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the parent
        """Log nothing."""


@contextmanager
def run_provider(users: int = 30, *, tls: ssl.SSLContext | None = None, **habits: Any) -> Iterator[Provider]:
    """Run a provider with these habits until the block ends."""
    provider = Provider(new_roster(users), scheme="https" if tls else "http", **habits)
    handler = type("Handler", (_Handler,), {"provider": provider})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        provider.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join(5)

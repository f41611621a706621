"""Validators, compression, HEAD, streams and addresses (design section 5)."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse, create_environ

from backends import Backend
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.permissions.scopes import ALL, DEFAULT
from tests.conftest import services_of
from tests.support.api_client import CHALK, IMS, Consumer, create_token, items
from tests.support.small_roster import ROSTER

MANY = 3000


def put_users(store: Backend, number: int, **changes: Any) -> None:
    """Users called v-00000 and following."""
    template, users = ROSTER["users"][0] | changes, RESOURCES["users"]
    with store.write("default") as transaction:
        transaction.put("users", (users.record({**template, "sourcedId": f"v-{n:05}"}) for n in range(number)))


@pytest.mark.parametrize("path", ["/users", "/users/u-1", "/classes/c-1/students?limit=1", "/users?sort=unknown"])
def test_matching_etag_is_304(consumer: Consumer, path: str) -> None:
    answer = consumer.get(path)
    tag = answer.headers["ETag"]
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert answer.headers["Vary"] == "Accept-Encoding, Authorization"
    for held in (tag, tag.removeprefix("W/"), f'"other", {tag}'):
        again = consumer.get(path, {"If-None-Match": held})
        assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
        assert again.headers["Cache-Control"] == "private, no-cache"
    for held in ('"other"', "*", "nonsense", ""):
        assert consumer.get(path, {"If-None-Match": held}).status_code == 200


def test_etag_depends_on_url_query_scopes_and_revision(serve: Callable[..., Flask]) -> None:
    app = serve()
    consumer = Consumer(app)
    answers = [
        consumer.get("/users"),
        consumer.get("/users?limit=1"),
        consumer.get("/users?limit=2"),
        consumer.get("/students"),
        consumer.get(f"{CHALK}/users"),
        consumer.get("/users", {"Host": "elsewhere.example"}),
        Consumer(app, create_token(app, tuple(DEFAULT))).get("/users"),
    ]
    put_users(services_of(app).store, 1)
    answers.append(consumer.get("/users"))
    assert len({answer.headers["ETag"] for answer in answers}) == len(answers)


def test_etag_stays_while_the_roster_stays(store: Backend, app: Flask) -> None:
    put_users(store, 3)
    before = Consumer(app).get("/users").headers["ETag"]
    services_of(app).tokens.create("another", ALL)
    assert Consumer(app).get("/users").headers["ETag"] == before
    put_users(store, 3, givenName="Changed")
    assert Consumer(app).get("/users").headers["ETag"] != before


@pytest.mark.parametrize("accepted", ["gzip", "deflate, gzip;q=0.5", "*", "GZIP", "gzip;q=1, identity;q=0"])
@pytest.mark.parametrize("path", ["/users", f"{CHALK}/users?filter=sourcedId>='v'"])
def test_gzip_is_sent_if_accepted(store: Backend, app: Flask, path: str, accepted: str) -> None:
    put_users(store, MANY)
    consumer = Consumer(app)
    plain, zipped = consumer.get(path), consumer.get(path, {"Accept-Encoding": accepted})
    assert "Content-Encoding" not in plain.headers
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(zipped.data) == plain.data
    assert len(zipped.data) < len(plain.data) / 5
    assert zipped.headers["ETag"] == plain.headers["ETag"]


@pytest.mark.parametrize("accepted", ["", "identity", "gzip;q=0", "br", "*;q=0", "gzip;q=0, *"])
def test_gzip_is_not_sent_unless_accepted(consumer: Consumer, accepted: str) -> None:
    assert "Content-Encoding" not in consumer.get("/users", {"Accept-Encoding": accepted}).headers


def test_small_body_is_not_compressed(consumer: Consumer) -> None:
    assert "Content-Encoding" not in consumer.get("/users/u-7", {"Accept-Encoding": "gzip"}).headers


@pytest.mark.parametrize("path", ["/users", "/users/u-1", "/schools/s-1/students", f"{CHALK}/users", "/users/nope"])
def test_head_has_the_headers_of_get_and_no_body(consumer: Consumer, path: str) -> None:
    got, head = consumer.get(path), consumer.get(path, method="HEAD")
    assert head.data == b""
    assert head.status_code == got.status_code
    assert dict(head.headers) == dict(got.headers)


def test_head_of_a_large_collection_has_no_body(store: Backend, app: Flask) -> None:
    put_users(store, MANY)
    answer = Consumer(app).get(f"{CHALK}/users", method="HEAD")
    assert answer.data == b""
    assert answer.headers["X-Total-Count"] == str(MANY)


def test_small_body_has_a_length_and_a_large_one_streams(store: Backend, app: Flask) -> None:
    put_users(store, MANY)
    consumer = Consumer(app)
    small, large = consumer.get(f"{CHALK}/users?limit=100"), consumer.get(f"{CHALK}/users")
    assert int(small.headers["Content-Length"]) == len(small.data)
    assert "Content-Length" not in large.headers
    assert [item["sourcedId"] for item in items(large)] == [f"v-{n:05}" for n in range(MANY)]
    assert large.data.count(f'"href":"http://localhost{CHALK}/orgs/s-1"'.encode()) == MANY


def wsgi(app: Flask, path: str, **headers: str) -> Iterator[bytes]:
    """The answer as a WSGI server gets it: blocks."""
    sent = {"Authorization": f"Bearer {create_token(app, ALL)}", **headers}
    answer = app(create_environ(path, headers=sent), lambda status, _headers, _error=None: lambda _data: status)
    assert hasattr(answer, "close")
    return answer  # type: ignore[return-value]  # werkzeug's is an iterator that can be closed


def test_stream_blocks_have_bounded_sizes(store: Backend, app: Flask) -> None:
    put_users(store, MANY)
    sizes = [len(block) for block in wsgi(app, f"{CHALK}/users")]
    assert len(sizes) > 3
    assert all(64 * 1024 <= size <= 800 * 1024 for size in sizes[:-1])
    assert sizes[-1] <= 800 * 1024


def test_large_document_is_split_into_blocks(store: Backend, app: Flask) -> None:
    with store.write("default") as transaction:
        transaction.put(
            "orgs", [RESOURCES["orgs"].record({**ROSTER["orgs"][0], "children": [f"s-{n}" for n in range(30_000)]})]
        )
    for path in ("/orgs", "/orgs/d-1"):
        sizes = [len(block) for block in wsgi(app, IMS + path)]
        assert sum(sizes) > 2_000_000
        assert max(sizes) <= 800 * 1024
    answer = Consumer(app).get("/orgs/d-1").json
    assert answer is not None
    assert len(answer["org"]["children"]) == 30_000


def test_stream_shows_one_revision_despite_writes(store: Backend, app: Flask) -> None:
    put_users(store, MANY)
    stream = wsgi(app, f"{CHALK}/users?fields=givenName")
    begun = next(stream)
    put_users(store, MANY + 5, givenName="Changed")
    users = json.loads(begun + b"".join(stream))["users"]
    assert users == [{"givenName": "Ada"}] * MANY


def test_abandoned_stream_closes_its_snapshot(store: Backend, app: Flask) -> None:
    put_users(store, MANY)
    for _ in range(50):
        stream = wsgi(app, f"{CHALK}/users")
        next(stream)
        stream.close()  # type: ignore[attr-defined]  # see wsgi
    put_users(store, 1, givenName="Changed")
    assert Consumer(app).get("/users/v-00000").status_code == 200


@pytest.mark.reading("Q-20")
def test_stream_beyond_the_time_limit_breaks(serve: Callable[..., Flask]) -> None:
    app = serve(stream_seconds=1)
    put_users(services_of(app).store, MANY)
    stream = wsgi(app, f"{CHALK}/users")
    next(stream)
    time.sleep(1.1)
    next(stream)
    with pytest.raises(TimeoutError):
        next(stream)


@pytest.mark.parametrize(
    ("settings", "request_", "site"),
    [
        ({}, {}, "http://localhost"),
        ({}, {"base_url": "https://roster.example:8443"}, "https://roster.example:8443"),
        ({}, {"base_url": "https://roster.example:443"}, "https://roster.example"),
        ({}, {"base_url": "http://[2001:db8::1]:80"}, "http://[2001:db8::1]"),
        ({}, {"base_url": "http://sis.example/aeries"}, "http://sis.example/aeries"),
        ({"public_url": "https://out.example/x"}, {"base_url": "http://in.example/y"}, "https://out.example/x"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/sis"])
def test_urls_start_with_public_url_or_the_request_url(
    serve: Callable[..., Flask], settings: dict[str, str], request_: dict[str, str], site: str, prefix: str
) -> None:
    app = serve(**settings)
    client: FlaskClient = app.test_client()
    headers = {"Authorization": f"Bearer {create_token(app, ALL)}"}
    for root in (CHALK, IMS):
        answer: TestResponse = client.get(f"{root}{prefix}/users?limit=1", headers=headers, **request_)
        assert items(answer)[0]["orgs"][0]["href"] == f"{site}{root}/orgs/s-1"
        assert answer.headers["Link"].startswith(f"<{site}{root}{prefix}/users?limit=1&offset=0>;")


@pytest.mark.reading("Q-19")
def test_request_without_host_gets_the_server_name(served: Flask) -> None:
    environ = create_environ(f"{IMS}/users/u-1", headers={"Authorization": f"Bearer {create_token(served, ALL)}"})
    del environ["HTTP_HOST"]
    environ |= {"SERVER_NAME": "roster.internal", "SERVER_PORT": "8080"}
    body = b"".join(served(environ, lambda status, _headers, _error=None: lambda _data: status))
    assert b'"href":"http://roster.internal:8080/ims/oneroster/v1p1/orgs/s-1"' in body

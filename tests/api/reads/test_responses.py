"""HTTP responses of reads: ETags, compression, HEAD, streams."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable

import pytest
from flask import Flask

from backends import Backend
from chalk_flask.permissions.scopes import ALL, DEFAULT
from tests.api.reads.conftest import LARGE_COLLECTION, put_users, response_blocks
from tests.conftest import services_of
from tests.support.api_client import CHALK, Consumer, create_token, items


@pytest.mark.parametrize("path", ["/users", "/users/u-1", "/classes/c-1/students?limit=1", "/users?sort=unknown"])
def test_matching_etag_is_304(consumer: Consumer, path: str) -> None:
    response = consumer.get(path)
    tag = response.headers["ETag"]
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert response.headers["Vary"] == "Accept-Encoding, Authorization"
    for condition in (tag, tag.removeprefix("W/"), f'"other", {tag}'):
        again = consumer.get(path, {"If-None-Match": condition})
        assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
        assert again.headers["Cache-Control"] == "private, no-cache"
    for condition in ('"other"', "*", "nonsense", ""):
        assert consumer.get(path, {"If-None-Match": condition}).status_code == 200


def test_etag_depends_on_url_query_scopes_and_revision(serve: Callable[..., Flask]) -> None:
    app = serve()
    consumer = Consumer(app)
    responses = [
        consumer.get("/users"),
        consumer.get("/users?limit=1"),
        consumer.get("/users?limit=2"),
        consumer.get("/students"),
        consumer.get(f"{CHALK}/users"),
        consumer.get("/users", {"Host": "elsewhere.example"}),
        Consumer(app, create_token(app, tuple(DEFAULT))).get("/users"),
    ]
    put_users(services_of(app).store, 1)
    responses.append(consumer.get("/users"))
    assert len({response.headers["ETag"] for response in responses}) == len(responses)


def test_etag_stays_while_the_roster_stays(store: Backend, app: Flask) -> None:
    put_users(store, 3)
    before = Consumer(app).get("/users").headers["ETag"]
    services_of(app).tokens.create("another", ALL)
    assert Consumer(app).get("/users").headers["ETag"] == before
    put_users(store, 3, givenName="Changed")
    assert Consumer(app).get("/users").headers["ETag"] != before


@pytest.mark.parametrize("accept_encoding", ["gzip", "deflate, gzip;q=0.5", "*", "GZIP", "gzip;q=1, identity;q=0"])
@pytest.mark.parametrize("path", ["/users", f"{CHALK}/users?filter=sourcedId>='v'"])
def test_gzip_is_sent_if_accepted(store: Backend, app: Flask, path: str, accept_encoding: str) -> None:
    put_users(store, LARGE_COLLECTION)
    consumer = Consumer(app)
    plain, compressed = consumer.get(path), consumer.get(path, {"Accept-Encoding": accept_encoding})
    assert "Content-Encoding" not in plain.headers
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(compressed.data) == plain.data
    assert len(compressed.data) < len(plain.data) / 5
    assert compressed.headers["ETag"] == plain.headers["ETag"]


@pytest.mark.parametrize("accept_encoding", ["", "identity", "gzip;q=0", "br", "*;q=0", "gzip;q=0, *"])
def test_gzip_is_not_sent_unless_accepted(consumer: Consumer, accept_encoding: str) -> None:
    assert "Content-Encoding" not in consumer.get("/users", {"Accept-Encoding": accept_encoding}).headers


def test_small_body_is_not_compressed(consumer: Consumer) -> None:
    assert "Content-Encoding" not in consumer.get("/users/u-7", {"Accept-Encoding": "gzip"}).headers


@pytest.mark.parametrize("path", ["/users", "/users/u-1", "/schools/s-1/students", f"{CHALK}/users", "/users/nope"])
def test_head_has_the_headers_of_get_and_no_body(consumer: Consumer, path: str) -> None:
    headers = {"X-Request-ID": "7f3a-1"}
    got, head = consumer.get(path, headers), consumer.get(path, headers, "HEAD")
    assert head.data == b""
    assert head.status_code == got.status_code
    assert dict(head.headers) == dict(got.headers)


def test_head_of_a_large_collection_has_no_body(store: Backend, app: Flask) -> None:
    put_users(store, LARGE_COLLECTION)
    response = Consumer(app).get(f"{CHALK}/users", method="HEAD")
    assert response.data == b""
    assert response.headers["X-Total-Count"] == str(LARGE_COLLECTION)


def test_small_body_has_a_length_and_a_large_one_streams(store: Backend, app: Flask) -> None:
    put_users(store, LARGE_COLLECTION)
    consumer = Consumer(app)
    small, large = consumer.get(f"{CHALK}/users?limit=100"), consumer.get(f"{CHALK}/users")
    assert int(small.headers["Content-Length"]) == len(small.data)
    assert "Content-Length" not in large.headers
    assert [item["sourcedId"] for item in items(large)] == [f"v-{n:05}" for n in range(LARGE_COLLECTION)]
    assert large.data.count(f'"href":"http://localhost{CHALK}/orgs/s-1"'.encode()) == LARGE_COLLECTION


@pytest.mark.reading("Q-20")
def test_stream_beyond_the_time_limit_breaks(serve: Callable[..., Flask]) -> None:
    app = serve(stream_seconds=1)
    put_users(services_of(app).store, LARGE_COLLECTION)
    stream = response_blocks(app, f"{CHALK}/users")
    next(stream)
    time.sleep(1.1)
    next(stream)
    with pytest.raises(TimeoutError):
        next(stream)

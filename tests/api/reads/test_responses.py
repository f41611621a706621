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
def test_who_holds_the_answer_is_told_so(consumer: Consumer, path: str) -> None:
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


def test_the_tag_hangs_on_all_that_the_answer_depends_on(serve: Callable[..., Flask]) -> None:
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


def test_the_tag_stays_while_the_roster_stays(store: Backend, app: Flask) -> None:
    put_users(store, 3)
    before = Consumer(app).get("/users").headers["ETag"]
    services_of(app).tokens.create("another", ALL)
    assert Consumer(app).get("/users").headers["ETag"] == before
    put_users(store, 3, givenName="Changed")
    assert Consumer(app).get("/users").headers["ETag"] != before


@pytest.mark.parametrize("accepted", ["gzip", "deflate, gzip;q=0.5", "*", "GZIP", "gzip;q=1, identity;q=0"])
@pytest.mark.parametrize("path", ["/users", f"{CHALK}/users?filter=sourcedId>='v'"])
def test_gzip_is_for_those_who_ask(store: Backend, app: Flask, path: str, accepted: str) -> None:
    put_users(store, MANY)
    consumer = Consumer(app)
    plain, zipped = consumer.get(path), consumer.get(path, {"Accept-Encoding": accepted})
    assert "Content-Encoding" not in plain.headers
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(zipped.data) == plain.data
    assert len(zipped.data) < len(plain.data) / 5
    assert zipped.headers["ETag"] == plain.headers["ETag"]


@pytest.mark.parametrize("accepted", ["", "identity", "gzip;q=0", "br", "*;q=0", "gzip;q=0, *"])
def test_who_does_not_want_gzip_gets_none(consumer: Consumer, accepted: str) -> None:
    assert "Content-Encoding" not in consumer.get("/users", {"Accept-Encoding": accepted}).headers


def test_a_small_answer_is_not_compressed(consumer: Consumer) -> None:
    assert "Content-Encoding" not in consumer.get("/users/u-7", {"Accept-Encoding": "gzip"}).headers


@pytest.mark.parametrize("path", ["/users", "/users/u-1", "/schools/s-1/students", f"{CHALK}/users", "/users/nope"])
def test_head_is_get_without_a_body(consumer: Consumer, path: str) -> None:
    got, head = consumer.get(path), consumer.get(path, method="HEAD")
    assert head.data == b""
    assert head.status_code == got.status_code
    assert dict(head.headers) == dict(got.headers)


def test_head_of_a_large_collection_ends(store: Backend, app: Flask) -> None:
    put_users(store, MANY)
    answer = Consumer(app).get(f"{CHALK}/users", method="HEAD")
    assert answer.data == b""
    assert answer.headers["X-Total-Count"] == str(MANY)


def test_a_small_collection_has_its_length_and_a_large_one_streams(store: Backend, app: Flask) -> None:
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


def test_a_stream_comes_in_blocks_that_are_neither_small_nor_large(store: Backend, app: Flask) -> None:
    put_users(store, MANY)
    sizes = [len(block) for block in wsgi(app, f"{CHALK}/users")]
    assert len(sizes) > 3
    assert all(64 * 1024 <= size <= 800 * 1024 for size in sizes[:-1])
    assert sizes[-1] <= 800 * 1024


def test_one_very_large_document_comes_in_blocks_too(store: Backend, app: Flask) -> None:
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


def test_a_stream_shows_one_moment_whatever_is_written_meanwhile(store: Backend, app: Flask) -> None:
    put_users(store, MANY)
    stream = wsgi(app, f"{CHALK}/users?fields=givenName")
    begun = next(stream)
    put_users(store, MANY + 5, givenName="Changed")
    users = json.loads(begun + b"".join(stream))["users"]
    assert users == [{"givenName": "Ada"}] * MANY


def test_a_stream_that_is_left_lets_go_of_its_snapshot(store: Backend, app: Flask) -> None:
    put_users(store, MANY)
    for _ in range(50):
        stream = wsgi(app, f"{CHALK}/users")
        next(stream)
        stream.close()  # type: ignore[attr-defined]  # see wsgi
    put_users(store, 1, givenName="Changed")
    assert Consumer(app).get("/users/v-00000").status_code == 200


def test_a_stream_that_takes_too_long_breaks_instead_of_ending(serve: Callable[..., Flask]) -> None:
    """Q-20"""
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
def test_addresses_are_those_by_which_the_client_came_or_what_the_operator_says(
    serve: Callable[..., Flask], settings: dict[str, str], request_: dict[str, str], site: str, prefix: str
) -> None:
    app = serve(**settings)
    client: FlaskClient = app.test_client()
    headers = {"Authorization": f"Bearer {create_token(app, ALL)}"}
    for root in (CHALK, IMS):
        answer: TestResponse = client.get(f"{root}{prefix}/users?limit=1", headers=headers, **request_)
        assert items(answer)[0]["orgs"][0]["href"] == f"{site}{root}/orgs/s-1"
        assert answer.headers["Link"].startswith(f"<{site}{root}{prefix}/users?limit=1&offset=0>;")


def test_a_client_that_names_no_host_gets_the_name_of_the_server(served: Flask) -> None:
    """Q-19"""
    environ = create_environ(f"{IMS}/users/u-1", headers={"Authorization": f"Bearer {create_token(served, ALL)}"})
    del environ["HTTP_HOST"]
    environ |= {"SERVER_NAME": "roster.internal", "SERVER_PORT": "8080"}
    body = b"".join(served(environ, lambda status, _headers, _error=None: lambda _data: status))
    assert b'"href":"http://roster.internal:8080/ims/oneroster/v1p1/orgs/s-1"' in body

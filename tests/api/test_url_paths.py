"""Ids in paths: decoded once, whatever they hold (digest section 1)."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from waitress import wasyncore
from waitress.server import create_server

from backends import Backend
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.permissions.scopes import ALL
from chalk_flask.tenants.store import TenantStore
from tests.conftest import services_of
from tests.support.api_client import IMS, Consumer, create_token
from tests.support.small_roster import ROSTER

STRANGE = [
    *("a/b", "/", "a//b/", "../users", "a.b", "a b", "a+b", "a%b", "a%2Fb", "a%252Fb", "50%", "é", "数学", "😀"),
    *("a?b", "a#b", "a;b", "a,b", "a&b=c", "a'b", 'a"b', "a\\b", "<a>", "a:b@c", "~", "-_.!*()", "x" * 255, "\x7f"),
]


@pytest.fixture
def strange(store: Backend, app: Flask) -> Flask:
    users, enrollments = RESOURCES["users"], RESOURCES["enrollments"]
    classes, orgs = RESOURCES["classes"], RESOURCES["orgs"]
    with store.write("default") as transaction:
        transaction.put("users", [users.record({**ROSTER["users"][0], "sourcedId": key}) for key in STRANGE])
        transaction.put("orgs", [orgs.record({**ROSTER["orgs"][1], "sourcedId": key}) for key in STRANGE])
        for name, resource in (("classes", classes), ("enrollments", enrollments)):
            template = {**ROSTER[name][0], "user": "a b"}
            template = {key: value for key, value in template.items() if key in resource.fields}
            rows = [{**template, "sourcedId": key, "school": key, "class": key} for key in STRANGE]
            known = [{k: v for k, v in row.items() if k in resource.fields} for row in rows]
            transaction.put(name, [resource.record(row) for row in known])
    return app


@pytest.mark.parametrize("key", STRANGE)
def test_id_may_contain_any_character(strange: Flask, key: str) -> None:
    consumer, part = Consumer(strange), quote(key, safe="")
    answer = consumer.get(f"/users/{part}").json
    assert answer is not None
    assert answer["user"]["sourcedId"] == key
    assert consumer.ids(f"/schools/{part}/classes/{part}/students") == ["a b"]
    assert key in consumer.ids("/schools/" + part + "/classes?limit=1")


def test_links_keep_encoded_slashes(strange: Flask) -> None:
    consumer = Consumer(strange)
    link = consumer.get("/schools/a%2Fb/classes?limit=1").headers["Link"]
    url = link[1 : link.index(">")]
    assert url == f"http://localhost{IMS}/schools/a%2Fb/classes?limit=1&offset=0"
    assert consumer.ids(url.removeprefix("http://localhost")) == ["a/b"]


def test_href_leads_to_its_record(strange: Flask) -> None:
    consumer = Consumer(strange)
    for key in STRANGE:
        record = consumer.get(f"/classes/{quote(key, safe='')}").json
        assert record is not None
        href = record["class"]["school"]["href"]
        found = consumer.get(href.removeprefix("http://localhost")).json
        assert found is not None
        assert found["org"]["sourcedId"] == key


def test_plain_slash_separates_segments(strange: Flask) -> None:
    consumer = Consumer(strange)
    assert consumer.get("/users/a/b").status_code == 404
    assert consumer.get("/users/a%252Fb").json == consumer.get("/users/" + quote("a%2Fb", safe="")).json


@pytest.mark.parametrize("part", ["%ff", "%00", "%C3", "x" * 5000, "%EF%BF%BF"])
def test_id_that_no_record_can_have_is_404(strange: Flask, part: str) -> None:
    found = Consumer(strange).get(f"/users/{part}")
    # The last one reads as a slash, for which there is a record; nothing else can be meant by it.
    assert found.status_code == (200 if part == "%EF%BF%BF" else 404)


@pytest.fixture
def port(served: Flask) -> Iterator[int]:
    sockets: dict[int, Any] = {}
    listener = socket.create_server(("127.0.0.1", 0))
    server = create_server(served, map=sockets, sockets=[listener], threads=2)
    stopped = threading.Event()

    def run() -> None:
        while not stopped.is_set():
            wasyncore.loop(timeout=0.05, map=sockets, count=1)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield int(listener.getsockname()[1])
    stopped.set()
    thread.join(5)
    server.task_dispatcher.shutdown()
    wasyncore.close_all(sockets)


def test_real_server_handles_encoded_slashes_head_and_streams(served: Flask, port: int) -> None:
    users = RESOURCES["users"]
    TenantStore(services_of(served).store).create("other")
    with services_of(served).store.write("other") as transaction:
        rows = [{**ROSTER["users"][0], "sourcedId": f"a/{n}"} for n in range(3000)]
        transaction.put("users", [users.record(row) for row in rows])
    token, _ = services_of(served).tokens.create("other", ALL, "other")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Authorization": f"bearer {token}"}

    def get(path: str, method: str = "GET") -> tuple[int, bytes]:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    assert get(f"{IMS}/users/a%2f17")[1].startswith(b'{"user":{"sourcedId":"a/17",')
    assert get(f"http://127.0.0.1:{port}{IMS}/users/a%2F17")[0] == 200
    assert get(f"{IMS}/users/a%2F17?fields=sourcedId")[1] == b'{"user":{"sourcedId":"a/17"}}'
    assert get(f"{IMS}/users?filter=sourcedId%3D%27a%2F5%27&fields=sourcedId")[1] == b'{"users":[{"sourcedId":"a/5"}]}'
    assert get(f"{IMS}/users/a%2F17", "HEAD") == (200, b"")
    assert get("/api/oneroster/v1p1/users", "HEAD") == (200, b"")
    status, body = get("/api/oneroster/v1p1/users")
    assert (status, body.count(b'"sourcedId":"a/')) == (200, 3000)
    assert get(f"{IMS}/users/a%2F17")[0] == 200
    connection.close()


def test_mounted_application_reads_encoded_slashes(strange: Flask) -> None:
    answer = strange.test_client().get(
        f"{IMS}/users/a%2Fb",
        base_url="http://sis.example/aeries",
        headers={"Authorization": f"Bearer {create_token(strange, ALL)}"},
    )
    assert answer.json is not None
    assert answer.json["user"]["sourcedId"] == "a/b"
    assert answer.json["user"]["orgs"][0]["href"].startswith("http://sis.example/aeries/ims/oneroster/v1p1/orgs/")

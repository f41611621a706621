"""Ids in paths: percent-decoded once, with any characters."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask, url_for
from waitress import wasyncore
from waitress.server import create_server

from backends import Backend
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.permissions.scopes import ALL
from chalk_flask.tenants.store import TenantStore
from tests.conftest import services_of
from tests.support.api_client import IMS, Consumer, create_token
from tests.support.small_roster import ROSTER

UNUSUAL_IDS = [
    *("a/b", "/", "a//b/", "../users", "a.b", "a b", "a+b", "a%b", "a%2Fb", "a%252Fb", "50%", "é", "数学", "😀"),
    *("a?b", "a#b", "a;b", "a,b", "a&b=c", "a'b", 'a"b', "a\\b", "<a>", "a:b@c", "~", "-_.!*()", "x" * 255, "\x7f"),
]
URL_SAFE = "!$&'()*+,:;=@"
"""Characters that the path of a URL contains as they are, beside letters, digits and `-._~`."""


@pytest.fixture
def unusual(store: Backend, app: Flask) -> Flask:
    users, enrollments = RESOURCES["users"], RESOURCES["enrollments"]
    classes, orgs = RESOURCES["classes"], RESOURCES["orgs"]
    with store.write("default") as transaction:
        transaction.put("users", [users.record({**ROSTER["users"][0], "sourcedId": key}) for key in UNUSUAL_IDS])
        transaction.put("orgs", [orgs.record({**ROSTER["orgs"][1], "sourcedId": key}) for key in UNUSUAL_IDS])
        for name, resource_type in (("classes", classes), ("enrollments", enrollments)):
            template = {**ROSTER[name][0], "user": "a b"}
            template = {key: value for key, value in template.items() if key in resource_type.fields}
            rows = [{**template, "sourcedId": key, "school": key, "class": key} for key in UNUSUAL_IDS]
            known_rows = [{k: v for k, v in row.items() if k in resource_type.fields} for row in rows]
            transaction.put(name, [resource_type.record(row) for row in known_rows])
    return app


@pytest.mark.parametrize("key", UNUSUAL_IDS)
def test_id_may_contain_any_character(unusual: Flask, key: str) -> None:
    consumer, segment = Consumer(unusual), quote(key, safe="")
    response = consumer.get(f"/users/{segment}").json
    assert response is not None
    assert response["user"]["sourcedId"] == key
    assert consumer.ids(f"/schools/{segment}/classes/{segment}/students") == ["a b"]
    assert key in consumer.ids("/schools/" + segment + "/classes?limit=1")


def test_links_keep_encoded_slashes(unusual: Flask) -> None:
    consumer = Consumer(unusual)
    link = consumer.get("/schools/a%2Fb/classes?limit=1").headers["Link"]
    url = link[1 : link.index(">")]
    assert url == f"http://localhost{IMS}/schools/a%2Fb/classes?limit=1&offset=0"
    assert consumer.ids(url.removeprefix("http://localhost")) == ["a/b"]


def test_href_leads_to_its_record(unusual: Flask) -> None:
    consumer = Consumer(unusual)
    for key in UNUSUAL_IDS:
        record = consumer.get(f"/classes/{quote(key, safe='')}").json
        assert record is not None
        href = record["class"]["school"]["href"]
        response = consumer.get(href.removeprefix("http://localhost")).json
        assert response is not None
        assert response["org"]["sourcedId"] == key


def test_plain_slash_separates_segments(unusual: Flask) -> None:
    consumer = Consumer(unusual)
    assert consumer.get("/users/a/b").status_code == 404
    assert consumer.get("/users/a%252Fb").json == consumer.get("/users/" + quote("a%2Fb", safe="")).json


@pytest.mark.reading("A-22")
@pytest.mark.parametrize(
    "segment",
    [
        "%ff",
        "%00",
        "%C3",
        "%09",
        "%0A",
        "%C2%85",
        "x" * 5000,
        "%EF%BF%BF",
        "%ef%bf%bf",
        "a%EF%BF%BFb",
        "a%2Fb%EF%BF%BF",
    ],
)
def test_id_that_no_record_can_have_is_404(unusual: Flask, segment: str) -> None:
    assert Consumer(unusual).get(f"/users/{segment}").status_code == 404
    assert Consumer(unusual).get(f"/schools/{segment}/classes").status_code == 404


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
        response = connection.getresponse()
        return response.status, response.read()

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


def test_mounted_application_reads_encoded_slashes(unusual: Flask) -> None:
    response = unusual.test_client().get(
        f"{IMS}/users/a%2Fb",
        base_url="http://sis.example/aeries",
        headers={"Authorization": f"Bearer {create_token(unusual, ALL)}"},
    )
    assert response.json is not None
    assert response.json["user"]["sourcedId"] == "a/b"
    assert response.json["user"]["orgs"][0]["href"].startswith("http://sis.example/aeries/ims/oneroster/v1p1/orgs/")


@pytest.mark.parametrize("key", UNUSUAL_IDS)
def test_url_of_an_id_leads_to_its_route(app: Flask, key: str) -> None:
    with app.test_request_context():
        url = url_for("ims.getUser", id=key)
    assert url == f"{IMS}/users/{quote(key, safe=URL_SAFE)}"
    response = app.test_client().get(url)
    assert response.status_code == 401  # an unknown route would be 404

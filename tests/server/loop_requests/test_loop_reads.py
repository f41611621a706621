"""Reads of the API in the server loop: the same responses and the same effects as in a thread."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import pytest

from backends import open_store
from chalk_flask import create_app
from chalk_flask.audit.access_log import read_entries
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import ALL
from chalk_flask.storage import COLLECTIONS
from tests.conftest import services_of
from tests.support.api_client import CHALK, IMS
from tests.support.deliveries import wait_until
from tests.support.server_process import ServerProcess, read_response, send_get, server_process
from tests.support.small_roster import fill

pytestmark = pytest.mark.slow

# The header Ran-In says where a request ran. In the second server, threads run all of them.
APP = """
from chalk_flask import create_app
from chalk_flask.api.reads import request_classifier
from chalk_flask.server.loop_requests import IN_LOOP_KEY, loop_kinds
from chalk_flask.storage import COLLECTIONS

loop_kinds.MAX_LOOP_SECONDS = 5.0  # so that no request is long because the machine is busy
flask_app = create_app()
services = flask_app.extensions["chalk"]

def app(environ, start_response):
    place = "loop" if IN_LOOP_KEY in environ else "thread"
    def start(status, headers, exc_info=None):
        return start_response(status, [*headers, ("Ran-In", place)], exc_info)
    return flask_app(environ, start)

classify_request = request_classifier(services)
"""
STOP = "\nservices.access_log.close()\nservices.store.close()\n"
IN_THREADS = "\nclassify_request = None\n"


class Servers(NamedTuple):
    """Server that uses the loop, one that does not, both on one store, and tokens."""

    loop: ServerProcess
    threads: ServerProcess
    storage: str
    tokens: dict[str, str]
    folder: Path


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("loop")
    storage = f"sqlite:///{folder}/chalk.db"
    app = create_app(storage=storage, data=str(folder / "data"))
    services = services_of(app)
    fill(services.store)
    restricted = AccessRestrictions(orgs=frozenset({"s-1"}), redacted=frozenset({"users.email"}))
    tokens = {
        "all": services.tokens.create("all", ALL)[0] or "",
        "restricted": services.tokens.create("restricted", ALL, restrictions=restricted)[0] or "",
        "ended": services.tokens.create("ended", ALL)[0] or "",
    }
    services.access_log.close()
    services.store.close()
    environ = {"CHALK_STORAGE": storage}
    with (
        server_process(APP, STOP, CHALK_DATA=str(folder / "data"), **environ) as loop,
        server_process(APP + IN_THREADS, STOP, CHALK_DATA=str(folder / "data2"), **environ) as threads,
    ):
        yield Servers(loop, threads, storage, tokens, folder)


def request(server: ServerProcess, token: str, path: str, *headers: str) -> bytes:
    with server.connect() as connection:
        send_get(connection, path, f"Authorization: Bearer {token}", "X-Request-ID: r-1", *headers)
        return read_response(connection) if "304" not in path else connection.recv(65536)


def place_of(response: bytes) -> str:
    match = re.search(rb"\r\nRan-In: (\w+)\r\n", response)
    assert match, response[:300]
    return match[1].decode()


def without_variables(response: bytes) -> bytes:
    """Return a response without what differs between two requests."""
    for pattern in (rb"\r\nDate: [^\r]*", rb"\r\nRan-In: \w+", rb'"imsx_messageRefIdentifier":"[^"]*"'):
        response = re.sub(pattern, b"", response)
    return response


def in_loop(servers: Servers, token: str, path: str, *headers: str) -> bytes:
    """Return a response of the loop."""
    responses: list[bytes] = []

    def is_in_loop() -> bool:
        responses.append(request(servers.loop, token, path, *headers))
        return place_of(responses[-1]) == "loop"

    wait_until(is_in_loop)
    return responses[-1]


PATHS = [
    f"{IMS}/users/u-4",
    f"{CHALK}/users/u-4",
    f"{IMS}/users",
    f"{IMS}/users?limit=2&offset=1",
    f"{IMS}/users?limit=2&offset=900",
    f"{CHALK}/orgs?limit=3",
    f"{IMS}/users?filter=role%3D%27student%27&limit=3",
    f"{IMS}/users?sort=familyName&limit=3",
    f"{IMS}/users?fields=sourcedId,givenName&limit=3",
    f"{IMS}/users?fields=wrong&limit=3",
    f"{IMS}/classes/c-1/students",
    f"{IMS}/schools/s-1/classes?limit=1",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("owner", ["all", "restricted"])
def test_response_in_the_loop_is_that_of_a_thread(servers: Servers, path: str, owner: str) -> None:
    token = servers.tokens[owner]
    for headers in ((), ("Accept-Encoding: gzip",)):
        expected = request(servers.threads, token, path, *headers)
        assert place_of(expected) == "thread"
        found = in_loop(servers, token, path, *headers)
        assert without_variables(found) == without_variables(expected)


@pytest.mark.parametrize(
    ("short", "path", "status"),
    [
        ("users/u-4", "users/none", 404),
        ("classes/c-1/students", "classes/none/students", 404),
        ("users", "users?limit=0", 400),
        ("users", "users?offset=x", 400),
        ("users?filter=a", "users?filter=a", 400),
    ],
)
def test_error_is_that_of_a_thread(servers: Servers, short: str, path: str, status: int) -> None:
    token = servers.tokens["all"]
    expected = request(servers.threads, token, f"{IMS}/{path}")
    assert expected.startswith(f"HTTP/1.1 {status} ".encode())
    if short != path:
        in_loop(servers, token, f"{IMS}/{short}")
    found = [request(servers.loop, token, f"{IMS}/{path}") for _ in range(4)]
    assert {without_variables(response) for response in found} == {without_variables(expected)}
    if status == 404:
        assert "loop" in map(place_of, found)


def test_unchanged_page_is_304_in_the_loop(servers: Servers) -> None:
    token, path = servers.tokens["all"], f"{IMS}/users?limit=2"
    response = in_loop(servers, token, path)
    etag = re.search(rb"\r\nETag: ([^\r]*)\r\n", response)
    assert etag
    heads = []
    for server in (servers.loop, servers.threads):
        with server.connect() as connection:
            condition = f"If-None-Match: {etag[1].decode()}"
            send_get(connection, path, f"Authorization: Bearer {token}", "X-Request-ID: r-1", condition)
            heads.append(connection.recv(65536))
            assert heads[-1].startswith(b"HTTP/1.1 304 ")
            assert heads[-1].endswith(b"\r\n\r\n")
    assert without_variables(heads[0]) == without_variables(heads[1])


def test_head_in_the_loop_is_that_of_a_thread(servers: Servers) -> None:
    token, path = servers.tokens["all"], f"{IMS}/users?limit=2"
    in_loop(servers, token, path)
    sent = f"HEAD {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nX-Request-ID: r-1\r\n\r\n".encode()
    heads = []
    for server in (servers.loop, servers.threads):
        with server.connect() as connection:
            connection.sendall(sent)
            heads.append(connection.recv(65536))
    assert heads[0].endswith(b"\r\n\r\n")
    assert without_variables(heads[0]) == without_variables(heads[1])


def test_revoked_token_is_rejected_in_a_thread_at_once(servers: Servers) -> None:
    token, path = servers.tokens["ended"], f"{IMS}/users/u-4"
    in_loop(servers, token, path)
    app = create_app(storage=servers.storage, data=str(servers.folder / "data3"))
    services = services_of(app)
    [found] = [each for each in services.tokens.list() if each.label == "ended"]
    services.tokens.revoke(found.id)
    services.access_log.close()
    services.store.close()
    rejected = request(servers.loop, token, path)
    assert rejected.startswith(b"HTTP/1.1 401 ")
    assert place_of(rejected) == "thread"
    assert without_variables(rejected) == without_variables(request(servers.threads, token, path))


def test_whole_collection_is_never_read_in_the_loop(servers: Servers) -> None:
    token = servers.tokens["all"]
    for path in (f"{CHALK}/users", f"{IMS}/users?limit=100000"):
        assert {place_of(request(servers.loop, token, path)) for _ in range(12)} == {"thread"}


def test_each_request_is_recorded_once_beside_commits(servers: Servers) -> None:
    """A commit makes the next request leave the loop, after it has begun."""
    token, path = servers.tokens["all"], f"{IMS}/schools/s-1"

    def entry_count() -> int:
        entries = read_entries(servers.folder / "data" / "reads")
        return sum(entry["route"].endswith("/schools/{id}") for entry in entries)

    def request_count() -> float:
        with servers.loop.connect() as connection:
            send_get(connection, "/metrics", f"Authorization: Bearer {token}", "Connection: close")
            text = b""
            while part := connection.recv(65536):
                text += part
        found = re.search(rb'chalk_requests_total\{[^}]*/schools/\{id\}"[^}]*\} ([0-9.]+)', text)
        return float(found[1]) if found else 0

    in_loop(servers, token, path)
    before = request_count()
    places = []
    with closing(open_store(servers.storage, COLLECTIONS)) as store, ExitStack() as stack:
        connection = stack.enter_context(servers.loop.connect())
        for number in range(80):
            if number % 4 == 0:
                with store.write("other") as transaction:
                    transaction.put("users", [])
            send_get(connection, path, f"Authorization: Bearer {token}")
            places.append(place_of(read_response(connection)))
    assert set(places) == {"loop", "thread"}
    assert request_count() == before + 80
    wait_until(lambda: entry_count() >= before + 80)
    assert entry_count() == before + 80

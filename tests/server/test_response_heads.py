"""Heads of responses: they fit into the 8 KiB that clients and proxies accept, however long the query is."""

from __future__ import annotations

import hashlib
import http.client
import re
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote

import pytest

from tests.support.api_client import IMS
from tests.support.server_process import ServerProcess, read_all, send_get, server_process

TOKEN = "chk_of-another-service"
MAX_HEAD_BYTES = 8192

APP = f"""
from chalk_flask import create_app
from chalk_flask.permissions.scopes import ALL
from tests.conftest import services_of
from tests.support.small_roster import fill
app = create_app()
fill(services_of(app).store)
services_of(app).tokens.create("test", ALL, sha256={hashlib.sha256(TOKEN.encode()).hexdigest()!r})
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with server_process(APP, CHALK_STORAGE="memory:") as started:
        yield started


def get(server: ServerProcess, path: str) -> tuple[bytes, bytes]:
    """Return head and body of the response to a GET with the token."""
    with server.connect() as connection:
        send_get(connection, path, f"Authorization: Bearer {TOKEN}", "Connection: close")
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    return head, body


def relations(head: bytes) -> list[str]:
    """Return the relations of the Link header in their order."""
    return re.findall(r'rel="(\w+)"', head.decode())


def filter_of(length: int) -> str:
    """Return a filter that matches all users, percent-encoded, with about this number of characters."""
    return quote(f"username!='{'x' * (length - 24)}'", safe="")


@pytest.mark.reading("Q-24")
@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (100, ["first", "prev", "next", "last"]),
        (1500, ["first", "prev", "next", "last"]),
        (2000, ["first", "prev", "next"]),
        (3000, ["prev", "next"]),
        (6000, ["next"]),
    ],
)
def test_link_omits_relations_that_a_long_query_leaves_no_room_for(
    server: ServerProcess, length: int, expected: list[str]
) -> None:
    head, body = get(server, f"{IMS}/users?limit=2&offset=2&filter={filter_of(length)}")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b'"sourcedId":"u-3"' in body
    assert relations(head) == expected
    assert len(head) < MAX_HEAD_BYTES


@pytest.mark.reading("Q-24")
@pytest.mark.parametrize("length", [7400, 20_000, 60_000])
def test_page_whose_next_link_is_too_long_is_400_unless_it_is_the_last(server: ServerProcess, length: int) -> None:
    head, body = get(server, f"{IMS}/users?limit=2&filter={filter_of(length)}")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"larger limit" in body
    assert b"xxx" not in body
    assert len(head) < MAX_HEAD_BYTES
    for last_page in ("limit=100", "limit=2&offset=8"):
        head, body = get(server, f"{IMS}/users?{last_page}&filter={filter_of(length)}")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b'"sourcedId":"u-9"' in body
        assert relations(head) == []


def test_client_library_follows_next_links_of_a_long_query(server: ServerProcess) -> None:
    path, ids = f"{IMS}/users?limit=2&fields=sourcedId&filter={filter_of(6500)}", []
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        while path:
            connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
            response = connection.getresponse()
            ids += re.findall(r"u-\d", response.read().decode())
            link = re.search(r'<http://[^/]+(/[^>]*)>; rel="next"', response.headers.get("Link", ""))
            path = link[1] if link else ""
    assert ids == [f"u-{number}" for number in range(1, 10)]

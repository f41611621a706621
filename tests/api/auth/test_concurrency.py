"""Limits on streams and long polls: each credential and each address has its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from flask import Flask

from chalk_flask import create_app
from chalk_flask.permissions.scopes import ALL
from tests.conftest import services_of
from tests.support.api_client import CHALK, IMS, create_token, error_message
from tests.support.deliveries import wait_until
from tests.support.histories import load
from tests.support.packages import PackageBuilder

CHANGES = f"{CHALK}/changes?since=1"


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    monkeypatch.setattr("chalk_flask.api.reads.envelopes.BLOCK_BYTES", 1)  # every collection is a stream
    app = create_app(
        storage="memory:",
        stream_limit_credential=2,
        stream_limit_address=3,
        long_poll_limit_credential=1,
        long_poll_limit_address=2,
    )
    load(app, PackageBuilder(), tmp_path)
    yield app
    services_of(app).store.close()


def get(app: Flask, path: str, token: str, address: str = "192.0.2.1") -> Any:
    headers = {"Authorization": f"Bearer {token}"}
    return app.test_client().get(path, headers=headers, environ_base={"REMOTE_ADDR": address}, buffered=False)


def test_streams_above_the_cap_of_a_credential_are_429_until_one_ends(app: Flask) -> None:
    one, two = create_token(app, ALL), create_token(app, ALL)
    streams = [get(app, f"{IMS}/users", one) for _ in range(2)]
    rejected = get(app, f"{IMS}/users", one, "192.0.2.2")
    assert "2 streamed responses" in error_message(rejected, 429, "server_busy", "server_busy")
    assert rejected.headers["Retry-After"] == "5"
    assert get(app, f"{IMS}/users/unknown", one).status_code == 404
    other = get(app, f"{IMS}/users", two, "192.0.2.2")
    assert other.status_code == 200
    streams.pop().close()
    again = get(app, f"{IMS}/users", one)
    assert again.status_code == 200
    for response in (*streams, other, again):
        response.close()
        response.close()
    ended = [get(app, f"{IMS}/users", one) for _ in range(2)]
    assert [response.status_code for response in ended] == [200, 200]


def test_streams_above_the_cap_of_an_address_are_429(app: Flask) -> None:
    tokens = [create_token(app, ALL) for _ in range(4)]
    responses = [get(app, f"{IMS}/users", token) for token in tokens]
    assert [response.status_code for response in responses] == [200, 200, 200, 429]
    assert get(app, f"{IMS}/users", tokens[3], "192.0.2.2").status_code == 200


def test_addresses_of_one_ipv6_network_count_together(app: Flask) -> None:
    tokens = [create_token(app, ALL) for _ in range(4)]
    responses = [get(app, f"{IMS}/users", token, f"2001:db8::{n}") for n, token in enumerate(tokens)]
    assert [response.status_code for response in responses] == [200, 200, 200, 429]


def test_head_and_rejected_requests_keep_no_place(app: Flask) -> None:
    token = create_token(app, ALL)
    for _ in range(5):
        with app.test_client().head(f"{IMS}/users", headers={"Authorization": f"Bearer {token}"}) as response:
            assert response.status_code == 200
        assert get(app, f"{IMS}/users?limit=-1", token).status_code == 400


@pytest.mark.reading("F-06")
def test_waiting_requests_above_the_cap_of_a_credential_are_429(app: Flask, tmp_path: Path) -> None:
    token = create_token(app, ALL)
    statuses: list[int] = []

    def wait() -> None:
        with app.test_client().get(f"{CHANGES}&wait=20", headers={"Authorization": f"Bearer {token}"}) as response:
            statuses.append(response.status_code)

    waiting = [Thread(target=wait) for _ in range(3)]
    for thread in waiting:
        thread.start()
    wait_until(lambda: statuses.count(429) == 2)
    load(app, PackageBuilder().set("users", "pupil-1", givenName="Ada"), tmp_path)  # ends the wait
    for thread in waiting:
        thread.join()
    assert sorted(statuses) == [200, 429, 429]
    rejected = get(app, CHANGES, token)
    assert rejected.status_code == 200  # a request that does not wait has no limit

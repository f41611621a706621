"""Waiting requests of the change feed: what changes after their credential ended stays hidden from them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flask import Flask

from chalk_flask import create_app
from chalk_flask.auth.jwt.issuers import IssuerStore
from chalk_flask.outbox.tenant_update import update_tenant
from chalk_flask.permissions.scopes import ALL, DEFAULT
from tests.conftest import services_of, url_in
from tests.support.api_client import CHALK, Consumer, error_message
from tests.support.histories import load
from tests.support.keys import rsa_key, sign_jwt, trust_issuer
from tests.support.packages import PackageBuilder

WAITING = f"{CHALK}/changes?since=latest&wait=20"
CHANGED = PackageBuilder().set("users", "pupil-1", givenName="Ada").set("demographics", "pupil-1", sex="male")


class Credential(NamedTuple):
    """Bearer token, and a function that ends it."""

    token: str
    end: Callable[[], object]


@pytest.fixture
def app(backend: str, tmp_path: Path) -> Iterator[Flask]:
    app = create_app(storage=url_in(tmp_path / "store", backend), data=str(tmp_path / "data"))
    load(app, PackageBuilder(), tmp_path)
    yield app
    services_of(app).access_log.close()
    services_of(app).store.close()


def api_token(app: Flask) -> Credential:
    tokens = services_of(app).tokens
    token, record = tokens.create("app", ALL)
    assert token is not None
    return Credential(token, lambda: tokens.revoke(record.id))


def access_token(app: Flask) -> Credential:
    services = services_of(app)
    _, client = services.clients.create("app", DEFAULT)
    token = services.access_tokens.issue(client.id, client.tenant, client.scopes)
    return Credential(token, lambda: services.clients.revoke(client.id))


def jwt_of_issuer(app: Flask) -> Credential:
    store = services_of(app).store
    issuer = trust_issuer(store)
    return Credential(sign_jwt(rsa_key("old")), lambda: IssuerStore(store).remove(issuer.id))


def wait_while(app: Flask, token: str, work: Callable[[], object]) -> Any:
    """Return the response to a waiting request during which the work is done."""
    timer = threading.Timer(0.5, work)
    timer.start()
    response = Consumer(app, token).get(WAITING)
    timer.join()
    return response


@pytest.mark.reading("F-06")
@pytest.mark.on_backend("memory", "sqlite")
@pytest.mark.parametrize("create", [api_token, access_token, jwt_of_issuer])
def test_waiting_request_returns_nothing_after_a_revocation(
    app: Flask, tmp_path: Path, create: Callable[[Flask], Credential]
) -> None:
    credential = create(app)

    def revoke_and_change() -> None:
        credential.end()
        load(app, CHANGED, tmp_path)

    response = wait_while(app, credential.token, revoke_and_change)
    error_message(response, 401, "invalid_token", "unauthorized")
    assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize("create", [api_token, access_token, jwt_of_issuer])
def test_waiting_request_returns_changes_to_a_valid_credential(
    app: Flask, tmp_path: Path, create: Callable[[Flask], Credential]
) -> None:
    response = wait_while(app, create(app).token, lambda: load(app, CHANGED, tmp_path))
    assert response.status_code == 200, response.text
    assert "user" in [change["entity"] for change in response.json["changes"]]


def test_token_of_single_use_can_wait(app: Flask, tmp_path: Path) -> None:
    trust_issuer(services_of(app).store, single_use=True)
    token = sign_jwt(rsa_key("old"), jti="one")
    response = wait_while(app, token, lambda: load(app, CHANGED, tmp_path))
    assert [change["entity"] for change in response.json["changes"]] == ["user"]


@pytest.mark.reading("L-06")
def test_waiting_request_omits_demographics_after_the_opt_out(app: Flask, tmp_path: Path) -> None:
    def opt_out_and_change() -> None:
        update_tenant(services_of(app).store, "default", demographics=False)
        load(app, CHANGED, tmp_path)

    response = wait_while(app, api_token(app).token, opt_out_and_change)
    assert [change["entity"] for change in response.json["changes"]] == ["user"]

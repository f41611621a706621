"""Logins at the token endpoint: audit log and limits on failures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from chalk_flask import create_app
from chalk_flask.api.auth.rate_limits import MAX_FAILED_LOGINS
from chalk_flask.audit.events import read_events
from chalk_flask.permissions.scopes import ALL
from chalk_flask.tenants.store import CONTROL
from tests.api.oauth2.conftest import GRANT, TOKEN_PATH
from tests.conftest import services_of


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    """Application of one test only, as failed logins are counted."""
    app = create_app(storage="memory:", data=str(tmp_path / "data"))
    yield app
    services_of(app).login_log.close()
    services_of(app).store.close()


def log_in(app: Flask, client: str, secret: str, address: str = "192.0.2.1") -> TestResponse:
    return app.test_client().post(
        TOKEN_PATH, data=GRANT, auth=(client, secret), environ_overrides={"REMOTE_ADDR": address}
    )


def test_failed_logins_lock_the_client_from_that_address_only(app: Flask) -> None:
    secret, client = services_of(app).clients.create("a client", ALL)
    assert secret is not None
    assert log_in(app, client.id, secret).status_code == 200
    statuses = [log_in(app, client.id, "wrong").status_code for _ in range(MAX_FAILED_LOGINS)]
    assert statuses == [401] * MAX_FAILED_LOGINS
    for guess in ("wrong", secret):
        response = log_in(app, client.id, guess)
        assert response.status_code == 429
        # An error of RFC 6749, as every error of this endpoint.
        assert response.json == {"error": "temporarily_unavailable", "error_description": "Too Many Requests"}
        assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert log_in(app, client.id, secret, "192.0.2.2").status_code == 200


def test_rate_limit_does_not_reveal_if_a_client_exists(app: Flask) -> None:
    _, client = services_of(app).clients.create("a client", ALL)
    known, unknown = (
        [log_in(app, name, "wrong", address).status_code for _ in range(MAX_FAILED_LOGINS + 2)]
        for name, address in ((client.id, "192.0.2.1"), ("chk_client_0000", "192.0.2.2"))
    )
    assert known == unknown


def test_other_clients_at_the_address_can_still_log_in(app: Flask) -> None:
    _, locked = services_of(app).clients.create("locked", ALL)
    secret, other = services_of(app).clients.create("other", ALL)
    assert secret is not None
    for _ in range(MAX_FAILED_LOGINS + 1):
        log_in(app, locked.id, "wrong")
    assert log_in(app, other.id, secret).status_code == 200


def test_logins_are_in_the_audit_log_without_secrets(app: Flask) -> None:
    services = services_of(app)
    secret, client = services.clients.create("a client", ALL)
    assert secret is not None
    log_in(app, client.id, secret)
    log_in(app, client.id, "a guess")
    log_in(app, "a secret in the wrong field", "another")
    services.login_log.close()
    entries: list[dict[str, Any]] = [
        *read_events(services.store, "default"),
        *read_events(services.store, CONTROL),
    ]
    logins = [
        (entry["event"], entry["client"], entry["address"]) for entry in entries if entry["event"].startswith("login")
    ]
    assert logins == [
        ("login.succeeded", client.id, None),
        ("login.failed", client.id, "192.0.2.1"),
        ("login.failed", None, "192.0.2.1"),
    ]
    assert not [text for text in (secret, "a guess", "wrong field", "another") if text in str(entries)]

"""Two applications on one store that several machines use: what one has seen, the other rejects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from flask import Flask
from oauthlib.oauth1 import Client

from backends import BUILT_IN_BACKENDS
from chalk_flask import create_app
from chalk_flask.admins import TooManyAttemptsError
from chalk_flask.api.auth.rate_limits import MAX_FAILED_LOGINS
from chalk_flask.permissions.scopes import ALL
from chalk_flask.storage import COLLECTIONS
from tests.api.oauth2.conftest import GRANT, PUBLIC_URL, TOKEN_PATH
from tests.api.oauth2.test_token_endpoint import create_key_client, request_token_signed, sign_assertion
from tests.conftest import services_of
from tests.support.api_client import IMS
from tests.support.storage.tenant_locks import TenantLockBackend


@pytest.fixture(params=["memory", "postgresql"])
def machines(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Flask, Flask]]:
    """Two applications, each with a process of its own in effect: they share the store and their keys only."""
    with ExitStack() as stack:
        if request.param == "memory":
            store = stack.enter_context(TenantLockBackend(COLLECTIONS))
            monkeypatch.setitem(BUILT_IN_BACKENDS, "memory", f"{TenantLockBackend.__module__}:TenantLockBackend")
            monkeypatch.setattr(TenantLockBackend, "open", lambda *_: store)
        url = "memory:" if request.param == "memory" else request.getfixturevalue("postgresql_url") + "&partitions=1"
        apps = [create_app(storage=url, data=str(tmp_path / "data"), public_url=PUBLIC_URL) for _ in range(2)]
        for app in apps:
            stack.enter_context(closing(services_of(app).store))
            stack.enter_context(closing(services_of(app).login_log))
        yield apps[0], apps[1]


@pytest.mark.reading("O-03")
def test_signed_request_is_accepted_by_one_machine_only(machines: tuple[Flask, Flask]) -> None:
    secret, client = services_of(machines[0]).clients.create("LMS", ALL, oauth1=True)
    assert secret is not None
    _, headers, _ = Client(client.id, secret).sign(f"{PUBLIC_URL}{IMS}/users")
    statuses = [app.test_client().get(f"{IMS}/users", headers=headers).status_code for app in (*machines, machines[0])]
    assert statuses == [200, 401, 401]


@pytest.mark.reading("C-04")
def test_assertion_is_accepted_by_one_machine_only(machines: tuple[Flask, Flask]) -> None:
    text = sign_assertion(create_key_client(services_of(machines[0])))
    statuses = [request_token_signed(app.test_client(), text).status_code for app in (*machines, machines[0])]
    assert statuses == [200, 401, 401]


def test_guesses_over_both_machines_are_limited_as_on_one(machines: tuple[Flask, Flask]) -> None:
    _, client = services_of(machines[0]).clients.create("a client", ALL)

    def log_in(app: Flask) -> int:
        return app.test_client().post(TOKEN_PATH, data=GRANT, auth=(client.id, "a guess")).status_code

    assert [log_in(machines[number % 2]) for number in range(MAX_FAILED_LOGINS)] == [401] * MAX_FAILED_LOGINS
    assert [log_in(app) for app in machines] == [429, 429]


def test_sign_in_attempts_over_both_machines_are_limited_as_on_one(machines: tuple[Flask, Flask]) -> None:
    throttles = [services_of(app).sign_in._throttle for app in machines]
    for number in range(5):
        throttles[number % 2].count_password("kim", f"192.0.2.{number}")
    for throttle in throttles:
        with pytest.raises(TooManyAttemptsError):
            throttle.count_password("kim", "192.0.2.9")

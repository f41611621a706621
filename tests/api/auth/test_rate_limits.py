"""Request rates of the operator, and limits on failed authentication."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from chalk_flask import create_app
from chalk_flask.api.auth.rate_limits import MAX_REJECTED_TOKENS, FailureCounter
from chalk_flask.client_network import client_network
from chalk_flask.permissions.scopes import ALL
from chalk_flask.settings import SettingsError
from chalk_flask.shared_state import SHARED_STATE_FILE
from tests.conftest import services_of
from tests.support.api_client import IMS, create_token, error_message
from tests.support.clock import FakeClock

Serve = Callable[..., Flask]
GRANT = {"grant_type": "client_credentials"}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Factory of applications with an empty store in memory."""
    apps: list[Flask] = []

    def make(**settings: object) -> Flask:
        apps.append(create_app(storage="memory:", data=str(tmp_path / "data"), **settings))
        return apps[-1]

    yield make
    for app in apps:
        services_of(app).access_log.close()
        services_of(app).login_log.close()
        services_of(app).store.close()


def read(app: Flask, token: str | None, address: str = "192.0.2.1", path: str = f"{IMS}/orgs") -> TestResponse:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return app.test_client().get(path, headers=headers, environ_overrides={"REMOTE_ADDR": address})


def login(app: Flask, client: str, secret: str, address: str = "192.0.2.1") -> TestResponse:
    return app.test_client().post(
        "/oauth/token", data=GRANT, auth=(client, secret), environ_overrides={"REMOTE_ADDR": address}
    )


def rate_headers(response: TestResponse) -> list[int]:
    return [int(response.headers[f"X-RateLimit-{name}"]) for name in ("Limit", "Remaining")]


def has_retry_after(response: TestResponse, longest: int = 60) -> bool:
    return 1 <= int(response.headers["Retry-After"]) <= longest


def test_libraries_that_a_start_does_not_need_are_not_loaded(serve: Serve) -> None:
    app = serve()
    response = read(app, create_token(app, ALL))
    assert not [name for name, _ in response.headers if name.startswith("X-RateLimit")]
    code = (
        "import sys; from chalk_flask import create_app; create_app(storage='memory:');"
        " print(sorted({'flask_limiter', 'apispec', 'flask_swagger_ui'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_token_rate_counts_all_routes(serve: Serve) -> None:
    app = serve(rate_limit_token="3/minute")
    token, other = create_token(app, ALL), create_token(app, ALL)
    first = read(app, token)
    assert (first.status_code, rate_headers(first)) == (200, [3, 2])
    assert time.time() < int(first.headers["X-RateLimit-Reset"]) <= time.time() + 61
    assert "Retry-After" not in first.headers
    assert rate_headers(read(app, token, "192.0.2.2", f"{IMS}/users")) == [3, 1]
    assert rate_headers(read(app, token, path=f"{IMS}/users/unknown")) == [3, 0]
    rejected = read(app, token)
    error_message(rejected, 429, "server_busy", "server_busy")
    assert rate_headers(rejected) == [3, 0]
    assert has_retry_after(rejected)
    assert read(app, other).status_code == 200


def test_rejected_token_does_not_count(serve: Serve) -> None:
    app = serve(rate_limit_token="1/minute")
    assert [read(app, token).status_code for token in ("chk_wrong", None, "chk_wrong", None)] == [401] * 4
    assert read(app, create_token(app, ALL)).status_code == 200


def test_address_rate_counts_all_credentials(serve: Serve) -> None:
    app = serve(rate_limit_address="2/minute")
    token = create_token(app, ALL)
    assert rate_headers(read(app, token)) == [2, 1]
    assert read(app, None).status_code == 401
    rejected = read(app, token)
    error_message(rejected, 429, "server_busy", "server_busy")
    assert has_retry_after(rejected)
    assert read(app, token, "192.0.2.2").status_code == 200


def test_headers_show_the_nearest_limit(serve: Serve) -> None:
    app = serve(rate_limit_token="5/hour", rate_limit_address="2/minute")
    token = create_token(app, ALL)
    assert rate_headers(read(app, token)) == [2, 1]
    assert [rate_headers(read(app, token, f"192.0.2.{n}")) for n in (2, 3)] == [[2, 1], [2, 1]]
    assert rate_headers(read(app, token, "192.0.2.4")) == [5, 1]


def test_rate_starts_over_after_its_window(serve: Serve) -> None:
    app = serve(rate_limit_token="1/second")
    token = create_token(app, ALL)
    assert read(app, token).status_code == 200
    deadline = time.monotonic() + 60
    while read(app, token).status_code == 429 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        *(("rate_limit_token", "600"), ("rate_limit_token", "0/minute"), ("rate_limit_token", "600/week")),
        *(("rate_limit_token", "600 / minute"), ("rate_limit_token", "1.5/second"), ("rate_limit_token", "a/minute")),
        ("rate_limit_address", "-1/minute"),
    ],
)
def test_invalid_rate_is_rejected_at_startup(name: str, rate: str) -> None:
    with pytest.raises(SettingsError, match=rf"{name} cannot be .* it must be a rate such as 600/minute"):
        create_app(storage="memory:", **{name: rate})


def test_invalid_tokens_are_rate_limited_and_valid_ones_are_not(serve: Serve) -> None:
    app = serve()
    token = create_token(app, ALL)
    statuses = [read(app, f"chk_wrong_{n}").status_code for n in range(MAX_REJECTED_TOKENS + 5)]
    assert statuses == [401] * MAX_REJECTED_TOKENS + [429] * 5
    rejected = read(app, "chk_wrong")
    error_message(rejected, 429, "server_busy", "server_busy")
    assert has_retry_after(rejected)
    assert read(app, token).status_code == 200
    assert read(app, None).status_code == 401  # no credentials, so no attempt
    assert read(app, "chk_wrong", "192.0.2.2").status_code == 401


def test_rate_limit_at_the_token_endpoint_is_an_oauth_error(serve: Serve) -> None:
    app = serve(rate_limit_address="1/minute")
    assert app.test_client().post("/oauth/token", data={}).status_code in (400, 401)
    rejected = app.test_client().post("/oauth/token", data={})
    assert (rejected.status_code, rejected.get_json()["error"]) == (429, "temporarily_unavailable")
    assert has_retry_after(rejected)


def test_failures_count_for_a_minute_from_the_first() -> None:
    clock = FakeClock(0.0)
    failures = FailureCounter(2, clock=clock.time)
    failures.count("a")
    assert failures.seconds_until_allowed("a") == 0
    clock.set(50.5)
    failures.count("a")
    assert (failures.seconds_until_allowed("a"), failures.seconds_until_allowed("b")) == (10, 0)
    clock.set(60.5)
    assert failures.seconds_until_allowed("a") == 0
    failures.count("a")
    assert failures.seconds_until_allowed("a") == 0


def test_number_of_keys_is_bounded() -> None:
    failures = FailureCounter(1, max_keys=100)
    for number in range(1000):
        failures.count(number)
    assert len(failures) == 100
    assert (failures.seconds_until_allowed(999) > 0, failures.seconds_until_allowed(0)) == (True, 0)


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        (None, "unknown"),
        ("not:an:address", "not:an:address"),
    ],
)
def test_ipv6_client_is_its_network(address: str | None, same: str) -> None:
    assert client_network(address) == same


def test_processes_count_requests_and_failed_logins_together(tmp_path: Path) -> None:
    storage, state = f"sqlite:///{tmp_path}/chalk.db", tmp_path / "data" / SHARED_STATE_FILE
    settings = {"storage": storage, "data": str(tmp_path / "data"), "processes": 2, "rate_limit_token": "3/minute"}
    apps = [create_app(**settings) for _ in range(2)]
    for app in apps:
        services_of(app).shared_state.start(state)
    token = create_token(apps[0], ALL)
    try:
        responses = [read(apps[number % 2], token) for number in range(4)]
        assert [response.status_code for response in responses] == [200, 200, 200, 429]
        assert [rate_headers(response) for response in responses] == [[3, 2], [3, 1], [3, 0], [3, 0]]
        assert has_retry_after(responses[-1])
        logins = [login(apps[number % 2], "chk_client_0123456789abcdef", "wrong") for number in range(31)]
        assert [response.status_code for response in logins] == [401] * 30 + [429]
    finally:
        for app in apps:
            services = services_of(app)
            for service in (services.shared_state, services.access_log, services.login_log, services.store):
                service.close()


def test_accepted_read_writes_nothing_to_the_shared_state(tmp_path: Path) -> None:
    app = create_app(storage="memory:", data=str(tmp_path / "data"))
    services = services_of(app)
    services.shared_state.start(tmp_path / "data" / SHARED_STATE_FILE)
    observer = sqlite3.connect(tmp_path / "data" / SHARED_STATE_FILE)
    try:

        def version() -> int:
            number: int = observer.execute("PRAGMA data_version").fetchone()[0]
            return number

        before = version()
        assert read(app, create_token(app, ALL)).status_code == 200
        assert version() == before
        assert read(app, "chk_unknown").status_code == 401
        assert version() > before
    finally:
        observer.close()
        for service in (services.shared_state, services.access_log, services.login_log, services.store):
            service.close()

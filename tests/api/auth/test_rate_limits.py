"""How often anyone may ask: rates that an operator sets, and wrong credentials always."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from chalk_flask import create_app
from chalk_flask.api.auth.rate_limits import MAX_FAILED_LOGINS, MAX_REJECTED_TOKENS, FailureCounter, client_network
from chalk_flask.permissions.scopes import ALL
from chalk_flask.settings import SettingsError
from chalk_flask.tenants.store import CONTROL
from tests.conftest import services_of
from tests.support.api_client import IMS, create_token, error_message

Serve = Callable[..., Flask]
GRANT = {"grant_type": "client_credentials"}


class Clock:
    """A clock that is set by hand, in seconds."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Makes applications in memory; an empty store answers as well as a full one."""
    made: list[Flask] = []

    def make(**settings: object) -> Flask:
        made.append(create_app(storage="memory:", data=str(tmp_path / "data"), **settings))
        return made[-1]

    yield make
    for app in made:
        services_of(app).access_log.close()
        services_of(app).login_log.close()
        services_of(app).store.close()


def ask(app: Flask, token: str | None, address: str = "192.0.2.1", path: str = f"{IMS}/orgs") -> TestResponse:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return app.test_client().get(path, headers=headers, environ_overrides={"REMOTE_ADDR": address})


def login(app: Flask, client: str, secret: str, address: str = "192.0.2.1") -> TestResponse:
    return app.test_client().post(
        "/oauth/token", data=GRANT, auth=(client, secret), environ_overrides={"REMOTE_ADDR": address}
    )


def limits(answer: TestResponse) -> list[int]:
    return [int(answer.headers[f"X-RateLimit-{name}"]) for name in ("Limit", "Remaining")]


def waits(answer: TestResponse, longest: int = 60) -> bool:
    return 1 <= int(answer.headers["Retry-After"]) <= longest


def test_without_rates_flask_limiter_is_not_loaded(serve: Serve) -> None:
    app = serve()
    answer = ask(app, create_token(app, ALL))
    assert not [name for name, _ in answer.headers if name.startswith("X-RateLimit")]
    code = (
        "import sys; from chalk_flask import create_app; create_app(storage='memory:');"
        " print('flask_limiter' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


def test_token_rate_counts_all_routes(serve: Serve) -> None:
    app = serve(rate_limit_token="3/minute")
    token, other = create_token(app, ALL), create_token(app, ALL)
    first = ask(app, token)
    assert (first.status_code, limits(first)) == (200, [3, 2])
    assert time.time() < int(first.headers["X-RateLimit-Reset"]) <= time.time() + 61
    assert "Retry-After" not in first.headers
    assert limits(ask(app, token, "192.0.2.2", f"{IMS}/users")) == [3, 1]
    assert limits(ask(app, token, path=f"{IMS}/users/nobody")) == [3, 0]
    refused = ask(app, token)
    error_message(refused, 429, "server_busy", "server_busy")
    assert limits(refused) == [3, 0]
    assert waits(refused)
    assert ask(app, other).status_code == 200


def test_rejected_token_does_not_count(serve: Serve) -> None:
    app = serve(rate_limit_token="1/minute")
    assert [ask(app, each).status_code for each in ("chk_wrong", None, "chk_wrong", None)] == [401] * 4
    assert ask(app, create_token(app, ALL)).status_code == 200


def test_address_rate_counts_all_credentials(serve: Serve) -> None:
    app = serve(rate_limit_address="2/minute")
    token = create_token(app, ALL)
    assert limits(ask(app, token)) == [2, 1]
    assert ask(app, None).status_code == 401
    refused = ask(app, token)
    error_message(refused, 429, "server_busy", "server_busy")
    assert waits(refused)
    assert ask(app, token, "192.0.2.2").status_code == 200


def test_headers_show_the_nearest_limit(serve: Serve) -> None:
    app = serve(rate_limit_token="5/hour", rate_limit_address="2/minute")
    token = create_token(app, ALL)
    assert limits(ask(app, token)) == [2, 1]
    assert [limits(ask(app, token, f"192.0.2.{each}")) for each in (2, 3)] == [[2, 1], [2, 1]]
    assert limits(ask(app, token, "192.0.2.4")) == [5, 1]


def test_rate_starts_over_after_its_window(serve: Serve) -> None:
    app = serve(rate_limit_token="1/second")
    token = create_token(app, ALL)
    assert ask(app, token).status_code == 200
    deadline = time.monotonic() + 10
    while ask(app, token).status_code == 429 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert time.monotonic() < deadline


@pytest.mark.parametrize("rate", ["600", "0/minute", "-1/minute", "600/week", "600 / minute", "1.5/second", "a/minute"])
@pytest.mark.parametrize("name", ["rate_limit_token", "rate_limit_address"])
def test_invalid_rate_is_rejected_at_startup(name: str, rate: str) -> None:
    with pytest.raises(SettingsError, match=rf"{name} cannot be .* it must be a number and a time such as 600/minute"):
        create_app(storage="memory:", **{name: rate})


def test_invalid_tokens_are_throttled_and_valid_ones_are_not(serve: Serve) -> None:
    app = serve()
    token = create_token(app, ALL)
    statuses = [ask(app, f"chk_wrong_{each}").status_code for each in range(MAX_REJECTED_TOKENS + 5)]
    assert statuses == [401] * MAX_REJECTED_TOKENS + [429] * 5
    refused = ask(app, "chk_wrong")
    error_message(refused, 429, "server_busy", "server_busy")
    assert waits(refused)
    assert ask(app, token).status_code == 200
    assert ask(app, None).status_code == 401, "nothing was guessed"
    assert ask(app, "chk_wrong", "192.0.2.2").status_code == 401


def test_failed_logins_lock_the_client_from_that_address_only(serve: Serve) -> None:
    app = serve()
    secret, client = services_of(app).clients.create("a client", ALL)
    assert secret is not None
    assert login(app, client.id, secret).status_code == 200
    assert [login(app, client.id, "wrong").status_code for _ in range(MAX_FAILED_LOGINS)] == [401] * MAX_FAILED_LOGINS
    for guess in ("wrong", secret):
        refused = login(app, client.id, guess)
        assert refused.status_code == 429
        assert refused.get_json() == {
            "error": "temporarily_unavailable",
            "error_description": "Too Many Requests",
        }, "the words of RFC 6749, as of all that this endpoint refuses"
        assert waits(refused)
    assert login(app, client.id, secret, "192.0.2.2").status_code == 200


def test_rate_limit_at_the_token_endpoint_is_an_oauth_error(serve: Serve) -> None:
    app = serve(rate_limit_address="1/minute")
    assert app.test_client().post("/oauth/token", data={}).status_code in (400, 401)
    refused = app.test_client().post("/oauth/token", data={})
    assert (refused.status_code, refused.get_json()["error"]) == (429, "temporarily_unavailable")
    assert waits(refused)


def test_throttling_does_not_reveal_if_a_client_exists(serve: Serve) -> None:
    app = serve()
    _, client = services_of(app).clients.create("a client", ALL)
    known, unknown = (
        [login(app, name, "wrong", address).status_code for _ in range(MAX_FAILED_LOGINS + 2)]
        for name, address in ((client.id, "192.0.2.1"), ("chk_client_0000", "192.0.2.2"))
    )
    assert known == unknown


def test_other_clients_at_the_address_can_still_log_in(serve: Serve) -> None:
    app = serve()
    _, guessed = services_of(app).clients.create("guessed", ALL)
    secret, other = services_of(app).clients.create("other", ALL)
    assert secret is not None
    for _ in range(MAX_FAILED_LOGINS + 1):
        login(app, guessed.id, "wrong")
    assert login(app, other.id, secret).status_code == 200


def test_logins_are_in_the_audit_log_without_secrets(serve: Serve) -> None:
    app = serve()
    chalk = services_of(app)
    secret, client = chalk.clients.create("a client", ALL)
    assert secret is not None
    login(app, client.id, secret)
    login(app, client.id, "a guess")
    login(app, "a secret in the wrong place", "another")
    chalk.login_log.close()
    entries: list[dict[str, Any]] = [*chalk.audit.events("default"), *chalk.audit.events(CONTROL)]
    told = [(each["event"], each["client"], each["address"]) for each in entries if each["event"].startswith("login")]
    assert told == [
        ("login.succeeded", client.id, None),
        ("login.failed", client.id, "192.0.2.1"),
        ("login.failed", None, "192.0.2.1"),
    ]
    assert not [word for word in (secret, "a guess", "wrong place", "another") if word in str(entries)]


def test_failures_count_for_a_minute_from_the_first() -> None:
    clock = Clock()
    failures = FailureCounter(2, clock=clock)
    failures.count("a")
    assert failures.seconds_until_allowed("a") == 0
    clock.seconds = 50.5
    failures.count("a")
    assert (failures.seconds_until_allowed("a"), failures.seconds_until_allowed("b")) == (10, 0)
    clock.seconds = 60.5
    assert failures.seconds_until_allowed("a") == 0
    failures.count("a")
    assert failures.seconds_until_allowed("a") == 0


def test_number_of_keys_is_bounded() -> None:
    failures = FailureCounter(1, max_keys=100)
    for number in range(1000):
        failures.count(number)
    assert len(failures._failures) == 100
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

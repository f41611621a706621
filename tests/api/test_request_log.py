"""Request ids of responses, and log lines of requests: without credentials, parameters and ids of records."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from chalk_flask.permissions.scopes import ALL, ROSTER_CORE
from tests.conftest import services_of
from tests.support.api_client import CHALK, IMS, Consumer, create_token

Serve = Callable[..., Flask]


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    """Return the members of the logged events of that name."""
    return [record.__dict__["members"] for record in caplog.records if record.__dict__.get("event") == name]


@pytest.mark.parametrize("path", [f"{IMS}/users", f"{IMS}/users/none", "/unknown", "/sign-in", "/oauth/token"])
def test_response_repeats_the_request_id(app: Flask, path: str) -> None:
    response = app.test_client().get(path, headers={"X-Request-ID": "7f3a-1"})
    assert response.headers.getlist("X-Request-ID") == ["7f3a-1"]


def test_response_has_a_new_id_without_a_valid_one(consumer: Consumer) -> None:
    ids = {consumer.get("/users?limit=1", {"X-Request-ID": "pat@example.org"}).headers["X-Request-ID"] for _ in "ab"}
    assert len(ids) == 2
    assert not any("@" in each for each in ids)


def test_streamed_and_unchanged_responses_have_the_request_id(consumer: Consumer) -> None:
    etag = consumer.get("/users").headers["ETag"]
    unchanged = consumer.get("/users", {"X-Request-ID": "a", "If-None-Match": etag})
    assert (unchanged.status_code, unchanged.headers["X-Request-ID"]) == (304, "a")


def test_unknown_token_is_logged_with_its_reason(consumer: Consumer, caplog: pytest.LogCaptureFixture) -> None:
    unknown = "chk_live_00000000000000000000000000000000"
    headers = {"Authorization": f"Bearer {unknown}", "X-Request-ID": "7f3a-1"}
    assert consumer.get("/users/u-secret?filter=familyName='Canary'", headers).status_code == 401
    [event] = events(caplog, "request.rejected")
    assert event == {
        "status": 401,
        "method": "GET",
        "route": f"{IMS}/users/{{id}}",
        "request_id": "7f3a-1",
        "reason": "the API token is unknown",
        "address": "127.0.0.1",
    }
    assert not [text for text in (unknown, "u-secret", "Canary") if text in str(caplog.records) + caplog.text]


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, "the request has no credential"),
        ("Basic c2VjcmV0", "the Authorization header has no bearer token"),
        (f"Bearer chk_live_{'0' * 40}", "the API token is malformed"),
        ("Bearer secret", "the bearer token has no known form"),
        ("Bearer e30.e30.c2VjcmV0", "a JWT is rejected: it is malformed"),
        ("Bearer ", "the Authorization header has no bearer token"),
        ('OAuth oauth_consumer_key="secret"', "requests with OAuth 1.0a signatures require the setting public_url"),
    ],
    ids=["none", "basic", "malformed", "form", "jwt", "empty", "oauth1"],
)
def test_rejected_credential_is_logged_with_its_reason(
    app: Flask, authorization: str | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    assert app.test_client().get(f"{IMS}/users", headers=headers).status_code == 401
    assert [event["reason"] for event in events(caplog, "request.rejected")] == [reason]
    assert "c2VjcmV0" not in caplog.text
    assert "secret" not in caplog.text


def test_ended_tokens_are_logged_with_their_ids(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    app = serve()
    tokens = services_of(app).tokens
    value, record = tokens.create("x", ALL, expires=tokens._now() - timedelta(days=1))
    revoked, revoked_record = tokens.create("x", ALL)
    tokens.revoke(revoked_record.id)
    for token in (value, revoked):
        assert Consumer(app, token).get("/users").status_code == 401
    reasons = [event["reason"] for event in events(caplog, "request.rejected")]
    assert reasons == [f"the API token {record.id} is expired", f"the API token {revoked_record.id} is revoked"]


def test_missing_scope_is_logged_with_the_credential(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    consumer = Consumer(app, create_token(app, [ROSTER_CORE]))
    assert consumer.get("/demographics").status_code == 403
    [event] = events(caplog, "request.rejected")
    [record] = services_of(app).tokens.list()
    assert (event["way"], event["by"], event["tenant"]) == ("token", record.id, "default")
    assert event["reason"].endswith("does not have the required scope: roster-demographics.readonly.")


@pytest.mark.parametrize("has_client", [True, False], ids=["known", "unknown"])
def test_failed_login_is_logged_with_its_reason(app: Flask, has_client: bool, caplog: pytest.LogCaptureFixture) -> None:
    _, record = services_of(app).clients.create("x", ALL)
    client_id = record.id if has_client else "chk_client_secret"
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": "wrong-secret"}
    assert app.test_client().post("/oauth/token", data=form).status_code == 401
    [event] = events(caplog, "request.rejected")
    known = f"the client {record.id} is known, but its secret is wrong or has ended"
    assert event["reason"] == (known if has_client else "the client is unknown")
    assert event["route"] == "/oauth/{segment}"
    assert "wrong-secret" not in caplog.text
    assert "chk_client_secret" not in caplog.text


def test_console_rejection_is_logged(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    assert app.test_client().get("/roster", headers={"Accept": "application/json"}).status_code == 401
    [event] = events(caplog, "request.rejected")
    assert event["reason"] == "Your session has ended. Sign in again."


def test_other_requests_are_not_logged(consumer: Consumer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert consumer.get("/users").status_code == 200
    assert consumer.get("/users/none").status_code == 404
    assert not [record for record in caplog.records if record.__dict__.get("event")]


def test_all_requests_are_logged_if_enabled(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    consumer = Consumer(serve(log_requests=True))
    response = consumer.get("/users?limit=1&filter=familyName='Canary'", {"X-Request-ID": "7f3a-1"})
    consumer.get("/users/u-secret")
    consumer.client.open("/u-secret", method="CANARY")
    first, second, third = events(caplog, "request.completed")
    [token] = services_of(consumer.app).tokens.list()
    assert 0 < first.pop("ms") < 10_000
    assert first == {
        "status": 200,
        "method": "GET",
        "route": f"{IMS}/users",
        "tenant": "default",
        "way": "token",
        "by": token.id,
        "request_id": "7f3a-1",
        "bytes": len(response.data),
    }
    assert (second["status"], second["route"]) == (404, f"{IMS}/users/{{id}}")
    assert (third["status"], third["method"], third["route"]) == (404, "other", "(no route)")
    assert not [text for text in ("Canary", "CANARY", "u-secret") if text in caplog.text + str(events)]


def test_credential_that_ends_during_a_wait_is_logged(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    app = serve()
    services = services_of(app)
    token, record = services.tokens.create("x", ALL)
    consumer = Consumer(app, token)

    def end_credential() -> None:
        services.tokens.revoke(record.id)
        with services.store.write("default") as transaction:
            transaction.delete("users", ["u-none"])

    timer = threading.Timer(0.3, end_credential)
    timer.start()
    response = consumer.get(f"{CHALK}/changes?since=latest&wait=20")
    timer.join()
    response.close()
    assert response.status_code == 401
    [event] = events(caplog, "request.rejected")
    assert (event["status"], event["by"]) == (401, record.id)
    assert event["reason"] == "the credential ended while the request waited for a change"

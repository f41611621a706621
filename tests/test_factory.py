"""Application factory: services from the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from flask import Flask, Request
from werkzeug.exceptions import HTTPException
from werkzeug.test import create_environ

from backends import InvalidStorageURLError
from chalk_flask import create_app
from chalk_flask.settings import SettingsError
from tests.conftest import services_of

Create = Callable[..., Flask]


@pytest.fixture
def create(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Create]:
    """Factory of applications in an empty working directory. It closes them at the end."""
    monkeypatch.chdir(tmp_path)
    apps: list[Flask] = []

    def create_one(**settings: object) -> Flask:
        apps.append(create_app(storage="memory:", **settings))
        return apps[-1]

    yield create_one
    for app in apps:
        services_of(app).access_log.close()
        services_of(app).login_log.close()
        services_of(app).store.close()


def test_app_has_its_services(create: Create) -> None:
    services = services_of(create(token_seconds=120))
    assert services.settings.storage == "memory:"
    assert services.access_tokens.lifetime_seconds == 120


def test_app_creates_no_folder_with_the_default_data(create: Create, tmp_path: Path) -> None:
    app = create()
    assert app.test_client().get("/ims/oneroster/v1p1/orgs").status_code == 401
    assert not services_of(app).access_log.is_enabled
    assert list(tmp_path.iterdir()) == []


def test_app_with_a_data_folder_has_an_access_log(create: Create, tmp_path: Path) -> None:
    assert services_of(create(data=str(tmp_path / "data"))).access_log.is_enabled
    assert not services_of(create(data=str(tmp_path / "data"), audit_days=0)).access_log.is_enabled


def test_app_authenticates_each_kind_of_token(create: Create, tmp_path: Path) -> None:
    services = services_of(create(data=str(tmp_path / "data")))
    token, record = services.tokens.create("a reader", [])
    _, client = services.clients.create("a client", [])
    access_token = services.access_tokens.issue(client.id, "default", frozenset())
    assert token is not None
    for bearer, credential_type, credential_id in (
        (token, "token", record.id),
        (access_token, "client", client.id),
    ):
        principal, _ = services.authenticator.authenticate(bearer)
        assert principal is not None
        assert (principal.credential_type, principal.credential_id) == (credential_type, credential_id)
    assert services.authenticator.authenticate("unknown")[0] is None


def test_create_app_raises_errors_of_settings_and_storage() -> None:
    with pytest.raises(SettingsError, match="port cannot be 'high'"):
        create_app(storage="memory:", port="high")
    with pytest.raises(InvalidStorageURLError):
        create_app(storage="redis://db")


@pytest.mark.parametrize(
    "host",
    [
        "roster.example.org",
        "X:80",
        "x:443",
        "127.0.0.1:8080",
        "[::1]:8080",
        "a b",
        "",
        "m\xc3\xbcnchen",
        "x" * 254,
        "x" * 300,
    ],
)
@pytest.mark.parametrize("headers", [{}, {"HTTP_UPGRADE": "websocket", "HTTP_CONNECTION": "Upgrade"}])
@pytest.mark.parametrize("url", ["http://localhost/mounted", "https://localhost:8443"])
def test_url_adapter_is_that_of_flask(create: Create, host: str, headers: dict[str, str], url: str) -> None:
    environ = create_environ("/users/%C3%A9//?limit=1", url, headers={"Host": host}, environ_overrides=headers)
    app = create()
    adapters: list[tuple[object, str]] = []
    for create_adapter in (app.create_url_adapter, partial(Flask.create_url_adapter, app)):
        request = Request(environ)
        try:
            adapter = create_adapter(request)
        except HTTPException as error:
            adapters.append((type(error), request.host))
        else:
            adapters.append((vars(adapter), request.host))
    assert adapters[0] == adapters[1]

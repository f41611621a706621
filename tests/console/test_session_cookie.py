"""Cookies of the console: attributes, names under TLS, the key, and secrets that are shown once."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from chalk_flask import create_app
from chalk_flask.console.session_cookie import CONSOLE_KEY_FILE, flash_secret, session_secrets_in, take_secret
from tests.conftest import services_of
from tests.support.api_client import CHALK, IMS
from tests.support.console.client import PASSWORD, find_form


def sign_in(app: Flask, base_url: str) -> TestResponse:
    services_of(app).administrators.create("kim", "owner", "default", PASSWORD)
    client = app.test_client()
    page = client.get("/login", base_url=base_url)
    form = find_form(page.text, fields={"password": ""})
    return client.post("/login", base_url=base_url, data={**form.values, "name": "kim", "password": PASSWORD})


def cookies(response: TestResponse) -> dict[str, str]:
    """Return the attributes of the cookies of a response by name."""
    return {cookie.partition("=")[0]: cookie.partition(";")[2] for cookie in response.headers.getlist("Set-Cookie")}


def attributes_in(text: str) -> set[str]:
    """Return the attributes of a cookie, without the time for which the browser keeps it."""
    return {part.strip() for part in text.split(";") if not re.match(" *(Expires|Max-Age)=", part)}


def test_cookies_have_the_host_prefix_under_tls(console_app: Flask) -> None:
    response = sign_in(console_app, "https://roster.example.org")
    assert set(cookies(response)) == {"__Host-chalk-session", "__Host-chalk-page", "__Host-chalk-browser"}
    for attributes in cookies(response).values():
        assert attributes_in(attributes) == {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"}
    assert response.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_cookies_without_tls_are_not_secure(console_app: Flask) -> None:
    response = sign_in(console_app, "http://127.0.0.1:8080")
    assert set(cookies(response)) == {"chalk-session", "chalk-page", "chalk-browser"}
    for attributes in cookies(response).values():
        assert attributes_in(attributes) == {"HttpOnly", "Path=/", "SameSite=Lax"}
    assert "Strict-Transport-Security" not in response.headers


def test_public_url_with_https_means_tls() -> None:
    app = create_app(storage="memory:", public_url="https://roster.example.org")
    assert set(cookies(sign_in(app, "http://roster.example.org"))) == {
        "__Host-chalk-session",
        "__Host-chalk-page",
        "__Host-chalk-browser",
    }
    services_of(app).store.close()


def test_cookie_without_prefix_is_ignored_under_tls(console_app: Flask) -> None:
    """Another host of the domain could set it."""
    services = services_of(console_app)
    kim = services.administrators.create("kim", "owner", "default", PASSWORD)
    secret, _ = services.sessions.create(kim, "203.0.113.5", None)
    client = console_app.test_client()
    client.set_cookie("chalk-session", secret, domain="roster.example.org")
    assert client.get("/account", base_url="https://roster.example.org").status_code == 401
    client.set_cookie("chalk-session", secret)
    assert client.get("/account").status_code == 200


@pytest.mark.parametrize("path", [f"{CHALK}/users", f"{IMS}/users", "/oauth/token", f"{IMS}/sis/users"])
def test_api_has_no_cookies_and_no_page_session(path: str, console_app: Flask) -> None:
    client = console_app.test_client()
    client.set_cookie("chalk-page", "forged")
    response = client.get(path)
    assert response.status_code in (401, 405)
    assert "Set-Cookie" not in response.headers
    assert "Cookie" not in response.headers.get("Vary", "")
    assert "Content-Security-Policy" not in response.headers


def test_forged_and_foreign_page_sessions_are_empty(console_app: Flask) -> None:
    client = console_app.test_client()
    client.set_cookie("chalk-page", "eyJjc3JmX3Rva2VuIjoieCJ9.aaaaaa.bbbbbbbbbbbbbbbbbbbb")
    page = client.get("/login")
    form = find_form(page.text, fields={"password": ""})
    response = client.post("/login", data={**form.values, "name": "x", "password": "y"})
    assert response.status_code == 422, "a new page session replaced the forged one"


def test_key_is_created_when_needed_and_private(tmp_path: Path) -> None:
    app = create_app(storage=f"sqlite:///{tmp_path}/chalk.db", data=str(tmp_path / "data"))
    key = tmp_path / "data" / CONSOLE_KEY_FILE
    app.test_client().get(f"{IMS}/users")
    assert not key.exists()
    app.test_client().get("/login")
    assert key.stat().st_mode & 0o077 == 0
    services_of(app).store.close()


def test_processes_share_the_page_sessions(tmp_path: Path) -> None:
    apps = [create_app(storage=f"sqlite:///{tmp_path}/chalk.db", data=str(tmp_path / "data")) for _ in range(2)]
    page = apps[0].test_client().get("/login")
    cookie = page.headers["Set-Cookie"].partition(";")[0]
    form = find_form(page.text, fields={"password": ""})
    response = (
        apps[1]
        .test_client(use_cookies=False)
        .post("/login", data={**form.values, "name": "x", "password": "y"}, headers={"Cookie": cookie})
    )
    assert response.status_code == 422
    for app in apps:
        services_of(app).store.close()


def test_unreadable_key_is_a_clear_error(tmp_path: Path) -> None:
    app = create_app(storage=f"sqlite:///{tmp_path}/chalk.db", data=str(tmp_path / "data"))
    app.test_client().get("/login")
    key = tmp_path / "data" / CONSOLE_KEY_FILE
    key.write_text("damaged")
    client = app.test_client()
    client.set_cookie("chalk-page", "x.y.z")
    response = client.get("/login", headers={"Accept": "text/html"})
    assert response.status_code == 503
    assert "The storage of the service is not available." in response.text
    services_of(app).store.close()


def test_secret_is_encrypted_in_the_cookie_and_taken_once(console_app: Flask) -> None:
    with console_app.test_request_context("/settings/api-tokens") as context:
        flash_secret("token:1", "chk_live_secret")
        assert "chk_live_secret" not in str(dict(context.session))
        assert take_secret("token:2") is None
        assert take_secret("token:1") == "chk_live_secret"
        assert take_secret("token:1") is None


def test_secrets_in_a_cookie_header_are_found_before_the_scheme_is_known() -> None:
    assert session_secrets_in("a=1; chalk-session=abc; __Host-chalk-session=def") == ("def", "abc")
    assert session_secrets_in("chalk-session=") == ()
    assert session_secrets_in('"; \x00') == ()


def test_concurrent_requests_agree_on_a_new_key(tmp_path: Path) -> None:
    app = create_app(storage="memory:", data=str(tmp_path))
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(app.test_client().get("/login").status_code)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 4
    assert not (tmp_path / CONSOLE_KEY_FILE).exists(), "a store in memory needs no key after a restart"
    services_of(app).access_log.close()
    services_of(app).store.close()

"""Sign-in to the console: password, one-time code, redirects, and the end of a session."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pyotp
import pytest
from flask import Flask

from chalk_flask.admins import SignIn, SignInThrottle, new_totp_secret
from chalk_flask.admins.passwords import PasswordHasher
from tests.conftest import services_of
from tests.support.clock import FakeClock
from tests.support.console.client import PASSWORD, Console, find_form, links_of, visible_text


@pytest.fixture
def visitor(console: Console) -> Console:
    """Browser of a visitor; the administrator `kim` exists."""
    console.services.administrators.create("kim", "owner", "default", PASSWORD)
    return console


def session_cookie(console: Console) -> str | None:
    cookie = console.client.get_cookie("chalk-session")
    return cookie.value if cookie else None


def sign_in(console: Console, path: str = "/login", name: str = "kim") -> str:
    return console.submit(path, name=name, password=PASSWORD).text


def test_administrator_signs_in_and_out(visitor: Console) -> None:
    sign_in(visitor)
    assert "kim" in visible_text(visitor.get("/account").text)
    page = visitor.submit("/account", action="/logout")
    assert "You are signed out." in page.text
    assert session_cookie(visitor) is None
    visitor.get("/account", 303)


@pytest.mark.parametrize(
    ("name", "password"), [("kim", "wrong password here"), ("unknown-name", PASSWORD), ("kim", "x" * 100_000)]
)
def test_wrong_credentials_are_rejected_alike(name: str, password: str, visitor: Console) -> None:
    page = visitor.submit("/login", name=name, password=password, status=422)
    assert "The name or the password is wrong." in page.text
    assert password not in page.text
    assert session_cookie(visitor) is None


def test_empty_fields_are_explained(visitor: Console) -> None:
    page = visitor.submit("/login", name="", password="", status=422)
    assert "Enter your name." in page.text
    assert "Enter your password." in page.text


def test_throttled_attempts_say_when_to_try_again(visitor: Console) -> None:
    statuses = []
    for _ in range(7):
        form = find_form(visitor.get("/login").text, "/login")
        response = visitor.client.post("/login", data={**form.values, "name": "kim", "password": "wrong password"})
        statuses.append(response.status_code)
    assert statuses == [422] * 5 + [429] * 2
    assert int(response.headers["Retry-After"]) > 0
    assert "try again in" in response.text


@pytest.mark.parametrize("name", ["kim", "unknown-name"])
def test_1000_attempts_cost_5_hashes_a_minute(new_console_app: Flask, clock: FakeClock, name: str) -> None:
    services, hasher = services_of(new_console_app), PasswordHasher()
    services.administrators.create("kim", "owner", "default", PASSWORD)
    sign_in = SignIn(services.administrators, services.login_log, SignInThrottle(clock.time), hasher)
    new_console_app.extensions["chalk"] = replace(services, sign_in=sign_in)
    visitor = Console(new_console_app)
    data = {**find_form(visitor.get("/login").text, "/login").values, "name": name, "password": "wrong password"}
    for minute in (1, 2):
        statuses = Counter(
            visitor.client.post(
                "/login", data=data, environ_base={"REMOTE_ADDR": f"198.51.{n >> 8}.{n & 255}"}
            ).status_code
            for n in range(500)
        )
        assert statuses == {422: 5, 429: 495}
        assert hasher.hash_count == 5 * minute
        clock.advance(60)


def test_session_is_never_the_one_that_the_browser_sent(visitor: Console) -> None:
    planted = "0" * 32
    visitor.client.set_cookie("chalk-session", planted)
    sign_in(visitor)
    first = session_cookie(visitor)
    assert first not in (None, planted)
    visitor.get("/account")
    assert visitor.services.sessions.find(planted) is None


def test_signing_in_again_ends_the_former_session(visitor: Console) -> None:
    form = find_form(visitor.get("/login").text, "/login")
    visitor.post("/login", {**form.values, "name": "kim", "password": PASSWORD})
    first = session_cookie(visitor)
    token = find_form(visitor.get("/account").text, "/logout").values["csrf_token"]
    visitor.post("/login", {"csrf_token": token, "name": "kim", "password": PASSWORD})
    assert session_cookie(visitor) != first
    assert first is not None
    assert visitor.services.sessions.find(first) is None


def test_csrf_token_of_the_sign_in_page_is_not_valid_after_it(visitor: Console) -> None:
    form = find_form(visitor.get("/login").text, "/login")
    visitor.post("/login", {**form.values, "name": "kim", "password": PASSWORD})
    visitor.post("/logout", {"csrf_token": form.values["csrf_token"]}, 400)


def test_page_of_before_sign_in_is_shown_after_it(visitor: Console) -> None:
    response = visitor.get("/settings/api-tokens?show=all", 303)
    location = response.headers["Location"]
    form = find_form(visitor.get(location).text, fields={"password": ""})
    response = visitor.post(form.action, {**form.values, "name": "kim", "password": PASSWORD})
    assert response.headers["Location"] == "/settings/api-tokens?show=all"


OTHER_SITES = (
    "https://evil.example/",
    "http://evil.example",
    "HTTPS://evil.example/",
    "ftp://evil.example/",
    "https:evil.example",
    "//evil.example/",
    "///evil.example",
    "////evil.example",
    "//evil.example@localhost/",
    "//localhost@evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "\\/evil.example",
    "/\\/evil.example",
    "//\\evil.example",
    "/ok\\..\\evil",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r/evil.example",
    "\t//evil.example",
    " //evil.example",
    "\x00//evil.example",
    "/ok\r\nLocation: https://evil.example",
    "/ok\nSet-Cookie: x=1",
    "/ /evil.example",
    "/\x7f/evil.example",
    "javascript:xss()",
    "JaVaScRiPt:xss()",
    "data:text/html,x",
    "evil.example",
    "evil.example/path",
    "?//evil.example",
    "",
    "/" * 3,
    "/" + "x" * 5000,
    "/.//evil.example/../..",
    "\u2044/evil.example",
    "\u3002evil.example",
)
"""Values of `next` that lead, or could lead, to another site, and some that are no path."""


def test_next_never_leads_to_another_site(visitor: Console) -> None:
    administrator = visitor.services.administrators.find("kim")
    assert administrator is not None
    form = find_form(visitor.get("/login").text, fields={"password": ""})
    data = {**form.values, "name": "kim", "password": PASSWORD}
    for target in OTHER_SITES:
        page = visitor.get("/login", next=target)
        assert leads_here(find_form(page.text, fields={"password": ""}).action), target
    response = visitor.client.post("/login", query_string={"next": OTHER_SITES[0]}, data=data)
    assert response.headers["Location"] == "/"
    for target in OTHER_SITES:
        location = visitor.get("/login", 303, next=target).headers["Location"]
        assert leads_here(location), (target, location)


@pytest.mark.parametrize("header", ["Referer", "Host", "X-Forwarded-Host", "Forwarded"])
def test_headers_never_lead_to_another_site(header: str, visitor: Console) -> None:
    value = "https://evil.example/x" if header == "Referer" else "evil.example"
    value = "host=evil.example" if header == "Forwarded" else value
    for path in ("/", "/login?next=/account", "/logout"):
        response = visitor.client.get(path, headers={header: value, "Accept": "text/html"})
        assert leads_here(response.headers.get("Location", "/"))
        assert "evil.example" not in response.text
    form = find_form(visitor.get("/login").text, "/theme")
    response = visitor.client.post("/theme", data={**form.values, "theme": "dark"}, headers={header: value})
    assert leads_here(response.headers.get("Location", "/"))


def leads_here(location: str) -> bool:
    """Return True if a browser understands the location as a path of this service."""
    cleaned = re.sub(r"[\t\r\n]", "", location.strip("".join(map(chr, range(33))))).replace("\\", "/")
    return cleaned.startswith("/") and not cleaned.startswith("//") and cleaned == location


def test_mounted_application_redirects_below_its_mount(visitor: Console) -> None:
    environ = {"SCRIPT_NAME": "/roster"}
    page = visitor.client.get("/login?next=/account", environ_overrides=environ)
    form = find_form(page.text, fields={"password": ""})
    assert form.action.startswith("/roster/login")
    response = visitor.client.post(
        "/login?next=/account", data={**form.values, "name": "kim", "password": PASSWORD}, environ_overrides=environ
    )
    assert response.headers["Location"] == "/roster/account"


def test_signed_in_administrator_skips_the_sign_in_page(visitor: Console) -> None:
    sign_in(visitor)
    assert visitor.get("/login?next=/account", 303).headers["Location"] == "/account"


@pytest.fixture
def totp_secret(visitor: Console) -> str:
    """Secret of the one-time codes of `kim`."""
    kim, secret = visitor.services.administrators.find("kim"), new_totp_secret()
    assert kim is not None
    visitor.services.administrators.enable_totp(kim.id, secret, pyotp.TOTP(secret).now())
    return secret


def test_session_without_code_reaches_no_page(visitor: Console, totp_secret: str) -> None:
    page = sign_in(visitor)
    assert "Enter the code" in page
    for path in ("/account", "/settings/api-tokens"):
        assert visitor.get(path, 303).headers["Location"] == "/login/code"


def test_recovery_code_completes_the_sign_in_with_a_new_id(visitor: Console) -> None:
    kim, secret = visitor.services.administrators.find("kim"), new_totp_secret()
    assert kim is not None
    codes = visitor.services.administrators.enable_totp(kim.id, secret, pyotp.TOTP(secret).now())
    sign_in(visitor, "/login?next=/account")
    pending = session_cookie(visitor)
    page = visitor.submit("/login/code", code="000000", status=422)
    assert "The code is wrong" in page.text
    visitor.submit("/login/code?next=/account", code=codes[0])
    assert session_cookie(visitor) != pending
    visitor.get("/account")


def test_code_form_without_pending_sign_in_leads_to_the_first_step(visitor: Console) -> None:
    assert visitor.get("/login/code", 303).headers["Location"] == "/login"


def test_pending_sign_in_can_be_abandoned(visitor: Console, totp_secret: str) -> None:
    sign_in(visitor)
    assert "You are signed out." in visitor.submit("/login/code", action="/logout").text


def test_ended_session_is_rejected_and_post_changes_nothing(visitor: Console) -> None:
    visitor.sign_in("owner")
    form = find_form(visitor.get("/settings/api-tokens/new").text, "/settings/api-tokens")
    secret = session_cookie(visitor)
    assert secret is not None
    session = visitor.services.sessions.find(secret)
    assert session is not None
    visitor.services.sessions.end(session.id_hash)
    response = visitor.post("/settings/api-tokens", {**form.values, "label": "x"})
    assert response.headers["Location"] == "/login"
    assert "the last change was not saved" in visitor.get("/login").text
    assert visitor.services.tokens.list() == []


def test_sign_out_after_the_session_ended_leads_to_sign_in(visitor: Console) -> None:
    visitor.sign_in("owner")
    form = find_form(visitor.get("/account").text, "/logout")
    visitor.client.delete_cookie("chalk-session")
    assert visitor.post("/logout", form.values.to_dict()).headers["Location"] == "/login"


def test_pages_are_not_stored_so_that_back_shows_nothing(visitor: Console) -> None:
    visitor.sign_in("owner")
    assert visitor.get("/account").headers["Cache-Control"] == "no-store"
    visitor.submit("/account", action="/logout")
    assert visitor.get("/account", 303).headers["Location"] == "/login?next=/account"


def test_deleted_administrator_is_signed_out_at_once(visitor: Console) -> None:
    administrator = visitor.sign_in("editor")
    visitor.get("/account")
    visitor.services.administrators.delete(administrator.id)
    visitor.get("/account", 303)


def test_sign_in_page_has_no_links_into_the_console(visitor: Console, console_app: Flask) -> None:
    assert set(links_of(visitor.get("/login").text)) == {"#content"}

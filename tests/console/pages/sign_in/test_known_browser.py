"""Known browsers: administrators whom attempts of others do not lock out."""

from __future__ import annotations

from collections import Counter

import pyotp
import pytest

from chalk_flask.admins import new_totp_secret
from tests.support.console.client import PASSWORD, Console, find_form

ATTACKER = "198.51.100.7"
COOKIE = "chalk-browser"


@pytest.fixture
def owner(console: Console) -> Console:
    """Browser in which `kim` has signed in and out."""
    console.services.administrators.create("kim", "owner", "default", PASSWORD)
    attempt(console, "kim", PASSWORD)
    console.submit("/account", action="/logout")
    return console


def attempt(console: Console, name: str, password: str = "a wrong password", address: str = ATTACKER) -> int:
    form = find_form(console.get("/login").text, fields={"password": ""})
    data = {**form.values, "name": name, "password": password}
    return console.client.post("/login", data=data, environ_base={"REMOTE_ADDR": address}).status_code


def stranger_with(owner: Console, cookie: str = "") -> Console:
    """Return another browser, with a copy of the owner's cookie of known browsers or with another one."""
    stranger, stored = Console(owner.app), owner.client.get_cookie(COOKIE)
    assert stored
    stranger.client.set_cookie(COOKIE, cookie or stored.value)
    return stranger


def test_attempts_of_others_do_not_lock_the_owner_out(owner: Console) -> None:
    stranger = Console(owner.app)
    assert [attempt(stranger, name) for name in ["kim"] * 6 + [f"name-{n}" for n in range(20)]].count(429) == 7
    assert attempt(stranger, "kim", PASSWORD) == 429
    assert attempt(owner, "kim", PASSWORD) == 303
    owner.get("/account")


def test_known_browser_is_limited_too(owner: Console) -> None:
    assert [attempt(owner, "kim") for _ in range(7)] == [422] * 5 + [429] * 2
    assert attempt(Console(owner.app), "kim") == 422


def test_many_known_browsers_cost_15_hashes_a_minute(owner: Console) -> None:
    cookies = []
    for number in range(4):
        attempt(owner, "kim", PASSWORD, f"192.0.2.{number}")
        cookie = owner.client.get_cookie(COOKIE)
        assert cookie
        cookies.append(cookie.value)
        owner.submit("/account", action="/logout")
    assert len(set(cookies)) == 4
    statuses = Counter(attempt(stranger_with(owner, cookie), "kim") for cookie in cookies for _ in range(5))
    assert statuses == {422: 15 - 4, 429: 5 + 4}  # 4 of 15 attempts were successful


@pytest.mark.parametrize("change", ["name", "signature", "text"])
def test_browser_is_known_for_one_account_by_a_valid_cookie(owner: Console, change: str) -> None:
    owner.services.administrators.create("lee", "owner", "default", PASSWORD)
    name = "lee" if change == "name" else "kim"
    for _ in range(6):
        attempt(Console(owner.app), name)
    stored = owner.client.get_cookie(COOKIE)
    assert stored
    cookies = {"name": stored.value, "signature": stored.value[:-8] + "AAAAAAAA", "text": "\u20ac.x.y"}
    assert attempt(stranger_with(owner, cookies[change]), name, PASSWORD) == 429


def test_page_session_is_no_known_browser(owner: Console) -> None:
    for _ in range(6):
        attempt(Console(owner.app), "kim")
    stranger = Console(owner.app)
    stranger.get("/login")
    page = stranger.client.get_cookie("chalk-page")
    assert page
    stranger.client.set_cookie(COOKIE, page.value)
    assert attempt(stranger, "kim", PASSWORD) == 429


def test_password_without_the_code_makes_no_browser_known(console: Console) -> None:
    administrators, secret = console.services.administrators, new_totp_secret()
    kim = administrators.create("kim", "owner", "default", PASSWORD)
    codes = administrators.enable_totp(kim.id, secret, pyotp.TOTP(secret).now())
    assert attempt(console, "kim", PASSWORD) == 303
    assert console.client.get_cookie(COOKIE) is None
    console.submit("/login/code", code=codes[0])
    assert console.client.get_cookie(COOKIE) is not None


@pytest.mark.parametrize(("scheme", "name"), [("http", COOKIE), ("https", f"__Host-{COOKIE}")])
def test_cookie_is_for_this_host_and_hidden_from_scripts(owner: Console, scheme: str, name: str) -> None:
    visitor = Console(owner.app)
    page = visitor.client.get("/login", base_url=f"{scheme}://localhost")
    form = find_form(page.text, fields={"password": ""})
    data = {**form.values, "name": "kim", "password": PASSWORD}
    headers = {"Origin": f"{scheme}://localhost", "Referer": f"{scheme}://localhost/login"}
    response = visitor.client.post("/login", data=data, base_url=f"{scheme}://localhost", headers=headers)
    assert response.status_code == 303
    [cookie] = [line for line in response.headers.getlist("Set-Cookie") if line.startswith(f"{name}=")]
    attributes = set(cookie.split("; ")[1:])
    assert {"HttpOnly", "Path=/", "SameSite=Lax", "Max-Age=15552000"} <= attributes
    assert ("Secure" in attributes) is (scheme == "https")
    assert "Domain" not in cookie
    assert "kim" not in cookie

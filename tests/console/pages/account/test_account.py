"""Own account: password, two-factor sign-in, sessions and theme."""

from __future__ import annotations

import re

import pyotp
import pytest

from chalk_flask.admins import Administrator
from chalk_flask.notices import MailPreferences
from tests.support.console.client import PASSWORD, Console, find_form, visible_text

NEW_PASSWORD = "another quite long password"


def test_password_is_changed_and_other_sessions_end(console: Console) -> None:
    administrator = console.sign_in("viewer")
    other = Console(console.app)
    other.sign_in_as(administrator)
    page = console.submit("/account", current_password=PASSWORD, password=NEW_PASSWORD, repeated=NEW_PASSWORD)
    assert "Your password is changed." in page.text
    other.get("/account", 303)
    console.services.sign_in.authenticate(administrator.name, NEW_PASSWORD, "203.0.113.9")


@pytest.mark.parametrize(
    ("current", "password", "repeated", "message"),
    [
        ("wrong", NEW_PASSWORD, NEW_PASSWORD, "This is not your current password."),
        (PASSWORD, "short", "short", "at least 12 characters"),
        (PASSWORD, NEW_PASSWORD, "x", "The new passwords differ."),
        (PASSWORD, "aaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaa", "characters"),
    ],
)
def test_invalid_password_changes_nothing(
    current: str, password: str, repeated: str, message: str, console: Console
) -> None:
    administrator = console.sign_in("viewer")
    page = console.submit("/account", current_password=current, password=password, repeated=repeated, status=422)
    assert message in page.text
    assert password not in page.text
    stored = console.services.administrators.get(administrator.id)
    assert stored is not None
    assert stored.password_hash == administrator.password_hash


def test_sessions_are_listed_and_ended(console: Console) -> None:
    administrator = console.sign_in("viewer")
    other = Console(console.app)
    other.sign_in_as(administrator)
    assert "This browser" in console.get("/account").text
    [other_session] = [
        session
        for session in console.services.sessions.list_of(administrator.id)
        if f'value="{session.id_hash}"' in console.get("/account").text and session.id_hash != current_hash(console)
    ]
    form = find_form(console.get("/account").text, "/account/sessions/end")
    console.post(form.action, {**form.values, "session": other_session.id_hash})
    other.get("/account", 303)
    console.get("/account")


def current_hash(console: Console) -> str:
    cookie = console.client.get_cookie("chalk-session")
    assert cookie is not None
    session = console.services.sessions.find(cookie.value)
    assert session is not None
    return session.id_hash


def test_ending_the_current_session_signs_out(console: Console) -> None:
    console.sign_in("viewer")
    form = find_form(console.get("/account").text, "/account/sessions/end")
    response = console.post(form.action, {**form.values, "session": current_hash(console)})
    assert response.headers["Location"] == "/login"


def test_session_of_another_administrator_cannot_be_ended(console: Console) -> None:
    other = Console(console.app)
    other.sign_in("viewer")
    console.sign_in("owner", None)
    form = find_form(console.get("/account").text, "/account/sessions/end")
    console.post(form.action, {**form.values, "session": current_hash(other)}, 404)
    other.get("/account")


def test_all_other_sessions_are_ended_at_once(console: Console) -> None:
    administrator = console.sign_in("viewer")
    others = [Console(console.app) for _ in range(2)]
    for other in others:
        other.sign_in_as(administrator)
    console.submit("/account", action="/account/sessions/end-others")
    assert [other.get("/account", 303).status_code for other in others] == [303, 303]
    console.get("/account")


def turn_on(console: Console) -> tuple[str, list[str]]:
    """Turn on two-factor sign-in; return its secret and the recovery codes that the page shows."""
    page = console.get("/account/two-factor").text
    secret = re.search(r'id="totp-secret"[^>]*><code>([A-Z2-7 ]+)</code>', page)
    assert secret is not None
    assert "<svg" in page
    form = find_form(page, "/account/two-factor")
    code = pyotp.TOTP(secret[1]).now()
    console.post(form.action, {**form.values, "code": code, "current_password": PASSWORD})
    shown = console.get("/account/two-factor").text
    return secret[1], re.findall(r"<li>([^<]+)</li>", shown.partition('id="recovery-codes"')[2].partition("</ul>")[0])


def test_two_factor_is_turned_on_and_codes_are_shown_once(console: Console) -> None:
    administrator = console.sign_in("viewer")
    _, codes = turn_on(console)
    assert len(codes) == 10
    assert codes[0] not in console.get("/account/two-factor").text
    stored = console.services.administrators.get(administrator.id)
    assert stored is not None
    assert stored.uses_totp
    assert console.services.administrators.use_recovery_code(administrator.id, codes[0])


def test_turning_on_two_factor_ends_other_sessions(console: Console) -> None:
    administrator = console.sign_in("viewer")
    other = Console(console.app)
    other.sign_in_as(administrator)
    turn_on(console)
    other.get("/account", 303)
    console.get("/account")


def test_wrong_code_keeps_the_secret(console: Console) -> None:
    administrator = console.sign_in("viewer")
    page = console.get("/account/two-factor").text
    secret = re.search(r'id="totp-secret"[^>]*><code>([A-Z2-7 ]+)</code>', page)
    assert secret is not None
    form = find_form(page, "/account/two-factor")
    page = console.post(form.action, {**form.values, "code": "000000", "current_password": PASSWORD}, 422).text
    assert secret[1] in page
    stored = console.services.administrators.get(administrator.id)
    assert stored is not None
    assert not stored.uses_totp


def test_two_factor_requires_the_password(console: Console) -> None:
    administrator = console.sign_in("viewer")
    page = console.submit("/account/two-factor", code="000000", current_password="wrong", status=422)
    assert "This is not your current password." in page.text
    turn_on(console)
    page = console.submit(
        "/account/two-factor", action="/account/two-factor/recovery-codes", current_password="x", status=422
    )
    assert "This is not your current password." in page.text
    stored = console.services.administrators.get(administrator.id)
    assert stored is not None
    assert stored.uses_totp


def test_recovery_codes_are_replaced(console: Console) -> None:
    console.sign_in("viewer")
    _, codes = turn_on(console)
    page = console.submit("/account/two-factor", action="/account/two-factor/recovery-codes", current_password=PASSWORD)
    assert "Store your recovery codes" in page.text
    assert codes[0] not in page.text


def test_two_factor_is_turned_off(console: Console) -> None:
    administrator = console.sign_in("viewer")
    turn_on(console)
    form = find_form(console.get("/account/two-factor").text, "/account/two-factor/recovery-codes")
    console.post("/account/two-factor/off", {**form.values, "current_password": PASSWORD})
    stored = console.services.administrators.get(administrator.id)
    assert stored is not None
    assert not stored.uses_totp
    assert "Turn on two-factor sign-in" in visible_text(console.get("/account/two-factor").text)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_theme_is_a_cookie_that_overrides_the_system(theme: str, console: Console) -> None:
    console.sign_in("viewer")
    form = find_form(console.get("/account").text, "/theme")
    response = console.post("/theme", {**form.values, "theme": theme})
    assert response.headers["Location"] == "/account"
    assert f'<html lang="en" data-theme="{theme}">' in console.get("/account").text
    console.post("/theme", {**form.values, "theme": "system"})
    assert '<html lang="en">' in console.get("/account").text


def test_theme_works_before_sign_in_and_rejects_other_values(console: Console) -> None:
    form = find_form(console.get("/login").text, "/theme")
    console.post("/theme", {**form.values, "theme": "dark"})
    assert 'data-theme="dark"' in console.get("/login").text
    console.post("/theme", {**form.values, "theme": '"><script>'}, 400)
    console.client.set_cookie("chalk-theme", '"><script>alert(1)</script>')
    assert "<script>alert" not in console.get("/login").text


def stored_mail(console: Console, administrator: Administrator) -> MailPreferences:
    stored = console.services.administrators.get(administrator.id)
    assert stored is not None
    return stored.mail


def test_mail_is_chosen_and_ended(console: Console) -> None:
    administrator = console.sign_in("viewer")
    page = console.get("/account")
    assert "This service sends no mail yet" in visible_text(page.text)
    page = console.submit(
        "/account", "/account/mail", address="kim@example.org", events=["import.committed", "import.held"], digest="y"
    )
    assert "Your choice is saved." in page.text
    assert stored_mail(console, administrator) == MailPreferences(
        "kim@example.org", ("import.committed", "import.held"), digest=True
    )
    form = find_form(page.text, "/account/mail")
    assert form.values["address"] == "kim@example.org"
    assert "You get no mail." in console.submit("/account", "/account/mail", address="").text
    assert stored_mail(console, administrator).address == ""


@pytest.mark.parametrize("address", ["kim", "kim@example.org\r\nBcc: lee@example.org", "<b>@x", "x" * 300 + "@b"])
def test_invalid_mail_address_changes_nothing(address: str, console: Console) -> None:
    administrator = console.sign_in("viewer")
    page = console.submit("/account", "/account/mail", address=address, status=422)
    assert "Nothing was changed." in page.text
    assert stored_mail(console, administrator) == MailPreferences()


def test_unknown_event_changes_nothing(console: Console) -> None:
    administrator = console.sign_in("viewer")
    form = find_form(console.get("/account").text, "/account/mail")
    data = {**form.values, "address": "kim@example.org", "events": "import.lost"}
    assert "Unknown choice" in console.post(form.action, data, 422).text
    assert stored_mail(console, administrator) == MailPreferences()

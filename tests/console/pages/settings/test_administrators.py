"""Page `/settings/administrators`: list, create, role, new password and delete, as far as the role and tenant allow."""

from __future__ import annotations

import html
import re

import pytest

from chalk_flask.admins import Administrator
from tests.support.console.client import PASSWORD, Console, find_form, visible_text

LIST, NEW = "/settings/administrators", "/settings/administrators/new"


def path_of(administrator: Administrator) -> str:
    return f"{LIST}/{administrator.id}"


def password_in(text: str) -> str | None:
    found = re.search(r'id="secret-value"[^>]*>([^<]+)<', text)
    return html.unescape(found[1]) if found else None


def stored(console: Console, administrator: Administrator) -> Administrator:
    """Return an administrator as the store has it now."""
    found = console.services.administrators.get(administrator.id)
    assert found is not None
    return found


@pytest.fixture
def editor(console: Console) -> Administrator:
    return console.services.administrators.create("lee", "editor", "default", PASSWORD)


def test_new_administrator_gets_a_password_that_is_shown_once(console: Console) -> None:
    me = console.sign_in("owner")
    page = console.submit(NEW, action=LIST, name="Lee", role="editor")
    password = password_in(page.text)
    created = console.services.administrators.find("lee")
    assert created is not None
    assert (created.role, created.tenant) == ("editor", "default")
    assert console.services.sign_in.authenticate("lee", password or "", "203.0.113.9").id == created.id
    assert password_in(console.get(path_of(created)).text) is None
    names = visible_text(console.get(LIST).text)
    assert "lee" in names
    assert f"{me.name} You" in names


@pytest.mark.parametrize("name", ["", "x", "a b c", "kim<b>", "lee"])
def test_invalid_or_existing_name_is_explained(console: Console, editor: Administrator, name: str) -> None:
    console.sign_in("owner")
    count = len(console.services.administrators.list())
    page = console.submit(NEW, action=LIST, status=422, name=name)
    assert "Nothing was changed." in visible_text(page.text)
    assert "<b>" not in page.text
    assert len(console.services.administrators.list()) == count


def test_role_is_changed(console: Console, editor: Administrator) -> None:
    console.sign_in("owner")
    page = console.submit(path_of(editor), action=f"{path_of(editor)}/role", role="viewer")
    assert "The role is now viewer." in visible_text(page.text)
    changed = console.services.administrators.get(editor.id)
    assert changed is not None
    assert changed.role == "viewer"


def test_new_password_ends_the_sessions(console: Console, editor: Administrator) -> None:
    secret, _ = console.services.sessions.create(editor, "203.0.113.7", "Firefox")
    console.sign_in("owner")
    page = console.submit(path_of(editor), action=f"{path_of(editor)}/reset")
    password = password_in(page.text)
    assert console.services.sessions.find(secret) is None
    assert console.services.sign_in.authenticate("lee", password or "", "203.0.113.9").id == editor.id


def test_administrator_is_deleted(console: Console, editor: Administrator) -> None:
    console.sign_in("owner")
    page = console.submit(path_of(editor), action=f"{path_of(editor)}/delete")
    assert "The administrator is deleted." in visible_text(page.text)
    assert console.services.administrators.get(editor.id) is None
    console.get(path_of(editor), 404)


def test_own_role_and_account_cannot_be_changed_here(console: Console) -> None:
    me = stored(console, console.sign_in("owner"))
    page = console.get(path_of(me)).text
    assert "This is you." in visible_text(page)
    fields = {"csrf_token": find_form(page, "/logout").values["csrf_token"], "tenant": "default", "role": "viewer"}
    for action in ("role", "reset", "delete"):
        console.post(f"{path_of(me)}/{action}", fields, 409)
    assert stored(console, me) == me


def test_owner_of_a_tenant_reaches_only_its_administrators(console: Console) -> None:
    administrators = console.services.administrators
    others = [
        stored(console, administrators.create("westerner", "owner", "west", PASSWORD)),
        stored(console, administrators.create("operator", "viewer", None, PASSWORD)),
    ]
    console.sign_in("owner")
    page = console.get(LIST).text
    token = find_form(page, "/logout").values["csrf_token"]
    fields = {"csrf_token": token, "tenant": "default", "role": "viewer"}
    for other in others:
        assert other.name not in page
        console.get(path_of(other), 404)
        for action in ("role", "reset", "delete"):
            console.post(f"{path_of(other)}/{action}", fields, 404)
        assert stored(console, other) == other


def test_only_an_operator_creates_an_operator(console: Console) -> None:
    console.sign_in("owner")
    page = console.get(NEW).text
    form = find_form(page, LIST)
    fields = {**form.values.to_dict(), "name": "climber", "role": "owner", "access": "operator"}
    console.post(LIST, fields, 404)
    assert console.services.administrators.find("climber") is None
    console.sign_in("owner", None)
    console.submit(NEW, action=LIST, name="climber", role="owner", access="operator")
    created = console.services.administrators.find("climber")
    assert created is not None
    assert created.is_operator


def test_operator_deletes_another_operator(console: Console) -> None:
    first = console.sign_in("owner", None)
    second = console.services.administrators.create("second", "owner", None, PASSWORD)
    console.submit(path_of(second), action=f"{path_of(second)}/delete")
    assert [each.id for each in console.services.administrators.list()] == [first.id]

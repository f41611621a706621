"""Browser without JavaScript for tests of the console: pages, their forms, and a signed-in administrator."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import MultiDict
from werkzeug.test import TestResponse

from chalk_flask.admins.record import Administrator
from chalk_flask.admins.roles import Role
from chalk_flask.tenants.store import TenantStore
from tests.conftest import services_of
from tests.support.small_roster import fill

PASSWORD = "correct horse battery staple"
ADDRESS = "203.0.113.5"

_numbers = itertools.count(1)


@dataclass
class Form:
    """Form of a page: where it leads, and the values with which it would be sent.

    `text_names` are the names of fields for free text. `buttons` are the labels of its buttons.
    """

    action: str
    method: str
    values: MultiDict[str, str] = field(default_factory=MultiDict)
    names: set[str] = field(default_factory=set)
    text_names: set[str] = field(default_factory=set)
    buttons: list[str] = field(default_factory=list)


class Console:
    """Client of an application's console."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.services = services_of(app)
        self.client: FlaskClient = app.test_client()

    def sign_in(self, role: Role = "owner", tenant: str | None = "default", name: str = "") -> Administrator:
        """Sign in as a new administrator without the form; `tenant` None is an operator. Return the administrator."""
        name = name or f"admin-{next(_numbers)}"
        administrator = self.services.administrators.create(name, role, tenant, PASSWORD)
        self.sign_in_as(administrator)
        return administrator

    def sign_in_as(self, administrator: Administrator) -> None:
        """Sign in as an existing administrator, without the form."""
        secret, _ = self.services.sessions.create(administrator, ADDRESS, "Firefox on Linux")
        self.client.set_cookie("chalk-session", secret)

    def get(self, path: str, status: int = 200, **params: Any) -> TestResponse:
        """Return a page, which must have the status."""
        response = self.client.get(path, query_string=params or None, headers={"Accept": "text/html"})
        assert response.status_code == status, (path, response.status_code, visible_text(response.text)[:500])
        return response

    def submit(
        self, path: str, action: str = "", *, status: int = 303, follow: bool = True, **fields: Any
    ) -> TestResponse:
        """Fetch a page, fill in a form and send it. The response must have the status.

        The form is the one with this action, or the only one that has all of these fields. Values that are lists are
        sent repeatedly; None removes a field. A redirect is followed unless `follow` is False.
        """
        page = self.get(path)
        form = find_form(page.text, action, fields)
        response = self.post(form.action, filled(form, fields), status)
        while follow and response.status_code == 303:
            response = self.client.get(response.headers["Location"], headers={"Accept": "text/html"})
        return response

    def search(self, path: str, status: int = 200, **texts: Any) -> TestResponse:
        """Send the search form of a page, and return the page of the result, which must have the status."""
        response = self.submit(path, path.partition("?")[0], **texts)
        assert response.status_code == status, (path, response.status_code, visible_text(response.text)[:500])
        return response

    def post(self, path: str, data: Mapping[str, Any], status: int = 303) -> TestResponse:
        """Send a form's data as they are."""
        response = self.client.post(path, data=data, headers={"Accept": "text/html"})
        assert response.status_code == status, (path, response.status_code, visible_text(response.text)[:500])
        return response


def fill_console_store(app: Flask) -> None:
    """Delete everything in the store, and store the small roster in `default`. The tenant `west` is empty."""
    store = services_of(app).store
    for tenant in list(store.tenants()):
        with store.write(tenant) as transaction:
            for collection in store.collections:
                transaction.delete(collection, list(transaction.keys(collection)))
    fill(store)
    TenantStore(store).create("west")


def filled(form: Form, fields: Mapping[str, Any]) -> MultiDict[str, Any]:
    """Return the data of a form with some values replaced."""
    data: MultiDict[str, Any] = MultiDict(form.values)
    for name, value in fields.items():
        assert name in form.names, f"the form has no field {name!r}; it has {sorted(form.names)}"
        data.poplist(name)
        if value is not None:
            is_many = isinstance(value, Sequence) and not isinstance(value, (str, bytes, tuple))
            data.setlist(name, list(value) if is_many else [value])
    return data


def forms_of(text: str) -> list[Form]:
    """Return the forms of a page."""
    parser = _FormParser()
    parser.feed(text)
    return parser.forms


def find_form(text: str, action: str = "", fields: Mapping[str, Any] | None = None) -> Form:
    """Return the form with this action, or else the only form with all of these fields."""
    forms = [form for form in forms_of(text) if form.method == "post"]
    found = [form for form in forms if form.action == action] if action else _with_fields(forms, fields or {})
    assert found, f"no form for {action or sorted(fields or {})}; forms: {[form.action for form in forms]}"
    return found[0]


def _with_fields(forms: list[Form], fields: Mapping[str, Any]) -> list[Form]:
    """Return the forms that have all fields, those of the page's content before those of its frame."""
    found = [form for form in forms if fields.keys() <= form.names]
    return sorted(found, key=lambda form: form.action in ("/logout", "/theme"))


def visible_text(text: str) -> str:
    """Return the text of a page without tags, scripts and repeated blanks."""
    without_tags = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", text.replace("<wbr>", ""), flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(without_tags)).strip()


def links_of(text: str) -> Iterator[str]:
    """Yield the targets of the links of a page."""
    for found in re.finditer(r'<a [^>]*?href="([^"]*)"', text):
        yield html.unescape(found[1])


class _FormParser(HTMLParser):
    """Parser that collects the forms of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._form: Form | None = None
        self._select = ""
        self._textarea = ""
        self._in_button = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        data = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = Form(data.get("action", ""), data.get("method", "get").lower())
            self.forms.append(self._form)
        elif self._form is not None:
            self._handle_control(self._form, tag, data)

    def _handle_control(self, form: Form, tag: str, data: dict[str, str]) -> None:
        name = data.get("name", "")
        if name:
            form.names.add(name)
        if tag == "input" and name:
            self._handle_input(form, name, data)
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._select and ("selected" in data or self._select not in form.values):
            form.values[self._select] = data.get("value", "")  # a browser selects the first option by default
        elif tag == "textarea":
            self._textarea = name
            form.text_names.add(name)
            form.values.add(name, "")
        elif tag == "button":
            self._in_button = True

    @staticmethod
    def _handle_input(form: Form, name: str, data: dict[str, str]) -> None:
        kind = data.get("type", "text")
        if kind in ("text", "search", "email", "url"):
            form.text_names.add(name)
        if kind in ("checkbox", "radio"):
            if "checked" in data:
                form.values.add(name, data.get("value", "on"))
        elif kind not in ("submit", "file"):
            form.values.add(name, data.get("value", ""))

    def handle_data(self, data: str) -> None:
        if self._form is not None and self._textarea:
            self._form.values[self._textarea] += data
        if self._form is not None and self._in_button and data.strip():
            self._form.buttons.append(data.strip())

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "select":
            self._select = ""
        elif tag == "textarea":
            self._textarea = ""
        elif tag == "button":
            self._in_button = False

"""Texts that an administrator types into search boxes and filters: no URL of the console contains them.

The forms are found on the pages to which links lead, so that a new form is tested too.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote_plus, urldefrag

import pytest
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from chalk_flask.oneroster.schemas import FILES
from chalk_flask.tenants.store import TenantStore
from tests.support.console.client import Console, Form, filled, forms_of, links_of
from tests.support.small_roster import user

TYPED = "family7@example.org"
"""Text that is typed into every form."""
FRAME_ACTIONS = ("/logout", "/theme")

SEARCH_FORMS = {
    *("/roster/users", "/roster/classes", "/roster/demographics", "/roster/classes/c-1/students", "/audit"),
    "/explorer/getAllUsers#response",
}
"""Actions of forms that must be among those that are found."""


@pytest.fixture
def operator(console: Console) -> Console:
    """Browser of an operator. The text is the e-mail address of a person of the tenant."""
    TenantStore(console.services.store).update("default", demographics=True)
    person = user("typed-1", "student", "Given7", "Family7", ["s-1"], email=TYPED)
    with console.services.store.write("default") as transaction:
        transaction.put("users", [FILES["users"].record(person)])
    console.sign_in("owner", None)
    return console


def contains_typed(url: str) -> bool:
    return "family7" in unquote_plus(url).lower()


def pages_of(console: Console, *start: str) -> Iterator[tuple[str, str]]:
    """Yield URL and text of one page of each route and collection to which links lead from some pages."""
    routes, seen, queue = console.app.url_map.bind("localhost"), set(), list(start)
    while queue:
        url = urldefrag(queue.pop(0)).url
        try:
            endpoint, ids = routes.match(url.partition("?")[0])
        except HTTPException:
            continue  # no page, for example a reference of the API
        page = (endpoint, ids.get("collection"), ids.get("nested"))
        if page in seen:
            continue
        seen.add(page)
        response = console.client.get(url, headers={"Accept": "text/html"})
        assert response.status_code < 500
        if response.mimetype == "text/html":
            yield url, response.text
            queue += links_of(response.text)


def test_forms_that_get_have_no_field_for_text(operator: Console) -> None:
    for url, text in pages_of(operator, "/"):
        for form in forms_of(text):
            assert form.method == "post" or not form.text_names, (url, form.action, form.text_names)


def test_no_url_contains_a_typed_text(operator: Console) -> None:
    start = ("/", "/roster/classes/c-1/students", "/explorer/getAllUsers")
    forms = {form.action: form for _, text in pages_of(operator, *start) for form in forms_of(text) if is_search(form)}
    assert forms.keys() >= SEARCH_FORMS
    results: list[str] = []
    for form in forms.values():
        for names in ([name] for name in sorted(form.text_names)):
            results += links_after(operator, form, names)
    visited = dict.fromkeys(result for result in results if "search=" in result)
    assert len(visited) > len(SEARCH_FORMS)
    for url in visited:
        check(operator.client.get(url, headers={"Accept": "text/html"}))


def is_search(form: Form) -> bool:
    """Return True for a form that changes nothing. The others have a submission id."""
    is_sent = form.method == "post" and "submission" not in form.names
    return is_sent and bool(form.text_names) and form.action not in FRAME_ACTIONS


def links_after(console: Console, form: Form, names: list[str]) -> list[str]:
    """Type the text into fields of a form, send it, and return the links of the result and its URL."""
    response = console.client.post(
        form.action, data=filled(form, dict.fromkeys(names, TYPED)), headers={"Accept": "text/html"}
    )
    found = []
    while response.status_code == 303:
        location = response.headers["Location"]
        assert not contains_typed(location), form.action
        found.append(location)
        response = console.client.get(location, headers={"Accept": "text/html"})
    return [*found, *check(response)]


def check(response: TestResponse) -> list[str]:
    """Return the links of a page. No URL on it may contain the text."""
    assert response.status_code < 500
    if response.mimetype != "text/html":
        return []
    links = list(links_of(response.text))
    urls = [*links, *(form.action for form in forms_of(response.text))]
    assert [url for url in urls if contains_typed(url)] == [], response.request.path
    return links


def test_typed_text_is_found_in_other_places(operator: Console) -> None:
    page = operator.search("/roster/users", q=TYPED)
    assert "/roster/users/typed-1" in set(links_of(page.text))
    assert TYPED in page.text
    assert contains_typed("/roster/users?q=family7%40example.org")

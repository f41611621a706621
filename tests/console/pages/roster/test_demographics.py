"""Demographics: behind a permission and a button, with an audit event for each view."""

from __future__ import annotations

from typing import Any

import pytest

from chalk_flask.audit.events import read_events
from chalk_flask.tenants.store import TenantStore
from tests.support.console.client import Console, visible_text

PERSON, DEMOGRAPHICS = "/roster/users/u-1", "/demographics/u-1"


def views(console: Console) -> list[dict[str, Any]]:
    """Return the audit events of views, without time and tenant."""
    events = read_events(console.services.store, "default")
    return [
        {name: value for name, value in event.items() if name not in ("time", "tenant", "event")}
        for event in events
        if event["event"] == "demographics.viewed"
    ]


@pytest.fixture
def editor(console: Console) -> Console:
    """Browser of an editor of `default`, which has opted in to demographics."""
    TenantStore(console.services.store).update("default", demographics=True)
    console.administrator = console.sign_in("editor")  # type: ignore[attr-defined]  # for the assertions of this module
    return console


def test_button_shows_demographics_and_records_the_view(editor: Console) -> None:
    assert "2009-05-14" not in editor.get(PERSON).text
    page = editor.submit(PERSON, action=DEMOGRAPHICS, status=200)
    text = visible_text(page.text)
    assert "Birth date 2009-05-14" in text
    assert "Sex female" in text
    administrator: Any = editor.administrator  # type: ignore[attr-defined]  # set by the fixture
    assert views(editor) == [{"administrator": administrator.id, "operation": "getDemographics", "record": "u-1"}]


def test_each_view_is_an_event(editor: Console) -> None:
    for _ in range(2):
        editor.submit(PERSON, action=DEMOGRAPHICS, status=200)
    assert len(views(editor)) == 2


def test_person_without_demographics_is_explained(editor: Console) -> None:
    page = editor.submit("/roster/users/u-3", action="/demographics/u-3", status=200)
    assert "The roster has no demographics of this person" in visible_text(page.text)


def test_list_is_behind_a_button_and_can_be_filtered(editor: Console) -> None:
    assert "2009-05-14" not in editor.get("/roster/demographics").text
    page = editor.submit("/roster/demographics", action="/roster/demographics", status=200, filter="sex='male'")
    text = visible_text(page.text)
    assert "Bob Jones 2008-01-02 male" in text
    assert "2009-05-14" not in text
    assert [event["operation"] for event in views(editor)] == ["getAllDemographics"]


def test_invalid_filter_of_the_list_shows_a_message(editor: Console) -> None:
    page = editor.submit("/roster/demographics", action="/roster/demographics", status=422, filter="sex='")
    assert "does not end with a single quote" in visible_text(page.text)


def test_tenant_without_the_opt_in_has_no_demographics(console: Console) -> None:
    TenantStore(console.services.store).update("default", demographics=False)
    console.sign_in("owner")
    page = console.submit(PERSON, action=DEMOGRAPHICS, status=200)
    assert "This tenant has not opted in to demographics" in visible_text(page.text)
    assert "2009-05-14" not in page.text
    assert "has not opted in" in visible_text(console.get("/roster/demographics").text)
    assert views(console) == []


def test_viewer_cannot_see_demographics(console: Console) -> None:
    console.sign_in("viewer")
    text = console.get(PERSON).text
    assert DEMOGRAPHICS not in text
    console.get("/roster/demographics", 403)
    assert views(console) == []


def test_unknown_person_has_no_demographics_page(editor: Console) -> None:
    form = {"csrf_token": token_of(editor), "tenant": "default"}
    editor.post("/demographics/unknown", form, 404)
    assert views(editor) == []


def token_of(console: Console) -> str:
    """Return the CSRF token of the browser's page session."""
    from tests.support.console.client import find_form

    return str(find_form(console.get(PERSON).text, DEMOGRAPHICS).values["csrf_token"])

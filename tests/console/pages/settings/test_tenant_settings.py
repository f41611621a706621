"""Page `/settings`: settings of the tenant, and those of the service for operators."""

from __future__ import annotations

import re
from typing import Any

import pytest

from chalk_flask.audit.events import read_events
from chalk_flask.settings import SETTINGS
from chalk_flask.tenants.store import CONTROL, Tenant, TenantStore
from tests.support.console.client import Console, find_form, visible_text

SETTINGS_PAGE = "/settings"


def stored(console: Console, tenant: str = "default") -> Tenant:
    return TenantStore(console.services.store).get(tenant)


def test_settings_are_saved(console: Console) -> None:
    console.sign_in("owner")
    page = console.submit(
        SETTINGS_PAGE,
        demographics=None,
        max_deleted="5 %, 20",
        max_changed="off",
        max_quarantined="",
        invalid_rows="quarantine",
        lenient="y",
    )
    assert "The settings are saved." in visible_text(page.text)
    assert stored(console) == Tenant(
        name="default",
        demographics=False,
        max_deleted="5%,20",
        max_changed="off",
        max_quarantined=None,
        invalid_rows="quarantine",
        lenient=True,
    )
    assert 'value="5%,20"' in page.text
    page = console.submit(SETTINGS_PAGE, max_deleted="default", demographics="y")
    assert stored(console).max_deleted is None
    assert stored(console).demographics


def test_only_changed_settings_are_recorded(console: Console) -> None:
    me = console.sign_in("owner")
    console.submit(SETTINGS_PAGE, lenient="y")
    page = console.submit(SETTINGS_PAGE, lenient="y")
    assert "Nothing was changed" in visible_text(page.text)
    events = [event for event in read_events(console.services.store, CONTROL) if event["event"] == "tenant.changed"]
    assert [{name: event[name] for name in event if name not in ("time", "tenant", "event")} for event in events] == [
        {"lenient": True, "by": me.id}
    ]


@pytest.mark.parametrize("text", ["5", "200%,10", "a%,b", "<b>", "5%,5%,5"])
def test_invalid_threshold_is_explained(console: Console, text: str) -> None:
    console.sign_in("owner")
    before = stored(console)
    page = console.submit(SETTINGS_PAGE, status=422, max_deleted=text, lenient="y")
    assert "Nothing was changed." in visible_text(page.text)
    assert "<b>" not in page.text
    assert stored(console) == before


def test_empty_retention_shows_the_days_in_force(console: Console) -> None:
    console.sign_in("owner")
    page = console.get(SETTINGS_PAGE).text
    for name, days in (("tombstone_days", 90), ("delivery_days", 30), ("history_days", 365)):
        assert re.search(rf'name="{name}"[^>]* placeholder="{days}"', page)
        assert f"If it is empty, the default is in force: {days} days." in visible_text(page)


def test_retention_is_saved_and_reset(console: Console) -> None:
    console.sign_in("owner")
    console.submit(SETTINGS_PAGE, tombstone_days="120", delivery_days=" 7 ", history_days="0")
    assert (stored(console).tombstone_days, stored(console).delivery_days) == (120, 7)
    assert stored(console).history_days == 0
    assert re.search(r'name="history_days"[^>]* value="0"', console.get(SETTINGS_PAGE).text)
    page = console.submit(SETTINGS_PAGE, tombstone_days="", delivery_days="default")
    assert (stored(console).tombstone_days, stored(console).delivery_days, stored(console).history_days) == (
        None,
        None,
        0,
    )
    assert "as long as the tenant exists" in visible_text(page.text)


@pytest.mark.parametrize(
    ("name", "text"),
    [("tombstone_days", "89"), ("delivery_days", "0"), ("delivery_days", "\u0663"), ("history_days", "36501")],
)
def test_invalid_retention_is_explained(console: Console, name: str, text: str) -> None:
    console.sign_in("owner")
    before = stored(console)
    fields: dict[str, Any] = {name: text}
    page = console.submit(SETTINGS_PAGE, status=422, **fields)
    assert "a number of days must be from" in visible_text(page.text)
    assert stored(console) == before


def test_only_owners_see_the_settings(console: Console) -> None:
    for role in ("viewer", "editor"):
        console.sign_in(role)
        console.get(SETTINGS_PAGE, 403)


def test_settings_of_the_service_are_shown_to_operators(console: Console) -> None:
    console.sign_in("owner")
    assert "webhook_allowed_hosts" not in console.get(SETTINGS_PAGE).text
    console.sign_in("owner", None)
    page = visible_text(console.get(SETTINGS_PAGE).text)
    for setting in SETTINGS:
        assert setting.name in page


def test_form_of_before_another_change_reverts_nothing(console: Console) -> None:
    console.sign_in("owner")
    form = find_form(console.get(SETTINGS_PAGE).text, SETTINGS_PAGE)
    console.submit(SETTINGS_PAGE, demographics=None)
    assert not stored(console).demographics
    page = console.post(SETTINGS_PAGE, {**form.values, "lenient": "y"}, 409)
    assert "The settings were changed after you opened this page" in visible_text(page.text)
    assert not stored(console).demographics
    form = find_form(page.text, SETTINGS_PAGE)
    console.post(SETTINGS_PAGE, {**form.values, "lenient": "y"})
    assert (stored(console).demographics, stored(console).lenient) == (False, True)

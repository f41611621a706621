"""A source in a browser: added, synced and changed."""

from __future__ import annotations

import re

import pytest

from tests.console.browser.conftest import District
from tests.e2e.conftest import run_command
from tests.support.console.browser import PHONE, Console, serious_violations
from tests.support.sources.provider import SECRET, run_provider

pytestmark = pytest.mark.slow

TENANT = "synced"
"""Tenant without a roster. In a shared one, the first sync could delete so much that it is held."""


def test_source_is_added_synced_and_changed(console: Console, district: District) -> None:
    run_command(district.folder, "tenant", "create", TENANT)
    page = console.page
    console.open(f"/tenants/{TENANT}")
    page.get_by_role("button", name="Select").click()
    page.wait_for_load_state()
    with run_provider(5) as provider:
        console.open("/sources/new")
        page.get_by_label("Name").fill("sis")
        page.get_by_label("URL", exact=True).fill(provider.url)
        page.get_by_label("Client id").fill("chalk")
        page.get_by_label("Secret").fill(SECRET)
        assert not page.get_by_label("Time of day in UTC").is_visible()
        page.get_by_label("Every day at a time").check()
        page.get_by_label("Time of day in UTC").fill("02:30")
        assert serious_violations(page) == []
        page.get_by_role("button", name="Add source").click()
        page.get_by_text("every day at 02:30 UTC").wait_for()
        page.get_by_text("Sync now").click()
        page.get_by_role("button", name="Sync", exact=True).click()
        page.wait_for_url(re.compile("/imports/run-"))
    page.get_by_text("The package was applied.").wait_for()
    for path in ("/sources/sis/overview", "/sources/sis/edit", "/sources"):
        console.open(path)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert serious_violations(page) == []
        page.set_viewport_size(PHONE)
        assert not console.is_wider_than_window()
    console.open("/sources/sis/edit")
    page.get_by_label("Bearer token").check()
    assert not page.get_by_label("Client id").is_visible()
    page.get_by_label("OAuth 2 client credentials").check()
    page.get_by_label("Only by hand").check()
    page.get_by_role("button", name="Save source").click()
    page.get_by_text("The source is saved.").wait_for()

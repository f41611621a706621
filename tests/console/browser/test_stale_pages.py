"""Pages that are out of date in Chromium: the back button after signing out, double clicks, and two tabs."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.console.browser.conftest import District
from tests.e2e.conftest import run_command
from tests.support.console.browser import DESKTOP, Console, launch_browser_with_page_cache

pytestmark = pytest.mark.slow

TOKEN = re.compile("chk_live_[0-9a-f]{40}")

_numbers = itertools.count(1)


@pytest.fixture
def returning(browser: Browser, district: District) -> Iterator[Console]:
    """Console in a browser with a cache of pages, in which an administrator of its own is signed in."""
    with launch_browser_with_page_cache(browser) as with_page_cache:
        console = Console(with_page_cache.new_context(viewport=DESKTOP).new_page(), district.url)
        name = f"returning-{next(_numbers)}"  # the attempts of each account are limited
        created = run_command(district.folder, "admin", "create", name, "--operator", "--json")
        console.sign_in(name, json.loads(created)["password"])
        yield console


def test_back_button_shows_no_secret_and_no_roster_after_signing_out(returning: Console) -> None:
    page = returning.page
    returning.open("/settings/api-tokens/new")
    page.get_by_label("Label").fill("Shown once")
    page.get_by_role("button", name="Generate token").click()
    page.get_by_text(TOKEN).first.wait_for()
    returning.open("/roster/users")
    row = page.locator("main tbody tr").first.inner_text()
    assert row
    go_back(returning, "Shown once")
    assert not TOKEN.search(page.content())
    returning.open("/roster/users")
    returning.open("/account")
    page.get_by_role("button", name="Sign out").first.click()
    page.get_by_text("You are signed out.").wait_for()
    for _ in range(2):
        go_back(returning, "Password")
        assert row not in page.content()
    assert page.url.startswith(f"{returning.url}/login")


def go_back(console: Console, text: str) -> None:
    """Go back, and wait for a text of the page. A page from the cache has no event "load"."""
    console.page.go_back(wait_until="commit")
    console.page.wait_for_timeout(500)
    console.page.get_by_text(text).first.wait_for()


def test_double_click_has_one_effect(returning: Console, district: District) -> None:
    page = returning.page
    returning.open("/settings/api-tokens/new")
    page.get_by_label("Label").fill("Double click")
    page.get_by_role("button", name="Generate token").dblclick()
    page.get_by_text(TOKEN).first.wait_for()
    assert labels_of_tokens(district).count("Double click") == 1
    returning.open("/webhooks/new")
    page.get_by_label("URL").fill("https://tool.example.org/double-click")
    page.get_by_role("button", name="Create webhook").dblclick()
    page.get_by_text("whsec_").first.wait_for()
    webhooks = json.loads(run_command(district.folder, "webhook", "list", "--json"))["webhooks"]
    assert [webhook["url"] for webhook in webhooks].count("https://tool.example.org/double-click") == 1


def test_forms_of_another_tab_change_nothing_after_a_revocation_and_sign_out(
    returning: Console, district: District
) -> None:
    page = returning.page
    created = json.loads(run_command(district.folder, "token", "create", "--label", "Two tabs", "--json"))
    returning.open(f"/settings/api-tokens/{created['id']}")
    run_command(district.folder, "token", "revoke", created["id"])
    page.get_by_text("Rotate…").first.click()
    page.get_by_role("button", name="Rotate token").click()
    page.get_by_text("is revoked: create another one").first.wait_for()
    assert labels_of_tokens(district).count("Two tabs") == 1
    returning.open("/settings/api-tokens/new")
    page.get_by_label("Label").fill("Second tab")
    other = Console(page.context.new_page(), district.url)
    other.open("/account")
    other.page.get_by_role("button", name="Sign out").first.click()
    other.page.get_by_text("You are signed out.").wait_for()
    page.get_by_role("button", name="Generate token").click()
    page.get_by_label("Password").wait_for()
    assert "Second tab" not in labels_of_tokens(district)


def labels_of_tokens(district: District) -> list[str]:
    tokens = json.loads(run_command(district.folder, "token", "list", "--json"))["tokens"]
    return [token["label"] for token in tokens]

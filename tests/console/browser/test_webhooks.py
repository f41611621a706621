"""A webhook in a browser: created, tested, and its delivery shown."""

from __future__ import annotations

import pytest

from tests.support.console.browser import Console, serious_violations
from tests.support.receiver import respond, run_receiver

pytestmark = pytest.mark.slow


def test_webhook_delivers_a_test_event(console: Console) -> None:
    page = console.page
    with run_receiver(respond()) as receiver:
        console.open("/webhooks/new")
        page.get_by_label("URL").fill(receiver.url)
        page.get_by_role("button", name="Create webhook").click()
        page.get_by_text("whsec_").first.wait_for()
        assert serious_violations(page) == []
        page.get_by_role("button", name="Send test event").click()
        page.wait_for_url("**/deliveries/*")
        _reload_until(console, "Delivered")
    assert receiver.requests
    assert serious_violations(page) == []


def _reload_until(console: Console, text: str) -> None:
    """Reload the page until it contains a text."""
    for _ in range(240):
        if console.page.get_by_text(text, exact=True).count():
            return
        console.page.wait_for_timeout(500)
        console.page.reload()
    raise AssertionError(f"the page never contains {text!r}")

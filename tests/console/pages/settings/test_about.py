"""Page `/about`."""

from __future__ import annotations

import platform

import chalk_flask
from chalk_flask.audit.events import record_event
from tests.support.console.client import Console, visible_text


def test_about_shows_versions_and_the_store(console: Console) -> None:
    console.sign_in("viewer")
    page = visible_text(console.get("/about").text)
    assert f"Chalk Flask {chalk_flask.__version__}" in page
    assert platform.python_version() in page
    assert "memory" in page
    assert "http://localhost/ims/oneroster/v1p1" in page


def test_about_shows_the_last_check(console: Console) -> None:
    console.sign_in("viewer")
    assert "has not been checked" in visible_text(console.get("/about").text)
    for problems, text in ((2, "2 problems"), (0, "No problems")):
        with console.services.store.write("default") as transaction:
            record_event(transaction, "default", "store.checked", problems=problems)
        assert text in visible_text(console.get("/about").text)

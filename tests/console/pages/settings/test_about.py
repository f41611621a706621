"""Page `/about`."""

from __future__ import annotations

import platform

import chalk_flask
from tests.support.console.client import Console, visible_text


def test_about_shows_versions_and_the_store(console: Console) -> None:
    console.sign_in("viewer")
    page = visible_text(console.get("/about").text)
    assert f"Chalk Flask {chalk_flask.__version__}" in page
    assert platform.python_version() in page
    assert "memory" in page
    assert "http://localhost/ims/oneroster/v1p1" in page

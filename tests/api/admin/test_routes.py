"""Table of the routes of the admin API, and the guide that repeats its errors."""

from __future__ import annotations

import re

from chalk_flask.api.admin import ADMIN_ROUTES, IMPORT_ERRORS
from tests.support.paths import ROOT


def test_guide_lists_the_reason_of_each_error() -> None:
    guide = (ROOT / "docs" / "how-to" / "nightly-import.md").read_text(encoding="utf-8")
    rows = {int(status): reason for status, reason in re.findall(r"^\| (4\d\d|5\d\d) \| (.*) \|$", guide, re.MULTILINE)}
    assert rows == dict(IMPORT_ERRORS)


def test_every_reason_belongs_to_a_route() -> None:
    assert {status for route in ADMIN_ROUTES for status in route.errors} == set(IMPORT_ERRORS)

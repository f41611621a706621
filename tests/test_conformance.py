"""What docs/conformance.md says is what the service does, and each of its readings is seen by a test."""

from __future__ import annotations

import re

from chalk_flask.api.routes import ROUTES, WRITES
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
READING = re.compile(r"\b[ACFIJLNOQVW]-[0-9]{2}\b")


def rows() -> list[list[str]]:
    """The cells of every row of every table of the page."""
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:2] == "| "]


def test_the_page_lists_every_operation_as_it_is_routed() -> None:
    listed = [row for row in rows() if row[0].startswith("get")]
    assert listed == [
        [
            route.operation,
            f"GET {route.path}",
            route.resource_type.name if route.is_collection else route.resource_type.singular_name,
            route.scope.rpartition("/")[2],
        ]
        for route in ROUTES
    ]
    listed = [row for row in rows() if row[0].startswith(("put", "delete"))]
    assert listed == [
        [
            write.operation,
            f"{write.method} {write.path}",
            write.resource_type.singular_name if write.method == "PUT" else "none",
            write.scope.rpartition("/")[2],
        ]
        for write in WRITES
    ]


def test_every_reading_says_question_decision_and_reason_once() -> None:
    readings = [row for row in rows() if READING.fullmatch(row[0])]
    assert len({row[0] for row in readings}) == len(readings)
    assert all(len(row) == 4 and all(row) for row in readings)


def test_every_reading_is_named_by_a_test_and_every_named_one_is_on_the_page() -> None:
    listed = {row[0] for row in rows() if READING.fullmatch(row[0])}
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")]
    assert listed == {reading for source in sources for reading in READING.findall(source)}

"""Documentation of conformance: operations are listed, and a test proves each interpretation."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from chalk_flask.api.routes import READ_ROUTES, WRITE_ROUTES
from tests.support.paths import ROOT

API_PAGE = ROOT / "docs" / "reference" / "api.md"
CONFORMANCE_PAGES = sorted((ROOT / "docs" / "conformance").glob("*.md"))

INTERPRETATION_ID = re.compile(r"\b[ACFIJLNOQVW]-[0-9]{2}\b")


def table_rows(pages: Iterable[Path]) -> list[list[str]]:
    """Return the cells of every table row of these pages."""
    lines = [line for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]


def test_api_page_lists_every_operation() -> None:
    reads = [
        [
            route.operation,
            f"GET {route.path}",
            route.resource_type.name if route.is_collection else route.resource_type.singular_name,
            route.scope.rpartition("/")[2],
        ]
        for route in READ_ROUTES
    ]
    writes = [
        [
            route.operation,
            f"{route.method} {route.path}",
            route.resource_type.singular_name if route.method == "PUT" else "none",
            route.scope.rpartition("/")[2],
        ]
        for route in WRITE_ROUTES
    ]
    rows = [row for row in table_rows([API_PAGE]) if row[0].startswith(("get", "put", "delete"))]
    assert [row for row in rows if "/api/admin/" not in row[1]] == [*reads, *writes]


def test_interpretations_have_question_decision_and_reason() -> None:
    rows = [row for row in table_rows(CONFORMANCE_PAGES) if INTERPRETATION_ID.fullmatch(row[0])]
    assert len({row[0] for row in rows}) == len(rows)
    assert all(len(row) == 4 and all(row) for row in rows)


def test_every_interpretation_is_proven_by_a_test() -> None:
    listed = {row[0] for row in table_rows(CONFORMANCE_PAGES) if INTERPRETATION_ID.fullmatch(row[0])}
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")]
    assert listed == {name for source in sources for name in INTERPRETATION_ID.findall(source)}

"""Fixtures and helpers for tests of gradebook writes."""

from __future__ import annotations

from typing import Any

import pytest

from backends import Backend, Transaction
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.permissions.policy import UNRESTRICTED
from chalk_flask.roster.gradebook import GradeTool, WriteResult, writes
from tests.roster.conftest import Load, objects
from tests.support.packages import PackageBuilder

ITEM = {
    "title": "Sheet 2",
    "assignDate": "2026-09-01",
    "dueDate": "2026-09-08",
    "class": {"sourcedId": "class-1"},
    "category": {"sourcedId": "cat-1"},
    "gradingPeriod": {"sourcedId": "period-1"},
    "resultValueMin": 0,
    "resultValueMax": 10.5,
}
RESULT = {
    "lineItem": {"sourcedId": "item-1"},
    "student": {"sourcedId": "pupil-1"},
    "scoreStatus": "fully graded",
    "score": 9.25,
    "scoreDate": "2026-09-09",
}
PAYLOADS: dict[str, dict[str, Any]] = {"lineItems": ITEM, "results": RESULT, "categories": {"title": "x"}}
ITEM_WITHOUT_DEFAULTS = {name: value for name, value in ITEM.items() if name not in ("category", "gradingPeriod")}


all_visible = GradeTool(UNRESTRICTED, "token:test")
"""Grade tool without restrictions."""


def no_callback(_: Transaction) -> None:
    pass


def put(store: Backend, name: str, key: str, payload: dict[str, Any], tool: GradeTool = all_visible) -> WriteResult:
    return writes.put(store, "default", FILES[name], key, payload, tool, no_callback)


def delete(store: Backend, name: str, key: str, tool: GradeTool = all_visible) -> None:
    writes.delete(store, "default", FILES[name], key, tool, no_callback)


def get(store: Backend, name: str, key: str) -> dict[str, Any]:
    return objects(store, name)[key]


def note_keys(store: Backend) -> set[str]:
    with store.read("default") as snapshot:
        return set(snapshot.keys("origins"))


@pytest.fixture
def roster(store: Backend, load: Load) -> Backend:
    """Store with the small roster."""
    load(store, PackageBuilder())
    return store

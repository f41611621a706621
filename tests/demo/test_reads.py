"""Demo district: members for every read of the API."""

from __future__ import annotations

import json
import re

import pytest

from tests.demo.csv_packages import (
    OPERATIONS,
    Package,
)
from tests.demo.reads import MEMBERS_BY_PATH, NON_EMPTY_PARENTS


def get_paths() -> list[str]:
    """Return the collections among the GET operations, and the extension of the gradebook."""
    operations = json.loads(OPERATIONS.read_text(encoding="utf-8"))["operations"]
    gets = [o["path"] for o in operations if o["method"] == "GET"]
    assert len(gets) == 55
    # A single record, /orgs/{id}, exists if its collection has members.
    return sorted({re.sub(r"^(/\w+)/\{id\}$", r"\1", path) for path in gets} | {"/classes/{class_id}/categories"})


@pytest.mark.parametrize("path", get_paths())
def test_demo_has_members_for_every_read(path: str, demo: Package) -> None:
    assert list(MEMBERS_BY_PATH[path](demo)), path


@pytest.mark.parametrize(
    ("parents", "path"), [(kind, path) for kind, paths in NON_EMPTY_PARENTS.items() for path in paths]
)
def test_demo_has_members_below_every_parent(parents: str, path: str, demo: Package) -> None:
    expected = {row[0] for row in MEMBERS_BY_PATH[parents](demo)}
    assert {row[0] for row in MEMBERS_BY_PATH[path](demo)} >= expected
    assert len(expected) > 1

"""Fixtures and helpers for tests that import packages into a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import pytest

from backends import Backend, open_store
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.imports import ImportOptions, import_package
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.roster.imports.thresholds import DISABLED
from chalk_flask.storage import COLLECTIONS
from tests.support.packages import PackageBuilder

Load: TypeAlias = Callable[..., ImportReport]

UNLIMITED = ImportOptions(thresholds=DISABLED)
"""Options without thresholds: the small package has few records, so a test deletes more than half of a file easily."""


@pytest.fixture
def store(storage: str) -> Iterator[Backend]:
    """Open store on `backend`."""
    with open_store(storage, COLLECTIONS) as opened:
        yield opened


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Function that imports a package and asserts the state of the report."""

    def import_and_check(
        store: Backend,
        package: PackageBuilder | Path,
        state: str = "committed",
        options: ImportOptions | None = None,
        **more: Any,
    ) -> ImportReport:
        path = package if isinstance(package, Path) else package.folder(tmp_path / "package")
        report = import_package(store, "default", path, options or UNLIMITED, **more)
        assert report.state == state, report.to_text()
        return report

    return import_and_check


def bodies(store: Backend) -> dict[str, dict[str, bytes]]:
    """Return the body of every record, tombstones included, by collection and id."""
    with store.read("default") as snapshot:
        return {name: snapshot.get_many(name, list(snapshot.keys(name))) for name in FILES}


def objects(store: Backend, name: str) -> dict[str, dict[str, Any]]:
    """Return the records of a collection by id."""
    return {key: orjson.loads(body) for key, body in bodies(store)[name].items()}


def changed_ids(before: dict[str, dict[str, bytes]], after: dict[str, dict[str, bytes]]) -> set[str]:
    """Return the ids of the records that were added, removed or changed."""
    return {
        key
        for name in FILES
        for key in before[name].keys() | after[name].keys()
        if before[name].get(key) != after[name].get(key)
    }


def rejection_errors(store: Backend, tmp_path: Path, package: PackageBuilder) -> list[dict[str, Any]]:
    """Return the errors of a package that must be rejected and change nothing."""
    before = bodies(store)
    report = import_package(store, "default", package.folder(tmp_path / "rejected"), UNLIMITED)
    assert report.state == "refused"
    assert bodies(store) == before
    errors: list[dict[str, Any]] = report.to_dict()["errors"]
    return errors


def referenced_ids(references: list[dict[str, str]]) -> list[str]:
    """Return the ids in a list of references."""
    return [reference["sourcedId"] for reference in references]


def timestamp_of(body: bytes) -> str:
    """Return the `dateLastModified` of a stored body."""
    timestamp: str = orjson.loads(body)["dateLastModified"]
    return timestamp

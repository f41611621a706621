"""Stores and imports for tests of what happens to a roster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import pytest

from backends import Backend, open_store
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.imports.importer import ImportOptions, import_package
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.storage import COLLECTIONS
from tests.support.packages import Made

Load: TypeAlias = Callable[..., ImportReport]


@pytest.fixture
def store(storage: str) -> Iterator[Backend]:
    """A new store, once for every backend."""
    with open_store(storage, COLLECTIONS) as opened:
        yield opened


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Imports a package into a store and demands that it is not refused."""

    def loaded(
        store: Backend,
        package: Made | Path,
        state: str = "committed",
        options: ImportOptions | None = None,
        **more: Any,
    ) -> ImportReport:
        path = package if isinstance(package, Path) else package.folder(tmp_path / "package")
        report = import_package(store, "default", path, options or ImportOptions(), **more)
        assert report.state == state, report.to_text()
        return report

    return loaded


def bodies(store: Backend) -> dict[str, dict[str, bytes]]:
    """Every record of every file, deleted ones too, by collection and id."""
    with store.read("default") as snapshot:
        return {name: snapshot.get_many(name, list(snapshot.keys(name))) for name in FILES}


def objects(store: Backend, name: str) -> dict[str, dict[str, Any]]:
    """The records of a collection by id, as they would be read by a client."""
    return {key: orjson.loads(body) for key, body in bodies(store)[name].items()}


def moved(before: dict[str, dict[str, bytes]], after: dict[str, dict[str, bytes]]) -> set[str]:
    """The ids of all records that are new, gone or other than they were."""
    return {
        key
        for name in FILES
        for key in before[name].keys() | after[name].keys()
        if before[name].get(key) != after[name].get(key)
    }


def ids(references: list[dict[str, str]]) -> list[str]:
    """What a list of references refers to."""
    return [reference["sourcedId"] for reference in references]

"""Imports of packages with deviating cells into an empty store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import Backend, open_store
from chalk_flask.roster.imports import ImportOptions, ImportReport, import_package
from chalk_flask.roster.imports.thresholds import DISABLED
from chalk_flask.storage import COLLECTIONS
from tests.support.packages import PackageBuilder

DEFAULT = ImportOptions(thresholds=DISABLED)


@pytest.fixture
def store() -> Iterator[Backend]:
    """Empty store in memory."""
    with open_store("memory:", COLLECTIONS) as opened:
        yield opened


def load(store: Backend, package: PackageBuilder, folder: Path, options: ImportOptions = DEFAULT) -> ImportReport:
    """Import a package; `folder` is for its files."""
    return import_package(store, "default", package.folder(folder / "package"), options)

"""Validation of a package without a store: the same checks as an import."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from backends import OnProgress, open_store
from chalk_flask.roster.imports.importer import import_package
from chalk_flask.roster.imports.options import ImportOptions
from chalk_flask.roster.imports.report import ImportReport
from chalk_flask.roster.imports.thresholds import DISABLED
from chalk_flask.storage import COLLECTIONS

__all__ = ["validate_package"]


def validate_package(
    path: Path, options: ImportOptions, on_progress: OnProgress | None = None, name: str = ""
) -> ImportReport:
    """Check a package as an import into an empty store does, and return the report of this dry run.

    References to files that the package does not have in full are not checked, because their targets may be stored
    already. There are no change thresholds. `name` in the report defaults to the last name of the path.
    """
    standalone = replace(
        options, reading=replace(options.reading, is_standalone=True), thresholds=DISABLED, folder=None
    )
    with open_store("memory:", COLLECTIONS) as store:
        return import_package(
            store,
            "default",
            path,
            standalone,
            dry_run=True,
            on_progress=on_progress,
            name=name or path.name or path.resolve().name,
        )

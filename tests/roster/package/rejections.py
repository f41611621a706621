"""Stores with the small roster, and the proof that a rejected package leaves them unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

from click.testing import CliRunner

from backends import Backend, open_store
from chalk_flask.cli import main
from chalk_flask.roster.imports import ImportOptions, import_package
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.storage import COLLECTIONS
from tests.conftest import url_in
from tests.support.packages import PackageBuilder

Report: TypeAlias = dict[str, Any]

ProblemPlace: TypeAlias = tuple[str, str | None, int | None, str | None, str | None]
"""Code, file, row, column and value of a problem."""

PROBLEM_MEMBERS = ["code", "message", "remedy", "file", "row", "column", "value"]


class FilledStore:
    """Store in memory with the small roster in it."""

    def __init__(self, store: Backend) -> None:
        self._store = store
        self._revision = self._current_revision()

    def reject(self, path: Path, options: ImportOptions | None = None) -> Report:
        """Import a package that must be rejected without a write. Return the JSON report."""
        report = import_package(self._store, "default", path, options or ImportOptions()).to_dict()
        check_rejection(report)
        assert self._current_revision() == self._revision
        return report

    def _current_revision(self) -> int:
        with self._store.read("default") as snapshot:
            return snapshot.revision


@contextmanager
def filled_store(folder: Path) -> Iterator[FilledStore]:
    """Yield a store with the small roster; `folder` is for the package."""
    with open_store("memory:", COLLECTIONS) as store:
        import_package(store, "default", PackageBuilder().folder(folder / "small"), ImportOptions())
        yield FilledStore(store)


class FilledDiskStore:
    """Store on disk with the small roster in it, for commands."""

    def __init__(self, folder: Path, backend: str) -> None:
        self.url = url_in(folder / "store", backend)
        self._folder = folder / "store"
        self._folder.mkdir(parents=True)
        with open_store(self.url, COLLECTIONS) as store:
            import_package(store, "default", PackageBuilder().folder(folder / "small"), ImportOptions())
        self._digest = self._current_digest()
        self._hashes = self._current_hashes()

    def reject(self, path: Path, *options: str) -> Report:
        """Run `import --json` with a package that must be rejected, and leave every byte as it is."""
        words = ["import", str(path), "--storage", self.url, "--data", f"{self._folder}-data", "--json", *options]
        result = CliRunner().invoke(main, words, prog_name="chalk-flask")
        assert isinstance(result.exception, SystemExit), result.exception
        assert (result.exit_code, result.stderr) == (1, ""), result.output
        report: Report = json.loads(result.stdout)
        check_rejection(report)
        assert self._current_hashes() == self._hashes
        assert self._current_digest() == self._digest
        return report

    def _current_digest(self) -> str:
        with open_store(self.url, COLLECTIONS) as store:
            return check_store(store).state_digest

    def _current_hashes(self) -> dict[str, str]:
        """Return the hash of each file, except locks and the files that SQLite creates for its readers."""
        return {
            str(path.relative_to(self._folder)): sha256(path.read_bytes()).hexdigest()
            for path in self._folder.rglob("*")
            if path.is_file() and not path.name.endswith(("-wal", "-shm", ".lock"))
        }


def check_rejection(report: Report) -> None:
    """Assert that the report has the form of a rejection."""
    assert (report["state"], report["dateLastModified"]) == ("refused", None)
    assert report["errorCount"] == sum(entry["count"] for entry in report["errorCounts"]) >= 1
    for problem in report["errors"]:
        assert list(problem) == PROBLEM_MEMBERS
        assert problem["message"]
        assert problem["remedy"]


def problem_places(report: Report) -> list[ProblemPlace]:
    """Return code, file, row, column and value of each error."""
    return [
        (problem["code"], problem["file"], problem["row"], problem["column"], problem["value"])
        for problem in report["errors"]
    ]


def codes_by_file(report: Report) -> set[tuple[str, str | None]]:
    """Return code and file of each error."""
    return {(problem["code"], problem["file"]) for problem in report["errors"]}

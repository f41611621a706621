"""Stores that hold a roster, and the proof that a refused package left every byte of them alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

from click.testing import CliRunner

from backends import open_store
from chalk_flask.cli import main
from chalk_flask.roster.imports.importer import ImportOptions, import_package
from chalk_flask.roster.verify.checker import check_store
from chalk_flask.storage import COLLECTIONS
from tests.conftest import url_in
from tests.support.packages import Made

Problem: TypeAlias = dict[str, Any]

MEMBERS = ["code", "message", "remedy", "file", "row", "column", "value"]


class Filled:
    """A store on disk with the small roster in it."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self.url = url_in(folder, kind)
        folder.mkdir(parents=True)
        with open_store(self.url, COLLECTIONS) as store:
            import_package(store, "default", Made().folder(folder.parent / f"package-{kind}"), ImportOptions())
        self.state = self._state()
        self.hashes = self._hashes()

    def refuse(self, path: Path, *options: str) -> dict[str, Any]:
        """The report of an import by the command line that must be refused and change nothing."""
        words = ["import", str(path), "--storage", self.url, "--data", f"{self.folder}-data", "--json", *options]
        result = CliRunner().invoke(main, words, prog_name="chalk-flask")
        assert isinstance(result.exception, SystemExit), result.exception
        assert (result.exit_code, result.stderr) == (1, ""), result.output
        report: dict[str, Any] = json.loads(result.stdout)
        assert (report["state"], report["dateLastModified"], report["files"]) == ("refused", None, report["files"])
        assert report["errorCount"] == sum(each["count"] for each in report["errorCounts"]) >= 1
        for problem in report["errors"]:
            assert list(problem) == MEMBERS
            assert problem["message"]
            assert problem["remedy"]
        assert self._hashes() == self.hashes
        assert self._state() == self.state
        return report

    def _state(self) -> str:
        with open_store(self.url, COLLECTIONS) as store:
            return check_store(store).state

    def _hashes(self) -> Mapping[str, str]:
        """The hash of every file, but for those that SQLite makes for its readers and the locks."""
        return {
            str(path.relative_to(self.folder)): sha256(path.read_bytes()).hexdigest()
            for path in self.folder.rglob("*")
            if path.is_file() and not path.name.endswith(("-wal", "-shm", ".lock"))
        }


def places(report: dict[str, Any]) -> list[tuple[str, str | None, int | None, str | None, str | None]]:
    """Code, file, row, column and value of every problem."""
    return [(each["code"], each["file"], each["row"], each["column"], each["value"]) for each in report["errors"]]

"""Log events of imports: one for each outcome, without cells and file names."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from backends import Backend
from chalk_flask.roster.tenant_imports import ImportChoices, approve_import, discard_import, run_import
from chalk_flask.settings import Settings
from tests.support.packages import PackageBuilder, package_with_users


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=str(tmp_path / "data"))


def events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, dict[str, Any]]]:
    """Return name, level and members of each logged event."""
    return [
        (record.__dict__["event"], record.levelno, record.__dict__["members"])
        for record in caplog.records
        if hasattr(record, "event")
    ]


def test_each_outcome_is_logged(
    store: Backend, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def run(package: PackageBuilder, **parameters: Any) -> str:
        path = package.zip(tmp_path / "canary.zip")
        report = run_import(store, settings, path, "default", ImportChoices(), requested_by="canary", **parameters)
        return report.run

    runs = [run(package_with_users(60)), run(package_with_users(60)), run(package_with_users(60), dry_run=True)]
    held = [run(package_with_users(10)), run(package_with_users(20))]
    approve_import(store, settings, "default", held[1], requested_by="canary")
    discard_import(store, settings, "default", held[0], requested_by="canary")
    runs.append(run(PackageBuilder().set("users", "pupil-1", role="canary")))
    found = events(caplog)
    assert [(name, level) for name, level, _ in found] == [
        ("import.committed", logging.INFO),
        ("import.unchanged", logging.INFO),
        ("import.checked", logging.INFO),
        ("import.held", logging.WARNING),
        ("import.held", logging.WARNING),
        ("import.committed", logging.INFO),
        ("import.discarded", logging.INFO),
        ("import.rejected", logging.WARNING),
    ]
    assert [members["run"] for _, _, members in found] == [*runs[:3], *held, held[1], held[0], runs[3]]
    assert found[0][2]["created"] >= 60
    assert found[3][2]["files"] == ["users"]
    assert found[7][2]["problems"] >= 1
    assert "canary" not in caplog.text + str(found)

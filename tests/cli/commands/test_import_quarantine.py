"""Options `--invalid-rows`, `--strict` and `--csv` of `import`, and quarantined rows in `imports show`."""

from __future__ import annotations

import csv
import stat
from pathlib import Path

import pytest

from tests.cli.conftest import RunCommand
from tests.support.packages import PackageBuilder


def damaged_package() -> PackageBuilder:
    return (
        PackageBuilder()
        .set("users", "pupil-1", agentSourcedIds="", role="pilot")
        .set("users", "parent-1", agentSourcedIds="")
    )


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def test_import_quarantines_and_shows_the_rows(run: RunCommand, tmp_path: Path) -> None:
    path = damaged_package().zip(tmp_path / "package.zip")
    assert run("import", path).code == 1
    result = run("import", path, "--invalid-rows", "quarantine", "--json", "--csv", "rows.csv")
    assert (result.code, result.json["state"]) == (0, "committed")
    assert result.json["quarantined"] == {"users": 1, "demographics": 1, "enrollments": 1, "results": 1}
    first = rows_of(tmp_path / "rows.csv")[0]
    assert (first["file"], first["row"], first["value"]) == ("users.csv", "2", "pilot")
    assert stat.S_IMODE((tmp_path / "rows.csv").stat().st_mode) == 0o600
    shown = run("imports", "show", result.json["run"], "--csv", "shown.csv")
    assert (
        "Quarantined rows: 1 of users.csv, 1 of demographics.csv, 1 of enrollments.csv, 1 of results.csv." in shown.out
    )
    assert "users.csv, row 2, column role:" in shown.out
    assert "pilot" not in shown.out + (tmp_path / "shown.csv").read_text(encoding="utf-8")
    assert [(row["file"], row["row"], row["column"]) for row in rows_of(tmp_path / "shown.csv")] == [
        ("users.csv", "2", "role"),
        ("demographics.csv", "2", "sourcedId"),
        ("enrollments.csv", "2", "userSourcedId"),
        ("results.csv", "2", "studentSourcedId"),
    ]
    assert stat.S_IMODE((tmp_path / "shown.csv").stat().st_mode) == 0o600
    assert run("check").code == 0


@pytest.mark.usefixtures("empty_store")
def test_quarantine_is_a_setting_of_the_tenant(run: RunCommand, tmp_path: Path) -> None:
    path = damaged_package().zip(tmp_path / "package.zip")
    changed = run("tenant", "set", "default", "--invalid-rows", "quarantine", "--max-quarantined", "5%,3", "--json")
    assert (changed.json["invalidRows"], changed.json["maxQuarantined"]) == ("quarantine", "5%,3")
    text = run("tenant", "show", "default").out
    assert "invalid rows     quarantine" in text
    assert "max quarantined  5%,3" in text
    assert run("import", path, "--invalid-rows", "reject").code == 1
    assert run("import", path, "--dry-run").code == 0
    assert run("import", path).code == 0
    run("tenant", "set", "default", "--max-quarantined", "1%,0")
    held = run("import", PackageBuilder().set("users", "pupil-2", role="pilot").zip(tmp_path / "more.zip"))
    assert held.code == 3
    assert "users: 1 of 4 rows are quarantined (threshold: 1 % and 0 rows)" in held.err


def test_strict_import_rejects_references_to_the_wrong_type(run: RunCommand, tmp_path: Path) -> None:
    path = PackageBuilder().set("classes", "class-2", schoolSourcedId="org-1").zip(tmp_path / "package.zip")
    strict = run("import", path, "--strict", "--json")
    assert (strict.code, strict.json["errors"][0]["code"]) == (1, "not_a_school")
    result = run("import", path)
    assert result.code == 0
    assert "warning: classes.csv, row 3, column schoolSourcedId: refers to an org that is not a school" in result.err


@pytest.mark.usefixtures("empty_store")
def test_csv_file_that_cannot_be_written_changes_nothing(run: RunCommand, tmp_path: Path) -> None:
    path = damaged_package().zip(tmp_path / "package.zip")
    result = run("import", path, "--invalid-rows", "quarantine", "--csv", "missing/rows.csv")
    assert (result.code, "missing" in result.err) == (1, True)
    assert run("check", "--json").json["counts"] == {}

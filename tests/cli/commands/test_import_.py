"""Command `import`."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import ENVIRON, SAMPLE, RunCommand, StartCommand, stop_process
from tests.support.deliveries import wait_until
from tests.support.packages import PackageBuilder, package_with_users


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLE, tmp_path / "package"))


def test_second_import_of_a_package_changes_nothing(run: RunCommand, package: Path) -> None:
    first, second = run("import", package, "--json"), run("import", package, "--json")
    assert (first.code, first.json["state"]) == (0, "committed")
    assert (second.code, second.json["state"]) == (0, "unchanged")
    assert first.err == ""


def test_every_import_has_a_unique_run_id(run: RunCommand, package: Path) -> None:
    runs = [run("import", package, "--json", *options).json["run"] for options in ([], [], ["--dry-run"])]
    assert len(set(runs)) == 3
    assert all(re.fullmatch(r"run-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", run_id) for run_id in runs)


def test_report_is_text_without_json(run: RunCommand, package: Path) -> None:
    result = run("import", package)
    assert result.code == 0
    assert "users" in result.out


def test_rejected_package_exits_with_1_and_prints_the_report(run: RunCommand, package: Path) -> None:
    run("import", package)
    before = run("check", "--json").json
    (package / "users.csv").write_text("nonsense\n")
    result = run("import", package, "--json")
    assert (result.code, result.json["state"]) == (1, "refused")
    assert result.json["errors"][0]["file"] == "users.csv"
    assert run("check", "--json").json == before


def test_dry_run_reports_changes_and_creates_no_store(run: RunCommand, package: Path, tmp_path: Path) -> None:
    result = run("import", package, "--dry-run", "--json")
    assert (result.code, result.json["state"]) == (0, "checked")
    assert result.json["files"]["users"]["created"] > 0
    assert not list(tmp_path.glob("chalk.db*"))


def test_dry_run_and_import_report_the_same_changes(run: RunCommand, package: Path) -> None:
    run("import", package)
    users, results = package / "users.csv", package / "results.csv"
    users.write_text(users.read_text(encoding="utf-8").replace("@", "@new."), encoding="utf-8")
    results.write_text("".join(results.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    before = run("check", "--json").json
    checked = run("import", package, "--dry-run", "--json").json
    assert run("check", "--json").json == before
    committed = run("import", package, "--json").json
    assert (checked["state"], checked["dryRun"], checked["dateLastModified"]) == ("checked", True, None)
    assert (committed["state"], committed["dryRun"]) == ("committed", False)
    assert checked["files"] == committed["files"]
    assert checked["total"] == committed["total"]
    assert committed["total"]["deleted"] == 1
    assert committed["total"]["updated"] > 1


@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=["import", "dry run"])
def test_rejected_first_import_creates_no_store(run: RunCommand, tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "package.zip").write_bytes(b"no ZIP")
    result = run("import", "package.zip", "--json", *options)
    assert (result.code, result.json["state"]) == (1, "refused")
    # The folder `data` contains the report of the rejected import. A dry run writes nothing.
    assert {path.name for path in tmp_path.iterdir()} == {"package.zip", *([] if options else ["chalk-data"])}


def test_store_that_cannot_be_created_is_reported(run: RunCommand, package: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    result = run("import", package, "--storage", "sqlite:///file/chalk.db", "--json")
    assert (result.code, result.json["error"]) == (1, "storage_failed")


def test_archive_limits_are_options(run: RunCommand, package: Path) -> None:
    result = run("import", package, "--import-max-entries", "3", "--json")
    assert (result.code, result.json["state"]) == (1, "refused")


def test_unknown_tenant_is_rejected(run: RunCommand, package: Path, tmp_path: Path) -> None:
    result = run("import", package, "--tenant", "north", "--json")
    assert (result.code, result.json["error"]) == (1, "refused")
    assert not list(tmp_path.glob("chalk.db*"))


@pytest.mark.slow
def test_import_prints_progress_on_stderr_and_report_on_stdout(package: Path, tmp_path: Path) -> None:
    terminal, child_terminal = pty.openpty()
    command = [sys.executable, "-m", "chalk_flask", "import", str(package), "--json"]
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRON, stdout=subprocess.PIPE, stderr=child_terminal) as process:
        os.close(child_terminal)
        progress = b"".join(iter(lambda: read_terminal(terminal), b""))
        report = process.communicate()[0]
    os.close(terminal)
    assert json.loads(report)["state"] == "committed"
    assert b"writing users" in progress
    assert progress.endswith(b"\x1b[2K")


def read_terminal(terminal: int) -> bytes:
    """Return the next bytes, or none if the process has closed its end."""
    try:
        return os.read(terminal, 1 << 16)
    except OSError:
        return b""


def test_report_goes_to_stdout_and_problems_to_stderr(run: RunCommand, tmp_path: Path) -> None:
    applied = run("import", package_with_users(200).set("users", "pupil-1", phone="#REF!").zip(tmp_path / "all.zip"))
    assert (applied.code, "all.zip: Imported." in applied.out) == (0, True)
    assert "#REF!" in applied.err
    assert "#REF!" not in applied.out
    held = run("import", package_with_users(150).zip(tmp_path / "some.zip"))
    assert (held.code, "some.zip: Held for approval" in held.err) == (3, True)
    assert held.out.split()[:2] == ["rows", "created"]
    rejected = run("import", PackageBuilder().set("users", "pupil-1", role="").zip(tmp_path / "bad.zip"))
    assert (rejected.code, rejected.out) == (1, "")
    assert rejected.err.startswith("bad.zip: Rejected")


def test_quiet_import_prints_only_problems(run: RunCommand, tmp_path: Path) -> None:
    first = run("import", package_with_users(200).zip(tmp_path / "all.zip"), "--quiet")
    assert (first.code, first.out, first.err) == (0, "", "")
    held = run("import", package_with_users(150).zip(tmp_path / "some.zip"), "--quiet")
    assert (held.code, held.out) == (3, "")
    assert "users: would delete 50 of 200" in held.err
    assert "imports approve" in held.err
    warned = package_with_users(200).set("users", "pupil-1", phone="#REF!").zip(tmp_path / "odd.zip")
    assert run("import", warned, "--quiet").err.startswith("odd.zip: Imported.\n")
    assert run("import", warned, "--quiet", "--json").code == 2


def test_package_can_come_from_standard_input(run: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    package = package_with_users(3).zip(tmp_path / "all.zip")
    report = run("import", "-", "--json", stdin=package.read_bytes()).json
    assert (report["state"], report["package"]) == ("committed", "stdin")
    assert run("import", package, "--json").json["earlier"] == report["run"]
    cut_off = run("import", "-", stdin=package.read_bytes()[:-40])
    assert (cut_off.code, "the end of the ZIP file 'stdin' is missing" in cut_off.err) == (1, True)
    empty = run("import", "-", stdin=b"")
    assert (empty.code, "stdin is empty: check the program that writes to the pipe" in empty.err) == (1, True)
    assert run("imports", "list", "--json").json["imports"][-1]["state"] == "refused"
    large = run("import", "-", "--upload-max-mb", "1", stdin=bytes((1 << 20) + 1))
    assert (large.code, "larger than 1 MiB" in large.err) == (1, True)
    assert not list(temporary.iterdir())


def test_terminated_import_deletes_its_temporary_file(start: StartCommand, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with start("import", "-", stdin=reader, env={"TMPDIR": str(tmp_path)}) as process:
        os.write(writer, b"PK")
        wait_until(lambda: list(tmp_path.glob("chalk-flask-*/.upload-*")))
        assert stop_process(process) == 143
        os.close(writer)
    assert not list(tmp_path.glob("chalk-flask-*"))
    os.close(reader)

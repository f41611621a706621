"""Commands `imports`: list, show, approve and discard import runs, and the change thresholds of tenants."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path

import pytest

from backends import open_store
from chalk_flask.jobs import JobStore
from chalk_flask.jobs.execution import execute
from chalk_flask.settings import load_settings
from chalk_flask.settings.data_folder import STORE_ID_FILE
from chalk_flask.storage import COLLECTIONS
from tests.cli.conftest import CommandResult, RunCommand
from tests.support.packages import PackageBuilder, package_with_users
from tests.support.paths import ROOT


@pytest.fixture(params=["sqlite:///chalk.db", "json:///chalk"])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, run: RunCommand) -> str:
    # `run` removes CHALK_ variables, so it comes first.
    monkeypatch.setenv("CHALK_STORAGE", request.param)
    return str(request.param)


def hold_import(run: RunCommand, folder: Path, *args: str) -> CommandResult:
    assert run("import", package_with_users(200).zip(folder / "all.zip"), *args).code == 0
    result = run("import", package_with_users(150).zip(folder / "some.zip"), "--json", *args)
    assert (result.code, result.json["state"]) == (3, "held")
    return result


def states(run: RunCommand, *args: str) -> list[str]:
    return [entry["state"] for entry in run("imports", "list", "--json", *args).json["imports"]]


def held_packages(folder: Path) -> list[Path]:
    return list((folder / "chalk-data").rglob("*.zip"))


@pytest.mark.usefixtures("url")
def test_approve_applies_a_held_import_once(run: RunCommand, tmp_path: Path) -> None:
    report = hold_import(run, tmp_path).json
    before = run("check", "--json").json
    [exceeded] = report["brake"]
    assert (exceeded["file"], exceeded["what"], exceeded["count"], exceeded["stored"]) == ("users", "deleted", 50, 200)
    assert states(run) == ["committed", "held"]
    shown = run("imports", "show", report["run"], "--json").json
    assert {**report, "seconds": 0, "errors": []} == {
        **{name: shown[name] for name in report},
        "seconds": 0,
        "errors": [],
    }
    assert run("check", "--json").json == before

    approved = run("imports", "approve", report["run"], "--json")
    assert (approved.code, approved.json["state"], approved.json["total"]["deleted"]) == (0, "committed", 50)
    assert run("check", "--json").json["counts"]["users"] == 150
    assert states(run) == ["committed", "committed"]
    assert held_packages(tmp_path) == []
    again = run("imports", "approve", report["run"], "--json")
    assert (again.code, again.json["error"]) == (1, "refused")
    shown = run("imports", "show", report["run"], "--json").json
    assert (shown["state"], shown["settledBy"]) == ("committed", shown["who"])
    assert shown["brake"] == report["brake"]


def test_discard_deletes_the_held_package(run: RunCommand, tmp_path: Path) -> None:
    report = hold_import(run, tmp_path).json
    assert run("imports", "discard", report["run"], "--json").json["state"] == "discarded"
    assert held_packages(tmp_path) == []
    assert states(run) == ["committed", "discarded"]
    assert run("imports", "approve", report["run"]).code == 1
    assert "it is discarded" in run("imports", "discard", report["run"]).err


def test_list_counts_only_what_was_applied(run: RunCommand, tmp_path: Path) -> None:
    held = hold_import(run, tmp_path).json["run"]
    listed = run("imports", "list")
    assert listed.code == 0, listed.err
    out = listed.out
    rows = {row.split()[0]: row.split() for row in out.splitlines()[1:]}
    assert rows[held][2] == "held"
    assert rows[held][4:9] == ["-"] * 5
    [applied] = [row for row in rows.values() if row[2] == "committed"]
    assert int(applied[4].replace(",", "")) > 200


def test_run_is_found_by_the_beginning_of_its_id_or_as_the_latest(run: RunCommand, tmp_path: Path) -> None:
    held = hold_import(run, tmp_path).json["run"]
    assert run("imports", "show", held[:12], "--json").json["run"] == held
    assert run("imports", "show", "latest", "--json").json["run"] == held
    ambiguous = run("imports", "show", "run-")
    assert (ambiguous.code, "2 imports begin with 'run-'" in ambiguous.err) == (1, True)
    assert run("imports", "approve", "latest", "--json").json["run"] == held
    assert "there is no such import" in run("imports", "discard", "latest").err


@pytest.mark.usefixtures("empty_store")
def test_text_output_explains_the_hold_and_how_to_approve(run: RunCommand, tmp_path: Path) -> None:
    run("tenant", "create", "north")
    run("import", package_with_users(200).zip(tmp_path / "all.zip"), "--tenant", "north")
    out = run("import", package_with_users(150).zip(tmp_path / "some.zip"), "--tenant", "north").err
    assert "users: would delete 50 of 200 stored records (threshold: 10 % and 10 records)" in out
    [command] = [line.split() for line in out.splitlines() if "imports approve" in line]
    listed = run("imports", "list", "--tenant", "north").out
    assert listed.splitlines()[0].split()[:3] == ["RUN", "STARTED", "STATE"]
    assert "some.zip" in listed
    shown = run("imports", "show", *command[3:]).out
    assert "some.zip: Held for approval: nothing was changed." in shown
    approved = run(*command[1:])
    assert (approved.code, "some.zip: Imported." in approved.out) == (0, True)
    assert "There were no imports" in run("imports", "list").out


@pytest.mark.usefixtures("empty_store")
def test_show_has_the_errors_of_a_rejected_import_without_values(run: RunCommand, tmp_path: Path) -> None:
    package = package_with_users(10).set("users", "pupil-1", enabledUser="perhaps").zip(tmp_path / "package.zip")
    report = run("import", package, "--json").json
    assert states(run) == ["refused"]
    shown = run("imports", "show", report["run"], "--json").json
    assert [entry["code"] for entry in shown["errors"]] == [entry["code"] for entry in report["errors"]]
    assert "perhaps" in json.dumps(report)
    assert "perhaps" not in json.dumps(shown)
    text = run("imports", "show", report["run"]).out
    assert "package.zip: Rejected" in text
    assert "users.csv, row " in text
    assert run("imports", "approve", report["run"]).code == 1
    run("import", package, "--dry-run")
    assert states(run) == ["refused"]


def test_dry_run_exits_with_3_if_the_import_would_be_held(run: RunCommand, tmp_path: Path) -> None:
    run("import", package_with_users(200).zip(tmp_path / "all.zip"))
    result = run("import", package_with_users(150).zip(tmp_path / "some.zip"), "--dry-run")
    assert result.code == 3
    assert "It would be held, because it exceeds a change threshold:" in result.err
    assert held_packages(tmp_path) == []


@pytest.mark.usefixtures("empty_store")
def test_thresholds_belong_to_the_tenant(run: RunCommand, tmp_path: Path) -> None:
    everything, some = (
        package_with_users(200).zip(tmp_path / "all.zip"),
        package_with_users(150).zip(tmp_path / "some.zip"),
    )
    run("tenant", "create", "north")
    for tenant, threshold, code in (
        *(("north", "25%,10", 0), ("north", "24%,10", 3), ("north", "24%,50", 0), ("north", "off", 0)),
        *(("default", "default", 3), ("default", "off", 0)),
    ):
        changed = run("tenant", "set", tenant, "--max-deleted", threshold, "--json")
        assert (changed.code, changed.json["maxDeleted"]) == (0, None if threshold == "default" else threshold)
        assert run("import", everything, "--tenant", tenant).code == 0
        assert run("import", some, "--tenant", tenant).code == code, threshold
    assert run("tenant", "show", "north", "--json").json["maxDeleted"] == "off"
    out = run("tenant", "show", "north").out
    assert "max deleted      off" in out
    assert "max changed      75%,100 (default)" in out
    assert run("tenant", "set", "north", "--max-changed", "50,9", "--json").json["maxChanged"] == "50%,9"


@pytest.mark.parametrize("threshold", ["", "10", "ten,10", "-1%,10", "10%;10"])
def test_invalid_threshold_is_a_usage_error(run: RunCommand, threshold: str) -> None:
    result = run("tenant", "set", "default", "--max-deleted", threshold, "--json")
    assert (result.code, result.json["error"]) == (2, "usage")
    assert "such as 10%,10, or off, or default" in result.json["message"]


@pytest.mark.usefixtures("empty_store")
def test_threshold_above_100_percent_is_a_usage_error(run: RunCommand) -> None:
    assert run("tenant", "set", "default", "--max-changed", "100%,0").code == 0
    result = run("tenant", "set", "default", "--max-changed", "101%,0", "--json")
    assert (result.code, result.json["error"]) == (2, "usage")
    assert "at most 100 %, or off" in result.json["message"]


@pytest.mark.usefixtures("empty_store")
def test_held_files_are_private_and_deleted_with_the_tenant(run: RunCommand, tmp_path: Path) -> None:
    previous_umask = os.umask(0)
    try:
        run("tenant", "create", "north")
        hold_import(run, tmp_path, "--tenant", "north")
        run(
            "import",
            package_with_users(9).set("users", "pupil-1", enabledUser="no!").zip(tmp_path / "bad.zip"),
            "--tenant",
            "north",
        )
    finally:
        os.umask(previous_umask)
    paths = list((tmp_path / "chalk-data").rglob("*"))
    assert {path.suffix for path in paths} >= {".zip", ".json"}
    for path in (tmp_path / "chalk-data", *paths):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert run("tenant", "delete", "north", "--yes").code == 0
    assert [path.name for path in (tmp_path / "chalk-data").rglob("*") if path.is_file()] == [STORE_ID_FILE]


def test_hold_approval_and_discard_are_audited(run: RunCommand, tmp_path: Path) -> None:
    first = hold_import(run, tmp_path).json["run"]
    run("imports", "discard", first)
    second = run("import", tmp_path / "some.zip", "--json").json["run"]
    run("imports", "approve", second)
    entries = run("audit", "--json").json["entries"]
    assert all(entry["by"] for entry in entries)
    import_events = [(entry["event"], entry["run"]) for entry in entries if entry["event"].startswith("import.")]
    assert [event for event, _ in import_events] == [
        *("import.committed", "import.held", "import.discarded"),
        *("import.held", "import.approved", "import.committed"),
    ]
    assert [run_id for _, run_id in import_events[1:]] == [first, first, second, second, second]


def test_serve_does_not_start_if_its_import_is_held(run: RunCommand, tmp_path: Path) -> None:
    run("import", package_with_users(200).zip(tmp_path / "all.zip"))
    result = run("serve", "--import", package_with_users(150).zip(tmp_path / "some.zip"), "--port", "0")
    assert (result.code, result.out) == (3, "")
    assert "some.zip: Held for approval: nothing was changed." in result.err
    assert "Listening" not in result.err
    [_, last] = run("imports", "list", "--json").json["imports"]
    assert (last["state"], last["who"]) == ("held", "serve")


def test_demo_is_held_if_it_exceeds_a_threshold(run: RunCommand, tmp_path: Path) -> None:
    assert run("demo", "--no-serve").code == 0
    sample = ROOT / "chalk_flask" / "demo"
    builder = PackageBuilder().only("users")
    users = (sample / "users.csv").read_text(encoding="utf-8")
    line = users.splitlines()[-1]
    first = line.split(",")[0]
    rows = [line.replace(first, f"more-{number}", 1) for number in range(300)]
    builder.raw["users.csv"] = ("\n".join([users.rstrip("\n"), *rows]) + "\n").encode()
    run("tenant", "set", "default", "--max-changed", "off")
    assert run("import", builder.zip(tmp_path / "more.zip")).code == 0
    result = run("demo", "--no-serve", "--json")
    assert result.code == 3
    assert "Held for approval: nothing was changed." in result.err


@pytest.mark.usefixtures("url")
def test_administrator_is_shown_by_name(run: RunCommand, tmp_path: Path) -> None:
    assert run("import", package_with_users(9).zip(tmp_path / "first.zip")).code == 0
    owner = run("admin", "create", "north-owner", "--operator", "--json").json["id"]
    settings = load_settings({"data": str(tmp_path / "chalk-data")})
    with open_store(settings.storage, COLLECTIONS) as store:
        jobs, content = JobStore.of(store, settings), package_with_users(10).zip_bytes()
        finished, _ = [
            jobs.upload_import("default", io.BytesIO(content), f"{name}.zip", requested_by=owner)
            for name in ("finished", "queued")
        ]
        execute(store, settings, jobs, jobs.start(finished))
    lines = run("imports", "list").out.splitlines()
    names = [line.split()[3] for line in lines if line.startswith(("run-", "job-"))]
    assert len(names) == 3  # the first import is that of the command
    assert names[1:] == ["north-owner", "north-owner"]
    assert "by       north-owner" in run("imports", "show", finished.id).out
    entry = run("imports", "list", "--json").json["imports"][-1]
    assert entry["who"] == owner


@pytest.mark.usefixtures("url")
def test_list_shows_jobs_without_a_result(run: RunCommand, tmp_path: Path) -> None:
    settings = load_settings({"data": str(tmp_path / "chalk-data")})
    with open_store(settings.storage, COLLECTIONS) as store:
        jobs = JobStore.of(store, settings)
        content = package_with_users(10).zip_bytes()
        failed, running, queued, canceled, finished = [
            jobs.upload_import("default", io.BytesIO(content), f"{name}.zip", requested_by="ada")
            for name in ("failed", "running", "queued", "canceled", "finished")
        ]
        jobs.fail(jobs.start(failed), "the disk is full")
        jobs.start(running)
        jobs.cancel("default", canceled.id, requested_by="ada")
        execute(store, settings, jobs, jobs.start(finished))
    data = run("imports", "list", "--json").json
    assert [(job["job"], job["state"]) for job in data["jobs"]] == [
        (failed.id, "failed"),
        (running.id, "running"),
        (queued.id, "queued"),
    ]
    assert [entry["package"] for entry in data["imports"]] == ["finished.zip"]
    lines = run("imports", "list").out.splitlines()
    assert lines[0].split()[0] == "RUN"
    assert [line.split()[:4:2] for line in lines if line.startswith("job-")] == [
        [failed.id, "failed"],
        [running.id, "running"],
        [queued.id, "queued"],
    ]
    assert lines[-3].endswith("the disk is full")
    shown = run("imports", "show", finished.id, "--json").json
    assert (shown["package"], shown["who"]) == ("finished.zip", "ada")
    assert (
        f"the import {failed.id} is failed, so it has no run: the disk is full" in run("imports", "show", failed.id).err
    )

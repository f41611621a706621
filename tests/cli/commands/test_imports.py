"""Imports are listed, shown, approved and discarded from the command line; what is held is not served."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from tests.cli.conftest import Ran, Run, Start
from tests.support.packages import PackageBuilder, package_with_users
from tests.support.paths import ROOT


@pytest.fixture(params=["sqlite:///chalk.db", "json:///chalk"])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, run: Run) -> str:
    # `run` first: it takes away what the surroundings set.
    monkeypatch.setenv("CHALK_STORAGE", request.param)
    return str(request.param)


def held(run: Run, folder: Path, *words: str) -> Ran:
    assert run("import", package_with_users(200).zip(folder / "all.zip"), *words).code == 0
    ran = run("import", package_with_users(150).zip(folder / "some.zip"), "--json", *words)
    assert (ran.code, ran.json["state"]) == (3, "held")
    return ran


def states(run: Run, *words: str) -> list[str]:
    return [each["state"] for each in run("imports", "list", "--json", *words).json["imports"]]


def packages(folder: Path) -> list[Path]:
    return list((folder / "chalk-data").rglob("*.zip"))


@pytest.mark.usefixtures("url")
def test_a_held_import_is_approved(run: Run, tmp_path: Path) -> None:
    report = held(run, tmp_path).json
    before = run("check", "--json").json
    [trip] = report["brake"]
    assert (trip["file"], trip["what"], trip["count"], trip["stored"]) == ("users", "deleted", 50, 200)
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
    assert packages(tmp_path) == []
    again = run("imports", "approve", report["run"], "--json")
    assert (again.code, again.json["error"]) == (1, "refused")
    shown = run("imports", "show", report["run"], "--json").json
    assert (shown["state"], shown["settledBy"]) == ("committed", shown["who"])
    assert shown["brake"] == report["brake"]


@pytest.mark.usefixtures("url")
def test_a_held_import_is_discarded(run: Run, tmp_path: Path) -> None:
    report = held(run, tmp_path).json
    assert run("imports", "discard", report["run"], "--json").json["state"] == "discarded"
    assert packages(tmp_path) == []
    assert states(run) == ["committed", "discarded"]
    assert run("imports", "approve", report["run"]).code == 1
    assert "it is discarded" in run("imports", "discard", report["run"]).err


def test_a_person_is_told_why_and_how_to_go_on(run: Run, tmp_path: Path) -> None:
    run("tenant", "create", "north")
    run("import", package_with_users(200).zip(tmp_path / "all.zip"), "--tenant", "north")
    out = run("import", package_with_users(150).zip(tmp_path / "some.zip"), "--tenant", "north").out
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


def test_looking_at_imports_creates_nothing(run: Run, tmp_path: Path) -> None:
    assert run("imports", "list", "--json").json == {"imports": []}
    for verb in ("show", "approve", "discard"):
        ran = run("imports", verb, "run-nobody", "--json")
        assert (ran.code, ran.json["error"]) == (1, "refused")
        assert "run-nobody" in ran.json["message"]
    assert run("imports", "list", "--tenant", "north").code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_refused_import_is_shown_as_it_was_reported(run: Run, tmp_path: Path) -> None:
    package = package_with_users(10).set("users", "pupil-1", enabledUser="perhaps").zip(tmp_path / "package.zip")
    report = run("import", package, "--json").json
    assert states(run) == ["refused"]
    shown = run("imports", "show", report["run"], "--json").json
    assert [each["code"] for each in shown["errors"]] == [each["code"] for each in report["errors"]]
    assert "perhaps" in json.dumps(report)
    assert "perhaps" not in json.dumps(shown)
    text = run("imports", "show", report["run"]).out
    assert "package.zip: Rejected" in text
    assert "users.csv, row " in text
    assert run("imports", "approve", report["run"]).code == 1
    run("import", package, "--dry-run")
    assert states(run) == ["refused"]


def test_a_dry_run_ends_as_the_import_would(run: Run, tmp_path: Path) -> None:
    run("import", package_with_users(200).zip(tmp_path / "all.zip"))
    ran = run("import", package_with_users(150).zip(tmp_path / "some.zip"), "--dry-run")
    assert ran.code == 3
    assert "It would be held, because it exceeds a change threshold:" in ran.out
    assert packages(tmp_path) == []


def test_the_limits_are_the_tenants(run: Run, tmp_path: Path) -> None:
    everything, some = (
        package_with_users(200).zip(tmp_path / "all.zip"),
        package_with_users(150).zip(tmp_path / "some.zip"),
    )
    run("tenant", "create", "north")
    for tenant, limit, code in (
        *(("north", "25%,10", 0), ("north", "24%,10", 3), ("north", "24%,50", 0), ("north", "off", 0)),
        *(("default", "default", 3), ("default", "off", 0)),
    ):
        changed = run("tenant", "set", tenant, "--max-deleted", limit, "--json")
        assert (changed.code, changed.json["maxDeleted"]) == (0, None if limit == "default" else limit)
        assert run("import", everything, "--tenant", tenant).code == 0
        assert run("import", some, "--tenant", tenant).code == code, limit
    assert run("tenant", "show", "north", "--json").json["maxDeleted"] == "off"
    out = run("tenant", "show", "north").out
    assert "max deleted   off" in out
    assert "max changed   75%,100 (default)" in out
    assert run("tenant", "set", "north", "--max-changed", "50,9", "--json").json["maxChanged"] == "50%,9"


@pytest.mark.parametrize("limit", ["", "10", "ten,10", "-1%,10", "10%;10"])
def test_a_limit_that_is_none_is_a_usage_error(run: Run, limit: str) -> None:
    ran = run("tenant", "set", "default", "--max-deleted", limit, "--json")
    assert (ran.code, ran.json["error"]) == (2, "usage")
    assert "such as 10%,10, or off, or default" in ran.json["message"]


def test_a_limit_that_would_never_hold_is_a_usage_error(run: Run) -> None:
    assert run("tenant", "set", "default", "--max-changed", "100%,0").code == 0
    ran = run("tenant", "set", "default", "--max-changed", "101%,0", "--json")
    assert (ran.code, ran.json["error"]) == (2, "usage")
    assert "at most 100 %, or off" in ran.json["message"]


@pytest.mark.usefixtures("url")
def test_what_is_held_is_for_its_owner_alone_and_goes_with_its_tenant(run: Run, tmp_path: Path) -> None:
    former = os.umask(0)
    try:
        run("tenant", "create", "north")
        held(run, tmp_path, "--tenant", "north")
        run(
            "import",
            package_with_users(9).set("users", "pupil-1", enabledUser="no!").zip(tmp_path / "bad.zip"),
            "--tenant",
            "north",
        )
    finally:
        os.umask(former)
    found = list((tmp_path / "chalk-data").rglob("*"))
    assert {path.suffix for path in found} >= {".zip", ".json"}
    for path in (tmp_path / "chalk-data", *found):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert run("tenant", "delete", "north", "--yes").code == 0
    assert [path for path in (tmp_path / "chalk-data").rglob("*") if path.is_file()] == []


def test_what_happens_to_held_imports_is_audited(run: Run, tmp_path: Path) -> None:
    first = held(run, tmp_path).json["run"]
    run("imports", "discard", first)
    second = run("import", tmp_path / "some.zip", "--json").json["run"]
    run("imports", "approve", second)
    entries = run("audit", "--json").json["entries"]
    found = [(each["event"], each["run"]) for each in entries if each["event"].startswith("import.")]
    assert [event for event, _ in found] == [
        *("import.committed", "import.held", "import.discarded"),
        *("import.held", "import.approved", "import.committed"),
    ]
    assert [run_id for _, run_id in found[1:]] == [first, first, second, second, second]


def test_nothing_is_served_from_a_package_that_is_held(start: Start, run: Run, tmp_path: Path) -> None:
    run("import", package_with_users(200).zip(tmp_path / "all.zip"))
    some = package_with_users(150).zip(tmp_path / "some.zip")
    with start("serve", "--import", some, "--port", "0") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (3, "")
    assert "some.zip: Held for approval: nothing was changed." in err
    assert "Listening" not in err
    [_, last] = run("imports", "list", "--json").json["imports"]
    assert (last["state"], last["who"]) == ("held", "serve")


def test_the_sample_district_is_held_too_where_it_would_delete_much(run: Run, tmp_path: Path) -> None:
    assert run("demo", "--no-serve").code == 0
    sample = ROOT / "chalk_flask" / "demo"
    made = PackageBuilder().only("users")
    users = (sample / "users.csv").read_text(encoding="utf-8")
    line = users.splitlines()[-1]
    first = line.split(",")[0]
    rows = [line.replace(first, f"more-{number}", 1) for number in range(300)]
    made.raw["users.csv"] = ("\n".join([users.rstrip("\n"), *rows]) + "\n").encode()
    run("tenant", "set", "default", "--max-changed", "off")
    assert run("import", made.zip(tmp_path / "more.zip")).code == 0
    ran = run("demo", "--no-serve", "--json")
    assert ran.code == 3
    assert "Held for approval: nothing was changed." in ran.err

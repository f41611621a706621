"""A package is imported, checked only, or refused, and the store is verified, from the command line."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from backends import Record, open_store
from chalk_flask.cli.progress import progress_line
from chalk_flask.storage import COLLECTIONS
from tests.cli.conftest import ENVIRON, Run

SAMPLE = Path(str(files("chalk_flask.demo")))


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLE, tmp_path / "package"))


def test_a_package_is_imported_and_a_second_time_nothing_is_to_be_done(run: Run, package: Path) -> None:
    first, second = run("import", package, "--json"), run("import", package, "--json")
    assert (first.code, first.json["state"]) == (0, "committed")
    assert (second.code, second.json["state"]) == (0, "unchanged")
    assert first.err == ""


def test_every_import_has_an_id_of_its_own(run: Run, package: Path) -> None:
    runs = [run("import", package, "--json", *more).json["run"] for more in ([], [], ["--dry-run"])]
    assert len(set(runs)) == 3
    assert all(re.fullmatch(r"run-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", each) for each in runs)


def test_the_report_is_text_for_a_person(run: Run, package: Path) -> None:
    ran = run("import", package)
    assert ran.code == 0
    assert "users" in ran.out


def test_a_refused_package_ends_with_one_and_its_report_is_the_object(run: Run, package: Path) -> None:
    run("import", package)
    before = run("check", "--json").json
    (package / "users.csv").write_text("nonsense\n")
    ran = run("import", package, "--json")
    assert (ran.code, ran.json["state"]) == (1, "refused")
    assert ran.json["errors"][0]["file"] == "users.csv"
    assert run("check", "--json").json == before


def test_a_dry_run_says_what_would_change_and_creates_nothing(run: Run, package: Path, tmp_path: Path) -> None:
    ran = run("import", package, "--dry-run", "--json")
    assert (ran.code, ran.json["state"]) == (0, "checked")
    assert ran.json["files"]["users"]["created"] > 0
    assert not list(tmp_path.glob("chalk.db*"))


def test_a_dry_run_compares_with_what_is_stored(run: Run, package: Path) -> None:
    run("import", package)
    assert run("import", package, "--dry-run", "--json").json["total"]["created"] == 0


def test_a_dry_run_foretells_what_the_import_then_does(run: Run, package: Path) -> None:
    run("import", package)
    users, results = package / "users.csv", package / "results.csv"
    users.write_text(users.read_text(encoding="utf-8").replace("@", "@new."), encoding="utf-8")
    results.write_text("".join(results.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    before = run("check", "--json").json
    foretold = run("import", package, "--dry-run", "--json").json
    assert run("check", "--json").json == before
    done = run("import", package, "--json").json
    assert (foretold["state"], foretold["dryRun"], foretold["dateLastModified"]) == ("checked", True, None)
    assert (done["state"], done["dryRun"]) == ("committed", False)
    assert foretold["files"] == done["files"]
    assert foretold["total"] == done["total"]
    assert done["total"]["deleted"] == 1
    assert done["total"]["updated"] > 1


@pytest.mark.parametrize("url", ["sqlite:///chalk.db", "json:///chalk"])
@pytest.mark.parametrize("mode", [[], ["--dry-run"]], ids=["for good", "dry"])
def test_a_refused_first_import_makes_no_store(run: Run, tmp_path: Path, url: str, mode: list[str]) -> None:
    (tmp_path / "package.zip").write_bytes(b"no ZIP")
    ran = run("import", "package.zip", "--storage", url, "--json", *mode)
    assert (ran.code, ran.json["state"]) == (1, "refused")
    # That it was refused is written down beside the store; a dry run leaves nothing at all.
    assert {path.name for path in tmp_path.iterdir()} == {"package.zip", *([] if mode else ["chalk-data"])}


def test_a_first_import_that_cannot_make_its_store_says_so(run: Run, package: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    ran = run("import", package, "--storage", "sqlite:///file/chalk.db", "--json")
    assert (ran.code, ran.json["error"]) == (1, "storage_failed")


def test_the_limits_of_an_import_are_options(run: Run, package: Path) -> None:
    ran = run("import", package, "--import-max-entries", "3", "--json")
    assert (ran.code, ran.json["state"]) == (1, "refused")


def test_a_package_for_an_unknown_tenant_is_refused(run: Run, package: Path, tmp_path: Path) -> None:
    ran = run("import", package, "--tenant", "north", "--json")
    assert (ran.code, ran.json["error"]) == (1, "refused")
    assert not list(tmp_path.glob("chalk.db*"))


def test_a_store_that_does_not_exist_is_sound_empty_and_not_created(run: Run, tmp_path: Path) -> None:
    ran = run("check", "--json")
    assert ran.code == 0
    assert list(ran.json) == ["ok", "counts", "digest", "state", "problems"]
    assert (ran.json["ok"], ran.json["counts"], ran.json["problems"]) == (True, {}, [])
    assert not list(tmp_path.iterdir())


def test_equal_rosters_have_equal_digests_on_every_backend(run: Run, package: Path) -> None:
    digests = set()
    for url in ("sqlite:///chalk.db", "json:///chalk"):
        assert run("import", package, "--storage", url).code == 0
        checked = run("check", "--storage", url, "--json").json
        assert checked["ok"], checked["problems"]
        assert checked["counts"]["users"] > 10
        assert set(checked["counts"]) <= set(files_of(package))
        digests.add(checked["digest"])
    assert len(digests) == 1


def files_of(package: Path) -> list[str]:
    return [path.stem for path in package.glob("*.csv")]


def test_a_store_that_is_not_sound_ends_with_one(run: Run, package: Path, tmp_path: Path) -> None:
    run("import", package)
    with open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store, store.write("default") as transaction:
        transaction.put("users", [Record("broken", b'{"sourcedId":"broken"}')])
    ran = run("check", "--json")
    assert (ran.code, ran.json["ok"]) == (1, False)
    assert ran.json["problems"][0].startswith("users 'broken': not in canonical form")
    assert "NOT valid" in run("check").out


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_is_a_line_on_a_terminal_that_is_gone_in_the_end() -> None:
    screen = Terminal()
    with progress_line(screen) as progress:
        assert progress
        progress("users", 1500)
        progress("writing", 0)
    assert "users: 1,500 rows" in screen.getvalue()
    assert "writing" in screen.getvalue()
    assert screen.getvalue().endswith("\r\x1b[K")


def test_progress_goes_to_the_terminal_and_the_report_to_stdout(package: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "chalk_flask", "import", str(package), "--json"]
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRON, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b"".join(iter(lambda: read(ours), b""))
        report = process.communicate()[0]
    os.close(ours)
    assert json.loads(report)["state"] == "committed"
    assert b"writing users" in shown
    assert shown.endswith(b"\r\x1b[K")


def read(terminal: int) -> bytes:
    """What comes next; nothing once the other side has gone."""
    try:
        return os.read(terminal, 1 << 16)
    except OSError:
        return b""


def test_there_is_no_progress_where_there_is_no_terminal() -> None:
    quiet = io.StringIO()
    with progress_line(quiet) as progress:
        assert progress is None
    assert quiet.getvalue() == ""

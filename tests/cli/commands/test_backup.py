"""Commands `backup` and `restore`, also beside a running service."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import ENVIRON, SAMPLE, RunCommand, StartCommand, get_json, stop_process
from tests.conftest import url_in
from tests.support.server_process import read_until
from tests.support.storage.failures import file_size_limit

PASSPHRASE = "correct horse battery"


@pytest.fixture
def district(run: RunCommand) -> str:
    """Digest of the roster of a new store `chalk.db`."""
    assert run("import", SAMPLE, "--storage", "sqlite:///chalk.db", "--data", "data").code == 0
    return digest(run, "sqlite:///chalk.db")


def digest(run: RunCommand, url: str) -> str:
    return str(run("check", "--json", "--storage", url).json["state"])


def places(store: str, data: str = "data") -> tuple[str, ...]:
    return ("--storage", f"sqlite:///{store}", "--data", data)


def test_backup_is_private_and_restores_the_same_roster(run: RunCommand, tmp_path: Path, district: str) -> None:
    result = run("backup", "b.tar.gz", *places("chalk.db"), "--json")
    assert result.code == 0
    archive = tmp_path / "b.tar.gz"
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert (result.json["path"], result.json["bytes"]) == (str(archive), archive.stat().st_size)
    restored = run("restore", "b.tar.gz", *places("new/chalk.db", "new/data"), "--json").json
    assert restored["store"] == str(tmp_path / "new/chalk.db")
    assert restored["id"] == result.json["id"]
    assert digest(run, "sqlite:///new/chalk.db") == district


def test_backup_does_not_overwrite_or_create_a_store(run: RunCommand, tmp_path: Path, district: str) -> None:
    assert run("backup", "b.tar.gz", *places("chalk.db")).code == 0
    again = run("backup", "b.tar.gz", *places("chalk.db"))
    assert (again.code, f"Error: {tmp_path}/b.tar.gz exists already" in again.err) == (1, True)
    missing = run("backup", "new.tar.gz", *places("typo.db"))
    assert (missing.code, "there is no store at /" in missing.err) == (1, True)
    nowhere = run("backup", "nowhere/new.tar.gz", *places("chalk.db"))
    assert (nowhere.code, "there is no such folder" in nowhere.err) == (1, True)
    missing_folder = run("backup", "backups", *places("chalk.db"))
    assert (missing_folder.code, f"'{tmp_path}/backups' is no folder: create it" in missing_folder.err) == (2, True)
    assert not (tmp_path / "backups").exists()
    assert not (tmp_path / "typo.db").exists()
    assert not list(tmp_path.glob("new*"))


def test_keep_deletes_old_backups_of_the_folder(run: RunCommand, tmp_path: Path, district: str) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    first = Path(run("backup", folder, *places("chalk.db"), "--json").json["path"])
    old = [first.with_name(first.name[:21] + f"20200{month}01T000000Z.tar.gz") for month in (1, 2, 3)]
    for path in old:
        path.write_bytes(b"")
    (folder / "notes.txt").touch()
    first.rename(old[2])
    result = run("backup", folder, *places("chalk.db"), "--keep", "2", "--json").json
    assert result["deleted"] == [old[0].name, old[1].name]
    assert sorted(folder.iterdir()) == sorted([old[2], Path(result["path"]), folder / "notes.txt"])
    usage = run("backup", "file.tar.gz", "--keep", "2")
    assert (usage.code, "--keep requires a folder" in usage.err) == (2, True)


def test_damaged_store_deletes_no_backup(run: RunCommand, tmp_path: Path, district: str) -> None:
    (tmp_path / "backups").mkdir()
    good = Path(run("backup", "backups", *places("chalk.db"), "--json").json["path"])
    content = bytearray((tmp_path / "chalk.db").read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    (tmp_path / "chalk.db").write_bytes(content)
    result = run("backup", "backups", *places("chalk.db"), "--keep", "1")
    assert (result.code, "malformed" in result.err or "damaged" in result.err) == (1, True)
    assert [path.name for path in (tmp_path / "backups").iterdir()] == [good.name]


def test_backup_names_the_absolute_path_of_the_archive(run: RunCommand, tmp_path: Path, district: str) -> None:
    (tmp_path / "bk").mkdir()
    assert f" files to {tmp_path}/bk/chalk-flask-" in run("backup", "bk", *places("chalk.db")).out


def test_short_passphrase_is_a_usage_error(run: RunCommand, tmp_path: Path, district: str) -> None:
    (tmp_path / "passphrase").write_text(f"{PASSPHRASE}\n")
    (tmp_path / "short").write_text("short\n")
    assert run("backup", "b.tar.gz", *places("chalk.db"), "--passphrase-file", "passphrase").code == 0
    for command in ("backup", "new.tar.gz"), ("restore", "b.tar.gz", "--dry-run"):
        result = run(*command, *places("chalk.db"), "--passphrase-file", "short", "--json")
        assert (result.code, result.json["error"]) == (2, "usage"), command
        assert f"--passphrase-file: the passphrase in {tmp_path}/short is too short" in result.json["message"]
    assert not (tmp_path / "new.tar.gz").exists()


def test_passphrase_file_encrypts_and_decrypts(run: RunCommand, tmp_path: Path, district: str) -> None:
    (tmp_path / "passphrase").write_text(PASSPHRASE + "\n")
    given = ("--passphrase-file", "passphrase")
    (tmp_path / "backups").mkdir()
    archive = run("backup", "backups", *given, *places("chalk.db"), "--json").json["path"]
    assert archive.endswith(".tar.gz.enc")
    without = run("restore", archive, *places("new.db", "new"), "--json")
    assert (without.code, without.json["error"]) == (1, "refused")
    assert without.json["message"].startswith("nothing was changed: the backup is encrypted")
    assert run("restore", archive, *given, *places("new.db", "new")).code == 0
    assert digest(run, "sqlite:///new.db") == district


def test_dry_run_calls_the_archive_of_a_pipe_stdin(run: RunCommand, tmp_path: Path, district: str) -> None:
    run("backup", "b.tar.gz", *places("chalk.db"))
    result = run("restore", "-", "--dry-run", stdin=(tmp_path / "b.tar.gz").read_bytes())
    assert (result.code, result.out.split(":")[0]) == (0, "stdin is complete")


def test_dry_run_verifies_and_changes_nothing(run: RunCommand, tmp_path: Path, district: str) -> None:
    run("backup", "b.tar.gz", *places("chalk.db"))
    before = sorted(tmp_path.rglob("*"))
    result = run("restore", "b.tar.gz", "--dry-run")
    assert (result.code, "is complete" in result.out) == (0, True)
    (tmp_path / "b.tar.gz").write_bytes((tmp_path / "b.tar.gz").read_bytes()[:-9])
    damaged = run("restore", "b.tar.gz", "--dry-run")
    assert (damaged.code, "damaged or incomplete" in damaged.err) == (1, True)
    assert sorted(tmp_path.rglob("*")) == before


def test_full_disk_leaves_nothing_behind(run: RunCommand, tmp_path: Path, district: str) -> None:
    run("backup", "b.tar.gz", *places("chalk.db"))
    before = {path for path in tmp_path.rglob("*") if path.name != ".backup.lock"}
    for command in (("backup", "c.tar.gz", *places("chalk.db")), ("restore", "b.tar.gz", *places("new.db", "new"))):
        with file_size_limit(50_000):
            result = run(*command)
        assert (result.code, "limit" in result.err or "too large" in result.err) == (1, True), result.err
    assert {path for path in tmp_path.rglob("*") if path.name != ".backup.lock"} == before


@pytest.mark.slow
def test_killed_backup_leaves_no_archive(run: RunCommand, start: StartCommand, tmp_path: Path, district: str) -> None:
    (tmp_path / "b").mkdir()
    for pause in (0.2, 0.4, 0.6, 0.8):
        with start("backup", "b", *places("chalk.db")) as process:
            time.sleep(pause)
            process.kill()
    for path in (tmp_path / "b").glob("*.gz"):
        assert run("restore", path, "--dry-run").code == 0, "complete, or not there"
    assert run("backup", "b.tar.gz", *places("chalk.db")).code == 0
    assert not list((tmp_path / "b").glob(".*"))
    assert not (tmp_path / "data" / ".backup").exists()


def test_memory_store_is_rejected(run: RunCommand) -> None:
    assert "nothing to back up" in run("backup", "x.tar.gz", "--storage", "memory:").err
    restored = run("restore", __file__, "--storage", "memory:")
    assert (restored.code, "loses its data" in restored.err) == (2, True)


@pytest.mark.slow
def test_pipe_carries_a_backup(tmp_path: Path, district: str, run: RunCommand) -> None:
    command = f'"{sys.executable}" -m chalk_flask'
    new = " ".join(places("new.db", "new"))
    line = f"{command} backup - {' '.join(places('chalk.db'))} | {command} restore - {new}"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=tmp_path, env=ENVIRON, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert digest(run, "sqlite:///new.db") == district
    usage = run("backup", "-", "--json", *places("chalk.db"))
    assert (usage.code, json.loads(usage.out)["error"]) == (2, "usage")


@pytest.mark.slow
@pytest.mark.on_backend("json", "sqlite")
def test_running_service_is_backed_up_but_not_replaced(
    run: RunCommand, start: StartCommand, tmp_path: Path, backend: str
) -> None:
    url = url_in(tmp_path, backend)
    given = ("--storage", url, "--data", str(tmp_path / "data"))
    run("import", SAMPLE, *given)
    token = run("token", "create", "--label", "x", "--json", "--storage", url).json["token"]
    with start("serve", "--port", "0", *given) as service:
        address = read_until(service.stderr, r"http://\S+")[0]
        archive = run_process(tmp_path, "backup", "b.tar.gz", *given)
        assert archive.returncode == 0, archive.stderr
        refused = run_process(tmp_path, "restore", "b.tar.gz", "--replace", *given)
        assert refused.returncode == 1
        assert "is in use: stop the service" in refused.stderr
        assert get_json(f"{address}/ims/oneroster/v1p1/orgs", token)["orgs"]
        assert stop_process(service) == 0
    assert run_process(tmp_path, "restore", "b.tar.gz", "--replace", *given).returncode == 0
    with start("serve", "--port", "0", *given) as service:
        address = read_until(service.stderr, r"http://\S+")[0]
        assert get_json(f"{address}/ims/oneroster/v1p1/orgs", token)["orgs"]
        assert stop_process(service) == 0


def run_process(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a process of its own. The locks of SQLite do not work within a process."""
    return subprocess.run(
        [sys.executable, "-m", "chalk_flask", *args], cwd=folder, env=ENVIRON, capture_output=True, text=True
    )


@pytest.mark.slow
def test_restored_files_belong_to_the_owner_of_the_folder(run: RunCommand, tmp_path: Path, district: str) -> None:
    run("backup", "b.tar.gz", *places("chalk.db"))
    (tmp_path / "new").mkdir()
    owner = (os.geteuid(), os.getegid())
    if os.geteuid() == 0:  # only root can give a folder to another user
        owner = (4321, 4322)
        os.chown(tmp_path / "new", *owner)
    assert run("restore", "b.tar.gz", *places("new/chalk.db", "new/data")).code == 0
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in (tmp_path / "new").rglob("*")}
    assert owners == {owner}

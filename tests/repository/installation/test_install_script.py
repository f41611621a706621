"""Script `config/install-debian.sh`: a run below a folder, a repeated run, and an upgrade."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import ENVIRON
from tests.repository.installation.wheels import wheel_folder
from tests.support.paths import ROOT

SCRIPT = ROOT / "config" / "install-debian.sh"
SHELL_SCRIPTS = ("run", "config/install-debian.sh", "config/chalk-flask-run", ".ci/run", "tests/deployment/walk.sh")


def install(clone: Path, *args: str | Path) -> subprocess.CompletedProcess[str]:
    environ = ENVIRON | {"PYTHON": sys.executable, "PIP_NO_COMPILE": "1"}
    environ.pop("PYTHONPATH")
    command = [clone / "config" / SCRIPT.name, *args]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of the files that the script reads, which a test may change."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE", "app.py"):
        shutil.copy(ROOT / name, folder)
    for name in ("backends", "chalk_flask", "config"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.db*"))
    return folder


@pytest.fixture(scope="module")
def prefix(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder below which the program is installed."""
    folder = tmp_path_factory.mktemp("root")
    completed = install(clone, "--prefix", folder, "--wheels", wheel_folder())
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.startswith("chalk-flask ")
    return folder


def files_below(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and "opt" not in path.relative_to(folder).parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.slow
def test_installed_program_works(prefix: Path, tmp_path: Path) -> None:
    program = prefix / "opt" / "chalk-flask" / "bin" / "chalk-flask"
    environ = {"PATH": os.environ["PATH"], "CHALK_STORAGE": str(tmp_path / "chalk.db")}
    for command in ("demo", "--no-serve"), ("check", "--json"):
        completed = subprocess.run([program, *command], cwd=tmp_path, env=environ, capture_output=True, text=True)
        assert (completed.returncode, completed.stderr) == (0, "")


@pytest.mark.slow
def test_units_wrapper_and_folders_are_installed(prefix: Path) -> None:
    files = files_below(prefix)
    units = {path.name for path in (ROOT / "config").iterdir() if path.suffix in (".service", ".timer", ".path")}
    assert {name for name in files if "systemd" in name} == {f"etc/systemd/system/{name}" for name in units}
    service = files["etc/systemd/system/chalk-flask.service"].decode()
    assert service == (ROOT / "config" / "chalk-flask.service").read_text(encoding="utf-8")
    assert files["usr/local/bin/chalk-flask"] == (ROOT / "config" / "chalk-flask-run").read_bytes()
    assert b"_chalk_flask_completion" in files["usr/local/share/bash-completion/completions/chalk-flask"]
    manual = files["usr/local/share/man/man1/chalk-flask.1"].decode()
    assert manual.startswith(".TH CHALK")
    assert '.SH "chalk\\-flask token create"' in manual
    modes = {"var/lib/chalk-flask": 0o700, "var/lib/chalk-flask-backups": 0o700, "etc/chalk-flask.env": 0o600}
    assert {name: stat.S_IMODE((prefix / name).stat().st_mode) for name in modes} == modes
    for line in re.findall(r"^Exec\w+=(/opt/\S+)", service, re.MULTILINE):
        assert os.access(prefix / line.lstrip("/"), os.X_OK)


@pytest.mark.slow
def test_repeated_run_changes_nothing_but_replaced_units(prefix: Path, clone: Path) -> None:
    files = files_below(prefix)
    program = (prefix / "opt" / "chalk-flask").readlink()
    unit = prefix / "etc/systemd/system/chalk-flask.service"
    unit.write_text("[Unit]\n")
    (prefix / "etc/chalk-flask.env").write_text("CHALK_PORT=8081\n")
    completed = install(clone, "--prefix", prefix)
    assert (completed.returncode, (prefix / "opt" / "chalk-flask").readlink()) == (0, program)
    assert "The program is installed already" in completed.stderr
    assert f"Replaced {unit}" in completed.stderr
    replaced = {
        "etc/chalk-flask.env": b"CHALK_PORT=8081\n",
        "etc/systemd/system/chalk-flask.service.former": b"[Unit]\n",
    }
    assert files_below(prefix) == files | replaced


@pytest.mark.slow
def test_failed_upgrade_leaves_the_former_program_in_use(prefix: Path, clone: Path, tmp_path: Path) -> None:
    former = (prefix / "opt" / "chalk-flask").readlink()
    with (clone / "README.md").open("a") as readme:
        readme.write("\nA later version.\n")
    completed = install(clone, "--prefix", prefix, "--wheels", tmp_path)
    assert completed.returncode == 1
    assert "The former program is still in use" in completed.stderr
    assert (prefix / "opt" / "chalk-flask").readlink() == former
    assert (
        subprocess.run([prefix / "opt/chalk-flask/bin/chalk-flask", "--version"], capture_output=True).returncode == 0
    )


@pytest.mark.parametrize(
    ("args", "reason"),
    [(("--prefix",), "--prefix must be followed by an existing folder"), (("--dir",), "unknown argument '--dir'")],
)
def test_invalid_arguments_are_usage_errors(args: tuple[str, ...], reason: str) -> None:
    completed = install(ROOT, *args)
    assert completed.returncode == 2
    assert reason in completed.stderr


def test_help_lists_the_options() -> None:
    completed = install(ROOT, "--help")
    assert completed.returncode == 0
    assert set(re.findall(r"^(--[a-z-]+)", completed.stdout, re.MULTILINE)) == {"--prefix", "--wheels", "--no-start"}


@pytest.mark.parametrize("script", SHELL_SCRIPTS)
def test_shell_scripts_pass_shellcheck(script: str) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    completed = subprocess.run([shellcheck, ROOT / script], capture_output=True, text=True, timeout=60)
    assert completed.stdout == ""

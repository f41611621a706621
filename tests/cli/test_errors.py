"""Errors of commands: a line on stderr, with --json an object on stdout, and the exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import ENVIRON, SAMPLE, RunCommand


@pytest.mark.parametrize(
    "args",
    [["nonsense"], ["import"], ["check", "--nonsense"], ["token", "create"]],
    ids=" ".join,
)
def test_usage_error_exits_with_2(args: list[str], run: RunCommand) -> None:
    result = run(*args)
    assert result.code == 2
    assert "Error: " in result.err


def test_usage_error_with_json_is_an_object(run: RunCommand) -> None:
    result = run("token", "create", "--json")
    assert result.code == 2
    assert result.json == {"error": "usage", "message": "Missing option '--label'."}


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["check", "--storage", "ftp://x"], "storage_failed", "no backend for 'ftp'; installed: "),
        (["check", "--config", "none.toml"], "bad_settings", "the settings file /"),
        (["check", "--tenant", "north"], "refused", "there is no store"),
        (["check", "--storage", "sqlite:///letter"], "storage_failed", ""),
        (
            ["token", "create", "--label", "x", "--storage", "json:///letter/folder"],
            "refused",
            "there is no store at /",
        ),
        (
            ["token", "create", "--label", "x", "--storage", "sqlite:///letter/file"],
            "refused",
            "there is no store at /",
        ),
    ],
)
def test_error_is_a_line_on_stderr_and_an_object_on_stdout(
    args: list[str], code: str, message: str, run: RunCommand, tmp_path: Path
) -> None:
    (tmp_path / "letter").write_text("neither a database nor a folder\n" * 300)
    result = run(*args, "--json")
    assert result.code == (2 if code == "bad_settings" else 1)
    assert result.json["error"] == code
    assert result.json["message"].startswith(message)
    assert result.err == f"Error: {result.json['message']}\n"
    assert (tmp_path / "letter").read_text() == "neither a database nor a folder\n" * 300


@pytest.mark.parametrize(
    "args",
    [
        ["token", "create", "--label", "x", "--restrict-org", "\udcff"],
        ["import", "package-\udcff"],
        ["webhook", "create", "--url", "https://x.example/", "--org", "\udcff"],
        ["\udcff"],
    ],
)
def test_argument_that_is_not_utf_8_is_a_usage_error(args: list[str], run: RunCommand) -> None:
    result = run(*args, "--json")
    assert result.code == 2
    assert result.json["error"] == "usage"
    assert "is not UTF-8" in result.json["message"]
    assert "\\udcff" in result.err


def test_user_name_that_is_not_utf_8_does_not_stop_an_import(run: RunCommand) -> None:
    result = run("import", SAMPLE, env={"LOGNAME": "user-\udcff"})
    assert result.code == 0, result.err


def test_missing_file_is_named_with_its_absolute_path(run: RunCommand, tmp_path: Path) -> None:
    result = run("restore", "nofile")
    assert (result.code, result.err) == (1, f"Error: {tmp_path}/nofile: No such file or directory\n")
    result = run("token", "list", "--config", "../none.toml")
    assert f"the settings file {tmp_path.parent}/none.toml cannot be read" in result.err


def test_folder_data_is_named_without_parent_references(run: RunCommand, empty_store: Path, tmp_path: Path) -> None:
    result = run("secrets", "rotate", "--data", "../elsewhere")
    assert f"there is no folder {tmp_path.parent}/elsewhere:" in result.err


def test_help_that_cannot_be_written_is_an_error_without_a_traceback(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "chalk_flask", "--help"]
        done = subprocess.run(command, cwd=tmp_path, env=ENVIRON, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "Error: No space left on device\n"

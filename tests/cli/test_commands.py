"""What holds for every command: help with an example, errors in a line, exit codes, quick start."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
import pytest

from chalk_flask.cli import main
from chalk_flask.settings import SETTINGS
from tests.cli.conftest import ENVIRON, Run


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, by the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands())


def option_names(command: click.Command) -> set[str]:
    return {word for option in command.params for word in option.opts}


def test_these_are_the_commands() -> None:
    assert {" ".join(words) for words in COMMANDS} == {
        "demo",
        "serve",
        "import",
        *("imports list", "imports show", "imports approve", "imports discard"),
        "export",
        "token create",
        "token list",
        "token revoke",
        "tenant create",
        "tenant list",
        "tenant show",
        "tenant set",
        "tenant delete",
        "client create",
        "client list",
        "client rotate",
        "client revoke",
        "issuer add",
        "issuer list",
        "issuer remove",
        *(
            f"webhook {verb}"
            for verb in ("create", "list", "show", "pause", "resume", "rotate", "test", "replay", "delete")
        ),
        "audit",
        "copy",
        "check",
        "config show",
        "backends",
    }


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example_that_names_it(words: tuple[str, ...], run: Run) -> None:
    ran = run(*words, "--help")
    assert ran.code == 0
    assert f"Example: {'CHALK_PORT=9000 ' * (words[0] == 'config')}chalk-flask {' '.join(words)}" in ran.out


@pytest.mark.parametrize("words", sorted(set(COMMANDS) - {("backends",), ("copy",)}), ids=" ".join)
def test_every_command_that_reads_settings_takes_a_file_and_a_store(words: tuple[str, ...]) -> None:
    assert {"--config", "--storage"} <= option_names(COMMANDS[words])


@pytest.mark.parametrize("words", sorted(set(COMMANDS) - {("serve",)}), ids=" ".join)
def test_every_command_that_ends_speaks_json(words: tuple[str, ...]) -> None:
    assert "--json" in option_names(COMMANDS[words])


def test_every_setting_is_an_option_of_serve() -> None:
    options = option_names(COMMANDS["serve",])
    assert {f"--{setting.name.replace('_', '-')}" for setting in SETTINGS} <= options


def test_help_names_the_variable_and_the_default_of_a_setting(run: Run) -> None:
    words = " ".join(run("serve", "--help").out.split())
    assert "TCP port to listen on; 0 chooses a free one. [CHALK_PORT; default 8080]" in words


def test_the_version_is_printed(run: Run) -> None:
    try:
        number = version("chalk-flask")
    except PackageNotFoundError:
        number = "(from source; not installed)"
    assert run("--version").out == f"chalk-flask {number}\n"


@pytest.mark.parametrize(
    "words",
    [["nonsense"], ["import"], ["check", "--nonsense"], ["token", "create"], ["demo", "--json"]],
    ids=" ".join,
)
def test_a_command_line_that_is_not_understood_ends_with_two(words: list[str], run: Run) -> None:
    ran = run(*words)
    assert ran.code == 2
    assert "Error: " in ran.err


def test_with_json_a_usage_error_is_an_object_too(run: Run) -> None:
    ran = run("token", "create", "--json")
    assert ran.code == 2
    assert ran.json == {"error": "usage", "message": "Missing option '--label'."}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["check", "--storage", "ftp://x"], "storage_failed", "no backend for 'ftp'; installed: "),
        (["check", "--config", "none.toml"], "bad_settings", "the settings file none.toml cannot be read"),
        (["check", "--tenant", "north"], "refused", "there is no tenant 'north'"),
        (["check", "--storage", "sqlite:///letter"], "storage_failed", ""),
        (["token", "create", "--label", "x", "--storage", "json:///letter/folder"], "storage_failed", ""),
        (["token", "create", "--label", "x", "--storage", "sqlite:///letter/file"], "storage_failed", ""),
    ],
)
def test_what_is_refused_is_a_line_on_stderr_an_object_on_stdout_and_a_one(
    words: list[str], code: str, message: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "letter").write_text("neither a database nor a folder\n" * 300)
    ran = run(*words, "--json")
    assert ran.code == 1
    assert ran.json["error"] == code
    assert ran.json["message"].startswith(message)
    assert ran.err == f"Error: {ran.json['message']}\n"
    assert (tmp_path / "letter").read_text() == "neither a database nor a folder\n" * 300


def test_a_setting_that_will_not_do_is_named_with_its_origin(run: Run) -> None:
    ran = run("config", "show", env={"CHALK_PORT": "http"})
    assert ran.code == 1
    assert ran.err == (
        "Error: port cannot be 'http' (environment variable CHALK_PORT): it must be a whole number, 0 to 65535\n"
    )


def test_the_settings_in_force_are_shown_with_where_they_come_from(run: Run, tmp_path: Path) -> None:
    (tmp_path / "chalk.toml").write_text("threads = 3\n")
    ran = run("config", "show", "--config", "chalk.toml", "--json", env={"CHALK_PORT": "9000"})
    rows = {row.pop("name"): row for row in ran.json["settings"]}
    assert list(rows) == [setting.name for setting in SETTINGS]
    assert rows["port"] == {"value": 9000, "source": "environment"}
    assert rows["threads"] == {"value": 3, "source": "file"}
    assert rows["lenient_parent"] == {"value": False, "source": "default"}


def test_settings_are_shown_without_passwords(run: Run) -> None:
    url = "postgresql://chalk:hunter2@db.example/roster"
    for words in (["--json"], []):
        ran = run("config", "show", "--storage", url, *words)
        assert "postgresql://chalk:***@db.example/roster" in ran.out
        assert "hunter2" not in ran.out


def test_the_backends_are_listed_with_what_they_can_do(run: Run) -> None:
    rows = {row["scheme"]: row for row in run("backends", "--json").json["backends"]}
    assert {"json", "memory", "sqlite"} <= set(rows)
    assert (rows["sqlite"]["durable"], rows["sqlite"]["shared"], rows["sqlite"]["from"]) == (True, True, "chalk-flask")
    assert (rows["memory"]["durable"], rows["memory"]["shared"]) == (False, False)
    assert run("backends").out.startswith("SCHEME  DURABLE  SHARED  FROM\n")


def test_help_comes_quickly_because_commands_import_when_they_run() -> None:
    code = "import json, sys; from chalk_flask.cli import main; print(json.dumps(sorted(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], env=ENVIRON, capture_output=True, text=True, check=True)
    heavy = {
        "waitress",
        "sqlite_utils",
        "backends.sqlite.backend",
        "backends.jsonfile.backend",
        "chalk_flask.roster.imports.importer",
    }
    assert not heavy & set(json.loads(loaded.stdout))


def test_help_is_there_in_a_moment() -> None:
    def took() -> float:
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "chalk_flask", "--help"], env=ENVIRON, capture_output=True, check=True)
        return time.monotonic() - started

    assert min(took() for _ in range(3)) < 1.0, "0.3 s is what it takes on a machine with nothing else to do"

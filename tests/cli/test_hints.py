"""Hints in messages: they repeat the options with which the command was called."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from chalk_flask.cli import main
from chalk_flask.cli.hints import complete_hints
from tests.cli.conftest import SAMPLE, RunCommand
from tests.support.packages import package_with_users


def command_in(text: str, start: str) -> list[str]:
    """Return the words of the command line in a text that starts with these words, without `chalk-flask`."""
    [line] = [line for line in text.splitlines() if f"chalk-flask {start}" in line]
    return shlex.split(line[line.index(f"chalk-flask {start}") :])[1:]


def test_held_import_hints_at_the_same_store_folder_and_tenant(run: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "chalk.toml").write_text("threads = 2\n")
    place = ("--config", "chalk.toml", "--storage=sqlite:///a b.db", "--data", "other data", "--tenant", "north")
    run("import", SAMPLE, "--storage", "sqlite:///a b.db")
    run("tenant", "create", "north", "--storage", "sqlite:///a b.db")
    run("import", package_with_users(200).zip(tmp_path / "all.zip"), *place)
    held = run("import", package_with_users(150).zip(tmp_path / "some.zip"), *place)
    assert held.code == 3
    command = command_in(held.err, "imports approve")
    assert {"--config", "--storage", "--data", "--tenant"} <= set(command)
    assert command.count("--tenant") == 1
    assert run(*command).code == 0


def test_hint_has_only_options_that_its_command_accepts(run: RunCommand) -> None:
    run("import", SAMPLE, "--storage", "sqlite:///a.db")
    created = run("tenant", "create", "north", "--storage", "sqlite:///a.db")
    assert command_in(created.out, "import PATH")[2:] == ["--tenant", "north", "--storage", "sqlite:///a.db"]
    listed = run("admin", "list", "--storage", "sqlite:///a.db")
    assert listed.out.endswith("chalk-flask admin create NAME --storage sqlite:///a.db\n")
    unknown = run("export", "x.zip", "--tenant", "nowhere", "--storage", "sqlite:///a.db")
    assert "`chalk-flask tenant create nowhere --storage sqlite:///a.db`" in unknown.err
    assert "`chalk-flask tenant list --storage sqlite:///a.db`" in unknown.err


def test_hint_does_not_repeat_a_password() -> None:
    arguments = ["check", "--storage", "db://user:hush@host/roster"]
    with main.make_context("chalk-flask", arguments):
        assert complete_hints("Run `chalk-flask check`.") == (
            "Run `chalk-flask check --storage 'db://user:***@host/roster'`."
        )


@pytest.mark.parametrize(
    ("args", "group"),
    [
        (("token", "rotate"), "token"),
        (("client", "revoke"), "client"),
        (("issuer", "remove"), "issuer"),
        (("webhook", "show"), "webhook"),
    ],
)
def test_unknown_id_names_the_list_of_the_same_store(args: tuple[str, ...], group: str, run: RunCommand) -> None:
    run("import", SAMPLE, "--storage", "sqlite:///a.db")
    rejected = run(*args, "nope", "--storage", "sqlite:///a.db")
    assert rejected.code == 1
    assert f"`chalk-flask {group} list --storage sqlite:///a.db`" in rejected.err


def test_demo_names_the_command_that_serves_its_store(run: RunCommand) -> None:
    created = run("demo", "--no-serve", "--json", "--storage", "sqlite:///demo.db", "--data", "keys").json
    assert created["next"] == "chalk-flask serve --storage sqlite:///demo.db --data keys"


@pytest.mark.parametrize(
    "args", [["-h"], ["token", "create", "-h"], ["help", "token", "create"], ["help"]], ids=" ".join
)
def test_short_option_and_command_help_show_the_help(args: list[str], run: RunCommand) -> None:
    result = run(*args)
    assert result.code == 0
    assert result.out.startswith(f"Usage: chalk-flask {'token create' if 'token' in args else '[OPTIONS]'}")


@pytest.mark.parametrize("args", [["serve", "--port", "80x"], ["config", "show", "--port", "many"]], ids=" ".join)
def test_invalid_setting_is_a_usage_error(args: list[str], run: RunCommand) -> None:
    result = run(*args)
    assert result.code == 2
    assert "port cannot be" in result.err


def test_invalid_variable_is_a_usage_error(run: RunCommand) -> None:
    result = run("check", env={"CHALK_PORT": "abc"})
    assert result.code == 2
    assert "port cannot be 'abc' (environment variable CHALK_PORT)" in result.err


def test_config_show_accepts_every_setting(run: RunCommand) -> None:
    rows = run("config", "show", "--port", "9", "--json").json["settings"]
    assert next(row for row in rows if row["name"] == "port") == {"name": "port", "value": 9, "source": "argument"}


def test_export_to_stdout_is_a_usage_error_without_a_file(run: RunCommand, tmp_path: Path) -> None:
    result = run("export", "-")
    assert result.code == 2
    assert not (tmp_path / "-").exists()

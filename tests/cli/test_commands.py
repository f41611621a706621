"""All commands: names, help, options, and lazy imports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
import pytest

from chalk_flask.cli import main
from chalk_flask.settings import SETTINGS
from tests.cli.conftest import ENVIRON, SAMPLE, RunCommand


def leaf_commands(
    group: click.Group = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield path and command of each command that is not a group."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaf_commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(leaf_commands())


def option_names(command: click.Command) -> set[str]:
    return {name for option in command.params for name in option.opts}


def test_commands_are_complete() -> None:
    assert {" ".join(args) for args in COMMANDS} == {
        "demo",
        "serve",
        "worker",
        "import",
        "validate",
        *("imports list", "imports show", "imports approve", "imports discard"),
        "secrets rotate",
        *("source add", "source set", "source list", "source show", "source remove", "source sync"),
        "export",
        "token create",
        "token list",
        "token rotate",
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
        *("admin create", "admin list", "admin reset", "admin mail", "admin delete"),
        "issuer add",
        "issuer list",
        "issuer remove",
        *(
            f"webhook {verb}"
            for verb in ("create", "list", "show", "pause", "resume", "rotate", "test", "replay", "delete")
        ),
        "mail test",
        "audit",
        "backup",
        "restore",
        "copy",
        "check",
        "config show",
        "backends",
        *("completion", "man-page"),
    }


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_help_has_an_example_of_the_command(args: tuple[str, ...], run: RunCommand) -> None:
    result = run(*args, "--help")
    assert result.code == 0
    assert f"Example: {'CHALK_PORT=9000 ' * (args[0] == 'config')}chalk-flask {' '.join(args)}" in result.out


def test_summaries_of_commands_are_complete_on_80_columns(run: RunCommand) -> None:
    groups = {args[:-1] for args in COMMANDS}
    pages = {args: run(*args, "--help", env={"COLUMNS": "80"}).out for args in groups}
    assert [args for args, page in pages.items() if "...\n" in page.partition("Commands:")[2]] == []


@pytest.mark.parametrize(
    ("command", "max_lines"), [("serve", 90), ("demo", 80), ("import", 80), ("worker", 40), ("token list", 20)]
)
def test_help_is_short_and_names_every_option(command: str, max_lines: int, run: RunCommand) -> None:
    page = run(*command.split(), "--help", env={"COLUMNS": "80"}).out
    assert len(page.splitlines()) <= max_lines
    assert max(map(len, page.splitlines())) <= 80
    names = {name for name in option_names(COMMANDS[tuple(command.split())]) if name.startswith("--")}
    assert {name for name in names if name not in page} == set()


def test_complete_help_explains_every_setting_in_its_section(run: RunCommand) -> None:
    page = run("serve", "--help-all", env={"COLUMNS": "80"}).out
    text = "".join(page.split())  # without the line breaks, some of which are within a word
    explained = [setting for setting in SETTINGS if not setting.secret]
    assert [setting.name for setting in explained if "".join(setting.help.split()) not in text] == []
    sections = page.split("Settings (")
    assert [part for part in sections if part.startswith("Mail)") and "--smtp-host" in part]
    assert "--help-all explains" not in page


def test_option_of_a_setting_is_rejected_like_other_sources(run: RunCommand) -> None:
    result = run("serve", "--port", "80x")
    rule = "it must be a whole number, 0 to 65535"
    assert (result.code, result.err) == (2, f"Error: port cannot be '80x' (option --port): {rule}\n")


def test_commands_accept_a_settings_file_and_a_store() -> None:
    accepting = {args for args in COMMANDS if {"--config", "--storage"} <= option_names(COMMANDS[args])}
    without = {("backends",), ("completion",), ("copy",), ("mail", "test"), ("man-page",), ("validate",)}
    assert set(COMMANDS) - accepting == without


def test_commands_accept_json() -> None:
    accepting = {args for args in COMMANDS if "--json" in option_names(COMMANDS[args])}
    assert set(COMMANDS) - accepting == {("completion",), ("man-page",), ("serve",), ("worker",)}


def test_serve_has_an_option_for_every_setting_but_secrets() -> None:
    options = option_names(COMMANDS["serve",])
    secrets = {f"--{setting.name.replace('_', '-')}" for setting in SETTINGS if setting.secret}
    assert {f"--{setting.name.replace('_', '-')}" for setting in SETTINGS} - secrets <= options
    assert secrets
    assert not [args for args in COMMANDS if option_names(COMMANDS[args]) & secrets]


def test_help_has_variable_and_default_of_a_setting(run: RunCommand) -> None:
    text = " ".join(run("serve", "--help").out.split())
    assert "TCP port to listen on; 0 chooses a free one. [CHALK_PORT; default 8080]" in text


def test_version_is_printed(run: RunCommand) -> None:
    try:
        number = version("chalk-flask")
    except PackageNotFoundError:
        number = "(from source; not installed)"
    assert run("--version").out == f"chalk-flask {number}\n"


def test_command_line_loads_heavy_modules_lazily() -> None:
    code = "import json, sys; from chalk_flask.cli import main; print(json.dumps(sorted(sys.modules)))"
    completed = subprocess.run([sys.executable, "-c", code], env=ENVIRON, capture_output=True, text=True, check=True)
    heavy = {
        "waitress",
        "sqlite_utils",
        "backends.sqlite.backend",
        "backends.jsonfile.backend",
        "chalk_flask.roster.imports.importer",
    }
    assert not heavy & set(json.loads(completed.stdout))


def test_commands_work_with_a_json_store(run: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHALK_STORAGE", "json:///chalk")

    def create(*args: str | Path) -> str:
        result = run(*args, "--json")
        assert result.code == 0, result.err
        return str(result.json.get("id") or result.json.get("client_id"))

    create("import", SAMPLE)
    create("tenant", "create", "north")
    token = create("token", "create", "--label", "x")
    client = create("client", "create", "--label", "x", "--oauth1")
    issuer = create("issuer", "add", "--iss", "https://x.example", "--aud", "a", "--jwks-url", "https://x.example/keys")
    webhook = create("webhook", "create", "--url", "https://x.example/hooks")
    for command in (
        *("imports list", "check", "export roster.zip", "audit", "config show", "copy json:///chalk json:///other"),
        *("tenant list", "tenant show north", "tenant set north --demographics", "tenant delete north --yes"),
        *("token list", f"token revoke {token}", "client list", f"client rotate {client}", f"client revoke {client}"),
        *("issuer list", f"issuer remove {issuer}", "webhook list", f"webhook show {webhook}"),
        *(f"webhook {verb} {webhook}" for verb in ("pause", "resume", "rotate", "replay --since 1h", "delete")),
    ):
        result = run(*command.split(), "--json")
        assert result.code == 0, (command, result.err)

"""Commands `admin`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from backends import Record, open_store
from chalk_flask.admins import ROLES, AdministratorStore
from chalk_flask.admins.passwords import PASSWORD_HASHER
from chalk_flask.auth.secrets import SecretCipher
from chalk_flask.cli import main
from chalk_flask.cli.commands.admin import ROLES as CLI_ROLES
from chalk_flask.storage import COLLECTIONS
from tests.cli.conftest import CommandResult, RunCommand

pytestmark = pytest.mark.usefixtures("empty_store")

RunWithInput = Callable[..., CommandResult]


@pytest.fixture
def run_with_input(run: RunCommand) -> RunWithInput:
    """RunCommand a command as `run` does, with bytes on stdin."""

    def execute(stdin: bytes, *args: str) -> CommandResult:
        result = CliRunner().invoke(main, args, input=stdin, prog_name="chalk-flask")
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return CommandResult(result.exit_code, result.stdout, result.stderr)

    return execute


def has_password(folder: Path, name: str, password: str) -> bool:
    with open_store(f"sqlite:///{folder}/chalk.db", COLLECTIONS) as store:
        administrator = AdministratorStore(store, SecretCipher(folder)).find(name)
    return administrator is not None and PASSWORD_HASHER.verify(administrator.password_hash, password)


def test_create_prints_a_password_once_and_list_shows_no_secret(run: RunCommand, tmp_path: Path) -> None:
    created = run("admin", "create", "Kim", "--json").json
    password = created.pop("password")
    assert has_password(tmp_path, "kim", password)
    assert (created["name"], created["tenant"], created["role"], created["totp"]) == ("kim", "default", "owner", False)
    assert run("admin", "list", "--json").json == {"administrators": [created]}
    text = run("admin", "list").out
    assert text.splitlines()[1].split() == ["kim", "default", "owner", "no", "never"]
    assert password not in text


def test_create_as_text_shows_the_password(run: RunCommand, tmp_path: Path) -> None:
    lines = run("admin", "create", "kim", "--operator", "--role", "viewer").out.splitlines()
    assert has_password(tmp_path, "kim", lines[0])
    assert "The password is shown only this once: store it safely." in lines
    assert "tenant  all (operator)" in lines
    assert "role    viewer" in lines


def test_password_is_read_from_stdin(run_with_input: RunWithInput, tmp_path: Path) -> None:
    result = run_with_input(b"p\xc3\xa4ssword with spaces \r\nrest", "admin", "create", "kim", "--password-stdin")
    assert "The password is set." in result.out
    assert has_password(tmp_path, "kim", "pässword with spaces ")
    result = run_with_input(b"another password\n", "admin", "reset", "kim", "--password-stdin", "--json")
    assert result.json["password"] is None
    assert has_password(tmp_path, "kim", "another password")


@pytest.mark.parametrize("stdin", [b"", b"\n", b"short\n", b"\xff\xfe invalid UTF-8\n", b"x" * 100_000])
def test_unusable_password_creates_no_administrator(
    stdin: bytes, run: RunCommand, run_with_input: RunWithInput
) -> None:
    result = run_with_input(stdin, "admin", "create", "kim", "--password-stdin", "--json")
    assert (result.code, result.json["error"]) == (1, "refused")
    assert "x" * 100 not in result.out
    assert run("admin", "list", "--json").json == {"administrators": []}


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["create", "x"], 1, "invalid name of 1 characters"),
        (["create", "kim", "--tenant", "north"], 1, "there is no tenant 'north'"),
        (["create", "kim", "--tenant", "_control"], 1, "there is no tenant '_control'"),
        (["create", "kim", "--tenant", "default", "--operator"], 2, "an operator has access to all tenants"),
        (["create", "kim", "--role", "king"], 2, "Invalid value for '--role'"),
        (["create", "kim", "--storage", "memory:"], 2, "memory: loses its data"),
        (["reset", "kim"], 1, "there is no administrator with this name"),
        (["delete", "kim"], 1, "there is no administrator with this name"),
    ],
)
def test_impossible_command_is_rejected(args: list[str], code: int, message: str, run: RunCommand) -> None:
    result = run("admin", *args, "--json")
    assert (result.code, result.json["message"][: len(message)]) == (code, message)
    assert run("admin", "list", "--json").json == {"administrators": []}


def test_existing_name_is_rejected(run: RunCommand, tmp_path: Path) -> None:
    password = run("admin", "create", "kim", "--json").json["password"]
    result = run("admin", "create", "KIM", "--operator", "--json")
    assert (result.code, "with this name already" in result.json["message"]) == (1, True)
    assert has_password(tmp_path, "kim", password)


def test_reset_prints_another_password(run: RunCommand, tmp_path: Path) -> None:
    former = run("admin", "create", "kim", "--json").json["password"]
    password = run("admin", "reset", "KIM", "--disable-totp").out.splitlines()[0]
    assert has_password(tmp_path, "kim", password)
    assert not has_password(tmp_path, "kim", former)


def test_delete_spares_the_last_owner_operator(run: RunCommand) -> None:
    run("admin", "create", "kim", "--operator")
    run("admin", "create", "lee", "--role", "editor")
    assert run("admin", "delete", "lee").out == "Deleted the administrator lee.\n"
    result = run("admin", "delete", "kim", "--json")
    assert (result.code, result.json["message"][:41]) == (1, "the last operator with the role owner and")
    assert [record["name"] for record in run("admin", "list", "--json").json["administrators"]] == ["kim"]


def test_changes_are_in_the_audit_log_with_the_user(run: RunCommand) -> None:
    created = run("admin", "create", "kim", "--json").json
    run("admin", "reset", "kim")
    run("admin", "delete", "kim")
    out = run("audit", "--json").out
    for event in ("administrator.created", "administrator.changed", "administrator.deleted"):
        assert event in out
    assert created["id"] in out
    assert '"kim"' not in out


def test_roles_of_the_command_are_those_of_the_table() -> None:
    assert CLI_ROLES == ROLES


def test_copy_takes_administrators_but_no_sessions(run: RunCommand, tmp_path: Path) -> None:
    run("admin", "create", "kim")
    with open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store, store.write("_control") as control:
        control.put("sessions", [Record("s", b'{"administrator":"a","expires":"9"}', {"administrator": "a"})])
    assert run("copy", "sqlite:///chalk.db", "json:///copied", "--json").json["tenants"]["_control"] == {
        "administrators": 1,
        "audit": 1,
    }
    copied = run("admin", "list", "--storage", "json:///copied", "--json").json
    assert copied == run("admin", "list", "--json").json

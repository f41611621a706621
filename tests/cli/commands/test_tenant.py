"""Commands `tenant`, and other commands with `--tenant`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from backends import open_store
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.cli import main
from chalk_flask.cli.package_import import run_import
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants.store import TenantError, TenantStore
from tests.cli.conftest import SAMPLE, CommandResult, RunCommand

pytestmark = pytest.mark.usefixtures("empty_store")

DEFAULT_TENANT = {
    "name": "default",
    "created": None,
    "demographics": True,
    "maxDeleted": None,
    "maxChanged": None,
    "maxQuarantined": None,
    "invalidRows": None,
    "lenient": False,
    "tombstoneDays": None,
    "deliveryDays": None,
    "historyDays": None,
}

RunWithInput = Callable[..., CommandResult]


@pytest.fixture
def run_with_input(run: RunCommand) -> RunWithInput:
    """RunCommand a command as `run` does, with a person's answer on stdin."""

    def execute(stdin: str, *args: str) -> CommandResult:
        result = CliRunner().invoke(main, args, input=stdin, prog_name="chalk-flask")
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return CommandResult(result.exit_code, result.stdout, result.stderr)

    return execute


def create(run: RunCommand, *args: str) -> CommandResult:
    result = run("tenant", "create", *args)
    assert result.code == 0, result.err
    return result


def names(run: RunCommand) -> list[str]:
    return [tenant["name"] for tenant in run("tenant", "list", "--json").json["tenants"]]


def test_create_prints_an_object_that_is_listed(run: RunCommand) -> None:
    created = create(run, "north", "--demographics", "--json").json
    assert (created["name"], created["demographics"]) == ("north", True)
    assert created["created"].endswith("Z")
    assert run("tenant", "list", "--json").json == {"tenants": [DEFAULT_TENANT, created]}
    assert create(run, "south", "--json").json["demographics"] is False


def test_create_as_text_names_the_next_command(run: RunCommand) -> None:
    out = create(run, "north").out
    assert "Demographics of the tenant north are not served." in out
    assert "chalk-flask import PATH --tenant north" in out
    assert "north" in run("tenant", "list").out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["create", "_control"], "'_control' cannot be the name of a tenant"),
        (["create", "a/b"], "'a/b' cannot be the name of a tenant"),
        (["create", "default"], "there is a tenant 'default' already"),
        (["show", "north"], "there is no tenant 'north': `chalk-flask tenant create north` creates one"),
        (["set", "north", "--demographics"], "there is no tenant 'north'"),
        (["delete", "north", "--yes"], "there is no tenant 'north'"),
        (["delete", "default", "--yes"], "the tenant 'default' always exists"),
    ],
)
def test_impossible_command_is_rejected_and_creates_nothing(
    args: list[str], message: str, run: RunCommand, tmp_path: Path
) -> None:
    result = run("tenant", *args, "--json")
    assert (result.code, result.json["error"]) == (1, "refused")
    assert result.json["message"].startswith(message)
    assert result.err == f"Error: {result.json['message']}\n"
    assert not (tmp_path / "chalk-data").exists()


@pytest.mark.parametrize("args", [["create", "north"], ["set", "default", "--demographics"]], ids=" ".join)
def test_store_in_memory_is_a_usage_error(args: list[str], run: RunCommand, tmp_path: Path) -> None:
    result = run("tenant", *args, "--storage", "memory:", "--json")
    assert (result.code, result.json["error"]) == (2, "usage")
    assert result.json["message"].startswith("memory: loses its data")
    assert not (tmp_path / "chalk-data").exists()


def test_create_rejects_an_existing_name_in_other_case(run: RunCommand) -> None:
    create(run, "north")
    result = run("tenant", "create", "North", "--json")
    assert (result.code, result.json["message"]) == (1, "there is a tenant 'north' already; choose another name")


@pytest.mark.parametrize("url", ["sqlite:///chalk.db", "json:///chalk"])
def test_delete_removes_the_roster_and_tokens_of_the_tenant(run: RunCommand, tmp_path: Path, url: str) -> None:
    store = ("--storage", url)
    open_store(url.replace(":///", f":///{tmp_path}/"), COLLECTIONS).close()
    create(run, "north", *store)
    assert run("import", SAMPLE, "--tenant", "north", *store).code == 0
    created = run("token", "create", "--label", "x", "--tenant", "north", "--json", *store).json
    shown = run("tenant", "show", "north", "--json", *store).json
    assert shown["counts"] == run("check", "--tenant", "north", "--json", *store).json["counts"]
    assert (shown["counts"]["users"] > 10, shown["tokens"]) == (True, 1)
    assert run("check", "--json", *store).json["counts"] == {}
    assert f"{shown['counts']['users']} users" in run("tenant", "show", "north", *store).out

    deleted = run("tenant", "delete", "north", "--yes", "--json", *store).json
    assert deleted["name"] == "north"
    assert deleted["erased"]["tokens"] == 1
    assert deleted["erased"]["records"] >= sum(shown["counts"].values())
    assert run("check", "--tenant", "north", *store).code == 1
    assert run("token", "list", "--json", *store).json == {"tokens": []}
    with open_store(url.replace("///", f"///{tmp_path}/"), COLLECTIONS) as opened:
        assert TokenStore(opened).authenticate(created["token"])[0] is None


def test_delete_requires_the_name_as_confirmation(run: RunCommand, run_with_input: RunWithInput) -> None:
    create(run, "north")
    for answer in ("no\n", "North\n", ""):
        result = run_with_input(answer, "tenant", "delete", "north")
        assert (result.code, result.out) == (1, "")
        assert "nothing was deleted" in result.err
    assert names(run) == ["default", "north"]
    result = run_with_input("north\n", "tenant", "delete", "north")
    assert result.code == 0
    assert result.out.startswith("Deleted the tenant north: ")
    assert names(run) == ["default"]


def test_delete_with_json_requires_yes(run: RunCommand) -> None:
    create(run, "north")
    result = run("tenant", "delete", "north", "--json")
    assert (result.code, result.json) == (
        2,
        {"error": "usage", "message": "--json requires --yes, because it cannot ask for confirmation"},
    )
    assert names(run) == ["default", "north"]


ISSUER = "issuer add --iss https://lms.example --aud chalk --jwks-url https://lms.example/keys"


@pytest.mark.parametrize(
    "args",
    [
        *(["import", str(SAMPLE)], ["export", "out.zip"], ["check"]),
        *(["token", "create", "--label", "x"], ["client", "create", "--label", "x"], ISSUER.split()),
    ],
    ids=lambda args: args[0],
)
def test_commands_for_an_unknown_tenant_create_nothing(args: list[str], run: RunCommand, tmp_path: Path) -> None:
    for name in ("north", "_control", "../x"):
        result = run(*args, "--tenant", name, "--json")
        assert (result.code, result.json["error"]) == (1, "refused")
        assert result.json["message"].startswith(f"there is no tenant {name!r}: `chalk-flask tenant create ")
        assert not (tmp_path / "chalk-data").exists()
    create(run, "south")
    assert run(*args, "--tenant", "north", "--json").json["message"].startswith("there is no tenant 'north'")
    assert names(run) == ["default", "south"]


def test_tenant_deleted_during_an_import_gets_no_roster(
    run: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(run, "north")
    url = f"sqlite:///{tmp_path}/chalk.db"

    def run_after_deletion(*import_args: object, **options: object) -> object:
        with open_store(url, COLLECTIONS) as other:
            TenantStore(other).delete("north")
        return run_import(*import_args, **options)  # type: ignore[arg-type]  # the arguments of the caller

    monkeypatch.setattr("chalk_flask.cli.commands.import_.run_import", run_after_deletion)
    result = run("import", SAMPLE, "--tenant", "north", "--json")
    assert (result.code, json.loads(result.out)["error"]) == (1, "refused")
    with open_store(url, COLLECTIONS) as store:
        with pytest.raises(TenantError, match="there is no tenant"):
            TenantStore(store).delete("north")
        TenantStore(store).create("north")


def test_opt_out_withholds_demographics_from_webhooks(run: RunCommand) -> None:
    create(run, "north", "--demographics")
    args = ("--tenant", "north", "--entity", "demographics", "--entity", "user", "--json")
    created = run("webhook", "create", "--url", "https://tool.example.org/hooks", *args).json
    assert run("tenant", "set", "north", "--no-demographics").code == 0
    assert run("webhook", "show", created["id"], "--tenant", "north", "--json").json["withheld"] == ["demographics"]
    assert "the tenant has not opted in" in run("webhook", "show", created["id"], "--tenant", "north").out
    assert run("webhook", "create", "--url", "https://tool.example.org/hooks", *args).code == 1
    assert run("tenant", "set", "north", "--demographics").code == 0
    assert run("webhook", "show", created["id"], "--tenant", "north", "--json").json["withheld"] == []


def test_tombstone_days_of_the_tenant_apply_unless_an_option_is_given(run: RunCommand) -> None:
    changed = run("tenant", "set", "default", "--tombstone-days", "120", "--delivery-days", "7", "--json").json
    assert (changed["tombstoneDays"], changed["deliveryDays"]) == (120, 7)
    for options, days in (((), 120), (("--tombstone-days", "200"), 200)):
        imported = run("import", SAMPLE, *options, "--json").json
        assert run("imports", "show", imported["run"], "--json").json["options"]["tombstoneDays"] == days
    assert run("tenant", "set", "default", "--tombstone-days", "default", "--json").json["tombstoneDays"] is None
    assert run("tenant", "set", "default", "--tombstone-days", "89", "--json").code == 2


def test_history_days_can_be_none_or_the_setting_of_the_service(run: RunCommand) -> None:
    for text, days in (("0", 0), ("30", 30), ("default", None)):
        assert run("tenant", "set", "default", "--history-days", text, "--json").json["historyDays"] == days
    assert run("tenant", "set", "default", "--history-days", "36501").code == 2
    assert "history          setting of the service (default)" in run("tenant", "show", "default").out

"""Tenants from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner

from backends import open_store
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.cli import main
from chalk_flask.cli.package_import import load_package
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants.store import TenantError, TenantStore
from tests.cli.conftest import Ran, Run

SAMPLE = Path(str(files("chalk_flask.demo")))
ALWAYS = {"name": "default", "created": None, "demographics": True, "maxDeleted": None, "maxChanged": None}

Typed = Callable[..., Ran]


@pytest.fixture
def typed(run: Run) -> Typed:
    """Run a command as `run` does, with a person's answer on stdin."""

    def ran(answer: str, *words: str) -> Ran:
        result = CliRunner().invoke(main, words, input=answer, prog_name="chalk-flask")
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return Ran(result.exit_code, result.stdout, result.stderr)

    return ran


def create(run: Run, *words: str) -> Ran:
    ran = run("tenant", "create", *words)
    assert ran.code == 0, ran.err
    return ran


def names(run: Run) -> list[str]:
    return [each["name"] for each in run("tenant", "list", "--json").json["tenants"]]


def test_a_created_tenant_is_one_object_and_is_listed(run: Run) -> None:
    made = create(run, "north", "--demographics", "--json").json
    assert (made["name"], made["demographics"]) == ("north", True)
    assert made["created"].endswith("Z")
    assert run("tenant", "list", "--json").json == {"tenants": [ALWAYS, made]}
    assert create(run, "south", "--json").json["demographics"] is False


def test_a_person_is_told_what_comes_next(run: Run) -> None:
    out = create(run, "north").out
    assert "Demographics of the tenant north are not served." in out
    assert "chalk-flask import PATH --tenant north" in out
    assert "north" in run("tenant", "list").out


def test_looking_creates_no_store(run: Run, tmp_path: Path) -> None:
    assert run("tenant", "list", "--json").json == {"tenants": [ALWAYS]}
    assert run("tenant", "show", "default", "--json").json == {
        **ALWAYS,
        "counts": {},
        "tokens": 0,
        "clients": 0,
        "issuers": 0,
    }
    assert "built in" in run("tenant", "show", "default").out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["create", "_control"], "'_control' cannot be the name of a tenant"),
        (["create", "a/b"], "'a/b' cannot be the name of a tenant"),
        (["create", "default"], "there is a tenant 'default' already"),
        (["create", "north", "--storage", "memory:"], "memory: loses its data"),
        (["set", "default", "--demographics", "--storage", "memory:"], "memory: loses its data"),
        (["show", "north"], "there is no tenant 'north': `chalk-flask tenant create north` creates one"),
        (["set", "north", "--demographics"], "there is no tenant 'north'"),
        (["delete", "north", "--yes"], "there is no tenant 'north'"),
        (["delete", "default", "--yes"], "the tenant 'default' always exists"),
    ],
)
def test_what_cannot_be_done_is_refused_and_creates_nothing(
    words: list[str], message: str, run: Run, tmp_path: Path
) -> None:
    ran = run("tenant", *words, "--json")
    assert (ran.code, ran.json["error"]) == (1, "refused")
    assert ran.json["message"].startswith(message)
    assert ran.err == f"Error: {ran.json['message']}\n"
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_taken_is_refused(run: Run) -> None:
    create(run, "north")
    ran = run("tenant", "create", "North", "--json")
    assert (ran.code, ran.json["message"]) == (1, "there is a tenant 'north' already; choose another name")


def test_a_tenant_is_opted_in_and_out_also_the_default_one_before_there_is_a_store(run: Run) -> None:
    assert run("tenant", "set", "default", "--no-demographics", "--json").json == {**ALWAYS, "demographics": False}
    assert run("tenant", "show", "default", "--json").json["demographics"] is False
    create(run, "north")
    assert "are served to credentials with that scope" in run("tenant", "set", "north", "--demographics").out
    assert run("tenant", "show", "north", "--json").json["demographics"] is True
    ran = run("tenant", "set", "north", "--json")
    assert (ran.code, ran.json["error"]) == (2, "usage")


@pytest.mark.parametrize("url", ["sqlite:///chalk.db", "json:///chalk"])
def test_a_tenant_has_a_roster_and_tokens_of_its_own_until_it_is_deleted(run: Run, tmp_path: Path, url: str) -> None:
    store = ("--storage", url)
    create(run, "north", *store)
    assert run("import", SAMPLE, "--tenant", "north", *store).code == 0
    made = run("token", "create", "--label", "x", "--tenant", "north", "--json", *store).json
    shown = run("tenant", "show", "north", "--json", *store).json
    assert shown["counts"] == run("check", "--tenant", "north", "--json", *store).json["counts"]
    assert (shown["counts"]["users"] > 10, shown["tokens"]) == (True, 1)
    assert run("check", "--json", *store).json["counts"] == {}
    assert f"{shown['counts']['users']} users" in run("tenant", "show", "north", *store).out

    erased = run("tenant", "delete", "north", "--yes", "--json", *store).json
    assert erased["name"] == "north"
    assert erased["erased"]["tokens"] == 1
    assert erased["erased"]["records"] >= sum(shown["counts"].values())
    assert run("check", "--tenant", "north", *store).code == 1
    assert run("token", "list", "--json", *store).json == {"tokens": []}
    with open_store(url.replace("///", f"///{tmp_path}/"), COLLECTIONS) as opened:
        assert TokenStore(opened).authenticate(made["token"])[0] is None


def test_the_name_is_typed_to_delete_a_tenant(run: Run, typed: Typed) -> None:
    create(run, "north")
    for answer in ("no\n", "North\n", ""):
        ran = typed(answer, "tenant", "delete", "north")
        assert (ran.code, ran.out) == (1, "")
        assert "nothing was deleted" in ran.err
    assert names(run) == ["default", "north"]
    ran = typed("north\n", "tenant", "delete", "north")
    assert ran.code == 0
    assert ran.out.startswith("Deleted the tenant north: ")
    assert names(run) == ["default"]


def test_a_script_says_yes(run: Run) -> None:
    create(run, "north")
    ran = run("tenant", "delete", "north", "--json")
    assert (ran.code, ran.json) == (
        2,
        {"error": "usage", "message": "--json requires --yes, because it cannot ask for confirmation"},
    )
    assert names(run) == ["default", "north"]


ISSUER = "issuer add --iss https://lms.example --aud chalk --jwks-url https://lms.example/keys"


@pytest.mark.parametrize(
    "words",
    [
        *(["import", str(SAMPLE)], ["export", "out.zip"], ["check"]),
        *(["token", "create", "--label", "x"], ["client", "create", "--label", "x"], ISSUER.split()),
    ],
    ids=lambda words: words[0],
)
def test_what_is_for_a_tenant_that_does_not_exist_is_refused_and_creates_nothing(
    words: list[str], run: Run, tmp_path: Path
) -> None:
    for name in ("north", "_control", "../x"):
        ran = run(*words, "--tenant", name, "--json")
        assert (ran.code, ran.json["error"]) == (1, "refused")
        assert ran.json["message"].startswith(f"there is no tenant {name!r}: `chalk-flask tenant create ")
        assert not list(tmp_path.iterdir())
    create(run, "south")
    assert run(*words, "--tenant", "north", "--json").json["message"].startswith("there is no tenant 'north'")
    assert names(run) == ["default", "south"]


@pytest.mark.parametrize("url", ["sqlite:///chalk.db", "json:///chalk"])
def test_a_tenant_that_is_deleted_while_its_package_is_checked_gets_no_roster(
    run: Run, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(run, "north", "--storage", url)
    whole = url.replace("///", f"///{tmp_path}/")

    def deleted_meanwhile(*given: object) -> object:
        with open_store(whole, COLLECTIONS) as other:
            TenantStore(other).delete("north")
        return load_package(*given)  # type: ignore[arg-type]  # what it was called with

    monkeypatch.setattr("chalk_flask.cli.commands.import_.load_package", deleted_meanwhile)
    ran = run("import", SAMPLE, "--tenant", "north", "--storage", url, "--json")
    assert (ran.code, json.loads(ran.out)["error"]) == (1, "refused")
    with open_store(whole, COLLECTIONS) as store:
        with pytest.raises(TenantError, match="there is no tenant"):
            TenantStore(store).delete("north")
        TenantStore(store).create("north")


def test_a_tenant_that_is_opted_out_ends_what_its_webhooks_are_told(run: Run) -> None:
    create(run, "north", "--demographics")
    words = ("--tenant", "north", "--entity", "demographics", "--entity", "user", "--json")
    made = run("webhook", "create", "--url", "https://tool.example.org/hooks", *words).json
    assert run("tenant", "set", "north", "--no-demographics").code == 0
    assert run("webhook", "show", made["id"], "--tenant", "north", "--json").json["withheld"] == ["demographics"]
    assert "the tenant has not opted in" in run("webhook", "show", made["id"], "--tenant", "north").out
    assert run("webhook", "create", "--url", "https://tool.example.org/hooks", *words).code == 1
    assert run("tenant", "set", "north", "--demographics").code == 0
    assert run("webhook", "show", made["id"], "--tenant", "north", "--json").json["withheld"] == []

"""Commands `token`: API tokens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from backends import open_store
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.permissions.scopes import ALL, DEFAULT, GRADEBOOK, ROSTER, sort_scopes
from chalk_flask.storage import COLLECTIONS
from tests.cli.conftest import SAMPLE, CommandResult, RunCommand

pytestmark = pytest.mark.usefixtures("empty_store")


def is_valid(token: str, folder: Path) -> bool:
    with open_store(f"sqlite:///{folder}/chalk.db", COLLECTIONS) as store:
        return TokenStore(store).authenticate(token)[0] is not None


def create(run: RunCommand, *args: str) -> CommandResult:
    result = run("token", "create", "--label", "Reading app", "--json", *args)
    assert result.code == 0, result.err
    return result


def test_create_prints_an_object_with_a_working_token(run: RunCommand, tmp_path: Path) -> None:
    created = create(run).json
    assert list(created) == ["token", "id", "prefix", "tenant", "scopes", "limits", "expires"]
    assert created["token"].startswith(created["prefix"])
    assert (created["tenant"], created["scopes"], created["expires"]) == ("default", sort_scopes(DEFAULT), None)
    assert is_valid(created["token"], tmp_path)


def test_create_as_text_warns_that_the_token_is_shown_once(run: RunCommand, tmp_path: Path) -> None:
    result = run("token", "create", "--label", "Reading app")
    assert is_valid(result.out.splitlines()[0], tmp_path)
    assert "The token is shown only this once" in result.out


@pytest.mark.parametrize(
    ("args", "scopes"),
    [
        (["--scope", "all"], list(ALL)),
        (["--scope", ROSTER], [ROSTER]),
        (["--scope", "gradebook.readonly", "--scope", "roster.readonly"], [ROSTER, GRADEBOOK]),
    ],
)
def test_create_accepts_scopes_as_uri_name_or_all(args: list[str], scopes: list[str], run: RunCommand) -> None:
    assert create(run, *args).json["scopes"] == scopes


def test_unknown_scope_is_a_usage_error_with_the_choices(run: RunCommand, tmp_path: Path) -> None:
    result = run("token", "create", "--label", "x", "--scope", "roster")
    assert result.code == 2
    assert "unknown scope 'roster'; the scopes are roster-core.readonly" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["chalk.db"]


def test_create_stores_the_expiry(run: RunCommand) -> None:
    expires = datetime.fromisoformat(create(run, "--expires", "90d").json["expires"])
    assert abs(expires - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=1)


def test_invalid_expiry_is_a_usage_error(run: RunCommand) -> None:
    result = run("token", "create", "--label", "x", "--expires", "0d")
    assert result.code == 2
    assert "is not a duration" in result.err


def test_create_from_a_hash_accepts_the_token_once(run: RunCommand, tmp_path: Path) -> None:
    token = "chk_" + "5eed" * 16
    created = create(run, "--sha256", sha256(token.encode()).hexdigest()).json
    assert (created["token"], created["prefix"]) == (None, None)
    assert is_valid(token, tmp_path)
    second = run("token", "create", "--label", "x", "--sha256", sha256(token.encode()).hexdigest(), "--json")
    assert (second.code, second.json["error"]) == (1, "refused")


@pytest.mark.parametrize("args", [["--sha256", "abc"], ["--label", ""], ["--tenant", "north"]])
def test_create_rejects_invalid_values(args: list[str], run: RunCommand) -> None:
    result = run("token", "create", "--label", "x", "--json", *args)
    assert (result.code, result.json["error"]) == (1, "refused")


def test_create_in_memory_is_rejected(run: RunCommand) -> None:
    result = run("token", "create", "--label", "x", "--storage", "memory:")
    assert result.code == 2
    assert "memory: loses its data when this command ends" in result.err


def test_list_has_prefixes_but_neither_tokens_nor_hashes(run: RunCommand) -> None:
    created = create(run).json
    for result in (run("token", "list", "--json"), run("token", "list")):
        assert created["id"] in result.out
        assert created["prefix"] in result.out
        assert created["token"] not in result.out
        assert sha256(created["token"].encode()).hexdigest() not in result.out
    [listed] = run("token", "list", "--json").json["tokens"]
    assert (listed["label"], listed["state"], listed["lastUsed"]) == ("Reading app", "active", None)


def test_revoked_token_is_rejected_and_stays_in_the_list(run: RunCommand, tmp_path: Path) -> None:
    created = create(run).json
    result = run("token", "revoke", created["id"], "--json")
    assert (result.code, result.json["state"]) == (0, "revoked")
    assert not is_valid(created["token"], tmp_path)
    assert run("token", "list", "--json").json["tokens"][0]["state"] == "revoked"


def test_revoke_rejects_an_unknown_id(run: RunCommand) -> None:
    create(run)
    result = run("token", "revoke", "unknown", "--json")
    assert (result.code, result.json["error"]) == (1, "refused")
    assert "'unknown'" in result.json["message"]


def test_create_and_list_have_access_restrictions(run: RunCommand) -> None:
    args = ["--restrict-org", "s-1", "--restrict-org", "s-2", "--restrict-grade", "09", "--restrict-class", "c-1"]
    args += ["--deny", "results", "--redact", "email"]
    limits = {
        "orgs": ["s-1", "s-2"],
        "grades": ["09"],
        "classes": ["c-1"],
        "denied": ["results"],
        "redacted": ["email"],
    }
    assert create(run, *args).json["limits"] == limits
    assert run("token", "list", "--json").json["tokens"][0]["limits"] == limits
    assert (
        "limits  orgs s-1; without email"
        in run("token", "create", "--label", "x", "--restrict-org", "s-1", "--redact", "email").out
    )
    assert "  orgs s-1; without email  " in run("token", "list").out
    assert "  orgs s-1,s-2; grades 09; classes c-1; no results; without...  " in run("token", "list").out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--deny", "people"], "unknown collection 'people'; the collections are orgs"),
        (["--redact", "e-mail"], "unknown field 'e-mail'; similar fields that can be redacted are email, and"),
        (["--redact", "xyzzy"], "unknown field 'xyzzy'; give the name of a member as the API serves it"),
        (["--redact", "sourcedId"], "sourcedId cannot be redacted"),
        (["--limit-org", " "], "the id of an org cannot be blank"),
        (["--scope", "imports.write", "--deny", "results"], "the scope imports.write requires a credential without"),
    ],
)
def test_invalid_access_restrictions_are_a_usage_error(
    args: list[str], message: str, run: RunCommand, tmp_path: Path
) -> None:
    result = run("token", "create", "--label", "x", *args)
    assert result.code == 2
    assert message in " ".join(result.err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["chalk.db"]


def test_rotate_prints_the_new_token_and_keeps_the_former_one(run: RunCommand, tmp_path: Path) -> None:
    created = create(run).json
    rotated = run("token", "rotate", created["id"], "--json").json
    assert list(rotated) == [*created, "former_valid_until"]
    assert (rotated["scopes"], rotated["tenant"]) == (created["scopes"], created["tenant"])
    assert is_valid(rotated["token"], tmp_path)
    assert is_valid(created["token"], tmp_path)


def test_rotate_without_overlap_revokes_the_former_token(run: RunCommand, tmp_path: Path) -> None:
    created = create(run).json
    result = run("token", "rotate", created["id"], "--overlap", "0s")
    assert "The token is shown only this once" in result.out
    assert f"The former token {created['id']} is revoked." in result.out
    assert not is_valid(created["token"], tmp_path)


def test_rotate_prints_the_end_of_the_former_token(run: RunCommand) -> None:
    created = create(run).json
    result = run("token", "rotate", created["id"], "--overlap", "2h")
    [former] = [token for token in run("token", "list", "--json").json["tokens"] if token["id"] == created["id"]]
    assert f"The former token {created['id']} stays valid until {former['expires']}." in result.out.splitlines()


def test_rotate_without_overlap_prints_no_end_as_json(run: RunCommand) -> None:
    rotated = run("token", "rotate", create(run).json["id"], "--overlap", "0s", "--json").json
    assert rotated["former_valid_until"] is None


def test_create_warns_about_restrictions_that_show_nothing(run: RunCommand) -> None:
    assert run("import", SAMPLE).code == 0
    known = ("--restrict-org", "org-district", "--restrict-grade", "11")
    assert "has no" not in run("token", "create", "--label", "x", *known).err
    unknown = ("--restrict-org", "nope", "--restrict-class", "none", "--restrict-grade", "99")
    err = run("token", "create", "--label", "x", *unknown).err
    for kind in ("org 'nope'", "class 'none'", "student of grade '99'"):
        assert f"Note: the tenant default has no {kind} yet" in err

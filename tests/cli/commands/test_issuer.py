"""Commands `issuer`: trusted issuers of JWTs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backends import open_store
from chalk_flask.auth.jwt.verifier import JwtVerifier
from chalk_flask.permissions.scopes import DEFAULT, GRADEBOOK, ROSTER, sort_scopes
from chalk_flask.storage import COLLECTIONS
from tests.cli.conftest import CommandResult, RunCommand
from tests.support.keys import AUDIENCE, ISSUER, make_jwks, rsa_key, sign_jwt

pytestmark = pytest.mark.usefixtures("empty_store")

KEY = rsa_key("old")
URL = "https://tool.example.org/jwks.json"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_bytes(make_jwks(KEY))
    return path


def add(run: RunCommand, *args: str | Path) -> CommandResult:
    result = run("issuer", "add", "--iss", ISSUER, "--aud", AUDIENCE, "--json", *args)
    assert result.code == 0, result.err
    return result


def is_accepted(token: str, folder: Path) -> bool:
    with open_store(f"sqlite:///{folder}/chalk.db", COLLECTIONS) as store:
        return JwtVerifier(store).authenticate(token)[0] is not None


def test_add_prints_an_object_and_its_tokens_are_accepted(run: RunCommand, keys: Path, tmp_path: Path) -> None:
    created = add(run, "--jwks-file", keys, "--label", "Grade tool", "--replay").json
    assert (created["label"], created["tenant"], created["iss"], created["aud"]) == (
        "Grade tool",
        "default",
        ISSUER,
        AUDIENCE,
    )
    assert (created["scopes"], created["limits"], created["jwksUrl"], created["replay"]) == (
        sort_scopes(DEFAULT),
        {},
        None,
        True,
    )
    assert [key["kid"] for key in created["jwks"]["keys"]] == ["old"]
    assert is_accepted(sign_jwt(KEY, jti="one"), tmp_path)


def test_add_stores_scopes_and_jwks_url(run: RunCommand) -> None:
    created = add(run, "--jwks-url", URL, "--scope", "gradebook.readonly", "--scope", ROSTER).json
    assert (created["jwksUrl"], created["jwks"], created["scopes"]) == (URL, None, [ROSTER, GRADEBOOK])


def test_issuer_belongs_to_one_existing_tenant(run: RunCommand) -> None:
    assert run("tenant", "create", "north").code == 0
    assert add(run, "--jwks-url", URL, "--tenant", "north").json["tenant"] == "north"
    second = run("issuer", "add", "--iss", ISSUER, "--aud", AUDIENCE, "--jwks-url", URL, "--json")
    assert (second.code, second.json["error"]) == (1, "refused")
    assert "already trusted" in second.json["message"]
    unknown_tenant = run("issuer", "add", "--iss", ISSUER, "--aud", "urn:south", "--jwks-url", URL, "--tenant", "south")
    assert unknown_tenant.code == 1
    assert "there is no tenant 'south'" in unknown_tenant.err


def test_private_key_is_rejected_and_not_shown(run: RunCommand, tmp_path: Path) -> None:
    path, private = tmp_path / "private.json", KEY.as_dict(private=True)
    path.write_text(json.dumps({"keys": [private]}))
    result = run("issuer", "add", "--iss", ISSUER, "--aud", AUDIENCE, "--jwks-file", path)
    assert result.code == 1
    assert "key 1 of the set is private, which only the issuer may have" in result.err
    assert str(private["d"]) not in result.err + result.out
    assert "There are no trusted issuers." in run("issuer", "list").out


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "one of them"),
        (["--jwks-url", URL, "--jwks-file", "jwks.json"], 2, "one of them"),
        (["--jwks-url", URL, "--scope", "roster"], 2, "unknown scope 'roster'"),
        (["--jwks-url", "http://tool.example.org/"], 1, "by https only"),
        (["--jwks-file", "no-such-file"], 1, "no-such-file: No such file or directory"),
        (["--jwks-file", "."], 1, "Is a directory"),
        (["--jwks-url", URL, "--storage", "memory:"], 2, "loses its data when this command ends"),
    ],
)
def test_invalid_options_are_reported(args: list[str], code: int, message: str, run: RunCommand) -> None:
    result = run("issuer", "add", "--iss", ISSUER, "--aud", AUDIENCE, *args)
    assert result.code == code
    assert message in result.err


def test_removed_issuer_is_not_listed_and_not_trusted(run: RunCommand, keys: Path, tmp_path: Path) -> None:
    assert run("issuer", "list", "--json").json == {"issuers": []}
    created = add(run, "--jwks-file", keys).json
    token = sign_jwt(KEY)
    assert is_accepted(token, tmp_path)
    assert run("issuer", "list", "--json").json == {"issuers": [created]}
    row = run("issuer", "list").out.splitlines()[1]
    assert row.split() == [created["id"], "default", ISSUER, AUDIENCE, "(stored)", "none"]
    assert run("issuer", "remove", created["id"]).out == f"Removed {created['id']} ({ISSUER}).\n"
    assert not is_accepted(token, tmp_path)
    second = run("issuer", "remove", created["id"])
    assert second.code == 1
    assert f"there is no issuer with the id {created['id']!r}" in second.err


def test_add_as_text_describes_the_issuer(run: RunCommand, keys: Path) -> None:
    result = run("issuer", "add", "--iss", ISSUER, "--aud", AUDIENCE, "--jwks-file", keys, "--replay")
    assert result.out.startswith(f"Tokens of {ISSUER} for {AUDIENCE} are accepted.\n")
    assert "1 stored" in result.out
    assert "accepted once" in result.out


def test_add_stores_access_restrictions(run: RunCommand) -> None:
    created = add(run, "--jwks-url", URL, "--restrict-org", "org-north", "--redact", "email").json
    assert created["limits"] == {"orgs": ["org-north"], "redacted": ["email"]}
    assert "org-north" in run("issuer", "list").out

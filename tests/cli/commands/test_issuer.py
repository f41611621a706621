"""Issuers from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backends import open_store
from chalk_flask.auth.jwt.verifier import JwtVerifier
from chalk_flask.permissions.scopes import DEFAULT, GRADEBOOK, ROSTER, sort_scopes
from chalk_flask.storage import COLLECTIONS
from tests.cli.conftest import Ran, Run
from tests.support.keys import AUDIENCE, ISSUER, make_jwks, rsa_key, sign_jwt

KEY = rsa_key("old")
URL = "https://tool.example.org/jwks.json"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_bytes(make_jwks(KEY))
    return path


def add(run: Run, *words: str | Path) -> Ran:
    ran = run("issuer", "add", "--iss", ISSUER, "--aud", AUDIENCE, "--json", *words)
    assert ran.code == 0, ran.err
    return ran


def opens(token: str, folder: Path) -> bool:
    with open_store(f"sqlite:///{folder}/chalk.db", COLLECTIONS) as store:
        return JwtVerifier(store).authenticate(token)[0] is not None


def test_an_added_issuer_is_one_object_and_its_tokens_open(run: Run, keys: Path, tmp_path: Path) -> None:
    made = add(run, "--jwks-file", keys, "--label", "Grade tool", "--replay").json
    assert (made["label"], made["tenant"], made["iss"], made["aud"]) == ("Grade tool", "default", ISSUER, AUDIENCE)
    assert (made["scopes"], made["limits"], made["jwksUrl"], made["replay"]) == (sort_scopes(DEFAULT), {}, None, True)
    assert [each["kid"] for each in made["jwks"]["keys"]] == ["old"]
    assert opens(sign_jwt(KEY, jti="one"), tmp_path)


def test_scopes_and_the_address_of_keys_are_kept(run: Run) -> None:
    made = add(run, "--jwks-url", URL, "--scope", "gradebook.readonly", "--scope", ROSTER).json
    assert (made["jwksUrl"], made["jwks"], made["scopes"]) == (URL, None, [ROSTER, GRADEBOOK])


def test_an_issuer_is_for_one_tenant_that_exists(run: Run) -> None:
    assert run("tenant", "create", "north").code == 0
    assert add(run, "--jwks-url", URL, "--tenant", "north").json["tenant"] == "north"
    again = run("issuer", "add", "--iss", ISSUER, "--aud", AUDIENCE, "--jwks-url", URL, "--json")
    assert (again.code, again.json["error"]) == (1, "refused")
    assert "already trusted" in again.json["message"]
    nowhere = run("issuer", "add", "--iss", ISSUER, "--aud", "urn:south", "--jwks-url", URL, "--tenant", "south")
    assert nowhere.code == 1
    assert "there is no tenant 'south'" in nowhere.err


def test_a_file_with_a_private_key_is_refused_without_showing_it(run: Run, tmp_path: Path) -> None:
    path, private = tmp_path / "private.json", KEY.as_dict(private=True)
    path.write_text(json.dumps({"keys": [private]}))
    ran = run("issuer", "add", "--iss", ISSUER, "--aud", AUDIENCE, "--jwks-file", path)
    assert ran.code == 1
    assert "key 1 of the set is private, which only the issuer may have" in ran.err
    assert str(private["d"]) not in ran.err + ran.out
    assert "There are no trusted issuers." in run("issuer", "list").out


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        ([], 2, "one of them"),
        (["--jwks-url", URL, "--jwks-file", "jwks.json"], 2, "one of them"),
        (["--jwks-url", URL, "--scope", "roster"], 2, "unknown scope 'roster'"),
        (["--jwks-url", "http://tool.example.org/"], 1, "by https only"),
        (["--jwks-file", "no-such-file"], 1, "no-such-file: No such file or directory"),
        (["--jwks-file", "."], 1, "Is a directory"),
        (["--jwks-url", URL, "--storage", "memory:"], 1, "loses its data when this command ends"),
    ],
)
def test_what_will_not_do_is_told_in_a_line(words: list[str], code: int, why: str, run: Run) -> None:
    ran = run("issuer", "add", "--iss", ISSUER, "--aud", AUDIENCE, *words)
    assert ran.code == code
    assert why in ran.err


def test_issuers_are_listed_and_removed(run: Run, keys: Path, tmp_path: Path) -> None:
    assert run("issuer", "list", "--json").json == {"issuers": []}
    assert not (tmp_path / "chalk.db").exists()
    made = add(run, "--jwks-file", keys).json
    token = sign_jwt(KEY)
    assert opens(token, tmp_path)
    assert run("issuer", "list", "--json").json == {"issuers": [made]}
    row = run("issuer", "list").out.splitlines()[1]
    assert row.split() == [made["id"], "default", ISSUER, AUDIENCE, "(stored)", "none"]
    assert run("issuer", "remove", made["id"]).out == f"Removed {made['id']} ({ISSUER}).\n"
    assert not opens(token, tmp_path)
    again = run("issuer", "remove", made["id"])
    assert again.code == 1
    assert f"there is no issuer with the id {made['id']!r}" in again.err


def test_removing_from_nothing_makes_nothing(run: Run, tmp_path: Path) -> None:
    ran = run("issuer", "remove", "5f0c6a91d2b3e478")
    assert (ran.code, list(tmp_path.iterdir())) == (1, [])
    assert "the store does not exist yet" in ran.err


def test_for_a_person_what_was_added_is_told(run: Run, keys: Path) -> None:
    ran = run("issuer", "add", "--iss", ISSUER, "--aud", AUDIENCE, "--jwks-file", keys, "--replay")
    assert ran.out.startswith(f"Tokens of {ISSUER} for {AUDIENCE} are accepted.\n")
    assert "1 stored" in ran.out
    assert "accepted once" in ran.out


def test_an_issuer_may_be_limited_as_a_token_is(run: Run) -> None:
    made = add(run, "--jwks-url", URL, "--restrict-org", "org-north", "--redact", "email").json
    assert made["limits"] == {"orgs": ["org-north"], "redacted": ["email"]}
    assert "org-north" in run("issuer", "list").out

"""OAuth clients from the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from backends import open_store
from chalk_flask.auth.clients.store import ClientStore
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import ALL, DEFAULT, ROSTER, sort_scopes
from chalk_flask.storage import COLLECTIONS
from tests.cli.conftest import Ran, Run
from tests.support.keys import ec_key, make_jwks, rsa_key


def create(run: Run, *words: str | Path) -> Ran:
    ran = run("client", "create", "--label", "Learning platform", "--json", *words)
    assert ran.code == 0, ran.err
    return ran


def right(client_id: str, secret: str, folder: Path) -> bool:
    with open_store(f"sqlite:///{folder}/chalk.db", COLLECTIONS) as store:
        return ClientStore(store).authenticate(client_id, secret) is not None


def test_a_created_client_is_one_object_and_its_secret_is_right(run: Run, tmp_path: Path) -> None:
    made = create(run).json
    assert list(made) == ["client_id", "client_secret", "tenant", "scopes"]
    assert (made["tenant"], made["scopes"]) == ("default", sort_scopes(DEFAULT))
    assert right(made["client_id"], made["client_secret"], tmp_path)


def test_for_a_person_the_secret_is_shown_once_and_said_to_be(run: Run, tmp_path: Path) -> None:
    ran = run("client", "create", "--label", "Learning platform")
    shown = dict(line.split(maxsplit=1) for line in ran.out.splitlines()[:2])
    assert right(shown["client_id"], shown["client_secret"], tmp_path)
    assert "The secret is shown only this once" in ran.out


@pytest.mark.parametrize(("words", "scopes"), [(["--scope", "all"], list(ALL)), (["--scope", ROSTER], [ROSTER])])
def test_scopes_are_asked_for_as_for_tokens(words: list[str], scopes: list[str], run: Run) -> None:
    assert create(run, *words).json["scopes"] == scopes
    assert run("client", "create", "--label", "x", "--scope", "roster").code == 2


def test_a_client_is_for_the_tenant_that_is_named(run: Run) -> None:
    assert run("client", "create", "--label", "x", "--tenant", "north").code == 1
    run("tenant", "create", "north")
    assert create(run, "--tenant", "north").json["tenant"] == "north"


def test_a_client_carries_limits(run: Run, tmp_path: Path) -> None:
    made = create(run, "--restrict-org", "o-1", "--redact", "email").json
    assert made["limits"] == {"orgs": ["o-1"], "redacted": ["email"]}
    with open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store:
        [record] = ClientStore(store).list()
    assert record.principal.restrictions == AccessRestrictions(orgs=frozenset({"o-1"}), redacted=frozenset({"email"}))


def test_a_client_with_a_key_has_no_secret(run: Run, tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_bytes(make_jwks(rsa_key("a"), ec_key("a")))
    (tmp_path / "key.pem").write_bytes(ec_key("a").as_pem(private=False))
    for words in (["--jwks-file", "jwks.json"], ["--public-key", "key.pem"]):
        assert create(run, *words).json["client_secret"] is None
    listed = run("client", "list", "--json").json["clients"]
    assert [each["auth"] for each in listed] == ["private_key_jwt"] * 2
    ran = run("client", "rotate", listed[0]["id"], "--json")
    assert (ran.code, ran.json["error"]) == (1, "refused")


@pytest.mark.parametrize("content", [b"", b"{}", ec_key("a").as_pem(private=True), b" " * (1024 * 1024 + 1)], ids=len)
def test_a_file_without_a_public_key_is_refused_and_creates_nothing(content: bytes, run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    for option in ("--jwks-file", "--public-key"):
        ran = run("client", "create", "--label", "x", "--json", option, "file")
        assert (ran.code, ran.json["error"]) == (1, "refused")
        assert "file" in ran.json["message"]
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_file_that_is_not_there_is_named(run: Run) -> None:
    ran = run("client", "create", "--label", "x", "--jwks-file", "nowhere.json")
    assert ran.code == 1
    assert "nowhere.json" in ran.err
    assert run("client", "create", "--label", "x", "--jwks-file", "a", "--public-key", "b").code == 2


def test_a_store_that_keeps_nothing_makes_no_client(run: Run) -> None:
    ran = run("client", "create", "--label", "x", "--storage", "memory:")
    assert ran.code == 1
    assert "memory: loses its data when this command ends" in ran.err


def test_the_list_never_shows_a_secret_or_its_hash(run: Run) -> None:
    made = create(run).json
    hashed = sha256(made["client_secret"].encode()).hexdigest()
    for ran in (run("client", "list", "--json"), run("client", "list")):
        assert made["client_id"] in ran.out
        assert made["client_secret"] not in ran.out
        assert hashed not in ran.out
    [listed] = run("client", "list", "--json").json["clients"]
    assert (listed["label"], listed["state"], listed["auth"]) == ("Learning platform", "active", "client_secret")


def test_a_list_of_nothing_creates_nothing(run: Run, tmp_path: Path) -> None:
    assert run("client", "list", "--json").json == {"clients": []}
    assert "There are no clients" in run("client", "list").out
    for verb in ("revoke", "rotate"):
        ran = run("client", verb, "nobody", "--json")
        assert (ran.code, ran.json["error"]) == (1, "refused")
    assert not list(tmp_path.iterdir())


def test_after_a_rotation_both_secrets_are_right_for_the_overlap(run: Run, tmp_path: Path) -> None:
    made = create(run).json
    rotated = run("client", "rotate", made["client_id"], "--overlap", "2h", "--json").json
    assert (rotated["client_id"], rotated["scopes"]) == (made["client_id"], made["scopes"])
    until = datetime.fromisoformat(rotated["former_valid_until"])
    assert abs(until - datetime.now(UTC) - timedelta(hours=2)) < timedelta(minutes=1)
    for each in (made, rotated):
        assert right(made["client_id"], each["client_secret"], tmp_path)


def test_a_day_is_the_overlap_when_none_is_asked_for(run: Run) -> None:
    rotated = run("client", "rotate", create(run).json["client_id"], "--json").json
    until = datetime.fromisoformat(rotated["former_valid_until"])
    assert abs(until - datetime.now(UTC) - timedelta(days=1)) < timedelta(minutes=1)


def test_without_an_overlap_the_former_secret_ends_at_once(run: Run, tmp_path: Path) -> None:
    made = create(run).json
    rotated = run("client", "rotate", made["client_id"], "--overlap", "0s", "--json").json
    assert "former_valid_until" not in rotated
    assert not right(made["client_id"], made["client_secret"], tmp_path)
    assert right(made["client_id"], rotated["client_secret"], tmp_path)


@pytest.mark.parametrize("span", ["", "24", "h", "-1h", "1.5h", "1 h"])
def test_what_is_no_span_is_a_usage_error(span: str, run: Run) -> None:
    ran = run("client", "rotate", "x", "--overlap", span)
    assert ran.code == 2
    assert "is not a duration" in ran.err


def test_a_revoked_client_opens_nothing_and_stays_in_the_list(run: Run, tmp_path: Path) -> None:
    made = create(run).json
    ran = run("client", "revoke", made["client_id"], "--json")
    assert (ran.code, ran.json["state"]) == (0, "revoked")
    assert not right(made["client_id"], made["client_secret"], tmp_path)
    assert run("client", "list", "--json").json["clients"][0]["state"] == "revoked"
    assert run("client", "rotate", made["client_id"]).code == 1


def test_no_secret_stands_in_a_file(run: Run, tmp_path: Path) -> None:
    made = create(run).json
    rotated = run("client", "rotate", made["client_id"], "--json").json
    files = [each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()]
    assert files
    for each in (made, rotated):
        assert not any(each["client_secret"].encode() in content for content in files)
    assert json.dumps(made["client_id"]).strip('"').encode() in b"".join(files)

"""Commands `client`: OAuth clients with a secret or a key."""

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
from tests.cli.conftest import CommandResult, RunCommand
from tests.support.keys import ec_key, make_jwks, rsa_key

pytestmark = pytest.mark.usefixtures("empty_store")


def create(run: RunCommand, *args: str | Path) -> CommandResult:
    result = run("client", "create", "--label", "Learning platform", "--json", *args)
    assert result.code == 0, result.err
    return result


def is_valid(client_id: str, secret: str, folder: Path) -> bool:
    with open_store(f"sqlite:///{folder}/chalk.db", COLLECTIONS) as store:
        return ClientStore(store).authenticate(client_id, secret) is not None


def test_create_prints_an_object_with_a_working_secret(run: RunCommand, tmp_path: Path) -> None:
    created = create(run).json
    assert list(created) == ["client_id", "client_secret", "tenant", "scopes"]
    assert (created["tenant"], created["scopes"]) == ("default", sort_scopes(DEFAULT))
    assert is_valid(created["client_id"], created["client_secret"], tmp_path)


def test_create_as_text_warns_that_the_secret_is_shown_once(run: RunCommand, tmp_path: Path) -> None:
    result = run("client", "create", "--label", "Learning platform")
    lines = dict(line.split(maxsplit=1) for line in result.out.splitlines()[:2])
    assert is_valid(lines["client_id"], lines["client_secret"], tmp_path)
    assert "The secret is shown only this once" in result.out


@pytest.mark.parametrize(("args", "scopes"), [(["--scope", "all"], list(ALL)), (["--scope", ROSTER], [ROSTER])])
def test_create_accepts_scopes_as_for_tokens(args: list[str], scopes: list[str], run: RunCommand) -> None:
    assert create(run, *args).json["scopes"] == scopes
    assert run("client", "create", "--label", "x", "--scope", "roster").code == 2


def test_create_requires_an_existing_tenant(run: RunCommand) -> None:
    assert run("client", "create", "--label", "x", "--tenant", "north").code == 1
    run("tenant", "create", "north")
    assert create(run, "--tenant", "north").json["tenant"] == "north"


def test_create_stores_access_restrictions(run: RunCommand, tmp_path: Path) -> None:
    created = create(run, "--restrict-org", "o-1", "--redact", "email").json
    assert created["limits"] == {"orgs": ["o-1"], "redacted": ["email"]}
    with open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store:
        [record] = ClientStore(store).list()
    assert record.principal.restrictions == AccessRestrictions(orgs=frozenset({"o-1"}), redacted=frozenset({"email"}))


def test_client_with_a_key_has_no_secret_and_cannot_rotate(run: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_bytes(make_jwks(rsa_key("a"), ec_key("a")))
    (tmp_path / "key.pem").write_bytes(ec_key("a").as_pem(private=False))
    for args in (["--jwks-file", "jwks.json"], ["--public-key", "key.pem"]):
        assert create(run, *args).json["client_secret"] is None
    clients = run("client", "list", "--json").json["clients"]
    assert [client["auth"] for client in clients] == ["private_key_jwt"] * 2
    result = run("client", "rotate", clients[0]["id"], "--json")
    assert (result.code, result.json["error"]) == (1, "refused")


def test_create_with_a_key_names_the_audience(run: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(ec_key("a").as_pem(private=False))
    assert (
        "The service rejects this client unless it runs with public_url" in create(run, "--public-key", "key.pem").err
    )
    named = create(run, "--public-key", "key.pem", "--public-url", "https://roster.example.org")
    assert named.err == "Audience of its assertions: https://roster.example.org/oauth/token.\n"


@pytest.mark.parametrize("content", [b"", b"{}", ec_key("a").as_pem(private=True), b" " * (1024 * 1024 + 1)], ids=len)
def test_key_file_without_a_public_key_is_rejected(content: bytes, run: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    for option in ("--jwks-file", "--public-key"):
        result = run("client", "create", "--label", "x", "--json", option, "file")
        assert (result.code, result.json["error"]) == (1, "refused")
        assert "file" in result.json["message"]
    assert {path.name for path in tmp_path.iterdir()} == {"file", "chalk.db"}


def test_missing_key_file_is_named(run: RunCommand) -> None:
    result = run("client", "create", "--label", "x", "--jwks-file", "nowhere.json")
    assert result.code == 1
    assert "nowhere.json" in result.err
    assert run("client", "create", "--label", "x", "--jwks-file", "a", "--public-key", "b").code == 2


def test_create_in_memory_is_rejected(run: RunCommand) -> None:
    result = run("client", "create", "--label", "x", "--storage", "memory:")
    assert result.code == 2
    assert "memory: loses its data when this command ends" in result.err


def test_list_contains_neither_secret_nor_hash(run: RunCommand) -> None:
    created = create(run).json
    hashed = sha256(created["client_secret"].encode()).hexdigest()
    for result in (run("client", "list", "--json"), run("client", "list")):
        assert created["client_id"] in result.out
        assert created["client_secret"] not in result.out
        assert hashed not in result.out
    [client] = run("client", "list", "--json").json["clients"]
    assert (client["label"], client["state"], client["auth"]) == ("Learning platform", "active", "client_secret")


def test_rotate_keeps_both_secrets_valid_for_the_overlap(run: RunCommand, tmp_path: Path) -> None:
    created = create(run).json
    rotated = run("client", "rotate", created["client_id"], "--overlap", "2h", "--json").json
    assert (rotated["client_id"], rotated["scopes"]) == (created["client_id"], created["scopes"])
    until = datetime.fromisoformat(rotated["former_valid_until"])
    assert abs(until - datetime.now(UTC) - timedelta(hours=2)) < timedelta(minutes=1)
    for secret in (created["client_secret"], rotated["client_secret"]):
        assert is_valid(created["client_id"], secret, tmp_path)


def test_rotate_has_an_overlap_of_one_day_by_default(run: RunCommand) -> None:
    rotated = run("client", "rotate", create(run).json["client_id"], "--json").json
    until = datetime.fromisoformat(rotated["former_valid_until"])
    assert abs(until - datetime.now(UTC) - timedelta(days=1)) < timedelta(minutes=1)


def test_rotate_with_overlap_0s_ends_the_former_secret(run: RunCommand, tmp_path: Path) -> None:
    created = create(run).json
    rotated = run("client", "rotate", created["client_id"], "--overlap", "0s", "--json").json
    assert "former_valid_until" not in rotated
    assert not is_valid(created["client_id"], created["client_secret"], tmp_path)
    assert is_valid(created["client_id"], rotated["client_secret"], tmp_path)


def test_invalid_overlap_is_a_usage_error(run: RunCommand) -> None:
    result = run("client", "rotate", "x", "--overlap", "24")
    assert result.code == 2
    assert "is not a duration" in result.err


def test_revoked_client_is_rejected_and_stays_in_the_list(run: RunCommand, tmp_path: Path) -> None:
    created = create(run).json
    result = run("client", "revoke", created["client_id"], "--json")
    assert (result.code, result.json["state"]) == (0, "revoked")
    assert not is_valid(created["client_id"], created["client_secret"], tmp_path)
    assert run("client", "list", "--json").json["clients"][0]["state"] == "revoked"
    assert run("client", "rotate", created["client_id"]).code == 1


def test_no_file_contains_a_secret(run: RunCommand, tmp_path: Path) -> None:
    created = create(run).json
    rotated = run("client", "rotate", created["client_id"], "--json").json
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    for client in (created, rotated):
        assert not any(client["client_secret"].encode() in content for content in files)
    assert json.dumps(created["client_id"]).strip('"').encode() in b"".join(files)

"""Commands `client` for clients that sign their requests (OAuth 1.0a)."""

from __future__ import annotations

from pathlib import Path

import pytest

from chalk_flask.auth.secrets.encryption import SECRETS_KEY_FILE
from chalk_flask.settings.data_folder import STORE_ID_FILE
from tests.cli.conftest import CommandResult, RunCommand
from tests.support.paths import open_files_below

pytestmark = pytest.mark.usefixtures("empty_store")


def create(run: RunCommand, *args: str | Path) -> CommandResult:
    return run("client", "create", "--label", "Older platform", "--oauth1", *args)


def test_create_and_list_report_whether_a_client_can_sign(run: RunCommand) -> None:
    plain = run("client", "create", "--label", "Newer platform", "--json").json
    signing = create(run, "--json").json
    assert ("oauth1" in plain, signing["oauth1"]) == (False, True)
    assert "can sign requests" in create(run).out
    result = run("client", "list", "--json")
    assert [client["oauth1"] for client in result.json["clients"]] == [False, True, True]
    assert run("client", "list").out.count("client_secret, oauth1") == 2
    assert signing["client_secret"] not in result.out


def test_create_says_that_the_service_needs_public_url(run: RunCommand) -> None:
    assert "The service rejects this client unless it runs with public_url" in create(run).err
    named = create(run, "--public-url", "https://roster.example.org", "--json")
    assert named.err == "It signs URLs that begin with https://roster.example.org/.\n"
    assert run("client", "create", "--label", "Newer platform").err == ""


def test_rotated_client_can_still_sign(run: RunCommand) -> None:
    rotated = run("client", "rotate", create(run, "--json").json["client_id"], "--json")
    assert rotated.json["oauth1"] is True


def test_key_file_is_in_the_folder_of_the_setting_data(run: RunCommand, tmp_path: Path) -> None:
    assert create(run, "--data", "elsewhere").code == 0
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == {SECRETS_KEY_FILE, STORE_ID_FILE}
    assert not (tmp_path / "chalk-data").exists()


@pytest.mark.parametrize("command", ["create", "rotate"])
def test_missing_key_file_is_reported_and_changes_nothing(run: RunCommand, tmp_path: Path, command: str) -> None:
    created = create(run, "--json").json
    before = run("client", "list", "--json").out
    (tmp_path / "chalk-data" / SECRETS_KEY_FILE).unlink()
    rejected = create(run) if command == "create" else run("client", "rotate", created["client_id"])
    assert (rejected.code, rejected.out) == (1, "")
    assert f"{SECRETS_KEY_FILE}, which this secret is encrypted with, is missing: restore it" in rejected.err
    assert "revoke the clients that use OAuth 1.0a" in rejected.err
    assert run("client", "list", "--json").out == before
    assert not (tmp_path / "chalk-data" / SECRETS_KEY_FILE).exists()


def test_key_file_that_others_can_read_stops_commands_and_the_service(run: RunCommand, tmp_path: Path) -> None:
    create(run)
    key_file = tmp_path / "chalk-data" / SECRETS_KEY_FILE
    key_file.chmod(0o644)
    for result in (create(run), run("serve", "--port", "0")):
        assert result.code == 1
        assert f"chalk-data/{SECRETS_KEY_FILE}: run chmod 600 " in result.err
    assert open_files_below(tmp_path) == []


def test_client_with_a_key_cannot_use_oauth1(run: RunCommand) -> None:
    rejected = create(run, "--jwks-file", "keys.json")
    assert rejected.code == 2
    assert "--oauth1 requires a client with a secret" in rejected.err

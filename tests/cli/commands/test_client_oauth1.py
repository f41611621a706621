"""Clients that may sign their requests (OAuth 1.0a), from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from chalk_flask.auth.secrets.encryption import KEY_FILE_NAME
from tests.cli.conftest import Ran, Run


def create(run: Run, *words: str | Path) -> Ran:
    return run("client", "create", "--label", "Older platform", "--oauth1", *words)


def test_a_client_may_sign_if_it_was_made_for_that_and_every_listing_says_so(run: Run) -> None:
    plain = run("client", "create", "--label", "Newer platform", "--json").json
    signing = create(run, "--json").json
    assert ("oauth1" in plain, signing["oauth1"]) == (False, True)
    assert "can sign requests" in create(run).out
    listed = run("client", "list", "--json")
    assert [each["oauth1"] for each in listed.json["clients"]] == [False, True, True]
    assert run("client", "list").out.count("client_secret, oauth1") == 2
    assert signing["client_secret"] not in listed.out


def test_a_rotated_client_may_sign_on(run: Run) -> None:
    rotated = run("client", "rotate", create(run, "--json").json["client_id"], "--json")
    assert rotated.json["oauth1"] is True


def test_the_key_lies_in_the_folder_that_the_setting_names(run: Run, tmp_path: Path) -> None:
    assert create(run, "--data", "elsewhere").code == 0
    assert [each.name for each in (tmp_path / "elsewhere").iterdir()] == [KEY_FILE_NAME]
    assert not (tmp_path / "chalk-data").exists()


@pytest.mark.parametrize("command", ["create", "rotate"])
def test_a_lost_key_is_told_with_what_to_do_and_nothing_is_changed(run: Run, tmp_path: Path, command: str) -> None:
    known = create(run, "--json").json
    before = run("client", "list", "--json").out
    (tmp_path / "chalk-data" / KEY_FILE_NAME).unlink()
    refused = create(run) if command == "create" else run("client", "rotate", known["client_id"])
    assert (refused.code, refused.out) == (1, "")
    assert f"{KEY_FILE_NAME}, which this secret is encrypted with, is missing: restore it" in refused.err
    assert "revoke the clients that use OAuth 1.0a" in refused.err
    assert run("client", "list", "--json").out == before
    assert not (tmp_path / "chalk-data" / KEY_FILE_NAME).exists()


def test_a_client_with_a_key_of_its_own_signs_no_requests(run: Run) -> None:
    refused = create(run, "--jwks-file", "keys.json")
    assert refused.code == 2
    assert "--oauth1 requires a client with a secret" in refused.err

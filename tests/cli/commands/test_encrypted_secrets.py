"""Command `secrets rotate`: the key file is replaced, and secrets that cannot be decrypted are reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import RunCommand
from tests.support.paths import write_private

pytestmark = pytest.mark.usefixtures("empty_store")


@pytest.fixture
def key_file(run: RunCommand, tmp_path: Path) -> Path:
    """Key file of a store with a client whose secret is encrypted."""
    assert run("client", "create", "--label", "a", "--oauth1").code == 0
    return tmp_path / "chalk-data" / "secrets.key"


@pytest.mark.slow
def test_key_is_replaced_and_the_rotation_is_recorded(run: RunCommand, key_file: Path) -> None:
    former = key_file.read_text()
    result = run("secrets", "rotate")
    assert (result.code, result.err) == (0, "")
    assert "Encrypted the secrets with a new key: 0 of webhooks, 0 of sources, 1 of clients, 0 of" in result.out
    assert (len(key_file.read_text()), key_file.read_text() != former) == (len(former), True)
    assert run("client", "create", "--label", "b", "--oauth1").code == 0, "the first one can be decrypted"
    [event] = run("audit", "--json", "--event", "secrets.rotated").json["entries"]
    assert (event["clients"], event["tenant"], bool(event["by"])) == (1, "_control", True)


@pytest.mark.slow
def test_interrupted_rotation_is_completed(run: RunCommand, key_file: Path) -> None:
    write_private(key_file, b"%s\n%s" % (b"0" * 64, key_file.read_bytes()))
    result = run("secrets", "rotate", "--json")
    assert result.json == {
        "secrets": {"webhooks": 0, "sources": 0, "clients": 1, "administrators": 0},
        "continued": True,
    }
    assert key_file.read_text() == "0" * 64 + "\n"


def test_wrong_key_changes_nothing(run: RunCommand, key_file: Path) -> None:
    write_private(key_file, b"0" * 64)
    result = run("secrets", "rotate")
    assert result.code == 1
    assert "nothing was changed, because of chk_client_" in result.err
    assert key_file.read_bytes() == b"0" * 64


def test_store_without_secrets_has_no_key_to_rotate(run: RunCommand) -> None:
    result = run("secrets", "rotate")
    assert (result.code, "no secret is encrypted yet" in result.err or "no folder" in result.err) == (1, True)

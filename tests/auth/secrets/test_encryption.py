"""Encrypted secrets: readable with the key file only, and a lost key is reported."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backends import Backend, Query
from chalk_flask.auth.clients.record import OAuthClient
from chalk_flask.auth.clients.store import COLLECTION, ClientError, ClientStore
from chalk_flask.auth.secrets.encryption import SECRETS_KEY_FILE, SecretCipher, SecretUnavailableError
from chalk_flask.permissions.scopes import DEFAULT
from chalk_flask.tenants.store import CONTROL
from tests.support.paths import write_private

SECRET = "a secret that no store contains"


def encrypt_after(folder: Path, barrier: Any) -> str:
    """Encrypt SECRET when all processes have started."""
    barrier.wait(120)
    return SecretCipher(folder).encrypt(SECRET)


def create_client(clients: ClientStore, oauth1: bool = False) -> tuple[str, OAuthClient]:
    secret, client = clients.create("a client", DEFAULT, oauth1=oauth1)
    assert secret is not None
    return secret, client


def stored_clients(store: Backend) -> bytes:
    with store.read(CONTROL) as snapshot:
        return snapshot.find(Query(COLLECTION)).body()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def clients(store: Backend, folder: Path) -> ClientStore:
    return ClientStore(store, cipher=SecretCipher(folder))


def test_secret_is_decrypted_with_the_same_key_file(folder: Path) -> None:
    encrypted = SecretCipher(folder).encrypt(SECRET)
    assert SECRET not in encrypted
    assert SecretCipher(folder).decrypt(encrypted) == SECRET


def test_same_secret_is_encrypted_differently_each_time(folder: Path) -> None:
    cipher = SecretCipher(folder)
    assert cipher.encrypt(SECRET) != cipher.encrypt(SECRET)


def test_threads_agree_on_a_new_key(folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        encrypted = list(pool.map(lambda _: SecretCipher(folder).encrypt(SECRET), range(24)))
    assert {SecretCipher(folder).decrypt(text) for text in encrypted} == {SECRET}


@pytest.mark.slow
def test_processes_agree_on_a_new_key(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as shared, context.Pool(3) as pool:
        encrypted = pool.starmap(encrypt_after, [(folder, shared.Barrier(3))] * 3)
    assert {SecretCipher(folder).decrypt(text) for text in encrypted} == {SECRET}


def test_decryption_creates_no_key(folder: Path) -> None:
    with pytest.raises(SecretUnavailableError, match=f"{SECRETS_KEY_FILE}.* is missing: restore it"):
        SecretCipher(folder).decrypt("anything")
    assert not folder.exists()


@pytest.mark.parametrize("content", ["", "00" * 31])
def test_damaged_key_file_is_named(folder: Path, content: str) -> None:
    cipher = SecretCipher(folder)
    encrypted = cipher.encrypt(SECRET)
    write_private(folder / SECRETS_KEY_FILE, content.encode())
    attempts: list[Callable[[], str]] = [partial(cipher.decrypt, encrypted), partial(cipher.encrypt, SECRET)]
    for attempt in attempts:
        with pytest.raises(SecretUnavailableError, match=SECRETS_KEY_FILE) as error:
            attempt()
        assert SECRET not in str(error.value)


def test_other_key_decrypts_nothing_until_the_right_one_is_restored(folder: Path, tmp_path: Path) -> None:
    cipher = SecretCipher(folder)
    encrypted = cipher.encrypt(SECRET)
    key = (folder / SECRETS_KEY_FILE).read_bytes()
    SecretCipher(tmp_path / "other").encrypt(SECRET)
    (folder / SECRETS_KEY_FILE).write_bytes((tmp_path / "other" / SECRETS_KEY_FILE).read_bytes())
    with pytest.raises(SecretUnavailableError, match="does not contain the key"):
        cipher.decrypt(encrypted)
    (folder / SECRETS_KEY_FILE).write_bytes(key)
    assert cipher.decrypt(encrypted) == SECRET


@pytest.mark.parametrize("text", ["", "gAAAAA", "\N{SNOWMAN}", "=" * 200])
def test_text_that_was_not_encrypted_is_rejected(folder: Path, text: str) -> None:
    cipher = SecretCipher(folder)
    cipher.encrypt(SECRET)
    with pytest.raises(SecretUnavailableError):
        cipher.decrypt(text)


def test_unusable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(SecretUnavailableError, match="data"):
        SecretCipher(tmp_path / "data").encrypt(SECRET)


@pytest.mark.every_backend
def test_store_contains_the_encrypted_secret_of_signing_clients_only(
    clients: ClientStore, store: Backend, folder: Path
) -> None:
    plain_secret, plain = create_client(clients)
    secret, signing = create_client(clients, oauth1=True)
    assert (plain.uses_oauth1, signing.uses_oauth1) == (False, True)
    assert plain_secret.encode() not in stored_clients(store)
    assert secret.encode() not in stored_clients(store)
    assert stored_clients(store).count(b'"sealed"') == 1
    assert SecretCipher(folder).decrypt(signing.secrets[0].ciphertext or "") == secret
    assert OAuthClient.parse(signing.to_record(signing.id).body).secrets == signing.secrets


def test_client_shows_no_encrypted_secret(clients: ClientStore) -> None:
    _, client = create_client(clients, oauth1=True)
    encrypted = client.secrets[0].ciphertext
    assert encrypted
    assert encrypted not in repr(client)
    assert encrypted not in str(client.public_dict())
    assert client.public_dict()["oauth1"] is True


def test_client_without_oauth1_creates_no_key(clients: ClientStore, folder: Path) -> None:
    create_client(clients)
    assert not folder.exists()


def test_lost_key_is_reported_and_not_replaced(clients: ClientStore, folder: Path) -> None:
    _, client = create_client(clients, oauth1=True)
    (folder / SECRETS_KEY_FILE).unlink()
    with pytest.raises(ClientError, match=f"{SECRETS_KEY_FILE}.* is missing"):
        clients.create("another", DEFAULT, oauth1=True)
    assert not (folder / SECRETS_KEY_FILE).exists()
    assert create_client(clients)
    clients.revoke(client.id)
    assert create_client(clients, oauth1=True)[1].uses_oauth1


def test_wrong_key_is_reported_when_a_client_is_created(clients: ClientStore, folder: Path) -> None:
    create_client(clients, oauth1=True)
    (folder / SECRETS_KEY_FILE).unlink()
    SecretCipher(folder).encrypt(SECRET)
    with pytest.raises(ClientError, match="does not contain the key"):
        clients.create("another", DEFAULT, oauth1=True)
    assert len(clients.list()) == 1


def test_client_with_a_key_cannot_use_oauth1(clients: ClientStore) -> None:
    with pytest.raises(ClientError, match=r"OAuth 1\.0a requires a client with a secret"):
        clients.create("a key", DEFAULT, jwks={"keys": []}, oauth1=True)
    assert not clients.list()


def test_oauth1_requires_a_cipher(store: Backend) -> None:
    with pytest.raises(ClientError, match=r"OAuth 1\.0a requires"):
        ClientStore(store).create("a client", DEFAULT, oauth1=True)

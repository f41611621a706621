"""Secrets that must be read again are sealed under a key in a file, and a lost key is told."""

from __future__ import annotations

import multiprocessing
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from backends import Backend, Query, open_store
from chalk_flask.auth.clients.store import COLLECTION, ClientError, ClientStore, OAuthClient
from chalk_flask.auth.secrets.encryption import KEY_FILE_NAME, SecretCipher, SecretUnavailableError
from chalk_flask.permissions.scopes import DEFAULT
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants.store import CONTROL

SECRET = "a secret that no store shows"


def sealing(folder: Path, start: object) -> str:
    start.wait(10)  # type: ignore[attr-defined]  # a barrier of the context that started us
    return SecretCipher(folder).encrypt(SECRET)


def made(clients: ClientStore, oauth1: bool = False) -> tuple[str, OAuthClient]:
    secret, record = clients.create("a signer", DEFAULT, oauth1=oauth1)
    assert secret is not None
    return secret, record


def stored(store: Backend) -> bytes:
    with store.read(CONTROL) as snapshot:
        return snapshot.find(Query(COLLECTION)).body()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def store(storage: str) -> Iterator[Backend]:
    with open_store(storage, COLLECTIONS) as opened:
        yield opened


@pytest.fixture
def clients(store: Backend, folder: Path) -> ClientStore:
    return ClientStore(store, vault=SecretCipher(folder))


def test_what_is_sealed_is_opened_by_whoever_has_the_key(folder: Path) -> None:
    sealed = SecretCipher(folder).encrypt(SECRET)
    assert SECRET not in sealed
    assert SecretCipher(folder).decrypt(sealed) == SECRET


def test_the_same_secret_looks_different_each_time(folder: Path) -> None:
    vault = SecretCipher(folder)
    assert vault.encrypt(SECRET) != vault.encrypt(SECRET)


def test_the_key_and_its_folder_are_for_their_owner_alone(folder: Path) -> None:
    SecretCipher(folder).encrypt(SECRET)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / KEY_FILE_NAME).stat().st_mode) == 0o600
    assert [each.name for each in folder.iterdir()] == [KEY_FILE_NAME]


def test_threads_that_are_the_first_agree_on_a_key(folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        sealed = list(pool.map(lambda _: SecretCipher(folder).encrypt(SECRET), range(24)))
    assert {SecretCipher(folder).decrypt(each) for each in sealed} == {SECRET}


def test_processes_that_are_the_first_agree_on_a_key(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as shared, context.Pool(3) as pool:
        sealed = pool.starmap(sealing, [(folder, shared.Barrier(3))] * 3)
    assert {SecretCipher(folder).decrypt(each) for each in sealed} == {SECRET}


def test_opening_makes_no_key(folder: Path) -> None:
    with pytest.raises(SecretUnavailableError, match=f"{KEY_FILE_NAME}.* is not there: put it back"):
        SecretCipher(folder).decrypt("anything")
    assert not folder.exists()


@pytest.mark.parametrize("content", ["", "no key", "00" * 31, "zz" * 32])
def test_a_damaged_key_file_is_named(folder: Path, content: str) -> None:
    vault = SecretCipher(folder)
    sealed = vault.encrypt(SECRET)
    (folder / KEY_FILE_NAME).write_text(content)
    for attempt in (partial(vault.decrypt, sealed), partial(vault.encrypt, SECRET)):
        with pytest.raises(SecretUnavailableError, match=KEY_FILE_NAME) as refused:
            attempt()
        assert SECRET not in str(refused.value)


def test_another_key_opens_nothing_until_the_right_one_is_back(folder: Path, tmp_path: Path) -> None:
    vault = SecretCipher(folder)
    sealed = vault.encrypt(SECRET)
    right = (folder / KEY_FILE_NAME).read_bytes()
    SecretCipher(tmp_path / "other").encrypt(SECRET)
    (folder / KEY_FILE_NAME).write_bytes((tmp_path / "other" / KEY_FILE_NAME).read_bytes())
    with pytest.raises(SecretUnavailableError, match="holds another key"):
        vault.decrypt(sealed)
    (folder / KEY_FILE_NAME).write_bytes(right)
    assert vault.decrypt(sealed) == SECRET


@pytest.mark.parametrize("sealed", ["", "gAAAAA", "\N{SNOWMAN}", "=" * 200])
def test_what_was_never_sealed_is_not_opened(folder: Path, sealed: str) -> None:
    vault = SecretCipher(folder)
    vault.encrypt(SECRET)
    with pytest.raises(SecretUnavailableError):
        vault.decrypt(sealed)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(SecretUnavailableError, match="data"):
        SecretCipher(tmp_path / "data").encrypt(SECRET)


def test_the_store_holds_a_clients_secret_sealed_and_only_if_it_signs(
    clients: ClientStore, store: Backend, folder: Path
) -> None:
    plain, unsigned = made(clients)
    secret, signing = made(clients, oauth1=True)
    assert (unsigned.uses_oauth1, signing.uses_oauth1) == (False, True)
    assert plain.encode() not in stored(store)
    assert secret.encode() not in stored(store)
    assert stored(store).count(b'"sealed"') == 1
    assert SecretCipher(folder).decrypt(signing.secrets[0].sealed or "") == secret
    assert OAuthClient.parse(signing.to_record().body).secrets == signing.secrets


def test_no_record_shows_its_sealed_secret(clients: ClientStore) -> None:
    _, record = made(clients, oauth1=True)
    sealed = record.secrets[0].sealed
    assert sealed
    assert sealed not in repr(record)
    assert sealed not in str(record.public_dict())
    assert record.public_dict()["oauth1"] is True


def test_no_key_is_made_for_clients_that_do_not_sign(clients: ClientStore, folder: Path) -> None:
    made(clients)
    assert not folder.exists()


def test_a_lost_key_is_told_when_the_next_client_is_made_and_no_new_one_hides_the_loss(
    clients: ClientStore, folder: Path
) -> None:
    _, first = made(clients, oauth1=True)
    (folder / KEY_FILE_NAME).unlink()
    with pytest.raises(ClientError, match=f"{KEY_FILE_NAME}.* is not there"):
        clients.create("another", DEFAULT, oauth1=True)
    assert not (folder / KEY_FILE_NAME).exists()
    assert made(clients)
    clients.revoke(first.id)
    assert made(clients, oauth1=True)[1].uses_oauth1


def test_a_wrong_key_is_told_when_the_next_client_is_made(clients: ClientStore, folder: Path) -> None:
    made(clients, oauth1=True)
    (folder / KEY_FILE_NAME).unlink()
    SecretCipher(folder).encrypt(SECRET)
    with pytest.raises(ClientError, match="holds another key"):
        clients.create("another", DEFAULT, oauth1=True)
    assert len(clients.list()) == 1


def test_a_client_that_signs_with_a_key_of_its_own_has_no_secret_to_seal(clients: ClientStore) -> None:
    with pytest.raises(ClientError, match="secret of its own"):
        clients.create("a key", DEFAULT, jwks={"keys": []}, oauth1=True)
    assert not clients.list()


def test_without_a_vault_no_client_can_be_made_that_signs(store: Backend) -> None:
    with pytest.raises(ClientError, match=r"OAuth 1\.0a"):
        ClientStore(store).create("a signer", DEFAULT, oauth1=True)

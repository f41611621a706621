"""OAuth clients: created, authenticated by their secrets, rotated and revoked."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import orjson
import pytest

from backends import Backend
from chalk_flask.auth.clients import store as client_store
from chalk_flask.auth.clients.record import OAuthClient, StoredSecret
from chalk_flask.auth.clients.store import COLLECTION, ClientError, ClientStore
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import DEFAULT, ROSTER
from chalk_flask.tenants.store import CONTROL, TenantStore
from tests.auth.conftest import CountingBackend, count_calls
from tests.support.clock import FakeClock

TIME = datetime(2031, 5, 2, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
UNKNOWN_ID = "chk_client_0123456789abcdef"


@pytest.fixture
def clients(store: Backend, clock: FakeClock) -> ClientStore:
    return ClientStore(store, clock)


def create_client(clients: ClientStore, tenant: str = "default") -> tuple[str, OAuthClient]:
    secret, client = clients.create("a platform", DEFAULT, tenant)
    assert secret is not None
    return secret, client


@pytest.mark.every_backend
def test_client_is_authenticated_by_id_and_secret(clients: ClientStore) -> None:
    secret, client = create_client(clients)
    assert clients.authenticate(client.id, secret) == client
    assert client.principal == Principal("default", DEFAULT, client.id, credential_type="client")


def test_ids_and_secrets_are_random_and_need_no_url_encoding(clients: ClientStore) -> None:
    created = [create_client(clients) for _ in range(3)]
    assert len({secret for secret, _ in created} | {client.id for _, client in created}) == 6
    for secret, client in created:
        assert re.fullmatch(r"chk_client_[0-9a-f]{16}", client.id)
        assert re.fullmatch(r"chk_secret_[0-9a-f]{64}", secret)


def test_store_contains_the_hash_and_never_the_secret(clients: ClientStore, store: Backend) -> None:
    secret, client = create_client(clients)
    with store.read(CONTROL) as snapshot:
        body = snapshot.get_many(COLLECTION, [client.id])[client.id]
    assert secret.encode() not in body
    assert sha256(secret.encode()).hexdigest().encode() in body
    assert secret not in repr(vars(clients))
    assert sha256(secret.encode()).hexdigest() not in repr(client)


@pytest.mark.parametrize("secret", ["", "chk_secret_", "\ud800", "x" * 513])
def test_wrong_secret_is_rejected(clients: ClientStore, secret: str) -> None:
    _, client = create_client(clients)
    assert clients.authenticate(client.id, secret) is None


@pytest.mark.parametrize("client_id", ["", UNKNOWN_ID, "\ud800", "\0", "x" * 100_000])
def test_unknown_id_is_rejected(clients: ClientStore, client_id: str) -> None:
    secret, _ = create_client(clients)
    assert clients.authenticate(client_id, secret) is None


def test_secret_of_another_client_is_rejected(clients: ClientStore) -> None:
    secret, _ = create_client(clients)
    _, other = create_client(clients)
    assert clients.authenticate(other.id, secret) is None


def test_unknown_id_reads_the_store_as_often_as_a_stored_id(counting_store: CountingBackend) -> None:
    clients = ClientStore(counting_store)
    _, client = create_client(clients)
    counts = []
    for client_id in (client.id, UNKNOWN_ID):
        before = counting_store.read_count
        for _ in range(5):
            assert clients.authenticate(client_id, "wrong") is None
        counts.append(counting_store.read_count - before)
    assert counts == [1, 1]


def test_cache_of_ids_is_bounded(store: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_store, "MAX_CACHED_CLIENTS", 5)
    clients = ClientStore(store)
    for number in range(10):
        clients.authenticate(f"chk_client_{number:016x}", "wrong")
    assert len(clients._cache) == 5


@pytest.mark.every_backend
def test_revoked_client_ends_in_every_process_and_stays_listed(store: Backend, clock: FakeClock) -> None:
    here, there = ClientStore(store, clock), ClientStore(store, clock)
    secret, client = create_client(here)
    assert here.authenticate(client.id, secret)
    revoked = clock.now
    there.revoke(client.id)
    assert here.authenticate(client.id, secret) is None
    assert [client.state for client in here.list()] == ["revoked"]
    clock.advance(hours=1)
    assert there.revoke(client.id).revoked == revoked


def test_client_ends_with_its_tenant(store: Backend, clients: ClientStore) -> None:
    TenantStore(store).create("north")
    secret, client = create_client(clients, "north")
    assert clients.authenticate(client.id, secret)
    TenantStore(store).delete("north")
    assert clients.authenticate(client.id, secret) is None


@pytest.mark.parametrize("tenant", ["", CONTROL, "unknown", "x" * 10_000])
def test_unknown_tenant_is_rejected(clients: ClientStore, tenant: str) -> None:
    with pytest.raises(ClientError, match="there is no tenant"):
        create_client(clients, tenant)


@pytest.mark.parametrize("label", ["", "x" * 201, "two\nlines"])
def test_label_must_be_one_printable_line(clients: ClientStore, label: str) -> None:
    with pytest.raises(ClientError, match="a label must be one line"):
        clients.create(label, DEFAULT)


@pytest.mark.every_backend
def test_rotation_leaves_both_secrets_valid_during_the_overlap(clients: ClientStore, clock: FakeClock) -> None:
    former, client = create_client(clients)
    new, rotated = clients.rotate(client.id, HOUR)
    assert rotated.rotated == clock.now
    assert clients.authenticate(client.id, former)
    assert clients.authenticate(client.id, new)
    clock.advance(hours=1)
    assert clients.authenticate(client.id, former) is None
    assert clients.authenticate(client.id, new)


def test_second_rotation_does_not_extend_the_first_overlap(clients: ClientStore, clock: FakeClock) -> None:
    first, client = create_client(clients)
    second, _ = clients.rotate(client.id, HOUR)
    third, rotated = clients.rotate(client.id, 5 * HOUR)
    assert len(rotated.secrets) == 3
    clock.advance(hours=1)
    secrets = (first, second, third)
    assert [bool(clients.authenticate(client.id, secret)) for secret in secrets] == [False, True, True]
    _, again = clients.rotate(client.id, HOUR)
    assert len(again.secrets) == 3, "the first secret has ended and is deleted"


def test_rotation_without_overlap_ends_the_former_secret(clients: ClientStore) -> None:
    former, client = create_client(clients)
    new, rotated = clients.rotate(client.id, timedelta())
    assert len(rotated.secrets) == 1
    assert clients.authenticate(client.id, former) is None
    assert clients.authenticate(client.id, new)


def test_client_without_a_valid_secret_cannot_be_rotated(clients: ClientStore) -> None:
    _, client = create_client(clients)
    clients.revoke(client.id)
    _, keyed = clients.create("with a key", DEFAULT, jwks={"keys": []})
    expected = {client.id: "is revoked", keyed.id: "has no secret", "unknown": "no client", "": "no client"}
    for client_id, message in expected.items():
        with pytest.raises(ClientError, match=message):
            clients.rotate(client_id, HOUR)


def test_revoking_an_unknown_id_is_an_error(clients: ClientStore) -> None:
    with pytest.raises(ClientError, match="no client with the id 'unknown'"):
        clients.revoke("unknown")


def test_list_is_sorted_by_age_and_filtered_by_tenant(store: Backend, clients: ClientStore, clock: FakeClock) -> None:
    for tenant in ("a", "b"):
        TenantStore(store).create(tenant)
    for tenant in ("b", "a", "b"):
        create_client(clients, tenant)
        clock.advance(hours=1)
    assert [client.tenant for client in clients.list()] == ["b", "a", "b"]
    assert [client.tenant for client in clients.list("a")] == ["a"]
    assert clients.list("unknown") == []


def test_stored_client_equals_the_original() -> None:
    client = OAuthClient(
        id="chk_client_1",
        label="x",
        tenant="default",
        scopes=frozenset({ROSTER}),
        created=TIME,
        restrictions=AccessRestrictions(orgs=frozenset({"o-1"}), redacted=frozenset({"email"})),
        jwks={"keys": []},
        revoked=TIME,
    )
    secrets = (StoredSecret.from_text("new", "encrypted"), StoredSecret("0" * 64, valid_until=TIME))
    for variant in (client, replace(client, jwks=None, secrets=secrets)):
        assert OAuthClient.parse(variant.to_record(variant.id).body) == variant


def test_client_of_an_earlier_version_is_parsed() -> None:
    body = {"id": "c", "label": "x", "tenant": "default", "scopes": [ROSTER], "created": "2031-05-02T08:00:00.000Z"}
    client = OAuthClient.parse(orjson.dumps(body))
    assert (client.secrets, client.jwks, client.restrictions) == ((), None, AccessRestrictions())
    assert client.state == "active"
    assert not client.verify_secret("", TIME)


@pytest.mark.on_backend("memory", "sqlite")
def test_threads_create_rotate_and_revoke_at_once(store: Backend) -> None:
    clients = ClientStore(store)
    steady_secret, steady = create_client(clients)
    errors: list[str] = []

    def work() -> None:
        for _ in range(2):
            _, client = create_client(clients)
            secret, _ = clients.rotate(client.id, timedelta())
            if not (clients.authenticate(client.id, secret) and clients.authenticate(steady.id, steady_secret)):
                errors.append("a valid secret was rejected")
            clients.revoke(client.id)
            if clients.authenticate(client.id, secret):
                errors.append("a revoked client was accepted")

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(clients.list()) == 13


@pytest.mark.on_backend("sqlite")
def test_cached_client_is_authenticated_in_few_calls(clients: ClientStore) -> None:
    secret, client = create_client(clients)
    assert clients.authenticate(client.id, secret)
    assert count_calls(lambda: clients.authenticate(client.id, secret)) < 100

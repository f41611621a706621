"""OAuth clients are made, told by their secrets, given new ones, and ended."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import orjson
import pytest

from backends import Backend, Snapshot, open_store
from backends.memory.backend import MemoryBackend
from chalk_flask.auth.clients.record import OAuthClient
from chalk_flask.auth.clients.store import COLLECTION, ClientError, ClientStore
from chalk_flask.permissions.restrictions import AccessRestrictions
from chalk_flask.permissions.scopes import DEFAULT, ROSTER
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants.store import CONTROL, TenantStore
from tests.conftest import url_in

MORNING = datetime(2031, 5, 2, 8, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.moment = MORNING

    def __call__(self) -> datetime:
        return self.moment


class CountingStore(MemoryBackend):
    """Memory that says how often it was read."""

    reads = 0

    def read(self, tenant: str, *, at_least: object = None) -> Snapshot:
        self.reads += 1
        return super().read(tenant, at_least=at_least)


@pytest.fixture
def store(backend: str, tmp_path: Path) -> Iterator[Backend]:
    with open_store(url_in(tmp_path, backend), COLLECTIONS) as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def clients(store: Backend, clock: Clock) -> ClientStore:
    return ClientStore(store, clock)


def made(clients: ClientStore, tenant: str = "default") -> tuple[str, OAuthClient]:
    secret, record = clients.create("a platform", DEFAULT, tenant)
    assert secret is not None
    return secret, record


def test_a_client_is_told_by_its_id_and_secret(clients: ClientStore) -> None:
    secret, record = made(clients)
    assert clients.authenticate(record.id, secret) == record
    assert record.principal.credential_type == "client"
    assert (record.principal.credential_id, record.principal.tenant, record.principal.scopes) == (
        record.id,
        "default",
        DEFAULT,
    )


def test_ids_and_secrets_are_random_and_need_no_url_encoding(clients: ClientStore) -> None:
    found = [made(clients) for _ in range(3)]
    assert len({secret for secret, _ in found} | {record.id for _, record in found}) == 6
    for secret, record in found:
        assert re.fullmatch(r"chk_client_[0-9a-f]{16}", record.id)
        assert re.fullmatch(r"chk_secret_[0-9a-f]{64}", secret)


def test_the_store_holds_the_hash_of_a_secret_and_never_the_secret(clients: ClientStore, store: Backend) -> None:
    secret, record = made(clients)
    with store.read(CONTROL) as snapshot:
        body = snapshot.get_many(COLLECTION, [record.id])[record.id]
    assert secret.encode() not in body
    assert sha256(secret.encode()).hexdigest().encode() in body
    assert secret not in repr(vars(clients))
    assert sha256(secret.encode()).hexdigest() not in repr(record)


@pytest.mark.parametrize("wrong", ["", "chk_secret_", "é", "\ud800", "x" * 513, "x" * 1_000_000])
def test_a_wrong_secret_opens_nothing(clients: ClientStore, wrong: str) -> None:
    _, record = made(clients)
    assert clients.authenticate(record.id, wrong) is None


@pytest.mark.parametrize("unknown", ["", "nobody", "chk_client_0123456789abcdef", "é", "\ud800", "\0", "x" * 100_000])
def test_an_unknown_id_opens_nothing(clients: ClientStore, unknown: str) -> None:
    secret, _ = made(clients)
    assert clients.authenticate(unknown, secret) is None


def test_the_secret_of_one_client_opens_nothing_for_another(clients: ClientStore) -> None:
    secret, _ = made(clients)
    _, other = made(clients)
    assert clients.authenticate(other.id, secret) is None


def test_an_unknown_id_asks_the_store_as_often_as_a_known_one() -> None:
    store = CountingStore.open("memory:", COLLECTIONS)
    clients = ClientStore(store)
    _, record = made(clients)
    reads = []
    for client_id in (record.id, "chk_client_0123456789abcdef"):
        before = store.reads
        for _ in range(5):
            assert clients.authenticate(client_id, "wrong") is None
        reads.append(store.reads - before)
    assert reads == [1, 1]


def test_what_is_remembered_of_ids_is_bounded() -> None:
    clients = ClientStore(CountingStore.open("memory:", COLLECTIONS))
    for number in range(5000):
        clients.authenticate(f"chk_client_{number:016x}", "wrong")
    assert len(clients._known) <= 4096


def test_a_revoked_client_ends_in_every_process_and_stays_in_the_list(store: Backend, clock: Clock) -> None:
    here, there = ClientStore(store, clock), ClientStore(store, clock)
    secret, record = made(here)
    assert here.authenticate(record.id, secret)
    there.revoke(record.id)
    assert here.authenticate(record.id, secret) is None
    assert [each.state for each in here.list()] == ["revoked"]
    clock.moment += HOUR
    assert there.revoke(record.id).revoked == MORNING


def test_a_client_ends_with_its_tenant(store: Backend, clients: ClientStore) -> None:
    TenantStore(store).create("north")
    secret, record = made(clients, "north")
    assert clients.authenticate(record.id, secret)
    TenantStore(store).delete("north")
    assert clients.authenticate(record.id, secret) is None


@pytest.mark.parametrize("tenant", ["", CONTROL, "nowhere", "x" * 10_000])
def test_a_client_is_for_a_tenant_that_exists(clients: ClientStore, tenant: str) -> None:
    with pytest.raises(ClientError, match="there is no tenant"):
        made(clients, tenant)


@pytest.mark.parametrize("label", ["", "   ", "x" * 201, "two\nlines", "nul\0"])
def test_a_label_is_one_printable_line(clients: ClientStore, label: str) -> None:
    with pytest.raises(ClientError, match="a label is a line"):
        clients.create(label, DEFAULT)


def test_after_a_rotation_both_secrets_are_right_until_the_overlap_is_over(clients: ClientStore, clock: Clock) -> None:
    former, record = made(clients)
    new, rotated = clients.rotate(record.id, HOUR)
    assert rotated.rotated == MORNING
    assert clients.authenticate(record.id, former)
    assert clients.authenticate(record.id, new)
    clock.moment += HOUR
    assert clients.authenticate(record.id, former) is None
    assert clients.authenticate(record.id, new)


def test_a_second_rotation_does_not_lengthen_the_first_overlap(clients: ClientStore, clock: Clock) -> None:
    first, record = made(clients)
    second, _ = clients.rotate(record.id, HOUR)
    third, rotated = clients.rotate(record.id, 5 * HOUR)
    assert len(rotated.secrets) == 3
    clock.moment += HOUR
    assert [bool(clients.authenticate(record.id, secret)) for secret in (first, second, third)] == [False, True, True]
    _, cleaned = clients.rotate(record.id, HOUR)
    assert len(cleaned.secrets) == 3, "the first, which has ended, is forgotten"


def test_a_rotation_without_an_overlap_ends_the_former_secret_at_once(clients: ClientStore) -> None:
    former, record = made(clients)
    new, rotated = clients.rotate(record.id, timedelta())
    assert len(rotated.secrets) == 1
    assert clients.authenticate(record.id, former) is None
    assert clients.authenticate(record.id, new)


def test_what_cannot_be_rotated_is_refused(clients: ClientStore) -> None:
    _, record = made(clients)
    clients.revoke(record.id)
    _, keyed = clients.create("with a key", DEFAULT, jwks={"keys": []})
    for client_id, why in ((record.id, "is revoked"), (keyed.id, "has no secret"), ("nobody", "no client"), ("", "no")):
        with pytest.raises(ClientError, match=why):
            clients.rotate(client_id, HOUR)


def test_an_unknown_id_cannot_be_revoked(clients: ClientStore) -> None:
    with pytest.raises(ClientError, match="no client with the id 'nobody'"):
        clients.revoke("nobody")


def test_the_list_has_every_client_of_a_tenant_the_oldest_first(
    store: Backend, clients: ClientStore, clock: Clock
) -> None:
    for tenant in ("b", "a", "b"):
        if tenant not in [each.name for each in TenantStore(store).list()]:
            TenantStore(store).create(tenant)
        made(clients, tenant)
        clock.moment += HOUR
    assert [record.tenant for record in clients.list()] == ["b", "a", "b"]
    assert [record.tenant for record in clients.list("a")] == ["a"]
    assert clients.list("nobody") == []


def test_a_record_comes_out_of_the_store_as_it_went_in() -> None:
    record = OAuthClient(
        id="chk_client_1", label="x", tenant="default", scopes=frozenset({ROSTER}), created=MORNING,
        restrictions=AccessRestrictions(orgs=frozenset({"o-1"}), redacted=frozenset({"email"})), jwks={"keys": []}, revoked=MORNING,
    )  # fmt: skip
    assert OAuthClient.parse(record.to_record().body) == record
    with_secret = replace(
        record, jwks=None, secrets=made(ClientStore(CountingStore.open("memory:", COLLECTIONS)))[1].secrets
    )
    assert OAuthClient.parse(with_secret.to_record().body) == with_secret


def test_a_record_of_an_earlier_version_is_read_without_what_it_did_not_have() -> None:
    needed = {"id": "c", "label": "x", "tenant": "default", "scopes": [ROSTER], "created": "2031-05-02T08:00:00.000Z"}
    record = OAuthClient.parse(orjson.dumps(needed))
    assert (record.secrets, record.jwks, record.restrictions, record.state) == (
        (),
        None,
        AccessRestrictions(),
        "active",
    )
    assert not record.has_secret("", MORNING)


def test_threads_create_rotate_and_revoke_at_once(store: Backend) -> None:
    clients = ClientStore(store)
    steady_secret, steady = made(clients)
    wrong: list[str] = []

    def work() -> None:
        for _ in range(4):
            _, record = made(clients)
            secret, _ = clients.rotate(record.id, timedelta())
            if not (clients.authenticate(record.id, secret) and clients.authenticate(steady.id, steady_secret)):
                wrong.append("a right secret was refused")
            clients.revoke(record.id)
            if clients.authenticate(record.id, secret):
                wrong.append("a revoked client was let in")

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(clients.list()) == 25


def test_telling_a_client_takes_microseconds(clients: ClientStore) -> None:
    secret, record = made(clients)

    def timed() -> float:
        start = time.process_time()
        for _ in range(100):
            clients.authenticate(record.id, secret)
        return (time.process_time() - start) / 100

    assert min(timed() for _ in range(10)) < 100e-6

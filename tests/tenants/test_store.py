"""Tenants: creation, names, settings, summaries and deletion."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from backends import Backend, Record, StorageBusyError, open_store
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.permissions.scopes import ALL, DEFAULT
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants.store import CONTROL, Tenant, TenantError, TenantStore, validate_new_name
from tests.support.paths import ROOT
from tests.support.small_roster import ROSTER, fill
from tests.support.storage.tenant_locks import TenantLockBackend

MORNING = datetime(2031, 5, 2, 8, 0, tzinfo=UTC)
DEFAULT_TENANT = Tenant(name="default", created=None, demographics=True)


@pytest.fixture
def store(storage: str) -> Iterator[Backend]:
    with open_store(storage, COLLECTIONS) as opened:
        yield opened


@pytest.fixture
def tenants(store: Backend) -> TenantStore:
    return TenantStore(store, lambda: MORNING)


def create_full_tenant(store: Backend, name: str, demographics: bool = False) -> str:
    """Create a tenant with records in every collection and credentials of each kind; return its token."""
    TenantStore(store).create(name, demographics)
    fill(store, name)
    with store.write(name) as transaction:
        for collection in store.collections.values():
            transaction.put(collection.name, [Record(f"of-{name}", b'{"status":"active"}')])
    token, _ = TokenStore(store).create(f"of {name}", ALL, name)
    assert token is not None
    with store.write(CONTROL) as transaction:
        for kind in ("clients", "issuers", "administrators", "sessions"):
            transaction.put(kind, [Record(f"{kind}-{name}-{n}", b"{}", {"tenant": name}) for n in (1, 2)])
    return token


def stored_keys(store: Backend, tenant: str) -> dict[str, list[str]]:
    """Return the keys of every collection that is not empty."""
    with store.read(tenant) as snapshot:
        keys = {name: list(snapshot.keys(name)) for name in store.collections}
    return {name: names for name, names in keys.items() if names}


def test_default_tenant_exists_in_an_empty_store(tenants: TenantStore, store: Backend) -> None:
    assert tenants.list() == [DEFAULT_TENANT]
    assert tenants.get("default") == tenants.summarize("default").tenant == DEFAULT_TENANT
    assert stored_keys(store, CONTROL) == {}


@pytest.mark.every_backend
def test_new_tenant_is_listed_without_demographics(tenants: TenantStore) -> None:
    tenants.create("south", demographics=True)
    tenant = tenants.create("east.2_b-c")
    assert tenant == Tenant(name="east.2_b-c", created="2031-05-02T08:00:00.000Z", demographics=False)
    assert [tenant.name for tenant in tenants.list()] == ["default", "east.2_b-c", "south"]
    assert tenants.get("east.2_b-c") == tenant


@pytest.mark.parametrize("name", ["n", "N" * 64, "7", "north.valley_3-b", "default2"])
def test_validate_new_name_accepts_letters_digits_and_three_signs(name: str) -> None:
    assert validate_new_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "_control", "_north", "-north", ".north", ".", "..", "a/b", "a\\b", "a b", "a\n", "\na", "a\0"),
        *("ä", "北", "٣", "a" * 65, "a" * 100_000, "lone \udc80"),
    ],
)
def test_invalid_name_is_rejected_everywhere(tenants: TenantStore, store: Backend, name: str) -> None:
    with pytest.raises(TenantError, match="cannot be the name of a tenant") as caught:
        tenants.create(name)
    assert len(str(caught.value)) < 700
    for call in (tenants.get, tenants.summarize, tenants.delete, lambda name: tenants.update(name, demographics=True)):
        with pytest.raises(TenantError, match="there is no tenant"):
            call(name)
    assert stored_keys(store, CONTROL) == {}


@pytest.mark.parametrize("again", ["north", "NORTH", "default", "Default"])
def test_existing_name_is_rejected_ignoring_case(tenants: TenantStore, again: str) -> None:
    tenant = tenants.create("north", demographics=True)
    with pytest.raises(TenantError, match=f"there is a tenant '{again.lower()}' already"):
        tenants.create(again)
    assert tenants.list() == [DEFAULT_TENANT, tenant]


@pytest.mark.every_backend
def test_update_changes_the_opt_in_of_any_tenant(tenants: TenantStore) -> None:
    tenants.create("north")
    for name in ("north", "default"):
        for demographics in (True, False, False, True):
            assert tenants.update(name, demographics=demographics).demographics is demographics
            assert tenants.get(name).demographics is demographics
    assert [(tenant.name, tenant.created) for tenant in tenants.list()] == [
        ("default", None),
        ("north", "2031-05-02T08:00:00.000Z"),
    ]


def test_show_counts_active_records_and_all_credentials(tenants: TenantStore, store: Backend) -> None:
    tenants.create("north")
    tenants.create("south")
    fill(store, "north")
    revoked = TokenStore(store).create("of north", DEFAULT, "north")[1]
    TokenStore(store).revoke(revoked.id)
    TokenStore(store).create("of north", DEFAULT, "north")
    with store.write(CONTROL) as transaction:
        transaction.put("clients", [Record("k", b"{}", {"tenant": "north"}), Record("o", b"{}", {"tenant": "south"})])
    shown = tenants.summarize("north").to_dict()
    active = {name: sum(row["status"] == "active" for row in rows) for name, rows in ROSTER.items()}
    assert shown["counts"] == active
    assert {"name": "north", "demographics": False, "tokens": 2, "clients": 1, "issuers": 0}.items() <= shown.items()
    assert tenants.summarize("north", with_deleted=True).records == {name: len(rows) for name, rows in ROSTER.items()}
    assert tenants.summarize("south").to_dict()["counts"] == {}


@pytest.mark.every_backend
def test_delete_leaves_nothing_of_the_tenant_and_all_of_others(tenants: TenantStore, store: Backend) -> None:
    other_token, token = create_full_tenant(store, "south"), create_full_tenant(store, "north")
    south, north = stored_keys(store, "south"), stored_keys(store, "north")
    assert set(north) == set(store.collections)
    deleted = tenants.delete("north")
    assert deleted.records == sum(map(len, north.values()))
    assert deleted.credentials == {"tokens": 1, "clients": 2, "issuers": 2, "administrators": 2}
    assert stored_keys(store, "north") == {}
    assert stored_keys(store, "south") == south
    control = stored_keys(store, CONTROL)
    assert control["tenants"] == ["south"]
    assert control["clients"] == ["clients-south-1", "clients-south-2"]
    for kind in ("issuers", "administrators", "sessions"):
        assert control[kind] == [f"{kind}-south-1", f"{kind}-south-2"]
    assert [token.tenant for token in TokenStore(store).list()] == ["south"]
    assert TokenStore(store).authenticate(token)[0] is None
    assert TokenStore(store).authenticate(other_token)[0] is not None


def test_delete_invalidates_tokens_that_are_cached(tenants: TenantStore, store: Backend) -> None:
    token, tokens = create_full_tenant(store, "north"), TokenStore(store)
    assert tokens.authenticate(token)[0]
    tenants.delete("north")
    assert tokens.authenticate(token)[0] is None
    tenants.create("north")
    assert tokens.authenticate(token)[0] is None


def test_name_of_a_deleted_tenant_can_be_used_again(tenants: TenantStore, store: Backend) -> None:
    create_full_tenant(store, "north", demographics=True)
    tenants.delete("north")
    for _ in range(2):
        with pytest.raises(TenantError, match="there is no tenant 'north'"):
            tenants.delete("north")
    assert tenants.create("north").demographics is False
    assert tenants.summarize("north").records == {}


def test_default_tenant_cannot_be_deleted(tenants: TenantStore, store: Backend) -> None:
    fill(store)
    with pytest.raises(TenantError, match="always exists: it can be changed, but not deleted"):
        tenants.delete("default")
    assert tenants.summarize("default").records["users"] == 8


def test_delete_works_in_batches(tenants: TenantStore, store: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalk_flask.tenants.store._BATCH_SIZE", 7)
    create_full_tenant(store, "north")
    tenants.delete("north")
    assert stored_keys(store, "north") == {}


def test_delete_fails_after_the_credentials_if_the_roster_is_locked(
    tenants: TenantStore, store: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = create_full_tenant(store, "north")
    write = store.write

    def write_while_locked(tenant: str, wait: float = 60.0) -> object:
        if tenant == "north":
            with write("north"):
                return write(tenant, wait=0.05)
        return write(tenant, wait)

    monkeypatch.setattr(store, "write", write_while_locked)
    with pytest.raises(StorageBusyError):
        tenants.delete("north")
    monkeypatch.undo()
    assert_half_deleted_then_finish(tenants, store, token)


def test_delete_removes_what_a_writer_commits_meanwhile_in_a_store_with_tenant_locks() -> None:
    with TenantLockBackend(COLLECTIONS) as store, ThreadPoolExecutor(1) as other_thread:
        tenants = TenantStore(store)
        create_full_tenant(store, "north")
        with store.write("north") as transaction:
            deleted = other_thread.submit(tenants.delete, "north")
            with pytest.raises(TimeoutError):
                deleted.result(timeout=0.1)
            with pytest.raises(TenantError, match="not deleted completely"):
                tenants.create("north")
            transaction.put("users", [Record("late", b'{"status":"active"}')])
        deleted.result(timeout=60)
        assert stored_keys(store, "north") == {}
        assert tenants.create("north").name == "north"


KILLED = """
import os, sys
from backends import backend_class
from chalk_flask.tenants.store import TenantStore
from chalk_flask.storage import COLLECTIONS

class Ends(backend_class(sys.argv[1])):
    def write(self, tenant, wait=60.0):
        if tenant == "north":
            os._exit(9)
        return super().write(tenant, wait)

TenantStore(Ends.open(sys.argv[1], COLLECTIONS)).delete("north")
"""


@pytest.mark.slow
@pytest.mark.on_backend("sqlite")
def test_killed_delete_leaves_no_credentials_and_can_be_finished(
    tenants: TenantStore, store: Backend, storage: str
) -> None:
    token = create_full_tenant(store, "north")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, storage], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=False
    )
    assert killed.returncode == 9
    assert_half_deleted_then_finish(tenants, store, token)


def assert_half_deleted_then_finish(tenants: TenantStore, store: Backend, token: str) -> None:
    assert TokenStore(store).authenticate(token)[0] is None
    assert set(stored_keys(store, CONTROL)) <= {"keys", "audit", "deletions"}
    assert set(stored_keys(store, "north")) == set(store.collections)
    with pytest.raises(TenantError, match=r"not deleted completely yet: .*`chalk-flask tenant delete north`"):
        tenants.create("north")
    assert tenants.delete("north").records > 0
    assert stored_keys(store, "north") == {}
    tenants.create("north")

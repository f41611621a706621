"""Tenants are made, listed, changed and erased with all that they have, and demographics need their opt-in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backends import Backend, Record, StorageBusyError, open_store
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.permissions.scopes import ALL, DEFAULT
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants.store import CONTROL, Tenant, TenantError, TenantStore, validate_new_name
from tests.support.paths import ROOT
from tests.support.small_roster import ROSTER, fill

MORNING = datetime(2031, 5, 2, 8, 0, tzinfo=UTC)
ALWAYS = Tenant(name="default", created=None, demographics=True)


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {"memory": "memory:", "sqlite": f"sqlite:///{tmp_path}/chalk.db", "json": f"json:///{tmp_path}/chalk"}[
        request.param
    ]


@pytest.fixture
def store(url: str) -> Iterator[Backend]:
    with open_store(url, COLLECTIONS) as opened:
        yield opened


@pytest.fixture
def tenants(store: Backend) -> TenantStore:
    return TenantStore(store, lambda: MORNING)


every_backend = pytest.mark.parametrize("url", ["memory", "sqlite", "json"], indirect=True)
in_memory = pytest.mark.parametrize("url", ["memory"], indirect=True)


def settle(store: Backend, name: str, demographics: bool = False) -> str:
    """Make a tenant with something in every collection that a tenant or its credentials may stand in; its token."""
    TenantStore(store).create(name, demographics)
    fill(store, name)
    with store.write(name) as transaction:
        for each in store.collections.values():
            transaction.put(each.name, [Record(f"of-{name}", b'{"status":"active"}')])
    token, _ = TokenStore(store).create(f"of {name}", ALL, name)
    assert token is not None
    with store.write(CONTROL) as transaction:
        for kind in ("clients", "issuers"):
            transaction.put(kind, [Record(f"{kind}-{name}-{n}", b"{}", {"tenant": name}) for n in (1, 2)])
    return token


def held(store: Backend, tenant: str) -> dict[str, list[str]]:
    """The keys of every collection that has any."""
    with store.read(tenant) as snapshot:
        found = {name: list(snapshot.keys(name)) for name in store.collections}
    return {name: keys for name, keys in found.items() if keys}


@every_backend
def test_the_default_tenant_is_there_without_anybody_having_made_it(tenants: TenantStore, store: Backend) -> None:
    assert tenants.list() == [ALWAYS]
    assert tenants.get("default") == tenants.show("default").tenant == ALWAYS
    assert held(store, CONTROL) == {}


@every_backend
def test_a_new_tenant_is_listed_by_name_and_not_opted_in_to_demographics(tenants: TenantStore) -> None:
    tenants.create("south", demographics=True)
    made = tenants.create("east.2_b-c")
    assert made == Tenant(name="east.2_b-c", created="2031-05-02T08:00:00.000Z", demographics=False)
    assert [each.name for each in tenants.list()] == ["default", "east.2_b-c", "south"]
    assert tenants.get("east.2_b-c") == made


@pytest.mark.parametrize("name", ["n", "N" * 64, "7", "north.valley_3-b", "default2"])
def test_a_name_has_letters_digits_and_three_signs(name: str) -> None:
    assert validate_new_name(name) == name


@in_memory
@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "_control", "_north", "-north", ".north", ".", "..", "a/b", "a\\b", "a b", "a\n", "\na", "a\0"),
        *("ä", "北", "٣", "a" * 65, "a" * 100_000, "lone \udc80"),
    ],
)
def test_another_name_is_refused_and_nothing_is_known_under_it(tenants: TenantStore, store: Backend, name: str) -> None:
    with pytest.raises(TenantError, match="cannot be the name of a tenant") as refused:
        tenants.create(name)
    assert len(str(refused.value)) < 700
    for ask in (tenants.get, tenants.show, tenants.delete, lambda name: tenants.update(name, demographics=True)):
        with pytest.raises(TenantError, match="there is no tenant"):
            ask(name)
    assert held(store, CONTROL) == {}


@every_backend
@pytest.mark.parametrize("again", ["north", "NORTH", "default", "Default"])
def test_a_name_that_is_taken_is_refused_whatever_its_case(tenants: TenantStore, again: str) -> None:
    made = tenants.create("north", demographics=True)
    with pytest.raises(TenantError, match=f"there is a tenant '{again.lower()}' already"):
        tenants.create(again)
    assert tenants.list() == [ALWAYS, made]


@every_backend
def test_a_tenant_is_opted_in_and_out_also_the_default_one(tenants: TenantStore) -> None:
    tenants.create("north")
    for name in ("north", "default"):
        for wanted in (True, False, False, True):
            assert tenants.update(name, demographics=wanted).demographics is wanted
            assert tenants.get(name).demographics is wanted
    assert [(each.name, each.created) for each in tenants.list()] == [
        ("default", None),
        ("north", "2031-05-02T08:00:00.000Z"),
    ]


@every_backend
def test_a_tenant_is_shown_with_its_active_records_and_all_of_its_credentials(
    tenants: TenantStore, store: Backend
) -> None:
    tenants.create("north")
    tenants.create("south")
    fill(store, "north")
    revoked = TokenStore(store).create("of north", DEFAULT, "north")[1]
    TokenStore(store).revoke(revoked.id)
    TokenStore(store).create("of north", DEFAULT, "north")
    with store.write(CONTROL) as transaction:
        transaction.put("clients", [Record("k", b"{}", {"tenant": "north"}), Record("o", b"{}", {"tenant": "south"})])
    shown = tenants.show("north").to_dict()
    active = {name: sum(row["status"] == "active" for row in rows) for name, rows in ROSTER.items()}
    assert shown["counts"] == active
    assert {"name": "north", "demographics": False, "tokens": 2, "clients": 1, "issuers": 0}.items() <= shown.items()
    assert tenants.show("south").to_dict()["counts"] == {}


@every_backend
def test_a_deleted_tenant_leaves_nothing_in_any_collection_and_the_others_keep_all(
    tenants: TenantStore, store: Backend
) -> None:
    kept, gone = settle(store, "south"), settle(store, "north")
    south, north = held(store, "south"), held(store, "north")
    assert set(north) == set(store.collections)
    erased = tenants.delete("north")
    assert erased.records == sum(map(len, north.values()))
    assert erased.credentials == {"tokens": 1, "clients": 2, "issuers": 2}
    assert held(store, "north") == {}
    assert held(store, "south") == south
    left = held(store, CONTROL)
    assert left["tenants"] == ["south"]
    assert left["clients"] == ["clients-south-1", "clients-south-2"]
    assert left["issuers"] == ["issuers-south-1", "issuers-south-2"]
    assert [token.tenant for token in TokenStore(store).list()] == ["south"]
    assert TokenStore(store).verify(gone) is None
    assert TokenStore(store).verify(kept) is not None


@every_backend
def test_the_tokens_of_a_deleted_tenant_end_at_once_also_where_they_were_just_used(
    tenants: TenantStore, store: Backend
) -> None:
    token, tokens = settle(store, "north"), TokenStore(store)
    assert tokens.verify(token)
    tenants.delete("north")
    assert tokens.verify(token) is None
    tenants.create("north")
    assert tokens.verify(token) is None


@every_backend
def test_a_deleted_tenant_is_unknown_and_its_name_free(tenants: TenantStore, store: Backend) -> None:
    settle(store, "north", demographics=True)
    tenants.delete("north")
    for _ in range(2):
        with pytest.raises(TenantError, match="there is no tenant 'north'"):
            tenants.delete("north")
    assert tenants.create("north").demographics is False
    assert tenants.show("north").records == {}


@every_backend
def test_the_default_tenant_is_not_deleted(tenants: TenantStore, store: Backend) -> None:
    fill(store)
    with pytest.raises(TenantError, match="always exists: it can be changed, but not deleted"):
        tenants.delete("default")
    assert tenants.show("default").records["users"] == 8


@in_memory
def test_many_records_go_in_batches(tenants: TenantStore, store: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalk_flask.tenants.store._BATCH", 7)
    settle(store, "north")
    tenants.delete("north")
    assert held(store, "north") == {}


@every_backend
def test_a_roster_that_somebody_is_writing_keeps_the_delete_waiting_after_the_credentials_ended(
    tenants: TenantStore, store: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = settle(store, "north")
    write = store.write

    def one_writer_at_a_time(tenant: str, wait: float = 60.0) -> object:
        if tenant == "north":
            with write("north"):
                return write(tenant, wait=0.05)
        return write(tenant, wait)

    monkeypatch.setattr(store, "write", one_writer_at_a_time)
    with pytest.raises(StorageBusyError):
        tenants.delete("north")
    monkeypatch.undo()
    assert_half_done_then_finish(tenants, store, token)


KILLED = """
import os, sys
from backends import backend_class
from chalk_flask.tenants.store import Tenants
from chalk_flask.storage import COLLECTIONS

class Ends(backend_class(sys.argv[1])):
    def write(self, tenant, wait=60.0):
        if tenant == "north":
            os._exit(9)
        return super().write(tenant, wait)

Tenants(Ends.open(sys.argv[1], COLLECTIONS)).delete("north")
"""


@pytest.mark.parametrize("url", ["sqlite", "json"], indirect=True)
def test_a_process_that_is_killed_in_between_leaves_no_credentials_and_deleting_again_finishes(
    tenants: TenantStore, store: Backend, url: str
) -> None:
    token = settle(store, "north")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, url], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=False
    )
    assert killed.returncode == 9
    assert_half_done_then_finish(tenants, store, token)


def assert_half_done_then_finish(tenants: TenantStore, store: Backend, token: str) -> None:
    assert TokenStore(store).verify(token) is None
    assert set(held(store, CONTROL)) <= {"keys", "audit"}
    assert set(held(store, "north")) == set(store.collections)
    with pytest.raises(TenantError, match="deleted, but not wholly: `chalk-flask tenant delete north` finishes that"):
        tenants.create("north")
    assert tenants.delete("north").records > 0
    assert held(store, "north") == {}
    tenants.create("north")

"""Collections of the service, and the store that is created by its first write."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from backends import MATCH_ALL, Backend, Query, Record, StorageUnavailableError, open_store, value_problems
from chalk_flask import create_app
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.permissions.scopes import ALL
from chalk_flask.storage import COLLECTIONS, LazyStore
from tests.conftest import services_of, url_in
from tests.support.deliveries import add_webhook, queue_events
from tests.support.histories import RandomChanges, load
from tests.support.keys import make_jwks, rsa_key, trust_issuer
from tests.support.packages import PackageBuilder


def test_collections_have_unique_names() -> None:
    names = [collection.name for collection in COLLECTIONS]
    assert len(names) == len(set(names))


def test_only_served_collections_change_the_revision() -> None:
    assert {collection.name for collection in COLLECTIONS if collection.bumps_revision} == {
        "academicSessions", "orgs", "courses", "classes", "users", "enrollments", "demographics", "resources",
        "categories", "lineItems", "results",
    }  # fmt: skip


def test_lazy_store_creates_nothing_by_reading(tmp_path: Path) -> None:
    path = tmp_path / "chalk.db"
    with LazyStore(f"sqlite:///{path}") as store, store.read("default") as snapshot:
        assert snapshot.find(Query("users", MATCH_ALL)).total == 0
    assert not path.exists()


def test_lazy_store_is_created_by_its_first_write(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/chalk.db"
    with LazyStore(url) as store:
        with store.write("default") as transaction:
            transaction.put("imports", [Record("run-1", b"{}")])
        with store.read("default") as snapshot:
            assert list(snapshot.keys("imports")) == ["run-1"]
    with open_store(url, COLLECTIONS) as opened, opened.read("default") as snapshot:
        assert list(snapshot.keys("imports")) == ["run-1"]


def test_lazy_store_reads_a_store_that_exists(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/chalk.db"
    with open_store(url, COLLECTIONS) as opened, opened.write("default") as transaction:
        transaction.put("imports", [Record("run-1", b"{}")])
    with LazyStore(url) as store, store.read("default") as snapshot:
        assert list(snapshot.keys("imports")) == ["run-1"]


def test_lazy_store_raises_errors_of_a_store_at_its_first_read(tmp_path: Path) -> None:
    path = tmp_path / "chalk.db"
    path.write_text("not a database, but as long as the header of one" * 100)
    with LazyStore(f"sqlite:///{path}") as store, pytest.raises(StorageUnavailableError):
        store.read("default")


def test_every_collection_with_fields_derives_its_values_from_bodies() -> None:
    assert [collection.name for collection in COLLECTIONS if collection.fields and collection.values_of is None] == []


def test_values_of_bodies_equal_the_stored_values(tmp_path: Path) -> None:
    app = create_app(storage="memory:", data=str(tmp_path / "data"))
    services = services_of(app)
    with services.store as store:
        add_webhook(store, tmp_path, "https://example.org/hook")
        assert load(app, PackageBuilder(), tmp_path) == "committed"
        changes = RandomChanges(app, tmp_path, 1)
        for change in (changes.import_bulk, changes.import_delta, changes.put_line_item, changes.delete_line_item):
            change()
        queue_events(store, 2)
        services.clients.create("tool", ALL)
        trust_issuer(store, jwks=make_jwks(rsa_key("a")))
        administrator = services.administrators.create("kim", "owner", "default", "correct horse battery")
        services.sessions.create(administrator, "192.0.2.1", None)
        package = io.BytesIO(PackageBuilder().zip_bytes())
        services.jobs.upload_import("default", package, "district.zip", requested_by="kim")
        assert value_problems(store) == []
        compared = {name for tenant in store.tenants() for name in used_collections(store, tenant)}
    assert compared >= {collection.name for collection in COLLECTIONS if collection.fields}


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_store_of_an_earlier_version_gets_new_collections(kind: str, tmp_path: Path) -> None:
    earlier = [c for c in COLLECTIONS if c.name not in ("administrators", "sessions", "setup_link")]
    with open_store(url_in(tmp_path, kind), earlier) as store:
        token, _ = TokenStore(store).create("reader", ALL)
    app = create_app(storage=url_in(tmp_path, kind), data=str(tmp_path / "data"))
    services = services_of(app)
    with services.store as store:
        administrator = services.administrators.create("kim", "owner", "default", "correct horse battery")
        secret, _ = services.sessions.create(administrator, "192.0.2.1", None)
        assert services.sessions.find(secret) is not None
        assert token is not None
        assert services.tokens.authenticate(token)[0] is not None
        assert [*store.check(), *value_problems(store)] == []
    with open_store(url_in(tmp_path, kind), earlier) as store:
        assert TokenStore(store).authenticate(token)[0] is not None


def used_collections(store: Backend, tenant: str) -> set[str]:
    with store.read(tenant) as snapshot:
        return {name for name in store.collections if snapshot.exists(name)}

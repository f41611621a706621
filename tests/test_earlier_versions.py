"""Stores that earlier versions wrote, with their own code: they open, serve, accept writes, and survive a backup.

`tests/data/stores/create` wrote them. docs/explanation/stores.md lists their schema versions.
"""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backends import CONTROL, Record, open_store
from chalk_flask import create_app
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.storage import COLLECTIONS
from tests.backup.conftest import Place
from tests.conftest import services_of
from tests.support.paths import ROOT

ARCHIVES = sorted((ROOT / "tests" / "data" / "stores").glob("*.tar.gz"))
VERSIONS = ("0.1.0", "undescribed", "schema-1")


@dataclass(frozen=True)
class EarlierStore(Place):
    """Store of an earlier version, the credentials that it knows, and what its own `check` said."""

    def json(self, name: str) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.folder / f"{name}.json").read_text())
        return data

    def check(self) -> dict[str, Any]:
        with self.open() as store:
            return check_store(store, "default").to_dict()


@pytest.fixture(params=ARCHIVES, ids=[path.name.removesuffix(".tar.gz") for path in ARCHIVES])
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> EarlierStore:
    """One of the stores, unpacked."""
    archive: Path = request.param
    folder = tmp_path / "earlier"
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    return EarlierStore(folder, archive.name.removesuffix(".tar.gz").rpartition("-")[2])


def test_each_version_is_tested_on_each_backend() -> None:
    names = {path.name.removesuffix(".tar.gz") for path in ARCHIVES}
    assert names == {f"{version}-{backend}" for version in VERSIONS for backend in ("json", "sqlite")}


def test_earlier_store_has_the_same_roster(earlier: EarlierStore) -> None:
    expected = earlier.json("check")
    found = earlier.check()
    assert found["ok"]
    assert {name: found[name] for name in ("counts", "digest", "state")} == {
        name: expected[name] for name in ("counts", "digest", "state")
    }


def test_earlier_store_serves_its_credentials(earlier: EarlierStore) -> None:
    app = create_app(storage=earlier.settings.storage, data=str(earlier.data))
    services = services_of(app)
    with services.store:
        client = app.test_client()
        users = client.get(
            "/ims/oneroster/v1p1/users", headers={"Authorization": f"Bearer {earlier.json('token')['token']}"}
        )
        assert (users.status_code, len(users.get_json()["users"])) == (200, 2)
        app_client = earlier.json("client")
        granted = client.post(
            "/oauth/token",
            data={"grant_type": "client_credentials"},
            auth=(app_client["client_id"], app_client["client_secret"]),
        )
        assert granted.status_code == 200
        [stored] = services.clients.list()
        assert stored.id == app_client["client_id"]
        with services.store.read(CONTROL) as control:
            assert len(list(control.keys("issuers"))) == 1


def test_first_write_describes_an_earlier_store(earlier: EarlierStore) -> None:
    with earlier.open() as store:
        with store.write(CONTROL) as control:
            control.put("tenants", [Record("later", b'{"name":"later","created":"2026-01-31T00:00:00.000Z"}')])
        assert len(store.store_id) == 32
        store_id = store.store_id
    with open_store(earlier.settings.storage, COLLECTIONS) as store:
        assert (store.store_id, store.check()) == (store_id, [])
    assert earlier.check()["ok"]


def test_earlier_store_is_backed_up_and_restored(earlier: EarlierStore, tmp_path: Path) -> None:
    restored = EarlierStore(tmp_path / "restored", earlier.backend)
    restored.restore(earlier.back_up())
    found, expected = restored.check(), earlier.json("check")
    assert (found["ok"], found["state"]) == (True, expected["state"])
    assert (restored.data / "secrets.key").read_bytes() == (earlier.data / "secrets.key").read_bytes()
    with restored.open() as store:
        assert len(store.store_id) == 32


def test_documentation_lists_each_version() -> None:
    page = (ROOT / "docs" / "explanation" / "stores.md").read_text(encoding="utf-8")
    assert [version for version in VERSIONS if f"`{version}`" not in page] == []

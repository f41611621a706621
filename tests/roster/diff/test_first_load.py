"""First loads whose large files are written while they are read: same store and same report as of other imports."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from backends import Backend, Snapshot, Transaction, open_store
from chalk_flask.outbox import EncryptedSecret, Subscription
from chalk_flask.outbox.delivery import BODIES
from chalk_flask.outbox.delivery import COLLECTION as DELIVERIES
from chalk_flask.outbox.subscription import COLLECTION as WEBHOOKS
from chalk_flask.roster.imports import ImportOptions, ImportReport, import_package
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.storage import COLLECTIONS, RosterStore
from tests.support.packages import PackageBuilder, large_package, package_with_users, small_first_loads

VARYING_MEMBERS = ("run", "dateLastModified", "seconds")
CELLS = ("", "x", "pupil-1", "u-3", "class-1", "org-2", "gone", "teacher", "true", "2026-13-01", "NULL", "a\tb", "é\0")


class Result(NamedTuple):
    """Report of an import without what differs between runs, digest of the store, and phases of the import."""

    report: dict[str, Any]
    digest: str
    phases: set[str]

    @property
    def is_written_while_read(self) -> bool:
        """True if the enrollments were written before the other records."""
        return "writing orgs" in self.phases and "writing enrollments" not in self.phases


def changed_package(seed: int) -> PackageBuilder:
    """Return the large package with some random cells, of which most make it invalid."""
    rng, package = random.Random(seed), large_package()
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        row = rng.choice(package.rows[rng.choice(("enrollments", "enrollments", "users", "classes"))])
        row[rng.choice(list(row))] = rng.choice(CELLS)
    rng.shuffle(package.rows["enrollments"])
    return package


def import_with_phases(
    store: RosterStore, path: Path, options: ImportOptions | None = None
) -> tuple[ImportReport, set[str]]:
    phases: set[str] = set()
    report = import_package(
        store, "default", path, options or ImportOptions(), on_progress=lambda phase, *_: phases.add(phase)
    )
    return report, phases


def result_of(store: Backend, path: Path, options: ImportOptions | None = None) -> Result:
    report, phases = import_with_phases(store, path, options)
    checked = check_store(store)
    assert checked.problems == []
    members = {name: value for name, value in report.to_dict().items() if name not in VARYING_MEMBERS}
    return Result(members, checked.digest, phases)


@pytest.mark.parametrize("seed", range(60))
def test_generated_package_gives_same_report_and_store(seed: int, store: Backend, tmp_path: Path) -> None:
    path = changed_package(seed).zip(tmp_path / "package.zip")
    with small_first_loads():
        found = result_of(store, path)
    with open_store("memory:", COLLECTIONS) as other:
        expected = result_of(other, path)
    assert found[:2] == expected[:2]
    assert found.is_written_while_read == (found.report["state"] == "committed")
    assert not expected.is_written_while_read


@pytest.mark.every_backend
def test_records_are_stored_and_next_import_finds_them_unchanged(store: Backend, tmp_path: Path) -> None:
    with small_first_loads():
        assert result_of(store, large_package().zip(tmp_path / "first.zip")).is_written_while_read
        again = result_of(store, large_package().set("users", "pupil-1", givenName="Ada").zip(tmp_path / "second.zip"))
    assert (again.report["total"]["unchanged"], again.report["total"]["updated"]) == (137, 1)
    assert "writing users" in again.phases


@pytest.mark.every_backend
@pytest.mark.parametrize(("file", "cells"), [("enrollments", {"userSourcedId": "gone"}), ("results", {"score": "x"})])
def test_rejected_package_leaves_no_record(store: Backend, tmp_path: Path, file: str, cells: dict[str, str]) -> None:
    package = large_package()
    package.rows[file][-1].update(cells)
    with small_first_loads():
        assert result_of(store, package.zip(tmp_path / "invalid.zip")).report["state"] == "refused"
        with store.read("default") as snapshot:
            assert snapshot.revision == 0
            assert not any(snapshot.exists(collection.name) for collection in COLLECTIONS)
        assert result_of(store, large_package().zip(tmp_path / "valid.zip")).is_written_while_read


def test_repeated_id_is_an_error(store: Backend, tmp_path: Path) -> None:
    package = large_package()
    package.rows["enrollments"].append(dict(package.rows["enrollments"][0]))
    with small_first_loads():
        report = result_of(store, package.zip(tmp_path / "package.zip")).report
    assert [(error["code"], error["row"]) for error in report["errors"]] == [("repeated_id", 82)]


@pytest.mark.parametrize("options", [replace(ImportOptions(), invalid_rows="quarantine")])
def test_quarantine_is_decided_before_the_write(store: Backend, tmp_path: Path, options: ImportOptions) -> None:
    with small_first_loads():
        assert not result_of(store, large_package().zip(tmp_path / "package.zip"), options).is_written_while_read


def test_roster_of_another_tenant_prevents_early_write(store: Backend, tmp_path: Path) -> None:
    import_package(store, "other", PackageBuilder().zip(tmp_path / "other.zip"), ImportOptions())
    with small_first_loads():
        assert not result_of(store, large_package().zip(tmp_path / "package.zip")).is_written_while_read


def test_dry_run_writes_nothing(store: Backend, tmp_path: Path) -> None:
    path = large_package().zip(tmp_path / "package.zip")
    with small_first_loads():
        report = import_package(store, "default", path, ImportOptions(), dry_run=True)
    assert (report.state, report.total()["created"]) == ("checked", 138)
    assert "default" not in store.tenants()


class OvertakenStore:
    """Store in which another import is applied just before the first write."""

    def __init__(self, store: Backend, import_other: Callable[[], object]) -> None:
        self._store = store
        self._pending = [import_other]

    def read(self, tenant: str) -> Snapshot:
        return self._store.read(tenant)

    def write(self, tenant: str) -> Transaction:
        if self._pending:
            self._pending.pop()()
        return self._store.write(tenant)

    def tenants(self) -> list[str]:
        return self._store.tenants()


def test_faster_import_of_another_writer_leads_to_new_comparison(store: Backend, tmp_path: Path) -> None:
    path, other = large_package().zip(tmp_path / "ours.zip"), package_with_users(10).zip(tmp_path / "other.zip")
    overtaken = OvertakenStore(store, lambda: import_package(store, "default", other, ImportOptions()))
    with small_first_loads():
        report, _ = import_with_phases(overtaken, path)
    assert (report.state, report.total()["unchanged"]) == ("committed", 30)
    assert check_store(store).problems == []


@pytest.mark.every_backend
def test_faster_import_of_another_tenant_prevents_early_write(store: Backend, tmp_path: Path) -> None:
    path, other = large_package().zip(tmp_path / "ours.zip"), PackageBuilder().zip(tmp_path / "other.zip")
    overtaken = OvertakenStore(store, lambda: import_package(store, "other", other, ImportOptions()))
    with small_first_loads():
        report, phases = import_with_phases(overtaken, path)
    assert (report.state, report.total()["created"]) == ("committed", 138)
    assert "writing enrollments" in phases


WEBHOOK = Subscription(
    id="wh-1",
    tenant="default",
    url="https://tool.example.org/hooks",
    created="2026-09-01T08:00:00.000Z",
    secrets=(EncryptedSecret("sealed"),),
    root="http://localhost/api/oneroster/v1p1",
    initial=True,
)


def add_webhook(store: Backend) -> None:
    with store.write("default") as transaction:
        transaction.put(WEBHOOKS, [WEBHOOK.to_record()])


def sent_records(store: Backend) -> list[tuple[str, str]]:
    """Return entity type and id of the new records that are stored for webhooks, in order."""
    with store.read("default") as snapshot:
        bodies = snapshot.get_many(BODIES, list(snapshot.keys(DELIVERIES)))
    changes = [change for key in sorted(bodies) for change in orjson.loads(bodies[key])["data"]["batch"]["changes"]]
    return [(change["entity_type"], change["sourced_id"]) for change in changes if change["action"] == "created"]


def test_webhook_that_is_created_meanwhile_receives_the_records_in_the_same_order(
    store: Backend, tmp_path: Path
) -> None:
    path = large_package().zip(tmp_path / "package.zip")
    with small_first_loads():
        import_with_phases(OvertakenStore(store, lambda: add_webhook(store)), path)
    with open_store("memory:", COLLECTIONS) as other:
        add_webhook(other)
        import_with_phases(other, path)
        expected = sent_records(other)
    assert expected
    assert sent_records(store) == expected

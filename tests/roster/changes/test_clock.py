"""Timestamps of imports: they rise, they do not lie before the commit, and a polling consumer misses no record."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from backends import Backend, Compare, Query, Snapshot, Transaction, open_store
from chalk_flask.oneroster.fields.scalars import fold
from chalk_flask.oneroster.resource_type import NO_TIMESTAMP
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.changes import clock, write_with_final_timestamp
from chalk_flask.roster.imports import import_package
from chalk_flask.storage import COLLECTIONS
from chalk_flask.times import format_epoch_seconds
from tests.conftest import url_in
from tests.roster.conftest import UNLIMITED, Load, bodies, changed_ids, objects, timestamp_of
from tests.support.packages import PackageBuilder


@pytest.mark.reading("I-05")
def test_import_gives_all_changed_records_one_timestamp(store: Backend, load: Load) -> None:
    first = load(store, PackageBuilder())
    assert {timestamp_of(body) for named in bodies(store).values() for body in named.values()} == {first.timestamp}
    before = bodies(store)
    package = (
        PackageBuilder()
        .set("users", "pupil-1", givenName="Ada")
        .set("orgs", "org-3", name="Other")
        .drop("results", "result-1")
    )
    second = load(store, package)
    for name, named in bodies(store).items():
        for key, body in named.items():
            assert timestamp_of(body) == (first if body == before[name][key] else second).timestamp
    assert changed_ids(before, bodies(store)) == {"pupil-1", "org-3", "result-1"}


def test_timestamp_has_passed_when_import_returns(store: Backend, load: Load) -> None:
    start = format_epoch_seconds(time.time())
    timestamp = load(store, PackageBuilder()).timestamp
    assert timestamp is not None
    assert start <= timestamp <= format_epoch_seconds(time.time())
    assert clock.to_epoch_seconds(timestamp) - clock.to_epoch_seconds(start) < 20


def test_records_are_found_by_their_timestamp(store: Backend, load: Load) -> None:
    load(store, PackageBuilder())
    timestamp = load(store, PackageBuilder().set("users", "pupil-1", givenName="Ada")).timestamp
    assert timestamp is not None
    with store.read("default") as snapshot:
        assert list(snapshot.keys("users", Compare("dateLastModified", ">=", fold(timestamp)))) == ["pupil-1"]


@pytest.mark.reading("I-05")
def test_timestamp_rises_after_clock_was_put_back(store: Backend, load: Load) -> None:
    ahead = format_epoch_seconds(time.time() + 3600)
    with store.write("default") as transaction:
        transaction.put("clock", [clock.timestamp_record(ahead)])
    start = time.monotonic()
    first, second = (
        load(store, PackageBuilder()).timestamp,
        load(store, PackageBuilder().set("orgs", "org-1", name="B")).timestamp,
    )
    assert first is not None
    assert second is not None
    assert ahead < first < second < format_epoch_seconds(time.time() + 3601)
    assert time.monotonic() - start < 600, "an import does not wait for a timestamp that is far away"


@pytest.mark.reading("I-05", "I-06")
@pytest.mark.parametrize(
    ("count", "min_lead", "max_lead"),
    [(1, 0.05, 0.06), (8_000, 0.5, 1.3), (50_000, 7.0, 8.0), (50_001, 0.0, 0.0)],
)
def test_commit_lead_grows_with_record_count(count: int, min_lead: float, max_lead: float) -> None:
    assert min_lead <= clock.commit_lead(count) <= max_lead


@pytest.mark.reading("I-05")
@pytest.mark.parametrize(("tries", "factor"), [(1, 1.25), (2, 4), (3, 8), (4, 16), (10, 1024)])
def test_next_lead_grows_exponentially_with_the_tries(tries: int, factor: float) -> None:
    assert clock.next_lead(0.5, -0.25, tries) == pytest.approx(0.75 * factor)
    assert clock.next_lead(0.5, 0.5, tries) == pytest.approx(clock.RESOLUTION_SECONDS * factor)


@pytest.mark.reading("I-05")
def test_lead_grows_over_late_commits_until_one_is_in_time(store: Backend) -> None:
    started: list[float] = []
    delays: list[float] = []

    @contextmanager
    def begin() -> Iterator[Transaction]:
        started.append(time.monotonic())
        with store.write("default") as transaction:
            yield transaction
            # The lead of the second commit is at most 1.25 times the time until it begins, so it is late too.
            elapsed = time.monotonic() - started[0]
            delays.append((0.05, 2 * elapsed + 0.1, 0)[min(len(started), 3) - 1])
            time.sleep(delays[-1])

    org = FILES["orgs"].record({"sourcedId": "o", "status": "active", "dateLastModified": NO_TIMESTAMP})
    lead = 0.01
    with write_with_final_timestamp(begin, "default", lead) as writer:  # type: ignore[arg-type]  # a context manager
        writer.put("orgs", lambda timestamp: [clock.record_with_timestamp(org, timestamp)], lambda: ["o"])
        writer.finish()
    # The lead of the third commit is four times as long as the second took. A busy machine may need more commits.
    assert len(started) >= 3
    assert writer.lead >= 3.9 * delays[1]
    assert writer.margin >= clock.RESOLUTION_SECONDS
    assert objects(store, "orgs")["o"]["dateLastModified"] == writer.timestamp


class SlowStore:
    """Store whose first commit is delayed by `seconds`. Calls `after` after the commit."""

    def __init__(self, store: Backend, seconds: float, after: Callable[[], object] = lambda: None) -> None:
        self._store = store
        self._seconds = seconds
        self._after = after

    def read(self, tenant: str) -> Snapshot:
        return self._store.read(tenant)

    def tenants(self) -> list[str]:
        return self._store.tenants()

    @contextmanager
    def _delayed(self, tenant: str) -> Iterator[Transaction]:
        with self._store.write(tenant) as transaction:
            yield transaction
            time.sleep(self._seconds)
        self._seconds = 0.0
        self._after()
        self._after = lambda: None

    def write(self, tenant: str) -> Transaction:
        return self._delayed(tenant)  # type: ignore[return-value]  # the importer needs a context manager only


@pytest.mark.every_backend
@pytest.mark.reading("I-05")
def test_late_commit_gets_a_later_timestamp(store: Backend, tmp_path: Path) -> None:
    commit_times: list[str] = []
    slow = SlowStore(store, 0.3, lambda: commit_times.append(format_epoch_seconds(time.time())))
    report = import_package(slow, "default", PackageBuilder().folder(tmp_path / "p"), UNLIMITED)
    assert report.timestamp is not None
    assert report.timestamp >= commit_times[0]
    assert {timestamp_of(body) for named in bodies(store).values() for body in named.values()} == {report.timestamp}


def test_restamping_skips_records_changed_by_others(store: Backend, tmp_path: Path) -> None:
    def import_other() -> None:
        package = PackageBuilder().set("users", "pupil-1", givenName="Theirs").drop("results", "result-1")
        import_package(store, "default", package.folder(tmp_path / "theirs"), UNLIMITED)

    slow = SlowStore(store, 0.3, import_other)
    report = import_package(slow, "default", PackageBuilder().folder(tmp_path / "ours"), UNLIMITED)
    assert objects(store, "users")["pupil-1"]["givenName"] == "Theirs"
    assert objects(store, "results")["result-1"]["status"] == "tobedeleted"
    assert report.timestamp is not None
    assert objects(store, "users")["pupil-2"]["dateLastModified"] == report.timestamp
    assert objects(store, "users")["pupil-1"]["dateLastModified"] < report.timestamp


IMPORT_COUNT = 16


class PollingConsumer(threading.Thread):
    """Consumer that polls for the changes since its last read, by its own clock."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._store = open_store(url, COLLECTIONS)
        self._done = threading.Event()
        self._since = format_epoch_seconds(0)
        self.reads = 0
        self.records: dict[tuple[str, str], dict[str, Any]] = {}

    def run(self) -> None:
        while not self._done.is_set():
            self._poll()
            time.sleep(0.0005)  # lets the import run; otherwise it would wait 5 ms for the GIL at each system call
        self._poll()
        self._store.close()

    def stop(self) -> None:
        """Poll once more and stop."""
        self._done.set()
        self.join()

    def _poll(self) -> None:
        now = format_epoch_seconds(time.time())
        newer = Compare("dateLastModified", ">", fold(self._since))
        with self._store.read("default") as snapshot:
            for name in FILES:
                for chunk in snapshot.find(Query(name, newer)).chunks:
                    for record in orjson.loads(b"[%s]" % chunk):
                        self.records[name, record["sourcedId"]] = record
        self._since = now
        self.reads += 1


@pytest.mark.slow
@pytest.mark.reading("I-05")
@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_polling_with_own_clock_misses_no_change(kind: str, tmp_path: Path) -> None:
    url = url_in(tmp_path, kind)
    with open_store(url, COLLECTIONS) as store:
        follower = PollingConsumer(url)
        follower.start()
        try:
            for number in range(IMPORT_COUNT):
                package = PackageBuilder().set("users", "pupil-1", givenName=f"Name {number}")
                package.row("classes", "class-2")["schoolSourcedId"] = ("org-2", "org-3")[number % 2]
                if number % 3 == 0:
                    package.drop("results", "result-1")
                    package.set("users", "pupil-2", orgSourcedIds="org-2,org-3")
                report = import_package(store, "default", package.folder(tmp_path / "package"), UNLIMITED)
                assert report.state == "committed"
        finally:
            follower.stop()
        stored = {(name, key): data for name in FILES for key, data in objects(store, name).items()}
    assert follower.records == stored
    assert follower.reads > IMPORT_COUNT

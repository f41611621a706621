from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backends import (
    KEY,
    And,
    Collection,
    Compare,
    Field,
    In,
    Or,
    OrderBy,
    Query,
    Record,
    StorageUnavailableError,
    Where,
    open_store,
)
from backends.sqlite.cached_query import CachedQuery
from backends.sqlite.snapshot import SQLiteSnapshot
from backends.testing import BackendConformance
from tests.support.storage.sqlite_steps import statements_of, steps_of


class TestSQLite(BackendConformance):
    """Conformance suite on the SQLite backend."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/chalk.db"

    @pytest.fixture
    def broken_url(self, tmp_path: Path) -> str:
        (tmp_path / "letter.db").write_text("Dear Sir or Madam, this is no database. " * 100)
        return f"sqlite:///{tmp_path}/letter.db"


OPEN_AND_CLOSE = """
import sqlite3, sys
for _ in range(300):
    connection = sqlite3.connect(sys.argv[1])
    connection.execute("SELECT count(*) FROM _tenants").fetchall()
    connection.close()
"""


def test_reader_survives_other_processes_that_close_the_file(tmp_path: Path) -> None:
    notes = Collection("notes")
    with open_store(f"sqlite:///{tmp_path}/chalk.db", [notes]) as store:
        with store.write("a") as transaction:
            transaction.put("notes", [Record("n", b"{}")])
        with subprocess.Popen([sys.executable, "-c", OPEN_AND_CLOSE, str(tmp_path / "chalk.db")]) as other:
            while other.poll() is None:
                store.version("a")
                with store.read("a") as at:
                    assert at.get_many("notes", ["n"]) == {"n": b"{}"}
        assert other.returncode == 0


def test_open_store_holds_the_lock_of_an_open_file(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/chalk.db", [Collection("notes")]) as store:
        with store.read("a") as at:
            assert at.revision == 0
        inode = (tmp_path / "chalk.db-shm").stat().st_ino
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines() if f":{inode} " in line]
        # Byte 128 is SQLite's "dead man's switch": without it, the next process to open the file empties the WAL.
        assert any(line[-2:] == ["128", "128"] for line in locks)


def test_concurrent_readers_of_one_order_share_one_sort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sorts: list[CachedQuery] = []
    sort = SQLiteSnapshot._read_ids

    def recording_sort(at: SQLiteSnapshot, query: CachedQuery) -> array[int]:
        sorts.append(query)
        return sort(at, query)

    monkeypatch.setattr(SQLiteSnapshot, "_read_ids", recording_sort)
    people = Collection("people", (Field("name"),))
    query = Query("people", order=(OrderBy("name", descending=True),), limit=5)
    with open_store(f"sqlite:///{tmp_path}/chalk.db", [people]) as store:
        with store.write("a") as transaction:
            transaction.put("people", [Record(f"{n}", b"%d" % n, {"name": f"{n:05}"}) for n in range(20_000)])

        def ask(_: int) -> bytes:
            with store.read("a") as at:
                return at.find(query).body()

        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(ask, range(40))) == {b"19999,19998,19997,19996,19995"}
    assert len(sorts) == 1


def test_wal_stays_small_under_alternating_reads_and_writes(tmp_path: Path) -> None:
    notes, wal = Collection("notes"), tmp_path / "chalk.db-wal"
    largest = 0
    with open_store(f"sqlite:///{tmp_path}/chalk.db", [notes]) as store, ThreadPoolExecutor(4) as readers:

        def read(_: int) -> int:
            with store.read("a") as at:
                return len(at.get_many("notes", ["n0"]))

        for number in range(300):
            with store.write("a") as transaction:
                transaction.put("notes", [Record(f"n{number % 3}", b'"%s"' % (b"x" * 50_000))])
            assert list(readers.map(read, range(4))) == [1] * 4
            largest = max(largest, wal.stat().st_size)
    assert largest < 16 << 20


@pytest.mark.slow
def test_deleted_records_leave_the_files_when_idle(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/chalk.db", [Collection("notes")]) as store:
        with store.write("a") as transaction:
            transaction.put("notes", [Record("n", b'"a secret that must not remain"')])
        with store.write("a") as transaction:
            transaction.delete("notes", ["n"])
        with store.read("a") as at:
            assert at.get_many("notes", ["n"]) == {}
        deadline = time.monotonic() + 60
        while is_secret_on_disk(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not is_secret_on_disk(tmp_path)


def is_secret_on_disk(folder: Path) -> bool:
    """Return True if a file contains the words.

    Another process searches, because closing the file in this process would release SQLite's locks on it.
    """
    return subprocess.run(["grep", "-rq", "a secret that", folder], check=False).returncode == 0


def test_small_range_is_found_by_its_index(tmp_path: Path) -> None:
    total, matching = 30_000, 7
    people = Collection("people", (Field("when", indexed=True), Field("state")))
    rows = [Record(f"{n * 7919 % total:05}", b"%d" % n, {"when": f"{n:05}", "state": "active"}) for n in range(total)]
    where = And((Compare("when", ">=", f"{total - matching:05}"), Compare("state", "=", "active")))
    with open_store(f"sqlite:///{tmp_path}/chalk.db", [people]) as store:
        with store.write("a") as transaction:
            transaction.put("people", rows)
        for query in (
            Query("people", where, limit=0),
            Query("people", where, limit=3, offset=1),
            Query("people", where),
            Query("people", where, (OrderBy("when"),), limit=5),
        ):
            with store.read("a") as at:
                steps = steps_of(at)
                page = at.find(query)
                expected = sorted(rows[-matching:], key=lambda row: str(row.values["when"]) if query.order else row.key)
                end = matching if query.limit is None else query.offset + query.limit
                assert page.body() == b",".join(row.body for row in expected[query.offset : end])
                assert (page.total, sum(steps) < total) == (matching, True)


def test_limited_total_and_combined_index_bound_the_work_of_a_page(tmp_path: Path) -> None:
    fields = (Field("owner", indexed=True), Field("state"))
    url = f"sqlite:///{tmp_path}/chalk.db"
    rows = [
        Record(f"{n:05}", b"%d" % n, {"owner": "abcd"[n % 4], "state": "open" if n % 1000 == 3 else "done"})
        for n in range(20_000)
    ]
    with open_store(url, [Collection("notes", fields)]) as store, store.write("a") as transaction:
        transaction.put("notes", rows)
    # An existing store gets the new index.
    with open_store(url, [Collection("notes", fields, combined_indexes=(("owner", "state"),))]) as store:
        for owner, state in (("d", "open"), ("d", "done")):
            where = And((Compare("owner", "=", owner), Compare("state", "=", state), Compare(KEY, "<", "19000")))
            expected = [row.body for row in rows[18_999::-1] if row.values == {"owner": owner, "state": state}]
            with store.read("a") as at:
                steps = steps_of(at)
                page = at.find(Query("notes", where, (OrderBy(KEY, descending=True),), limit=20, max_total=10))
                assert page.body() == b",".join(expected[:20])
                assert (page.total, sum(steps) < 2_000) == (10, True)


@pytest.mark.parametrize(
    "order", [(), (OrderBy("name"),), (OrderBy("name", descending=True),)], ids=["key", "name", "desc"]
)
@pytest.mark.parametrize("where", [Compare("owner", "=", "7"), In("owner", ("7", "8"))], ids=["equal", "in"])
def test_page_of_few_rows_reads_only_those(tmp_path: Path, where: Where, order: tuple[OrderBy, ...]) -> None:
    notes = Collection("notes", (Field("owner", indexed=True), Field("name", indexed=True)))
    rows = [Record(f"{n:05}", b"%d" % n, {"owner": str(n % 1_000), "name": str(-n)}) for n in range(20_000)]
    with open_store(f"sqlite:///{tmp_path}/chalk.db", [notes]) as store:
        with store.write("a") as transaction:
            transaction.put("notes", rows)
        bodies = []
        for _ in range(3):  # the first look-up reads the page, the second one the ids of all matching rows
            with store.read("a") as at:
                steps = steps_of(at)
                page = at.find(Query("notes", where, order, limit=8))
                bodies.append(page.body())
                assert sum(steps) < 3_000
        assert len(set(bodies)) == 1
        with store.read("a") as at:
            steps = steps_of(at)
            page = at.find(Query("notes", In(KEY, ("19999", "00007", "unknown", "00003")), limit=4))
            assert (page.body(), page.total) == (b"3,7,19999", 3)
            assert sum(steps) < 500
            assert at.find(Query("notes")).body() == b",".join(row.body for row in rows)


def test_deep_sorted_page_sorts_row_ids_and_no_bodies(tmp_path: Path) -> None:
    notes, total = Collection("notes", (Field("name"),)), 2_000
    rows = [Record(f"{n:05}", b"%d" % n, {"name": f"{n * 7 % total:05}"}) for n in range(total)]
    expected = [row.body for row in sorted(rows, key=lambda row: str(row.values["name"]), reverse=True)]
    order = (OrderBy("name", descending=True),)
    with open_store(f"sqlite:///{tmp_path}/chalk.db", [notes]) as store:
        with store.write("a") as transaction:
            transaction.put("notes", rows)
        with store.read("a") as at:
            statements = statements_of(at)
            page = at.find(Query("notes", order=order, offset=1_800, limit=25))
            assert (page.body(), page.total) == (b",".join(expected[1_800:1_825]), total)
            assert [sql for sql in statements if "_body" in sql and "OFFSET" in sql] == []


def test_first_pages_of_an_order_do_not_select_all_row_ids(tmp_path: Path) -> None:
    notes = Collection("notes", (Field("name"),))
    rows = [Record(f"{n:05}", b"%d" % n, {"name": f"{n:06}"}) for n in range(100)]
    with open_store(f"sqlite:///{tmp_path}/chalk.db", [notes]) as store:
        with store.write("a") as transaction:
            transaction.put("notes", rows)
        selections = []
        for number in range(5):
            with store.read("a") as at:
                statements = statements_of(at)
                page = at.find(Query("notes", order=(OrderBy("name"),), offset=number, limit=2))
                assert page.body() == b",".join(row.body for row in rows[number : number + 2])
                selections.append(sum("group_concat(_id)" in sql for sql in statements))
        assert selections == [0, 0, 0, 1, 0]


def test_search_in_texts_reads_all_records_only_once(tmp_path: Path) -> None:
    notes, total = Collection("notes", (Field("name"), Field("state"))), 5_000
    rows = [Record(f"{n:05}", b"%d" % n, {"name": f"note {n:05}", "state": "x"}) for n in range(total)]
    with open_store(f"sqlite:///{tmp_path}/chalk.db", [notes]) as store:
        with store.write("a") as transaction:
            transaction.put("notes", rows)
        for other in (), (Compare("state", "~", "y"),):
            where, similar = (Or((Compare("name", "~", text), *other)) for text in ("0498", "0499"))
            with store.read("a") as at:
                counting = steps_of(at)
                assert at.find(Query("notes", similar, limit=0)).total == 11
                searching = steps_of(at)
                page = at.find(Query("notes", where, limit=25))
                assert (page.total, page.body()[:9]) == (11, b"498,4980,")
                assert sum(searching) < 1.5 * sum(counting)


def test_update_writes_only_the_affected_indexes(tmp_path: Path) -> None:
    names = [f"field {n}" for n in range(8)]
    people = Collection("people", tuple(Field(name, indexed=True) for name in names))
    wal = tmp_path / "chalk.db-wal"

    def row(number: int, **changed: str) -> Record:
        return Record(f"{number:05}", b"%d" % number, dict.fromkeys(names, f"{number * 7919 % 20_000:05}") | changed)

    written = []
    for changed in ({names[0]: "z"}, dict.fromkeys(names, "z")):
        url = f"sqlite:///{tmp_path}/chalk.db"
        with open_store(url, [people]) as store, store.write("a") as transaction:
            transaction.put("people", map(row, range(20_000)))
        with open_store(url, [people]) as store, store.read("a"):  # the reader keeps the WAL from being emptied
            with store.write("a") as transaction:
                transaction.put("people", [row(number, **changed) for number in range(0, 20_000, 100)])
            written.append(wal.stat().st_size)
    assert written[0] < 0.6 * written[1]  # the table itself is a good part


def test_close_closes_the_connections_of_open_snapshots(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/chalk.db", [Collection("notes")]) as store, ThreadPoolExecutor(2) as threads:
        with store.write("a") as transaction:
            transaction.put("notes", [Record(f"{n:04}", b"%d" % n) for n in range(2000)])
        snapshots = [store.read("a"), threads.submit(store.read, "a").result()]
        pages = [snapshot.find(Query("notes")).chunks for snapshot in snapshots]
        assert all(next(page) for page in pages)
        connections = [snapshot._connection for snapshot in snapshots if isinstance(snapshot, SQLiteSnapshot)]
        store.close()
    for connection in connections:
        assert connection is not None
        with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
            connection.execute("SELECT 1")
    for snapshot, page in zip(snapshots, pages, strict=True):
        with pytest.raises(StorageUnavailableError):
            list(page)
        snapshot.close()

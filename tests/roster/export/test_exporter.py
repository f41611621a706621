"""Export of bulk and delta packages, and the export command."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backends import Backend, open_store
from chalk_flask.oneroster.resource_type import ResourceType, without_timestamp
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.roster.export.exporter import ExportResult, export_package
from chalk_flask.storage import COLLECTIONS
from tests.roster.conftest import Load, bodies, objects
from tests.support.packages import CSV_PACKAGES, HEADERS, PackageBuilder
from tests.support.paths import ROOT

DEMO = ROOT / "chalk_flask" / "demo"

SAMPLES = pytest.mark.parametrize(
    "package",
    [CSV_PACKAGES / "minimal", CSV_PACKAGES / "quirks", DEMO, PackageBuilder()],
    ids=["minimal", "quirks", "demo", "made"],
)


def export(store: Backend, path: Path, **options: Any) -> ExportResult:
    with store.read("default") as snapshot:
        return export_package(snapshot, "default", path, **options)


def active_bodies(store: Backend) -> dict[str, dict[str, bytes]]:
    """Return the active records without timestamps, by collection and id."""
    return {
        name: {key: without_timestamp(body) for key, body in records.items() if ResourceType.is_active(body)}
        for name, records in bodies(store).items()
    }


def read_csv(package: Path, name: str) -> list[list[str]]:
    with zipfile.ZipFile(package) as archive:
        return list(csv.reader(io.StringIO(archive.read(f"{name}.csv").decode(), newline="")))


@pytest.mark.reading("A-18")
def test_line_item_dates_keep_their_precision(store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, PackageBuilder().set("lineItems", "item-1", dueDate="2026-09-08T23:59:59.000Z"))
    export(store, tmp_path / "export.zip")
    head, row = read_csv(tmp_path / "export.zip", "lineItems")
    dates = {name: row[head.index(name)] for name in ("assignDate", "dueDate")}
    assert dates == {"assignDate": "2026-09-01", "dueDate": "2026-09-08T23:59:59.000Z"}


@SAMPLES
def test_export_and_import_give_same_roster_and_bytes(
    store: Backend, load: Load, tmp_path: Path, package: Path | PackageBuilder
) -> None:
    load(store, package)
    first = export(store, tmp_path / "first.zip")
    with open_store("memory:", COLLECTIONS) as other:
        load(other, tmp_path / "first.zip")
        assert export(other, tmp_path / "second.zip").rows == first.rows
        assert active_bodies(other) == active_bodies(store)
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()
    assert load(store, tmp_path / "first.zip", "unchanged").timestamp is None


def test_bulk_files_have_standard_headers_and_blank_status(store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, DEMO)
    export(store, tmp_path / "all.zip")
    for name in FILES:
        header, *rows = read_csv(tmp_path / "all.zip", name)
        assert [cell for cell in header if not cell.startswith("metadata.")] == HEADERS[name]
        assert rows
        assert all(row[1:3] == ["", ""] for row in rows)
        with (DEMO / f"{name}.csv").open(encoding="utf-8-sig", newline="") as text:
            assert header == next(csv.reader(text))


def test_delta_export_updates_an_older_copy(store: Backend, load: Load, tmp_path: Path) -> None:
    with open_store("memory:", COLLECTIONS) as copy:
        first = load(store, CSV_PACKAGES / "minimal")
        load(copy, CSV_PACKAGES / "minimal")
        package = PackageBuilder()
        package.rows["enrollments"].pop()
        package.rows["orgs"].append({"sourcedId": "new", "name": "New", "type": "school", "parentSourcedId": "org-1"})
        load(store, package)
        second = load(store, package.set("users", "pupil-1", givenName="Ada"))
        result = export(store, tmp_path / "delta.zip", since=first.timestamp)
        assert result.rows["users"] > 1
        load(copy, tmp_path / "delta.zip")
        assert bodies_without_timestamps(copy) == bodies_without_timestamps(store)
        assert export(
            store, tmp_path / "one.zip", since=first.timestamp and millisecond_before(second.timestamp)
        ).rows == {"users": 1}
        _, row = read_csv(tmp_path / "one.zip", "users")
        assert (row[1], row[2]) == ("active", second.timestamp)
        assert export(store, tmp_path / "none.zip", since=second.timestamp).rows == {}


def millisecond_before(stamp: str | None) -> str:
    """Return the timestamp a millisecond earlier."""
    assert stamp
    return (datetime.fromisoformat(stamp) - timedelta(milliseconds=1)).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def bodies_without_timestamps(store: Backend) -> dict[str, dict[str, bytes]]:
    return {
        name: {key: without_timestamp(body) for key, body in records.items()} for name, records in bodies(store).items()
    }


def test_bulk_export_skips_deleted_records_and_empty_files(store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, PackageBuilder())
    package = PackageBuilder()
    package.rows["results"].clear()
    package.rows["enrollments"].pop()
    load(store, package)
    result = export(store, tmp_path / "all.zip")
    assert "results" not in result.rows
    assert result.rows["enrollments"] == len(package.rows["enrollments"])
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert set(archive.namelist()) == {"manifest.csv", *(f"{name}.csv" for name in result.rows)}
        assert b"file.results,absent\r\n" in archive.read("manifest.csv")


def test_spreadsheet_safe_escapes_formulas(store: Backend, load: Load, tmp_path: Path) -> None:
    names = ["=1+1", "+1", "-1", "@x", "plain", 'a "b", c\r\nd']
    for name in names:
        load(store, PackageBuilder().set("orgs", "org-1", name=name))
        export(store, tmp_path / "raw.zip")
        export(store, tmp_path / "safe.zip", spreadsheet_safe=True)
        raw, safe = (read_csv(tmp_path / kind, "orgs")[1][3] for kind in ("raw.zip", "safe.zip"))
        assert raw == name
        assert safe == (name if name in names[4:] else f"'{name}")


def test_metadata_columns_keep_the_order_of_each_record(store: Backend, load: Load, tmp_path: Path) -> None:
    rows = [("a", {"zeta": "1", "beta": "2"}), ("b", {"beta": "1", "alpha": "2"}), ("c", {"alpha": "x"})]
    orgs = FILES["orgs"]
    with store.write("default") as transaction:
        for key, metadata in rows:
            data = {"sourcedId": key, "status": "active", "dateLastModified": "2026-01-01T00:00:00.000Z"}
            transaction.put("orgs", [orgs.record(data | {"name": key, "type": "district", "metadata": metadata})])
    export(store, tmp_path / "all.zip")
    assert read_csv(tmp_path / "all.zip", "orgs")[0][-3:] == ["metadata.zeta", "metadata.beta", "metadata.alpha"]
    with open_store("memory:", COLLECTIONS) as other:
        load(other, tmp_path / "all.zip")
        assert [list(body["metadata"]) for body in objects(other, "orgs").values()] == [list(m) for _, m in rows]


def test_metadata_in_contradicting_orders_is_exported(store: Backend, load: Load, tmp_path: Path) -> None:
    with store.write("default") as transaction:
        for key, metadata in (("a", {"x": {"deep": [1]}, "w": "1"}), ("b", {"w": 2.5, "x": True})):
            data = {"sourcedId": key, "status": "active", "dateLastModified": "2026-01-01T00:00:00.000Z"}
            transaction.put(
                "orgs", [FILES["orgs"].record(data | {"name": key, "type": "district", "metadata": metadata})]
            )
    export(store, tmp_path / "first.zip")
    assert [row[-2:] for row in read_csv(tmp_path / "first.zip", "orgs")] == [
        ["metadata.w", "metadata.x"],
        ["1", '{"deep":[1]}'],
        ["2.5", "true"],
    ]
    with open_store("memory:", COLLECTIONS) as other:
        load(other, tmp_path / "first.zip")
        export(other, tmp_path / "second.zip")
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()


def test_failed_export_keeps_existing_file(store: Backend, load: Load, tmp_path: Path) -> None:
    load(store, PackageBuilder())
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "all.zip"
    target.write_bytes(b"previous")
    snapshot = store.read("default")
    snapshot.close()
    with pytest.raises(Exception, match="closed"):
        export_package(snapshot, "default", target)
    assert [path.name for path in target.parent.iterdir()] == ["all.zip"]
    assert target.read_bytes() == b"previous"


def test_export_command_writes_private_file_and_counts(tmp_path: Path) -> None:
    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "chalk_flask", *args, "--storage", f"sqlite:///{tmp_path}/a.db"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )

    early = run("export", str(tmp_path / "all.zip"), "--json")
    assert early.returncode == 1
    assert "there is no store at" in json.loads(early.stdout)["message"]
    assert run("import", str(DEMO)).returncode == 0
    result = run("export", str(tmp_path / "all.zip"), "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["rows"]["users"] == 77
    assert (tmp_path / "all.zip").stat().st_mode & 0o777 == 0o600
    since = run("export", str(tmp_path / "delta.zip"), "--json", "--delta-since", "2020-01-01")
    assert json.loads(since.stdout)["total"] == 399
    assert run("export", str(tmp_path / "x.zip"), "--delta-since", "yesterday").returncode == 2
    missing = run("export", str(tmp_path / "no" / "all.zip"))
    assert missing.returncode == 2
    assert f"there is no folder '{tmp_path / 'no'}'" in " ".join(missing.stderr.split())
    os.mkfifo(tmp_path / "pipe")
    pipe = run("export", str(tmp_path / "pipe"))
    assert (pipe.returncode, (tmp_path / "pipe").is_fifo()) == (2, True)

"""Export of a roster as a OneRoster 1.1 CSV package, which an import reads as the same again (digest section 8)."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import secrets
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from backends import Compare, Query, Snapshot
from chalk_flask.oneroster.csv import manifest
from chalk_flask.oneroster.fields.scalars import fold
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.roster.export.dangling_references import (
    DanglingReferences,
    JSONBody,
    find_dangling_references,
    without_references,
)

__all__ = ["ExportResult", "export_package"]

SOURCE_SYSTEM = "Chalk Flask"
FILE_TIMESTAMP = (1980, 1, 1, 0, 0, 0)
"""When a file of a package was made, for all that it says: the same roster gives the same bytes."""

METADATA = "metadata"
STATE_FIELDS = ("status", "dateLastModified")

FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet may take for a formula."""


@dataclass
class ExportResult:
    """What was written: rows by data file, in the order of the standard; files without a row are not in the package."""

    tenant: str
    path: str
    rows: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    """Active records by data file that no row can say, because they lead to deleted ones."""

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        total = sum(self.rows.values())
        return {"tenant": self.tenant, "path": self.path, "rows": self.rows, "left_out": self.left_out, "total": total}

    def to_text(self) -> str:
        """For a person."""
        lines = [f"{name:<18}{rows:>12,}" for name, rows in self.rows.items()]
        lines += [
            f"Left out of {name}: {rows:,}, which name what is deleted and can be no rows without it."
            for name, rows in self.left_out.items()
        ]
        return "\n".join([*lines, f"Wrote {sum(self.rows.values()):,} rows to {self.path}."])


def export_package(
    snapshot: Snapshot, tenant: str, path: Path, *, since: str = "", spreadsheet_safe: bool = False
) -> ExportResult:
    """Write the active records of a tenant as a bulk package, a ZIP file; the file appears whole or not at all.

    `status` and `dateLastModified` stay blank, as the standard wants of bulk files. With `since`, an instant as
    `dateLastModified` is written, the package is a delta of what changed after it: deleted records too, and both cells
    filled. A file without a row is declared absent. Equal rosters give equal bytes. A reference to a deleted record is
    left out, and so is an active record that can be no row without it. With `spreadsheet_safe` a cell that
    looks like a formula begins with an apostrophe, and such a package no longer says exactly what is stored. Raises
    OSError.
    """
    done = ExportResult(tenant, str(path))
    where = Compare("dateLastModified", ">", fold(since)) if since else Compare("status", "=", fold(ACTIVE))
    gone = find_dangling_references(snapshot)
    with _replacing(path) as raw, zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as package:
        for name in FILES:
            source = _ExportSource(snapshot, FILES[name], where, gone)
            if rows := _write_file(package, source, spreadsheet_safe):
                done.rows[name] = rows
            if source.left_out:
                done.left_out[name] = source.left_out
        declared = manifest.declared_modes("delta" if since else "bulk", done.rows, SOURCE_SYSTEM)
        package.writestr(_zip_entry(manifest.MANIFEST), _csv_bytes([manifest.HEADER, *declared]))
    return done


@dataclass
class _ExportSource:
    """The records of a collection that become rows, each without what leads nowhere."""

    snapshot: Snapshot
    resource: ResourceType
    where: Compare
    dangling: DanglingReferences
    left_out: int = 0

    def __iter__(self) -> Iterator[JSONBody]:
        self.left_out, gone = 0, self.dangling.targets_by_reference(self.resource)
        for chunk in self.snapshot.find(Query(self.resource.name, self.where)).chunks:
            for body in orjson.loads(b"[%b]" % chunk):
                if body["status"] != ACTIVE:
                    yield body
                elif self.dangling.allows(self.resource.name, body):
                    yield without_references(body, gone)
                else:
                    self.left_out += 1

    @property
    def blank_fields(self) -> Sequence[str]:
        """The elements whose cells are blank."""
        return () if self.where.field == "dateLastModified" else STATE_FIELDS


def _write_file(package: zipfile.ZipFile, source: _ExportSource, safe: bool) -> int:
    """The file of a collection; how many rows it has. Without a row there is no file."""
    if next(iter(source), None) is None:
        return 0
    names, rows = _metadata_names(source), 0
    with (
        package.open(_zip_entry(f"{source.resource.name}.csv"), "w") as raw,
        io.TextIOWrapper(raw, encoding="utf-8", newline="") as text,
    ):
        write = csv.writer(text).writerow
        write([column.header for column in source.resource.columns] + [f"{METADATA}.{name}" for name in names])
        for body in source:
            cells = _cells(source.resource, body, source.blank_fields, names)
            write([_escape_formula(cell) for cell in cells] if safe else cells)
            rows += 1
    return rows


def _cells(resource: ResourceType, body: JSONBody, blank: Sequence[str], names: Sequence[str]) -> list[str]:
    cells = []
    for _, name, element in resource.columns:
        value = body.get(name)
        cells.append("" if value is None or element is None or name in blank else element.to_cell(value))
    metadata = body.get(METADATA, {})
    return cells + [_metadata_cell(metadata.get(name)) for name in names]


def _metadata_cell(value: Any) -> str:
    """A metadata value in a cell: text as it stands, anything else (an application may have written it) as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _escape_formula(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA_PREFIXES) else cell


def _metadata_names(source: Iterable[JSONBody]) -> list[str]:
    """The names of all extensions that these records use, in an order in which each record has them.

    An import keeps the order of the columns, so another one would give other bytes. It knows no empty name and none
    with blanks around it, and takes an empty value for none.
    """
    before: dict[str, set[str]] = {}
    for names in {tuple(_exportable_names(body[METADATA])) for body in source if METADATA in body}:
        for earlier, name in zip((None, *names), names, strict=False):
            before.setdefault(name, set()).update([earlier] if earlier else [])
    try:
        return list(_sorted_topologically(before))
    except CycleError:
        return sorted(before)  # applications wrote them in several orders


def _sorted_topologically(before: dict[str, set[str]]) -> Iterator[str]:
    """Every name after those before it, and among several the least: the same for the same records."""
    sorter = TopologicalSorter(before)
    sorter.prepare()
    ready = sorted(sorter.get_ready())
    while ready:
        yield (name := heappop(ready))
        sorter.done(name)
        for following in sorter.get_ready():
            heappush(ready, following)


def _exportable_names(metadata: Mapping[str, Any]) -> Iterator[str]:
    return (name for name, value in metadata.items() if name and name == name.strip() and _metadata_cell(value))


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file, its owner's alone, that takes the place of the path once it is written."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _csv_bytes(rows: Iterable[Sequence[str]]) -> bytes:
    with io.StringIO(newline="") as text:
        csv.writer(text).writerows(rows)
        return text.getvalue().encode()


def _zip_entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, FILE_TIMESTAMP)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o600 << 16
    return entry

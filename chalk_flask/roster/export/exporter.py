"""Export of a roster as a OneRoster 1.1 CSV package, which an import reads back as the same roster."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import orjson

from backends import Compare, Query, Snapshot
from chalk_flask.files import atomic_write
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
"""Time of each file in the ZIP archive. It is constant, so that equal rosters give equal bytes."""

METADATA = "metadata"
STATE_FIELDS = ("status", "dateLastModified")

FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")
"""First characters of cells that a spreadsheet may interpret as a formula."""


@dataclass
class ExportResult:
    """Result of an export. `rows` is the number of rows by data file, in the order of the standard.

    `left_out` is the number of active records by data file that require a reference to a deleted record.
    """

    tenant: str
    path: str
    rows: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object for scripts."""
        total = sum(self.rows.values())
        return {"tenant": self.tenant, "path": self.path, "rows": self.rows, "left_out": self.left_out, "total": total}

    def to_text(self) -> str:
        """Return the text for the terminal."""
        lines = [f"{name:<18}{rows:>12,}" for name, rows in self.rows.items()]
        lines += [
            f"Left out of {name}: {rows:,} records that refer to deleted records."
            for name, rows in self.left_out.items()
        ]
        return "\n".join([*lines, f"Wrote {sum(self.rows.values()):,} rows to {self.path}."])


def export_package(
    snapshot: Snapshot, tenant: str, path: Path, *, since: str = "", spreadsheet_safe: bool = False
) -> ExportResult:
    """Write the active records of a tenant as a bulk package, a ZIP file. The file is replaced atomically.

    `status` and `dateLastModified` are blank, as the standard requires for bulk files. With the timestamp `since`, the
    package is a delta package: all records that changed later, including deleted ones, with both cells filled.

    A file without rows is declared absent. Equal rosters give equal bytes. A reference to a deleted record is left out,
    and so is an active record that requires it (interpretation I-31). With `spreadsheet_safe` an apostrophe precedes
    each cell that looks like a formula; such a package differs from the stored roster. Raises OSError.
    """
    result = ExportResult(tenant, str(path))
    where = Compare("dateLastModified", ">", fold(since)) if since else Compare("status", "=", fold(ACTIVE))
    dangling = find_dangling_references(snapshot)
    with atomic_write(path, sync_parent=False) as raw, zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as package:
        for name in FILES:
            source = _ExportSource(snapshot, FILES[name], where, dangling)
            if rows := _write_file(package, source, spreadsheet_safe):
                result.rows[name] = rows
            if source.left_out:
                result.left_out[name] = source.left_out
        modes = manifest.manifest_rows("delta" if since else "bulk", result.rows, SOURCE_SYSTEM)
        package.writestr(_zip_entry(manifest.MANIFEST), _csv_bytes([manifest.HEADER, *modes]))
    return result


@dataclass
class _ExportSource:
    """Records of a collection that become rows, without their dangling references.

    `left_out` counts the active records that the last iteration left out.
    """

    snapshot: Snapshot
    resource_type: ResourceType
    where: Compare
    dangling: DanglingReferences
    left_out: int = 0

    def __iter__(self) -> Iterator[JSONBody]:
        self.left_out, targets = 0, self.dangling.targets_by_reference(self.resource_type)
        for chunk in self.snapshot.find(Query(self.resource_type.name, self.where)).chunks:
            for body in orjson.loads(b"[%b]" % chunk):
                if body["status"] != ACTIVE:
                    yield body
                elif self.dangling.is_excluded(self.resource_type.name, body):
                    self.left_out += 1
                else:
                    yield without_references(body, targets)

    @property
    def blank_fields(self) -> Sequence[str]:
        """The fields whose cells are blank."""
        return () if self.where.field == "dateLastModified" else STATE_FIELDS


def _write_file(package: zipfile.ZipFile, source: _ExportSource, safe: bool) -> int:
    """Write the file of a collection, unless it has no rows, and return the number of rows."""
    if next(iter(source), None) is None:
        return 0
    names, rows = _metadata_names(source), 0
    with (
        package.open(_zip_entry(f"{source.resource_type.name}.csv"), "w") as raw,
        io.TextIOWrapper(raw, encoding="utf-8", newline="") as text,
    ):
        write_row = csv.writer(text).writerow
        write_row([column.header for column in source.resource_type.columns] + [f"{METADATA}.{name}" for name in names])
        for body in source:
            cells = _cells(source.resource_type, body, source.blank_fields, names)
            write_row([_escape_formula(cell) for cell in cells] if safe else cells)
            rows += 1
    return rows


def _cells(resource_type: ResourceType, body: JSONBody, blank: Sequence[str], names: Sequence[str]) -> list[str]:
    cells = []
    for _, name, element in resource_type.columns:
        value = body.get(name)
        cells.append("" if value is None or element is None or name in blank else element.to_cell(value))
    metadata = body.get(METADATA, {})
    return cells + [_metadata_cell(metadata.get(name)) for name in names]


def _metadata_cell(value: Any) -> str:
    """Return the cell of a metadata value: a string unchanged, other values (from the gradebook API) as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _escape_formula(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA_PREFIXES) else cell


def _metadata_names(source: Iterable[JSONBody]) -> list[str]:
    """Return the names of all metadata members of these records, in an order that fits each record.

    An import stores the members in the order of the columns, so another order would give other bytes. Names that are
    empty or padded with blanks, and empty values, cannot be imported.
    """
    predecessors: dict[str, set[str]] = {}
    for names in {tuple(_exportable_names(body[METADATA])) for body in source if METADATA in body}:
        for earlier, name in zip((None, *names), names, strict=False):
            predecessors.setdefault(name, set()).update([earlier] if earlier else [])
    try:
        return list(_sorted_topologically(predecessors))
    except CycleError:
        return sorted(predecessors)  # the gradebook API stored them in contradicting orders


def _sorted_topologically(predecessors: dict[str, set[str]]) -> Iterator[str]:
    """Yield each name after its predecessors; of several possible names the least, so that the order is unique."""
    sorter = TopologicalSorter(predecessors)
    sorter.prepare()
    ready = sorted(sorter.get_ready())
    while ready:
        yield (name := heappop(ready))
        sorter.done(name)
        for successor in sorter.get_ready():
            heappush(ready, successor)


def _exportable_names(metadata: Mapping[str, Any]) -> Iterator[str]:
    return (name for name, value in metadata.items() if name and name == name.strip() and _metadata_cell(value))


def _csv_bytes(rows: Iterable[Sequence[str]]) -> bytes:
    with io.StringIO(newline="") as text:
        csv.writer(text).writerows(rows)
        return text.getvalue().encode()


def _zip_entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, FILE_TIMESTAMP)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o600 << 16
    return entry

"""Spool of the rows of one collection in a private file. Records that occur twice are merged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

import orjson

from chalk_flask.files import open_exclusive
from chalk_flask.oneroster.vocabularies import DELETED
from chalk_flask.sources.errors import SourceError
from chalk_flask.sources.rows import Row, RowConverter

__all__ = ["RecordSpool"]

MAX_METADATA_NAMES: Final = 500
"""Maximum number of different names of metadata in a collection. Each becomes a column."""


class RecordSpool:
    """Rows of one collection, in a file that `close` deletes. Not thread-safe.

    Of several versions of a record, it keeps the one with the latest dateLastModified, and the last of equal ones.
    Without `keeps_deleted`, it only counts the records that are to be deleted. Raises SourceError if the rows have more
    than `max_bytes`.
    """

    def __init__(self, path: Path, converter: RowConverter, max_bytes: int, *, keeps_deleted: bool) -> None:
        self._path, self._converter, self._max_bytes = path, converter, max_bytes
        self._keeps_deleted = keeps_deleted
        self._file = open_exclusive(path)
        self._lines: dict[str, tuple[str, int]] = {}
        """For each record, its dateLastModified and the number of the line with the version that stays."""
        self._line_count = 0
        self.duplicates = 0
        """Number of records that were merged with another one."""
        self.metadata_names: dict[str, None] = {}
        """Columns for the metadata, in the order of their first use."""

    def close(self) -> None:
        """Close and delete the file."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    @property
    def count(self) -> int:
        """Number of different records, including those that are to be deleted."""
        return len(self._lines)

    def key_of(self, record: Any) -> str:
        """Return the id of a record. Without an id, return a text that equals no id."""
        key = record.get("sourcedId") if isinstance(record, dict) else None
        if isinstance(key, str) and key:
            return key
        return f"\0{hashlib.sha256(orjson.dumps(record)).hexdigest()}"

    def add(self, record: Any) -> None:
        """Add a record, or another version of one. Raises SourceError and OSError."""
        key = self.key_of(record)
        date = record.get("dateLastModified") if isinstance(record, dict) else None
        version = date if isinstance(date, str) else ""
        former = self._lines.get(key)
        if former is not None:
            self.duplicates += 1
            if former[0] > version:
                return
        is_deleted = isinstance(record, dict) and record.get("status") in DELETED
        if is_deleted and not self._keeps_deleted:
            self._lines[key] = (version, -1)
            return
        self._lines[key] = (version, self._line_count)
        self._write(self._converter.convert(record))

    def digest(self) -> bytes:
        """Return a hash of the ids of all records."""
        digest = hashlib.sha256()
        for key in sorted(self._lines):
            digest.update(key.encode(errors="surrogatepass") + b"\0")
        return digest.digest()

    def rows(self) -> Iterator[Sequence[str]]:
        """Yield the cells of each record, those of `metadata_names` last."""
        kept = {line for _, line in self._lines.values()}
        self._file.seek(0)
        for number, line in enumerate(self._file):
            if number in kept:
                cells, metadata = cast(tuple[list[str], dict[str, str]], orjson.loads(line))
                yield [*cells, *(metadata.get(name, "") for name in self.metadata_names)]

    def _write(self, row: Row) -> None:
        self.metadata_names.update(dict.fromkeys(row.metadata))
        if len(self.metadata_names) > MAX_METADATA_NAMES:
            raise SourceError(
                f"the records of a collection have more than {MAX_METADATA_NAMES} different names of metadata: let the"
                " operator of the provider leave out those that no application reads"
            )
        self._file.write(orjson.dumps([row.cells, row.metadata]) + b"\n")
        self._line_count += 1
        if self._file.tell() > self._max_bytes:
            raise SourceError(
                f"a collection of the provider has more than {self._max_bytes >> 20} MiB: if the roster is"
                " genuine, the operator can raise the setting import_max_mb"
            )

"""Package with the records of a provider: a ZIP file as an export writes it, for the import."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from chalk_flask.files import open_exclusive
from chalk_flask.oneroster.csv import manifest
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.sources.record_spool import RecordSpool

__all__ = ["write_package"]

_TIMESTAMP: Final = (1980, 1, 1, 0, 0, 0)
"""Time of each file in the ZIP. It is constant, so that equal rosters give equal bytes."""


def write_package(path: Path, spools: Mapping[str, RecordSpool], *, is_delta: bool, system: str) -> None:
    """Write a ZIP file with a data file for each collection. `system` names the source. Raises OSError."""
    with open_exclusive(path) as raw, zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as package:
        for name, spool in spools.items():
            header = [*(column.header for column in FILES[name].columns), *spool.metadata_names]
            _write_csv(package, f"{name}.csv", header, spool.rows())
        mode = "delta" if is_delta else "bulk"
        _write_csv(package, manifest.MANIFEST, manifest.HEADER, manifest.manifest_rows(mode, spools, system))


def _write_csv(package: zipfile.ZipFile, name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    entry = zipfile.ZipInfo(name, _TIMESTAMP)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o600 << 16
    with (
        package.open(entry, "w", force_zip64=True) as raw,
        io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape", newline="") as text,
    ):
        writer = csv.writer(text)
        writer.writerow(header)
        writer.writerows(rows)

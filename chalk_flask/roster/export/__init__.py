"""Export of the stored roster as a OneRoster 1.1 CSV package.

`export_package` takes a snapshot and writes a bulk or delta package as a ZIP file, which an import reads back as the
same roster. It returns an `ExportResult`.
"""

from __future__ import annotations

from chalk_flask.roster.export.exporter import ExportResult, export_package

__all__ = ["ExportResult", "export_package"]

"""Warnings of the last import of a tenant, by kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chalk_flask.roster.imports.history import ImportRun, find_last_committed_run

if TYPE_CHECKING:
    from chalk_flask.console.context import ConsoleRequest

__all__ = ["WarningKind", "last_import_warnings"]


@dataclass(frozen=True, slots=True)
class WarningKind:
    """Warnings with the same code. The report of an import lists the first hundred warnings."""

    code: str
    warnings: list[Mapping[str, Any]]

    @property
    def label(self) -> str:
        """Words of the code."""
        words = self.code.replace("-", " ").replace("_", " ")
        return words[:1].upper() + words[1:]

    @property
    def hint(self) -> str:
        """Advice of the first warning."""
        return str(self.warnings[0]["remedy"])


def last_import_warnings(console: ConsoleRequest) -> tuple[ImportRun | None, list[WarningKind]]:
    """Return the last import that changed the roster, or None, and its warnings by kind. Raises StorageError."""
    services = console.services
    with services.store.read(console.tenant, query_seconds=services.settings.query_seconds) as snapshot:
        run = find_last_committed_run(snapshot)
    by_code: dict[str, list[Mapping[str, Any]]] = {}
    for warning in run.report["warnings"] if run else ():
        by_code.setdefault(warning["code"], []).append(warning)
    kinds = [WarningKind(code, warnings) for code, warnings in by_code.items()]
    return run, sorted(kinds, key=lambda kind: -len(kind.warnings))

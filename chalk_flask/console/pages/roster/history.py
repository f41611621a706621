"""Change history of a record, as far as the service stores it: its last change, and what caused it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chalk_flask.roster.changes.provenance import credential_of, find_note
from chalk_flask.roster.changes.sequence import sequence_of
from chalk_flask.roster.imports.history import find_run_with_timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalk_flask.console.context import ConsoleRequest

__all__ = ["LastChange", "last_change_of"]


@dataclass(frozen=True, slots=True)
class LastChange:
    """Last change of a record.

    `sequence` is its sequence number; None if the record has not changed since the first load. `run` is the id of the
    import run that made it, and `credential` the id of the credential of a grade tool. Each is empty if it is unknown.
    """

    sequence: int | None
    run: str
    credential: str


def last_change_of(console: ConsoleRequest, name: str, record: Mapping[str, Any]) -> LastChange:
    """Return the last change of a record of a resource type. Raises StorageError."""
    sourced_id: str = record["sourcedId"]
    services = console.services
    with services.store.read(console.tenant, query_seconds=services.settings.query_seconds) as snapshot:
        note = find_note(snapshot, name, sourced_id)
        run = find_run_with_timestamp(snapshot, record["dateLastModified"])
        return LastChange(
            sequence=sequence_of(snapshot, name, sourced_id),
            run=run.id if run else "",
            credential=(credential_of(note) or "") if note and not run else "",
        )

"""Change history of a record: its last change and what caused it, and the stored changes with their former values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, Final

from flask import request

from chalk_flask.console.pages.roster.catalog import find_collection
from chalk_flask.console.pages.roster.rows import ChangedField, changed_fields, read_references
from chalk_flask.console.stored_records import render_stored
from chalk_flask.roster.changes.change_history import PastChange, changes_of
from chalk_flask.roster.changes.grade_tool_records import credential_of, find_note
from chalk_flask.roster.changes.history_retention import history_cutoff, history_days
from chalk_flask.roster.changes.sequence import sequence_of
from chalk_flask.roster.imports.history import find_run, find_run_with_timestamp
from chalk_flask.times import utc_now

if TYPE_CHECKING:
    from backends import Snapshot
    from chalk_flask.console.api_client import ApiClient
    from chalk_flask.console.context import ConsoleRequest
    from chalk_flask.console.pages.roster.labels import RecordLinks

__all__ = ["LastChange", "RecordHistory", "ShownChange", "history_of", "last_change_of", "requested_start"]

CHANGES_PER_PAGE: Final = 10
MAX_NUMBER_LENGTH: Final = 18

OUTCOMES: Final = {
    "created": ("created", "good"),
    "updated": ("changed", "neutral"),
    "deleted": ("deleted", "warning"),
    "revived": ("active again", "good"),
}
"""Word and tone of each outcome."""


@dataclass(frozen=True, slots=True)
class LastChange:
    """Last change of a record.

    `sequence` is its sequence number; None if the record has not changed since the first load. `run` is the id of the
    import run that made it, and `credential` the id of the credential of a grade tool. Each is empty if it is unknown.
    """

    sequence: int | None
    run: str
    credential: str


@dataclass(frozen=True, slots=True)
class ShownChange:
    """Past change of a record, ready for the template.

    `run` is the id of an import run. `is_run_stored` is True if it has a page. `credential` is that of a grade tool.
    """

    time: str
    outcome: str
    tone: str
    run: str
    is_run_stored: bool
    credential: str
    fields: Sequence[ChangedField]


@dataclass(frozen=True, slots=True)
class RecordHistory:
    """Page of the changes of a record, newest first.

    `older` is the sequence number with which the next page starts, or None. `days` is the retention period of the
    tenant; 0 if it keeps no history. `is_continued` is True if newer changes are on another page.
    """

    changes: Sequence[ShownChange]
    older: int | None
    days: int
    is_continued: bool = False


def requested_start() -> int | None:
    """Return the sequence number in the parameter `before` of the current request; None if it is missing or invalid."""
    text = request.args.get("before", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_LENGTH else None


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


def history_of(
    console: ConsoleRequest, api: ApiClient, name: str, sourced_id: str, links: RecordLinks, start: int | None = None
) -> RecordHistory:
    """Return the newest changes of a record, or those from the sequence number `start` on. Raises StorageError.

    The values are those that the principal of the client may read.
    """
    services = console.services
    days = history_days(services.store, console.tenant, services.settings.history_days)
    if not days:
        return RecordHistory((), None, 0)
    cutoff = history_cutoff(days, utc_now())
    with services.store.read(console.tenant, query_seconds=services.settings.query_seconds) as snapshot:
        found = takewhile(lambda change: change.time >= cutoff, changes_of(snapshot, name, sourced_id, start))
        changes = list(islice(found, CHANGES_PER_PAGE + 1))
        stored_runs = _stored_runs(snapshot, changes)
    older = changes.pop().number if len(changes) > CHANGES_PER_PAGE else None
    shown = list(_shown(console, api, name, changes, links, stored_runs))
    return RecordHistory(shown, older, days, is_continued=start is not None)


def _stored_runs(snapshot: Snapshot, changes: Sequence[PastChange]) -> set[str]:
    """Return the ids of the import runs that still have a page. The history may be kept for longer."""
    return {run for run in {change.cause.run for change in changes} if run and find_run(snapshot, run)}


def _shown(
    console: ConsoleRequest,
    api: ApiClient,
    name: str,
    changes: Sequence[PastChange],
    links: RecordLinks,
    stored_runs: set[str],
) -> Iterator[ShownChange]:
    collection = find_collection(name)
    bodies = [body for change in changes for body in (change.before, change.after) if body is not None]
    documents = iter(render_stored(console, api, name, bodies))
    states = [(next(documents), next(documents)) if change.before else ({}, {}) for change in changes]
    read_references(collection, states, links)
    for change, (before, after) in zip(changes, states, strict=True):
        word, tone = OUTCOMES[change.outcome]
        cause = change.cause
        fields = changed_fields(collection, before, after, links)
        yield ShownChange(change.time, word, tone, cause.run, cause.run in stored_runs, cause.credential, fields)

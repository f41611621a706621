"""Changes that a held package would make: records that would be deleted, and fields that would change.

Stored records come from the API. New values come from the change list of the held package. They pass through the same
serializer and access policy as the records of the API.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flask import abort, request, url_for
from flask.typing import ResponseReturnValue

from chalk_flask.console.context import ConsoleRequest, current
from chalk_flask.console.pages.imports.record_text import (
    FieldChange,
    Record,
    changed_fields,
    record_name,
    references_in_name,
)
from chalk_flask.console.pages.imports.texts import render_import_page
from chalk_flask.console.pages.roster.labels import RecordLinks, record_url
from chalk_flask.console.stored_records import render_stored
from chalk_flask.console.widgets.paging import Page, page_of
from chalk_flask.oneroster.schemas import FILES, RESOURCES
from chalk_flask.roster.diff.change_list import CHANGED_OUTCOMES, ChangeList, RecordChange
from chalk_flask.roster.diff.change_set import Outcome
from chalk_flask.roster.imports import history
from chalk_flask.roster.imports.run_files import change_list_path, store_folder
from chalk_flask.times import utc_now

__all__ = ["ShownChange", "change_list_of", "show_changes"]

CHANGES_PER_PAGE: Final = 25
"""Changes on a page."""

FIRST_FILES: Final = ("users", "enrollments", "classes", "orgs")
"""Files whose changes are shown first, in this order. Others follow in the order of the package."""

OUTCOME_LABELS: Final[dict[Outcome, str]] = {
    "deleted": "Would be deleted",
    "updated": "Would change",
    "created": "Would be created",
    "revived": "Would be active again",
}


@dataclass(frozen=True, slots=True)
class ShownChange:
    """Change of a record: its id, its name or "" if that is not shown, and its fields that would change.

    `href` is the URL of its page, or "" if it has none.
    """

    key: str
    name: str
    href: str
    fields: Sequence[FieldChange] = ()


def change_list_of(console: ConsoleRequest, run_id: str) -> ChangeList | None:
    """Return the change list of a held run, or None if there is none."""
    return ChangeList.open(change_list_path(store_folder(console.services.settings), console.tenant, run_id))


def show_changes(import_id: str) -> ResponseReturnValue:
    """Show the changes of one file with one outcome that a held package would make."""
    console = current()
    report = _held_report(console, import_id)
    changes = change_list_of(console, import_id)
    if changes is None:
        abort(404, "The changes of this import are no longer stored. Import the package again to see them.")
    choices = [
        (name, outcome) for name in _files(changes) for outcome in CHANGED_OUTCOMES if changes.count(name, outcome)
    ]
    if not choices:
        abort(404)
    name, outcome = _selected(choices)
    page = page_of(changes.count(name, outcome), CHANGES_PER_PAGE)
    return render_import_page(
        "changes.html",
        import_id=import_id,
        name=name,
        outcome=outcome,
        heading=OUTCOME_LABELS[outcome],
        total=report["files"].get(name, {}).get(outcome, 0),
        page=page,
        changes=list(_shown(console, name, outcome, _entries(changes, name, outcome, page))),
        files=_file_links(import_id, choices, name),
        outcomes=_outcome_links(import_id, choices, name, outcome, report),
    )


def _held_report(console: ConsoleRequest, run_id: str) -> dict[str, Any]:
    """Return the report of a held run. Raises NotFound."""
    with console.services.store.read(console.tenant) as snapshot:
        run = history.find_run(snapshot, run_id)
        if run is None or run.current_state(utc_now(), snapshot) != "held":
            abort(404, "This import is not held, so there is nothing that it would change.")
    return dict(run.report)


def _files(changes: ChangeList) -> list[str]:
    return sorted(changes.counts, key=lambda name: FIRST_FILES.index(name) if name in FIRST_FILES else len(FIRST_FILES))


def _selected(choices: Sequence[tuple[str, Outcome]]) -> tuple[str, Outcome]:
    """Return the file and outcome of the request, or the first choice with the same file, or the first choice."""
    name, outcome = request.args.get("file", ""), request.args.get("outcome", "")
    of_file = [choice for choice in choices if choice[0] == name] or choices
    return next((choice for choice in of_file if choice[1] == outcome), of_file[0])


def _entries(changes: ChangeList, name: str, outcome: Outcome, page: Page) -> list[RecordChange]:
    return changes.page(name, outcome, page.offset, page.size)


def _shown(
    console: ConsoleRequest, name: str, outcome: Outcome, entries: Sequence[RecordChange]
) -> Iterator[ShownChange]:
    new_records, links = _new_records(console, name, entries), RecordLinks(console.api)
    old_records = {} if outcome == "created" else _stored_records(console, name, entries)
    links.read(
        reference
        for entry in entries
        for reference in references_in_name(name, old_records.get(entry.key) or new_records.get(entry.key, {}))
    )
    for entry in entries:
        old, new = old_records.get(entry.key), new_records.get(entry.key)
        fields = changed_fields(old or {}, new) if new is not None and outcome != "revived" else []
        href = record_url(name, entry.key) if old else ""
        yield ShownChange(entry.key, record_name(name, old or new or {}, links), href, fields)


def _stored_records(console: ConsoleRequest, name: str, entries: Sequence[RecordChange]) -> dict[str, dict[str, Any]]:
    """Return the records that the administrator can read, as the API serves them, by id."""
    if name not in RESOURCES:
        return {}
    return console.api.find_many(f"/{name}", (entry.key for entry in entries))


def _new_records(console: ConsoleRequest, name: str, entries: Sequence[RecordChange]) -> dict[str, Record]:
    """Return the records of a package as the API would serve them after the import, by id."""
    bodies = {entry.key: entry.body for entry in entries if entry.body is not None}
    if not bodies or name not in RESOURCES:
        return {}
    records = render_stored(console, console.api, name, list(bodies.values()))
    return dict(zip(bodies, records, strict=True))


def _file_links(import_id: str, choices: Sequence[tuple[str, Outcome]], selected: str) -> list[dict[str, Any]]:
    names = dict.fromkeys(name for name, _ in choices)
    return [
        {"label": name, "href": _link(import_id, name), "current": name == selected} for name in names if name in FILES
    ]


def _outcome_links(
    import_id: str, choices: Sequence[tuple[str, Outcome]], name: str, selected: Outcome, report: dict[str, Any]
) -> list[dict[str, Any]]:
    return [
        {
            "label": f"{OUTCOME_LABELS[outcome]} ({report['files'].get(name, {}).get(outcome, 0):,})",
            "href": _link(import_id, name, outcome),
            "current": outcome == selected,
        }
        for file, outcome in choices
        if file == name
    ]


def _link(import_id: str, name: str, outcome: str | None = None) -> str:
    return url_for("console.show_changes", import_id=import_id, file=name, outcome=outcome)

"""Demographics of people. A button shows them, and each view is an audit event."""

from __future__ import annotations

from typing import Any

from flask import abort, render_template, request
from flask.typing import ResponseReturnValue

from chalk_flask.audit.events import record_event
from chalk_flask.console.api_client import ApiClient
from chalk_flask.console.context import ConsoleRequest, current
from chalk_flask.console.pages.roster.catalog import DEMOGRAPHICS, find_collection, title_of
from chalk_flask.console.pages.roster.history import history_of
from chalk_flask.console.pages.roster.labels import RecordLinks, find_record
from chalk_flask.console.pages.roster.rows import fields_of, headers_of, page_size, rows_of
from chalk_flask.console.widgets.paging import MAX_OFFSET, Page

__all__ = ["browse_demographics", "list_demographics", "record_demographics_view", "show_demographics"]

NO_OPT_IN_MESSAGE = "This tenant has not opted in to demographics, so the service denies them to everyone."


def browse_demographics() -> ResponseReturnValue:
    """Show the button that lists demographics."""
    message = "" if _has_opted_in(current().api_with(demographics=True)) else NO_OPT_IN_MESSAGE
    return render_template("console/roster/demographics.html", rows=None, message=message)


def list_demographics() -> ResponseReturnValue:
    """List a page of demographics, and record that the administrator saw it."""
    console = current()
    api = console.api_with(demographics=True)
    if not _has_opted_in(api):
        return browse_demographics()
    collection, links = find_collection(DEMOGRAPHICS), RecordLinks(console.api)
    offset, size, filter_text = _form_offset(), page_size(console), request.form.get("filter", "").strip()
    record_demographics_view(console, operation="getAllDemographics")
    result = api.get(f"/{DEMOGRAPHICS}", {"limit": size, "offset": offset, "filter": filter_text})
    links.read(("users", record["sourcedId"]) for record in result.records)
    page = render_template(
        "console/roster/demographics.html",
        headers=headers_of(column for column in collection.columns if column.kind != "id"),
        rows=rows_of(collection, result.records, links),
        people=[links.link("users", record["sourcedId"]) for record in result.records],
        filter_text=filter_text,
        page=Page(offset, size, result.total, "", ""),
        message=result.message,
    )
    return page, 422 if result.status == 400 else result.status


def show_demographics(record_id: str) -> ResponseReturnValue:
    """Show the demographics of a person, and record that the administrator saw them."""
    console = current()
    person = find_record(console.api, "users", record_id)
    if person is None:
        abort(404)
    api = console.api_with(demographics=True)
    record, message = _read_demographics(console, api, record_id)
    links = RecordLinks(console.api)
    fields = fields_of(find_collection(DEMOGRAPHICS), record, links) if record else ()
    return render_template(
        "console/roster/person_demographics.html",
        person=person,
        title=title_of("users", person),
        fields=list(fields),
        record=record,
        message=message,
        history=history_of(console, api, DEMOGRAPHICS, record_id, links) if record else None,
    )


def _read_demographics(console: ConsoleRequest, api: ApiClient, record_id: str) -> tuple[dict[str, Any] | None, str]:
    """Return the demographics of a person, or None and a message. Records that the administrator saw them."""
    if not _has_opted_in(api):
        return None, NO_OPT_IN_MESSAGE
    record_demographics_view(console, operation="getDemographics", record=record_id)
    result = api.get(f"/{DEMOGRAPHICS}/{api.quote_id(record_id)}")
    if result.status == 404:
        return None, "The roster has no demographics of this person."
    return (result.record, "") if result.ok else (None, result.message)


def _has_opted_in(api: ApiClient) -> bool:
    return DEMOGRAPHICS not in api.principal.restrictions.denied


def record_demographics_view(console: ConsoleRequest, operation: str, record: str | None = None) -> None:
    """Store the audit event of a view before the data is read, so that no view lacks one. Raises StorageError."""
    with console.services.store.write(console.tenant) as transaction:
        record_event(
            transaction,
            console.tenant,
            "demographics.viewed",
            administrator=console.administrator.id,
            operation=operation,
            record=record,
        )


def _form_offset() -> int:
    text = request.form.get("offset", "")
    return min(int(text), MAX_OFFSET) if text.isascii() and text.isdigit() and len(text) <= 8 else 0

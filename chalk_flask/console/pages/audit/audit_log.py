"""Audit log of the tenant: pages of entries, newest first, and export as CSV or JSON lines."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import orjson
from flask import Response, current_app, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest

from backends import CONTROL
from chalk_flask.api.auth.concurrency import ConcurrencyLimiter
from chalk_flask.console.context import current
from chalk_flask.console.pages.audit.audit_filter import AuditFilter, event_choices, event_label
from chalk_flask.times import utc_now

__all__ = ["export_audit_log", "filter_audit_log", "show_audit_log"]

log = logging.getLogger(__name__)

PAGE_SIZE = 50
"""Entries on a page. All entries with the time of the last one are included, because the next page begins after it."""
MAX_SCANNED = 5_000
"""Entries that are examined for a page. The next page continues the search."""
MAX_EXPORTED = 100_000
MAX_SCANNED_FOR_EXPORT = 2_000_000
EXPORT_BATCH = 500
MAX_EXPORTS_PER_ADMINISTRATOR, MAX_EXPORTS_PER_ADDRESS = 2, 4
"""Maximum number of exports at the same time. Each one occupies a thread while it reads."""

_EXPORTS_KEY = "chalk.audit_exports"

FORMATS = {"csv": "text/csv", "jsonl": "application/jsonl"}
_COLUMNS = ("time", "tenant", "event", "who")
_WHO = ("by", "administrator", "client")
"""Members that say who caused an entry."""
_SCOPE_BEGINNING = "/v1p1/scope/"
"""End of the common beginning of all scopes, which a page does not show."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of a text that a spreadsheet interprets as a formula."""


def show_audit_log() -> ResponseReturnValue:
    """Show the newest entries that match the filter of the URL, and a link to older ones."""
    return _page_of(AuditFilter.of_url())


def filter_audit_log() -> ResponseReturnValue:
    """Redirect to the page with the posted filter, or show why the filter is invalid."""
    chosen = AuditFilter.parse(request.form, request.form.get("id", ""))
    if chosen.error:
        return _page_of(chosen), 422
    return redirect(_url("show_audit_log", chosen), 303)


def export_audit_log() -> ResponseReturnValue:
    """Return the newest entries that match the filter as a file, at most MAX_EXPORTED.

    Raises ApiError (429) if too many exports are in progress.
    """
    chosen, kind = AuditFilter.of_url(), request.args.get("format", "csv")
    if chosen.error or kind not in FORMATS:
        raise BadRequest(chosen.error or "Choose the format csv or jsonl.")
    found = (entry for _, entry in islice(chosen.entries(), MAX_SCANNED_FOR_EXPORT) if entry is not None)
    entries = islice(found, MAX_EXPORTED)
    lines = _csv_lines(entries) if kind == "csv" else (orjson.dumps(entry) + b"\n" for entry in entries)
    name = f"audit-{current().tenant}-{utc_now():%Y-%m-%d}.{kind}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    release = _exports().acquire(current().api.principal, request)
    response = Response(_in_batches(lines), mimetype=FORMATS[kind], headers=headers)
    response.call_on_close(release)
    return response


def _exports() -> ConcurrencyLimiter:
    """Return the limiter of the application."""
    limiter = ConcurrencyLimiter(
        "exports",
        current().services.metrics.streams("export"),
        per_credential=MAX_EXPORTS_PER_ADMINISTRATOR,
        per_address=MAX_EXPORTS_PER_ADDRESS,
    )
    found: ConcurrencyLimiter = current_app.extensions.setdefault(_EXPORTS_KEY, limiter)
    return found


def _page_of(chosen: AuditFilter) -> str:
    error = chosen.error
    found: list[dict[str, Any]] = []
    older = ""
    if not error:
        try:
            found, older = _read_page(chosen.entries())
        except OSError as failure:
            log.warning("the access log cannot be read: %s", failure.strerror)
            found, older = _read_page(chosen.entries(with_reads=False))
            error = "The access log cannot be read, so reads are missing. The log of the service says why."
    names = _administrator_names()
    actors = {actor for entry in found for actor in _actors(entry)}
    return render_template(
        "console/audit/audit_log.html",
        entries=[_row(entry, names) for entry in found],
        actor_urls={each: _url("show_audit_log", AuditFilter(event=chosen.event, id=each)) for each in actors},
        chosen=chosen,
        error=error,
        event_choices=event_choices(),
        names=names,
        older_url=_url("show_audit_log", chosen, before=older) if older else "",
        newest_url=_url("show_audit_log", chosen) if chosen.before else "",
        export_urls={name: _url("export_audit_log", chosen, format=name) for name in FORMATS},
        max_exported=MAX_EXPORTED,
        is_operator=current().administrator.is_operator,
    )


def _url(endpoint: str, chosen: AuditFilter, **params: str) -> str:
    values: dict[str, Any] = chosen.params() | params
    return url_for(f"console.{endpoint}", **values)


def _read_page(entries: Iterator[tuple[str, dict[str, Any] | None]]) -> tuple[list[dict[str, Any]], str]:
    """Return the entries of a page, and the time before which the next page begins, "" if there is none."""
    found: list[dict[str, Any]] = []
    last_time = ""
    for number, (time, entry) in enumerate(entries):
        is_full = len(found) >= PAGE_SIZE or number >= MAX_SCANNED
        if is_full and time != last_time:
            return found, last_time
        last_time = time
        if entry is not None:
            found.append(entry)
    return found, ""


def _row(entry: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return what the page shows of an entry."""
    hidden = {"time", "tenant", "event", *_WHO}
    event = entry.get("event", "")
    return {
        "time": entry["time"],
        "tenant": "the service" if entry.get("tenant") == CONTROL else entry.get("tenant", ""),
        "event": event,
        "label": event_label(event) if event else "Reads that were not recorded",
        "who": [(value, names.get(value, value)) for value in _actors(entry)],
        "details": [
            (name, _text(value), names.get(value) if isinstance(value, str) else None)
            for name, value in entry.items()
            if name not in hidden and value is not None
        ],
    }


def _actors(entry: Mapping[str, Any]) -> list[str]:
    return [str(entry[name]) for name in _WHO if entry.get(name) is not None]


def _administrator_names() -> dict[str, str]:
    """Return the names that the signed-in administrator may see, by id of the administrator."""
    console = current()
    administrators = console.services.administrators
    if console.administrator.is_operator:
        return {each.id: each.name for each in administrators.list()}
    own = {each.id: each.name for each in administrators.list(console.tenant)}
    return {each.id: "an operator" for each in administrators.list() if each.is_operator} | own


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(each).rpartition(_SCOPE_BEGINNING)[2] for each in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _csv_lines(entries: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Yield the lines of a CSV file. The last column contains the other members as JSON."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow([*_COLUMNS, "details"])
    for entry in entries:
        details = {name: value for name, value in entry.items() if name not in {*_COLUMNS, *_WHO}}
        values = [entry["time"], entry.get("tenant", ""), entry.get("event", ""), " ".join(_actors(entry))]
        writer.writerow([*map(_cell, values), orjson.dumps(details).decode()])
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue().encode()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _in_batches(lines: Iterator[bytes]) -> Iterator[bytes]:
    while batch := b"".join(islice(lines, EXPORT_BATCH)):
        yield batch

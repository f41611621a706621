"""Pages of the data quality: the counts of all checks, the records of one, and the warnings of the last import."""

from __future__ import annotations

from typing import Any

from flask import abort, current_app, jsonify, render_template
from flask.typing import ResponseReturnValue

from chalk_flask.console.context import ConsoleRequest, current
from chalk_flask.console.pages.quality.warnings import last_import_warnings
from chalk_flask.console.pages.roster.catalog import COLLECTIONS
from chalk_flask.console.pages.roster.labels import RecordLinks
from chalk_flask.console.pages.roster.rows import headers_of, page_size, rows_of
from chalk_flask.console.widgets.paging import page_of, page_offset
from chalk_flask.roster.quality import CHECKS, QualityAnalyzer, QualityCheck

__all__ = ["show_quality", "show_quality_records", "show_quality_state", "show_warnings"]

WAIT_SECONDS = 0.05
"""Maximum time that a page waits for the analysis, which is enough for the roster of a small school."""

_ANALYZER_KEY = "chalk.quality"


def show_quality() -> ResponseReturnValue:
    """Show the count of each check, and the warnings of the last import by kind."""
    console = current()
    report, is_current = _analyzer(console).latest(console.tenant, WAIT_SECONDS)
    run, kinds = last_import_warnings(console)
    return render_template(
        "console/quality/overview.html",
        checks=[(check, report.results[check.id] if report else None) for check in CHECKS],
        report=report,
        is_current=is_current,
        run=run,
        kinds=kinds,
    )


def show_quality_state() -> ResponseReturnValue:
    """Return JSON for the script of the page: `current` is true if the analysis of the current roster is complete."""
    console = current()
    _, is_current = _analyzer(console).latest(console.tenant, 0)
    return jsonify({"current": is_current})


def show_quality_records(check_id: str) -> ResponseReturnValue:
    """Show a page of the records that a check found."""
    console = current()
    check = next((check for check in CHECKS if check.id == check_id), None) or abort(404)
    report, is_current = _analyzer(console).latest(console.tenant, WAIT_SECONDS)
    ids = report.results[check.id].ids if report else ()
    collection, links = COLLECTIONS[check.collection], RecordLinks(console.api)
    return render_template(
        "console/quality/records.html",
        check=check,
        count=report.results[check.id].count if report else None,
        report=report,
        is_current=is_current,
        collection=collection,
        headers=headers_of(collection.columns),
        rows=rows_of(collection, _records(console, check, ids), links),
        page=page_of(len(ids), page_size(console)),
        listed=len(ids),
    )


def show_warnings(code: str) -> ResponseReturnValue:
    """Show the warnings of one kind of the last import."""
    run, kinds = last_import_warnings(current())
    kind = next((kind for kind in kinds if kind.code == code), None) or abort(404)
    return render_template("console/quality/warnings.html", run=run, kind=kind)


def _analyzer(console: ConsoleRequest) -> QualityAnalyzer:
    """Return the analyzer of the application."""
    services = console.services
    if _ANALYZER_KEY not in current_app.extensions:
        analyzer = QualityAnalyzer(services.store, services.settings.query_seconds)
        current_app.extensions.setdefault(_ANALYZER_KEY, analyzer)
    found: QualityAnalyzer = current_app.extensions[_ANALYZER_KEY]
    return found


def _records(console: ConsoleRequest, check: QualityCheck, ids: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the records of the current page, read through the API. Purged records are left out."""
    offset = page_offset()
    shown = ids[offset : offset + page_size(console)]
    found = console.api.find_many(f"/{check.collection}", shown)
    return [found[key] for key in shown if key in found]

"""Sources: list, add, change, sync and remove."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from flask import abort, flash, make_response, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound
from wtforms import BooleanField

from chalk_flask.auth.secrets import SecretCipher
from chalk_flask.console.context import current
from chalk_flask.console.formatting import format_sentence
from chalk_flask.console.pages.imports.texts import STATE_BADGES
from chalk_flask.console.pages.sources.source_form import (
    AUTH_LABELS,
    NewSourceForm,
    SourceForm,
    version_of,
)
from chalk_flask.console.widgets.forms import ConsoleForm
from chalk_flask.jobs import JobError
from chalk_flask.roster.tenant_imports import find_import
from chalk_flask.sources import SecretRequiredError, Source, SourceError, SourceStore, next_sync
from chalk_flask.sources.schedule import describe_schedule

__all__ = [
    "add_source",
    "change_source",
    "edit_source",
    "list_sources",
    "remove_source",
    "show_new_source",
    "show_source",
    "sync_source_now",
]

_NEVER: Final = ("Never synced", "neutral")
_FAILED: Final = ("Failed", "bad")


class SyncForm(ConsoleForm):
    """Form that asks which records a sync reads."""

    full = BooleanField("Read all records", description="Otherwise it reads what has changed since the last sync.")


def list_sources() -> ResponseReturnValue:
    """Show the sources of the tenant, by name."""
    found = _source_store().list(current().tenant)
    return render_template("console/sources/sources.html", sources=[_summarize(source) for source in found])


def show_new_source() -> ResponseReturnValue:
    """Show the form for a source."""
    return _form_page("new_source.html", NewSourceForm.prepare(formdata=None))


def add_source() -> ResponseReturnValue:
    """Add a source, and redirect to its page."""
    form = NewSourceForm.prepare()
    if not form.check():
        return _form_page("new_source.html", form, 422)
    try:
        source = _source_store().add(current().tenant, form.to_request())
    except SourceError as error:
        form.form_errors.append(format_sentence(error))
        return _form_page("new_source.html", form, 422)
    flash("The source is added. Sync it to pull its roster.", "success")
    return _to_source(source.name)


def show_source(source_name: str) -> ResponseReturnValue:
    """Show a source with the outcome of its last sync."""
    source = _find_source(source_name)
    return render_template(
        "console/sources/source.html",
        source=_summarize(source),
        properties=_properties(source),
        sync_form=SyncForm(formdata=None),
    )


def edit_source(source_name: str) -> ResponseReturnValue:
    """Show the form that changes a source."""
    source = _find_source(source_name)
    return _form_page("edit_source.html", SourceForm.of(source), source=source)


def change_source(source_name: str) -> ResponseReturnValue:
    """Change a source, from its next sync on."""
    source = _find_source(source_name)
    form = SourceForm.prepare(source)
    if not form.check(source):
        return _form_page("edit_source.html", form, 422, source=source)
    if form.version.data != version_of(source):
        return _form_page("edit_source.html", SourceForm.of(source), 409, source=source, is_stale=True)
    try:
        _source_store().change(current().tenant, source_name, form.to_change())
    except SecretRequiredError:
        form.secret.errors = ["Enter the secret again, because another server or another kind of credential needs it."]
        return _form_page("edit_source.html", form, 422, source=source)
    except SourceError as error:
        form.form_errors.append(format_sentence(error))
        return _form_page("edit_source.html", form, 422, source=source)
    flash("The source is saved.", "success")
    return _to_source(source_name)


def sync_source_now(source_name: str) -> ResponseReturnValue:
    """Queue a sync, and redirect to the page of its job."""
    _find_source(source_name)
    console, form = current(), SyncForm()
    try:
        job = console.services.jobs.sync(
            console.tenant, source_name, requested_by=console.administrator.id, full=bool(form.full.data)
        )
    except JobError as error:
        abort(409, format_sentence(error))
    if job.package != source_name:
        flash(
            "Your sync was not started, because the sync of another source is in progress. This page shows that one."
            " Start yours when it has ended.",
            "info",
        )
    return redirect(url_for("console.show_import", import_id=job.id), 303)


def remove_source(source_name: str) -> ResponseReturnValue:
    """Remove a source with its secret. The roster stays."""
    _find_source(source_name)
    try:
        _source_store().remove(current().tenant, source_name)
    except SourceError as error:
        raise NotFound from error
    flash(f"The source “{source_name}” is removed. The roster stays as it is.", "success")
    return redirect(url_for("console.list_sources"), 303)


def _source_store() -> SourceStore:
    services = current().services
    return SourceStore(services.store, SecretCipher(Path(services.settings.data).absolute()))


def _find_source(name: str) -> Source:
    try:
        return _source_store().get(current().tenant, name)
    except SourceError as error:
        raise NotFound from error


def _summarize(source: Source) -> Mapping[str, Any]:
    """Return the outcome of the last sync, for the list and the page of a source."""
    label, tone = STATE_BADGES.get(source.last_result or "", _NEVER)
    if source.failures:
        label, tone = _FAILED
    return {
        "name": source.name,
        "host": urlsplit(source.url).netloc,
        "schedule": describe_schedule(source),
        "next_sync": next_sync(source),
        "last_success": source.last_success,
        "last_started": source.last_started,
        "result": label,
        "tone": tone,
        "error": format_sentence(source.last_error) if source.failures and source.last_error else "",
        "failures": source.failures,
        "last_failure": source.last_failure,
        "lacks_demographics": source.lacks_demographics,
        "run": _stored_run(source.last_run),
    }


def _stored_run(run_id: str | None) -> str:
    """Return the id of a run that has a page, or "". Reports are kept for 90 days."""
    console = current()
    services = console.services
    is_stored = run_id is not None and find_import(services.store, services.settings, console.tenant, run_id)
    return (run_id or "") if is_stored else ""


def _properties(source: Source) -> list[tuple[str, str]]:
    properties = [("URL", source.url), ("Credential", AUTH_LABELS[source.auth])]
    if source.client_id:
        properties.append(("Client id", source.client_id))
    if source.token_url:
        properties.append(("Token URL", source.token_url))
    return [
        *properties,
        ("Sync", describe_schedule(source)),
        ("All records are read", f"after {source.full_days} days"),
        ("Page size", f"{source.page_size:,} records"),
    ]


def _form_page(
    template: str, form: SourceForm, status: int = 200, *, source: Source | None = None, is_stale: bool = False
) -> ResponseReturnValue:
    text = render_template(f"console/sources/{template}", form=form, source=source, is_stale=is_stale)
    return make_response(text, status)


def _to_source(name: str) -> ResponseReturnValue:
    return redirect(url_for("console.show_source", source_name=name), 303)

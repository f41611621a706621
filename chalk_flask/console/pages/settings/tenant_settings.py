"""Settings of the tenant, which can be changed, and those of the service, which are shown to operators."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
from flask import flash, make_response, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound
from wtforms import BooleanField, HiddenField, SelectField, ValidationError
from wtforms.validators import Length

from chalk_flask.console.context import current
from chalk_flask.console.widgets.forms import ConsoleForm, TextField, select_choices
from chalk_flask.jobs.record import RETENTION as JOB_RETENTION
from chalk_flask.outbox.delivery import RETENTION_DAYS
from chalk_flask.outbox.tenant_update import update_tenant
from chalk_flask.roster.imports.history import HOLD_PERIOD
from chalk_flask.roster.imports.history import RETENTION as RUN_RETENTION
from chalk_flask.roster.imports.thresholds import CHANGED, DELETED, QUARANTINED, Threshold, normalize_threshold
from chalk_flask.settings import SETTINGS
from chalk_flask.tenants.retention import DELIVERY_DAYS, HISTORY_DAYS, PERIODS, TOMBSTONE_DAYS, RetentionPeriod
from chalk_flask.tenants.store import Tenant, TenantError, TenantStore

__all__ = ["change_settings", "show_settings"]

INVALID_ROWS_CHOICES = [
    ("reject", "Reject the package"),
    ("quarantine", "Set them aside, and apply the other rows"),
]
THRESHOLD_NAMES = ("max_deleted", "max_changed", "max_quarantined")
MAX_TEXT_LENGTH = 40
VERSION_LENGTH = 16


def _check_threshold(_: Any, field: Any) -> None:
    """Replace the text of a threshold by the form in which it is stored; "" is the default."""
    try:
        field.data = normalize_threshold(field.data or "")
    except ValueError as error:
        raise ValidationError(f"Invalid: {error}, or nothing for the default.") from None


def _threshold_field(label: str, default: Threshold, noun: str) -> TextField:
    description = (
        f"A percentage and a number of {noun}; {default} by default. Only an import above both is held."
        " Enter off for no threshold."
    )
    return TextField(label, [Length(max=MAX_TEXT_LENGTH), _check_threshold], description=description)


def _days_field(label: str, period: RetentionPeriod, description: str) -> TextField:
    def check(_: Any, field: Any) -> None:
        """Replace the text by its number as text; "" is the default."""
        try:
            days = period.parse(field.data or "")
        except ValueError as error:
            raise ValidationError(f"Invalid: {error}, or nothing for the default.") from None
        field.data = "" if days is None else str(days)

    return TextField(label, [Length(max=MAX_TEXT_LENGTH), check], description=description)


class TenantForm(ConsoleForm):
    """Form for the settings of a tenant. `version` identifies the settings that the page showed."""

    version = HiddenField()
    demographics = BooleanField("Serve demographics to applications that may read them")
    max_deleted = _threshold_field("Hold imports that delete more than", DELETED, "records of a file")
    max_changed = _threshold_field("Hold imports that change or delete more than", CHANGED, "records of a file")
    invalid_rows = SelectField("Invalid rows of a package", choices=select_choices(INVALID_ROWS_CHOICES))
    max_quarantined = _threshold_field("Hold imports that set aside more than", QUARANTINED, "rows of a file")
    lenient = BooleanField(
        "Read packages leniently",
        description="Accept deviations from the standard with a warning, instead of rejecting the package.",
    )
    tombstone_days = _days_field(
        "Days to keep deleted records",
        TOMBSTONE_DAYS,
        "Applications see a deleted record as tobedeleted for this time. Then an import deletes it for good. The"
        " standard requires 90 days.",
    )
    delivery_days = _days_field(
        "Days to keep webhook deliveries",
        DELIVERY_DAYS,
        f"Finished deliveries contain names and other roster data, and can be replayed until they are deleted."
        f" {DELIVERY_DAYS.maximum} days at most.",
    )
    history_days = _days_field(
        "Days to keep the change history",
        HISTORY_DAYS,
        "The page of a record shows its changes with their former values, which include names and other personal data."
        " Enter 0 for no history: stored changes are then deleted within an hour.",
    )

    def changes_of(self, tenant: Tenant) -> dict[str, Any]:
        """Return the settings that differ from those of the tenant."""
        values: dict[str, Any] = {name: getattr(self, name).data for name in _shown_values(tenant)}
        changed = {name: value for name, value in values.items() if value != _shown_values(tenant)[name]}
        return {name: int(value) if name in PERIODS and value else value for name, value in changed.items()}


def show_settings() -> ResponseReturnValue:
    """Show the settings of the tenant; to operators also those of the service."""
    return _page(_form_of(_tenant()))


def change_settings() -> ResponseReturnValue:
    """Change the settings of the tenant, from the next request or import on."""
    form, tenant = TenantForm(), _tenant()
    if not form.validate():
        return _page(form, 422)
    if form.version.data != _version(tenant):
        return _page(_form_of(tenant), 409, is_stale=True)
    changes = form.changes_of(tenant)
    if not changes:
        flash("Nothing was changed, because all settings are the same.", "info")
        return redirect(url_for("console.show_settings"), 303)
    try:
        update_tenant(current().services.store, tenant.name, **changes)
    except TenantError as error:
        raise NotFound from error
    flash("The settings are saved.", "success")
    return redirect(url_for("console.show_settings"), 303)


def _tenant() -> Tenant:
    console = current()
    try:
        return TenantStore(console.services.store).get(console.tenant)
    except TenantError as error:
        raise NotFound from error


def _form_of(tenant: Tenant) -> TenantForm:
    return TenantForm(formdata=None, data={**_shown_values(tenant), "version": _version(tenant)})


def _version(tenant: Tenant) -> str:
    """Return a text that changes with the settings, so that a form of before a change does not revert it."""
    return hashlib.sha256(orjson.dumps(_shown_values(tenant))).hexdigest()[:VERSION_LENGTH]


def _shown_values(tenant: Tenant) -> dict[str, Any]:
    """Return the settings of a tenant as the form shows them."""
    thresholds = {name: getattr(tenant, name) or "" for name in THRESHOLD_NAMES}
    return {
        "demographics": tenant.demographics,
        "lenient": tenant.lenient,
        "invalid_rows": tenant.invalid_rows or INVALID_ROWS_CHOICES[0][0],
        **thresholds,
        **{name: _days_text(getattr(tenant, name)) for name in PERIODS},
    }


def _days_text(days: int | None) -> str:
    return "" if days is None else str(days)


def _page(form: TenantForm, status: int = 200, *, is_stale: bool = False) -> ResponseReturnValue:
    is_operator = current().administrator.is_operator
    text = render_template(
        "console/settings/settings.html",
        form=form,
        is_stale=is_stale,
        default_days=_default_days(),
        fixed_periods=_fixed_periods(),
        service_settings=_service_settings() if is_operator else [],
    )
    return make_response(text, status)


def _default_days() -> dict[str, int]:
    """Return the days that are in force if the field of a retention period is empty."""
    settings = current().services.settings
    return {
        "tombstone_days": settings.tombstone_days,
        "delivery_days": RETENTION_DAYS,
        "history_days": settings.history_days,
    }


def _fixed_periods() -> list[tuple[str, str]]:
    """Return what is kept for a time that the tenant cannot change, and that time."""
    settings = current().services.settings
    reads = f"{settings.audit_days} days, set by the operator" if settings.audit_days else "not recorded"
    return [
        ("Reports of imports", f"{RUN_RETENTION.days} days"),
        ("Jobs of the console", f"{JOB_RETENTION.days} days"),
        ("Packages that are held for approval", f"{HOLD_PERIOD.days} days"),
        ("Reads by applications (access log)", reads),
        ("Changes in the audit log", "as long as the tenant exists"),
        ("Sequence numbers of the change feed", "as long as their records"),
    ]


def _service_settings() -> list[dict[str, str]]:
    """Return the settings of the service, without passwords."""
    settings = current().services.settings
    return [
        {
            "name": setting.name,
            "value": setting.to_text(getattr(settings, setting.name)),
            "source": settings.sources.get(setting.name, "default"),
            "help": setting.help,
        }
        for setting in SETTINGS
    ]

"""Tenants, for operators: list, select, create, and delete with typed confirmation."""

from __future__ import annotations

from typing import Any

from flask import flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Conflict, NotFound
from wtforms import BooleanField
from wtforms.validators import InputRequired

from chalk_flask.admins.sessions import SessionError
from chalk_flask.console.context import current
from chalk_flask.console.formatting import format_sentence
from chalk_flask.console.widgets.forms import ConsoleForm, TextField
from chalk_flask.console.widgets.paging import PAGE_SIZE, page_of, page_offset
from chalk_flask.tenants.store import DEFAULT_TENANT, TenantError, TenantStore

__all__ = ["create_tenant", "delete_tenant", "list_tenants", "select_tenant", "show_new_tenant", "show_tenant"]


class NewTenantForm(ConsoleForm):
    """Form for a new tenant."""

    name = TextField(
        "Name",
        [InputRequired("Enter a name.")],
        description="1 to 64 letters (a to z, A to Z), digits, '-', '_' and '.'. It cannot be changed later.",
    )
    demographics = BooleanField(
        "Serve demographics to applications that may read them",
        description="Otherwise the API denies them to every application.",
    )


class DeletionForm(ConsoleForm):
    """Form that confirms a deletion by the name of the tenant."""

    typed_name = TextField("Type the name of the tenant to confirm")


def list_tenants() -> ResponseReturnValue:
    """Show the tenants by name, and those that are being deleted."""
    store = TenantStore(current().services.store)
    found, offset = store.list(), page_offset()
    return render_template(
        "console/settings/tenants.html",
        tenants=found[offset : offset + PAGE_SIZE],
        page=page_of(len(found)),
        deletions={name: store.count_records(name) for name in store.unfinished_deletions()},
    )


def select_tenant() -> ResponseReturnValue:
    """Select the tenant whose pages the operator sees from now on."""
    console, name = current(), request.form.get("name", "")
    try:
        console.services.sessions.select_tenant(console.session.id_hash, name)
    except SessionError as error:
        raise NotFound("There is no such tenant. It may have been deleted.") from error
    flash(f"You see the tenant {name} now.", "success")
    return redirect(url_for("console.show_dashboard"), 303)


def show_new_tenant() -> ResponseReturnValue:
    """Show the form for a new tenant."""
    return _new_page(NewTenantForm(formdata=None))


def create_tenant() -> ResponseReturnValue:
    """Create a tenant without a roster, and redirect to its page."""
    form = NewTenantForm()
    if not form.validate():
        return _new_page(form, 422)
    try:
        tenant = TenantStore(current().services.store).create(form.name.data or "", bool(form.demographics.data))
    except TenantError as error:
        form.name.errors = [format_sentence(error)]
        return _new_page(form, 422)
    flash(f"The tenant {tenant.name} is created. Select it to import its roster.", "success")
    return redirect(url_for("console.show_tenant", name=tenant.name), 303)


def show_tenant(name: str) -> ResponseReturnValue:
    """Show a tenant with its numbers of records and credentials."""
    return _tenant_page(name, DeletionForm(formdata=None))


def delete_tenant(name: str) -> ResponseReturnValue:
    """Delete a tenant with its credentials and administrators, if its name was typed.

    The job worker deletes its records, jobs and packages, because that can take minutes.
    """
    form, services = DeletionForm(), current().services
    if form.typed_name.data != name:
        form.typed_name.errors = ["This is not the name of the tenant. Nothing was deleted."]
        return _tenant_page(name, form, 422)
    try:
        TenantStore(services.store).begin_deletion(name)
    except TenantError as error:
        raise _deletion_error(name) from error
    services.job_worker.wake()
    flash(f"The tenant {name} is deleted. Its credentials have ended, and its records are deleted now.", "success")
    return redirect(url_for("console.list_tenants"), 303)


def _tenant_page(name: str, form: DeletionForm, status: int = 200) -> ResponseReturnValue:
    try:
        summary = TenantStore(current().services.store).summarize(name, with_deleted=True)
    except TenantError as error:
        raise NotFound from error
    values: dict[str, Any] = {"tenant": summary.tenant, "records": summary.records, "credentials": summary.credentials}
    is_deletable = name not in (DEFAULT_TENANT, current().tenant)
    text = render_template("console/settings/tenant.html", form=form, is_deletable=is_deletable, **values)
    return make_response(text, status)


def _deletion_error(name: str) -> Conflict | NotFound:
    if name == DEFAULT_TENANT:
        return Conflict("The tenant default always exists. It can be changed, but not deleted.")
    return NotFound()


def _new_page(form: NewTenantForm, status: int = 200) -> ResponseReturnValue:
    return make_response(render_template("console/settings/new_tenant.html", form=form), status)

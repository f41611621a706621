"""Upload of a package: the form with its choices, and the job that imports or checks the package."""

from __future__ import annotations

from typing import Any, cast

from flask import abort, flash, jsonify, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_wtf.file import FileField, FileRequired
from werkzeug.datastructures import CombinedMultiDict
from wtforms import BooleanField, RadioField, SelectField

from chalk_flask.console.context import current
from chalk_flask.console.formatting import format_sentence
from chalk_flask.console.pages.imports.texts import render_import_page
from chalk_flask.console.widgets.forms import ConsoleForm, select_choices
from chalk_flask.jobs import Job, JobError, UploadError
from chalk_flask.roster.imports.options import InvalidRows
from chalk_flask.roster.tenant_imports import ImportChoices
from chalk_flask.tenants.record import Tenant
from chalk_flask.tenants.store import TenantError, TenantStore

__all__ = ["show_upload", "upload_import"]

NOT_STORED_MESSAGE = (
    "The package could not be stored. Tell the operator to check the folder of the setting data. Nothing was changed."
)


MODES = (
    ("import", "Import: apply the package, unless it has errors, or deletes or changes too much"),
    ("dry_run", "Dry run: report errors and changes, and change nothing"),
)


class UploadForm(ConsoleForm):
    """Package and choices of an import. Create it with `upload_form`."""

    class Meta(ConsoleForm.Meta):
        """Options of the form."""

        def wrap_formdata(self, form: Any, formdata: Any) -> Any:
            """Return the fields and the files of the request."""
            fields = super().wrap_formdata(form, formdata)
            return fields if fields is None else CombinedMultiDict([request.files, fields])

    package = FileField("Package", [FileRequired("Choose a ZIP file.")])
    mode = RadioField(
        "What to do",
        choices=select_choices(MODES),
        default="import",
    )
    lenient = SelectField("Reading", default="")
    invalid_rows = SelectField("Invalid rows", default="")
    strict = BooleanField("Reject contradictions, such as a teacher who is enrolled as a student")

    def choices(self) -> ImportChoices:
        """Return the choices of a valid form."""
        lenient = {"": None, "yes": True, "no": False}[self.lenient.data]
        invalid_rows = cast("InvalidRows | None", self.invalid_rows.data or None)
        return ImportChoices(lenient=lenient, invalid_rows=invalid_rows, strict=self.strict.data)


def upload_form(tenant: Tenant) -> UploadForm:
    """Return the form of the current request, with the defaults of the tenant in words."""
    form = UploadForm()
    reading = {"no": "Strict: as the standard says", "yes": "Lenient: accept known deviations, with warnings"}
    rows = {"reject": "Reject the package", "quarantine": "Set them aside, and apply the other rows"}
    form.lenient.choices = select_choices(_with_default(reading, "yes" if tenant.lenient else "no"))
    form.invalid_rows.choices = select_choices(_with_default(rows, tenant.invalid_rows or "reject"))
    return form


def show_upload() -> ResponseReturnValue:
    """Show the empty form."""
    return _form_page(upload_form(_tenant()))


def upload_import() -> ResponseReturnValue:
    """Store the uploaded package and queue its job."""
    console, form = current(), upload_form(_tenant())
    if not form.validate():
        return _rejected(form)
    file = form.package.data
    try:
        job = console.services.jobs.upload_import(
            console.tenant,
            file.stream,
            file.filename,
            requested_by=console.administrator.id,
            choices=form.choices(),
            dry_run=form.mode.data == "dry_run",
        )
    except (UploadError, JobError, TenantError) as error:
        form.package.errors = [*form.package.errors, format_sentence(error)]
        return _rejected(form)
    except OSError:
        abort(503, NOT_STORED_MESSAGE)
    return _accepted(job)


def _tenant() -> Tenant:
    console = current()
    return TenantStore(console.services.store).get(console.tenant)


def _with_default(labels: dict[str, str], default: str) -> list[tuple[str, str]]:
    label = labels[default]
    return [("", f"As in the settings ({label[0].lower()}{label[1:]})"), *labels.items()]


def _accepted(job: Job) -> ResponseReturnValue:
    """Redirect to the page of the job. A script receives the URL as JSON, because it cannot read that of a redirect."""
    location = url_for("console.show_import", import_id=job.id)
    if not request.accept_mimetypes.accept_html:
        return jsonify(location=location), 201, {"Location": location}
    flash("Package received.", "success")
    return redirect(location, 303)


def _rejected(form: Any) -> ResponseReturnValue:
    if not request.accept_mimetypes.accept_html:
        messages = [message for messages in form.errors.values() for message in messages]
        return jsonify(message=" ".join(messages)), 422
    return _form_page(form), 422


def _form_page(form: UploadForm) -> str:
    max_bytes = current().services.jobs.max_upload_bytes
    return render_import_page("upload.html", form=form, max_bytes=max_bytes)

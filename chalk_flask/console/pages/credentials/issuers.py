"""Trusted issuers of JWTs: list, add and remove."""

from __future__ import annotations

from typing import Any

from flask import flash, make_response, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound
from wtforms import BooleanField, TextAreaField
from wtforms.validators import InputRequired, Length

from chalk_flask.auth.jwt import IssuerError, IssuerStore, TrustedIssuer
from chalk_flask.console.context import current
from chalk_flask.console.formatting import format_sentence
from chalk_flask.console.pages.credentials.access_form import AccessForm, demographics_note, flash_unknown_grades
from chalk_flask.console.pages.credentials.api_tokens import describe_restrictions
from chalk_flask.console.pages.credentials.scopes import describe_scopes
from chalk_flask.console.widgets.forms import TextField
from chalk_flask.console.widgets.paging import PAGE_SIZE, page_of, page_offset
from chalk_flask.webhooks import ForbiddenTargetError, SsrfGuard

__all__ = ["add_issuer", "list_issuers", "remove_issuer", "show_issuer", "show_new_issuer"]

MAX_NAME_LENGTH = 1000
MAX_KEYS_LENGTH = 1_000_000


class IssuerForm(AccessForm):
    """Form for a trusted issuer."""

    issuer = TextField(
        "Issuer",
        [InputRequired("Enter the issuer."), Length(max=MAX_NAME_LENGTH)],
        description="The claim iss of its tokens, exactly, for example https://tool.example.org.",
    )
    audience = TextField(
        "Audience",
        [InputRequired("Enter the audience."), Length(max=MAX_NAME_LENGTH)],
        description="The claim aud of its tokens, or one of them.",
    )
    jwks_url = TextField(
        "URL of its public keys", [Length(max=MAX_NAME_LENGTH)], description="https. Or enter the keys themselves."
    )
    jwks = TextAreaField("Public keys", [Length(max=MAX_KEYS_LENGTH)], description="A JWK Set, which is stored.")
    single_use = BooleanField(
        "Accept each token only once", description="Its tokens must have the claim jti. Use it for LTI Advantage."
    )

    def validate(self, extra_validators: Any = None) -> bool:
        """Return True if all fields are valid."""
        is_valid = super().validate(extra_validators)
        if not self.jwks_url.errors and bool(self.jwks_url.data) == bool((self.jwks.data or "").strip()):
            self.jwks_url.errors = ["Enter either the URL of its public keys, or the keys."]
        elif self.jwks_url.data and not self.jwks_url.errors:
            self.jwks_url.errors = _url_problems(self.jwks_url.data)
        return is_valid and not self.jwks_url.errors


def list_issuers() -> ResponseReturnValue:
    """Show the trusted issuers of the tenant, oldest first."""
    found, offset = _issuer_store().list(current().tenant), page_offset()
    return render_template(
        "console/credentials/issuers.html",
        issuers=[_row(issuer) for issuer in found[offset : offset + PAGE_SIZE]],
        page=page_of(len(found)),
    )


def show_new_issuer() -> ResponseReturnValue:
    """Show the form for a trusted issuer."""
    return _new_issuer_page(IssuerForm.prepare(formdata=None))


def add_issuer() -> ResponseReturnValue:
    """Trust an issuer, and redirect to its page."""
    form, console = IssuerForm.prepare(), current()
    if not form.validate():
        return _new_issuer_page(form, 422)
    jwks = (form.jwks.data or "").strip()
    try:
        issuer = _issuer_store().add(
            form.issuer.data or "",
            form.audience.data or "",
            form.granted_scopes(),
            console.tenant,
            jwks_url=form.jwks_url.data or None,
            jwks=jwks.encode() if jwks else None,
            single_use=bool(form.single_use.data),
            label=form.label.data or "",
            restrictions=form.restrictions,
        )
    except IssuerError as error:
        form.form_errors.append(_error_text(error))
        return _new_issuer_page(form, 422)
    flash("The issuer is trusted. The API accepts its tokens.", "success")
    flash_unknown_grades(form.restrictions)
    return redirect(url_for("console.show_issuer", issuer_id=issuer.id), 303)


def show_issuer(issuer_id: str) -> ResponseReturnValue:
    """Show a trusted issuer, and what its tokens may do."""
    issuer = find_issuer(issuer_id)
    return render_template(
        "console/credentials/issuer.html",
        issuer=_row(issuer),
        scopes=describe_scopes(issuer.scopes),
        restrictions=describe_restrictions(issuer.restrictions.to_dict()),
    )


def remove_issuer(issuer_id: str) -> ResponseReturnValue:
    """Stop trusting an issuer."""
    find_issuer(issuer_id)
    try:
        _issuer_store().remove(issuer_id)
    except IssuerError as error:
        raise NotFound from error
    flash("The issuer is removed. The API rejects its tokens.", "success")
    return redirect(url_for("console.list_issuers"), 303)


def find_issuer(issuer_id: str) -> TrustedIssuer:
    """Return the trusted issuer of the current tenant with this id. Raises NotFound."""
    found = next((issuer for issuer in _issuer_store().list(current().tenant) if issuer.id == issuer_id), None)
    if found is None:
        raise NotFound
    return found


def _url_problems(url: str) -> list[str]:
    """Return the errors of a URL that an administrator of one tenant must not use. Operators may use any URL.

    The URL could lead into the network of the service, which belongs to the operator.
    """
    if current().administrator.is_operator:
        return []
    try:
        SsrfGuard().check_url(url)
    except ForbiddenTargetError:
        return ["Use https and a public host. Only operators can trust issuers at other addresses."]
    return []


def _issuer_store() -> IssuerStore:
    return IssuerStore(current().services.store)


def _row(issuer: TrustedIssuer) -> dict[str, Any]:
    """Return what the list shows of a trusted issuer."""
    stored_keys = len(issuer.to_dict()["jwks"]["keys"]) if issuer.jwks is not None else 0
    return {
        "id": issuer.id,
        "name": issuer.label or issuer.issuer,
        "issuer": issuer.issuer,
        "audience": issuer.audience,
        "keys": issuer.jwks_url or f"stored: {stored_keys}",
        "single_use": issuer.single_use,
        "created": issuer.created,
        "scopes": describe_scopes(issuer.scopes),
        "is_restricted": bool(issuer.restrictions.to_dict()),
    }


def _new_issuer_page(form: IssuerForm, status: int = 200) -> ResponseReturnValue:
    text = render_template("console/credentials/new_issuer.html", form=form, demographics_note=demographics_note())
    return make_response(text, status)


def _error_text(error: IssuerError) -> str:
    """Return the message of an error. One about an issuer of another tenant would name that tenant."""
    text = str(error)
    if "already trusted" in text and f"tenant {current().tenant}:" not in text:
        return "Tokens of this issuer for this audience are already trusted for another tenant. Use another audience."
    return format_sentence(text)

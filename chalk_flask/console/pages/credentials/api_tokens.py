"""API tokens: list, create, rotate and revoke."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from flask import flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Conflict, NotFound
from wtforms import DateField, RadioField, SelectField
from wtforms.validators import Optional

from chalk_flask.api.admin.paths import IMPORTS_PATH
from chalk_flask.api.public_url import request_base_url
from chalk_flask.api.routes import ROOTS
from chalk_flask.auth.tokens import ApiToken, TokenError
from chalk_flask.console.context import current
from chalk_flask.console.formatting import format_sentence
from chalk_flask.console.pages.credentials.access_form import AccessForm, demographics_note, flash_unknown_grades
from chalk_flask.console.pages.credentials.scopes import describe_scopes
from chalk_flask.console.session_cookie import flash_secret, take_secret
from chalk_flask.console.widgets.forms import ConsoleForm, select_choices
from chalk_flask.console.widgets.paging import PAGE_SIZE, page_of, page_offset
from chalk_flask.permissions.scopes import DEMOGRAPHICS, GRADEBOOK, IMPORTS_WRITE, RESOURCE, ROSTER, ROSTER_CORE
from chalk_flask.times import utc_now

__all__ = [
    "create_token",
    "find_token",
    "list_tokens",
    "revoke_token",
    "rotate_token",
    "show_new_token",
    "show_token",
]

CHALK_ROOT = next(root.path for root in ROOTS if root.name == "chalk")

EXPIRY_CHOICES = [
    ("90", "After 90 days"),
    ("30", "After 30 days"),
    ("365", "After one year"),
    ("never", "Never"),
    ("date", "At the end of a day"),
]
MAX_EXPIRY_DAYS = 36_500
EXPIRY_NOTICE_DAYS = 14
"""Remaining days from which the list and the dashboard show that a token expires soon."""

OVERLAP_CHOICES = [("24", "For 24 hours"), ("168", "For 7 days"), ("0", "Not at all")]

_FIRST_READS = (
    (frozenset({ROSTER, ROSTER_CORE}), "/schools"),
    (frozenset({GRADEBOOK}), "/lineItems"),
    (frozenset({RESOURCE}), "/resources"),
    (frozenset({DEMOGRAPHICS}), "/demographics"),
)
"""Reads with which an administrator can try a token, by a scope that they require."""


class TokenForm(AccessForm):
    """Form for a new API token."""

    expiry = SelectField("Expires", choices=select_choices(EXPIRY_CHOICES))
    expiry_date = DateField("Last day", [Optional()], description="In UTC; only for the choice above.")

    expires: datetime | None = None
    """Time of the expiry, after `validate` returned True."""

    def validate(self, extra_validators: Any = None) -> bool:
        """Return True if all fields are valid. Sets `expires` too."""
        return super().validate(extra_validators) & self._parse_expiry()

    def _parse_expiry(self) -> bool:
        choice = self.expiry.data
        if self.expiry.errors:
            return False
        if choice == "date":
            today, day = utc_now().date(), self.expiry_date.data
            if self.expiry_date.errors:
                return False
            if day is None or not today <= day <= today + timedelta(days=MAX_EXPIRY_DAYS):
                self.expiry_date.errors = ["Choose a day from today on."]
                return False
            self.expires = _end_of(day)
        elif choice is not None and choice.isdigit():
            self.expires = utc_now() + timedelta(days=int(choice))
        return True


class RotateForm(ConsoleForm):
    """Form that asks how long the former value stays valid."""

    overlap = RadioField("The former value still works", choices=select_choices(OVERLAP_CHOICES), default="24")


def list_tokens() -> ResponseReturnValue:
    """Show the tokens of the tenant, newest first. Shows expired and revoked tokens on request only."""
    now = utc_now()
    tokens = sorted(current().services.tokens.list(current().tenant), key=lambda token: token.created, reverse=True)
    shows_all = request.args.get("show") == "all"
    shown = [token for token in tokens if shows_all or token.is_valid_at(now)]
    offset = page_offset()
    return render_template(
        "console/credentials/api_tokens.html",
        tokens=[_row(token, now) for token in shown[offset : offset + PAGE_SIZE]],
        page=page_of(len(shown)),
        shows_all=shows_all,
        ended=sum(not token.is_valid_at(now) for token in tokens),
    )


def show_new_token() -> ResponseReturnValue:
    """Show the form for a new token."""
    return _new_token_page(TokenForm.prepare(formdata=None))


def create_token() -> ResponseReturnValue:
    """Create a token, and redirect to its page, which shows the token once."""
    form, console = TokenForm.prepare(), current()
    if not form.validate():
        return _new_token_page(form, 422)
    try:
        value, token = console.services.tokens.create(
            form.label.data or "",
            form.granted_scopes(),
            console.tenant,
            form.expires,
            restrictions=form.restrictions,
        )
    except TokenError as error:
        form.label.errors = [f"{error}."]
        return _new_token_page(form, 422)
    flash_secret(_subject(token), value or "")
    flash_unknown_grades(form.restrictions)
    return redirect(url_for("console.show_token", token_id=token.id), 303)


def show_token(token_id: str) -> ResponseReturnValue:
    """Show a token: what it may do, and once its new value."""
    token, now = find_token(token_id), utc_now()
    value = take_secret(_subject(token))
    return render_template(
        "console/credentials/api_token.html",
        token=_row(token, now),
        record=token,
        value=value,
        curl=_curl_command(token, value) if value else "",
        scopes=describe_scopes(token.scopes),
        restrictions=describe_restrictions(token.restrictions.to_dict()),
        rotate_form=RotateForm(formdata=None),
    )


def rotate_token(token_id: str) -> ResponseReturnValue:
    """Replace a token by a new one with the same access, and redirect to its page, which shows it once."""
    token, form = find_token(token_id), RotateForm()
    if not form.validate():
        raise Conflict("Choose how long the former value still works. Nothing was changed.")
    try:
        value, new, former = current().services.tokens.rotate(token.id, timedelta(hours=int(form.overlap.data)))
    except TokenError as error:
        raise Conflict(format_sentence(error)) from error
    flash_secret(_subject(new), value)
    end = "is revoked" if former.revoked else f"works until {former.expires:%Y-%m-%d %H:%M} UTC"
    flash(f"The token is rotated. Give the application its new value. The former one {end}.", "success")
    return redirect(url_for("console.show_token", token_id=new.id), 303)


def revoke_token(token_id: str) -> ResponseReturnValue:
    """Revoke a token. Revoking it again changes nothing."""
    token = find_token(token_id)
    current().services.tokens.revoke(token.id)
    flash(f"The token “{token.label}” is revoked.", "success")
    return redirect(url_for("console.list_tokens"), 303)


def find_token(token_id: str) -> ApiToken:
    """Return the token of the current tenant with this id. Raises NotFound."""
    console = current()
    found = next((token for token in console.services.tokens.list(console.tenant) if token.id == token_id), None)
    if found is None:
        raise NotFound
    return found


def describe_restrictions(restrictions: dict[str, list[str]]) -> list[tuple[str, str]]:
    """Return the restrictions of a credential in words, with their values."""
    words = {
        "orgs": "Only the schools",
        "grades": "Only students of the grades",
        "classes": "Only the classes",
        "denied": "Hidden collections",
        "redacted": "Hidden fields",
    }
    return [(words[kind], ", ".join(values) or "none") for kind, values in restrictions.items()]


def expires_soon(token: ApiToken, now: datetime) -> bool:
    """Return True if a token is valid and expires within `EXPIRY_NOTICE_DAYS`."""
    remaining = timedelta.max if token.expires is None else token.expires - now
    return token.is_valid_at(now) and remaining < timedelta(EXPIRY_NOTICE_DAYS)


def _row(token: ApiToken, now: datetime) -> dict[str, Any]:
    """Return what the list shows of a token."""
    state = token.state_at(now)
    return {
        "id": token.id,
        "label": token.label,
        "prefix": f"{token.prefix}…" if token.prefix else "issued elsewhere",
        "state": state,
        "is_expiring": expires_soon(token, now),
        "created": token.created,
        "expires": token.expires,
        "last_used": token.last_used,
        "scopes": describe_scopes(token.scopes),
        "is_restricted": bool(token.restrictions.to_dict()),
    }


def _new_token_page(form: TokenForm, status: int = 200) -> ResponseReturnValue:
    text = render_template("console/credentials/new_api_token.html", form=form, demographics_note=demographics_note())
    return make_response(text, status)


def _curl_command(token: ApiToken, value: str) -> str:
    """Return a command with which an administrator can try a token; empty if it cannot read or import anything."""
    base_url = request_base_url(request, current().services.settings.public_url)
    header = f"-H 'Authorization: Bearer {value}'"
    path = next((path for scopes, path in _FIRST_READS if scopes & token.scopes), None)
    if path is not None:
        return f"curl {header} '{base_url}{CHALK_ROOT}{path}?limit=10'"
    if IMPORTS_WRITE in token.scopes:
        return f"curl --fail-with-body {header} --data-binary @district.zip '{base_url}{IMPORTS_PATH}'"
    return ""


def _subject(token: ApiToken) -> str:
    return f"token:{token.id}"


def _end_of(day: date) -> datetime:
    """Return the end of a day in UTC."""
    return datetime.combine(day, time.min, UTC) + timedelta(days=1)

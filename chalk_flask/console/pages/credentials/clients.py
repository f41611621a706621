"""OAuth clients: list, create, rotate the secret and revoke."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from flask import flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Conflict, NotFound
from wtforms import RadioField, TextAreaField
from wtforms.validators import Length

from chalk_flask.api.public_url import request_base_url
from chalk_flask.auth.clients import ClientError, OAuthClient
from chalk_flask.auth.clients.assertions import parse_public_keys
from chalk_flask.console.context import current
from chalk_flask.console.formatting import format_sentence
from chalk_flask.console.pages.credentials.access_form import AccessForm, demographics_note, flash_unknown_grades
from chalk_flask.console.pages.credentials.api_tokens import describe_restrictions
from chalk_flask.console.pages.credentials.scopes import describe_scopes
from chalk_flask.console.session_cookie import flash_secret, take_secret
from chalk_flask.console.widgets.forms import ConsoleForm, select_choices
from chalk_flask.console.widgets.paging import PAGE_SIZE, page_of, page_offset
from chalk_flask.permissions.scopes import sort_scopes
from chalk_flask.times import utc_now

__all__ = ["create_client", "list_clients", "revoke_client", "rotate_client", "show_client", "show_new_client"]

MAX_KEY_LENGTH = 100_000
TOKEN_PATH = "/oauth/token"

SECRET, KEY, OAUTH1 = "secret", "key", "oauth1"
METHOD_CHOICES = [
    (SECRET, "With a secret, which is shown once"),
    (KEY, "With a key: it signs assertions (private_key_jwt)"),
    (OAUTH1, "With a secret that also signs requests (OAuth 1.0a)"),
]
OVERLAP_CHOICES = [("24", "For 24 hours"), ("168", "For 7 days"), ("0", "Not at all")]


class ClientForm(AccessForm):
    """Form for a new OAuth client."""

    method = RadioField("How it authenticates", choices=select_choices(METHOD_CHOICES), default=SECRET)
    public_key = TextAreaField(
        "Public key",
        [Length(max=MAX_KEY_LENGTH)],
        description="A JWK Set, or one public key (RSA or P-256) in PEM; only for the key.",
    )

    jwks: Mapping[str, Any] | None = None
    """Public keys of the client, after `validate` returned True."""

    def validate(self, extra_validators: Any = None) -> bool:
        """Return True if all fields are valid. Sets `jwks` too."""
        return super().validate(extra_validators) & self._parse_keys()

    def _parse_keys(self) -> bool:
        if self.method.data != KEY or self.public_key.errors:
            return not self.public_key.errors
        try:
            self.jwks = parse_public_keys((self.public_key.data or "").encode())
        except ClientError as error:
            self.public_key.errors = [format_sentence(error)]
        return not self.public_key.errors


class RotateClientForm(ConsoleForm):
    """Form that asks how long the former secret stays valid."""

    overlap = RadioField("The former secret still works", choices=select_choices(OVERLAP_CHOICES), default="24")


def list_clients() -> ResponseReturnValue:
    """Show the clients of the tenant, newest first. Shows revoked clients on request only."""
    console = current()
    clients = sorted(console.services.clients.list(console.tenant), key=lambda client: client.created, reverse=True)
    shows_all = request.args.get("show") == "all"
    shown = [client for client in clients if shows_all or client.revoked is None]
    offset = page_offset()
    return render_template(
        "console/credentials/clients.html",
        clients=[_row(client) for client in shown[offset : offset + PAGE_SIZE]],
        page=page_of(len(shown)),
        shows_all=shows_all,
        ended=sum(client.revoked is not None for client in clients),
    )


def show_new_client() -> ResponseReturnValue:
    """Show the form for a new client."""
    return _new_client_page(ClientForm.prepare(formdata=None))


def create_client() -> ResponseReturnValue:
    """Create a client, and redirect to its page, which shows its secret once."""
    form, console = ClientForm.prepare(), current()
    if not form.validate():
        return _new_client_page(form, 422)
    try:
        secret, client = console.services.clients.create(
            form.label.data or "",
            form.granted_scopes(),
            console.tenant,
            form.jwks,
            form.restrictions,
            form.method.data == OAUTH1,
        )
    except ClientError as error:
        form.label.errors = [format_sentence(error)]
        return _new_client_page(form, 422)
    if secret:
        flash_secret(_subject(client), secret)
    flash_unknown_grades(form.restrictions)
    return redirect(url_for("console.show_client", client_id=client.id), 303)


def show_client(client_id: str) -> ResponseReturnValue:
    """Show a client: what it may do, and once its new secret."""
    client = find_client(client_id)
    secret, now = take_secret(_subject(client)), utc_now()
    former = [each.valid_until for each in client.secrets[1:] if each.is_valid_at(now) and each.valid_until]
    return render_template(
        "console/credentials/client.html",
        client=_row(client),
        record=client,
        secret=secret,
        curl=_curl_command(client, secret) if secret else "",
        former_until=max(former, default=None),
        audience=_base_url() + TOKEN_PATH,
        needs_public_url=not current().services.settings.public_url and (client.jwks is not None or client.uses_oauth1),
        scopes=describe_scopes(client.scopes),
        restrictions=describe_restrictions(client.restrictions.to_dict()),
        rotate_form=RotateClientForm(formdata=None),
    )


def rotate_client(client_id: str) -> ResponseReturnValue:
    """Give a client a new secret, and redirect to its page, which shows the secret once."""
    client, form = find_client(client_id), RotateClientForm()
    if not form.validate():
        raise Conflict("Choose how long the former secret still works. Nothing was changed.")
    try:
        secret, _ = current().services.clients.rotate(client.id, timedelta(hours=int(form.overlap.data)))
    except ClientError as error:
        raise Conflict(format_sentence(error)) from error
    flash_secret(_subject(client), secret)
    flash("The client has a new secret. Give it to the application.", "success")
    return redirect(url_for("console.show_client", client_id=client.id), 303)


def revoke_client(client_id: str) -> ResponseReturnValue:
    """Revoke a client. Revoking it again changes nothing."""
    client = find_client(client_id)
    current().services.clients.revoke(client.id)
    flash(f"The client “{client.label}” is revoked.", "success")
    return redirect(url_for("console.list_clients"), 303)


def find_client(client_id: str) -> OAuthClient:
    """Return the client of the current tenant with this id. Raises NotFound."""
    console = current()
    found = next((client for client in console.services.clients.list(console.tenant) if client.id == client_id), None)
    if found is None:
        raise NotFound
    return found


def _row(client: OAuthClient) -> dict[str, Any]:
    """Return what the list shows of a client."""
    return {
        "id": client.id,
        "label": client.label,
        "state": client.state,
        "is_expiring": False,
        "method": "key" if client.jwks is not None else "secret, OAuth 1.0a" if client.uses_oauth1 else "secret",
        "has_secret": bool(client.secrets),
        "created": client.created,
        "rotated": client.rotated,
        "last_used": client.last_used,
        "scopes": describe_scopes(client.scopes),
        "is_restricted": bool(client.restrictions.to_dict()),
    }


def _new_client_page(form: ClientForm, status: int = 200) -> ResponseReturnValue:
    text = render_template("console/credentials/new_client.html", form=form, demographics_note=demographics_note())
    return make_response(text, status)


def _curl_command(client: OAuthClient, secret: str) -> str:
    scope = " ".join(sort_scopes(client.scopes))
    data = f"-d grant_type=client_credentials --data-urlencode 'scope={scope}'"
    return f"curl -u '{client.id}:{secret}' {data} '{_base_url()}{TOKEN_PATH}'"


def _base_url() -> str:
    return request_base_url(request, current().services.settings.public_url)


def _subject(client: OAuthClient) -> str:
    return f"client:{client.id}"

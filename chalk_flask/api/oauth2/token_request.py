"""Parameters and client credentials of a token request (RFC 6749, section 2.3; docs/conformance, C-03)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import unquote_plus

from authlib.oauth2.rfc6749.errors import InvalidRequestError
from flask import Request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import RequestEntityTooLarge

from chalk_flask.auth.clients.assertions import JWT_BEARER, unverified_client_id

__all__ = ["CLIENT_CREDENTIALS", "ClientCredentials", "SecretCredentials", "parse_credentials", "parse_parameters"]

FORM_CONTENT_TYPE = "application/x-www-form-urlencoded"
MAX_BODY_BYTES = 64 * 1024
CLIENT_CREDENTIALS = "client_credentials"

_GRANT_PARAMETERS = ("grant_type", "scope")
_CREDENTIAL_PARAMETERS = ("client_id", "client_secret", "client_assertion", "client_assertion_type")


@dataclass(frozen=True, slots=True)
class SecretCredentials:
    """Id and secret of a client, as they were sent. Either may be empty."""

    client_id: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AssertionCredentials:
    """JWT of a client, and the client id that it claims. Signature and claim are not verified."""

    client_id: str
    assertion: str = field(repr=False)


ClientCredentials: TypeAlias = SecretCredentials | AssertionCredentials


def parse_parameters(request: Request) -> Mapping[str, str]:
    """Return the parameters of the form, and grant_type and scope also if they are in the URL.

    Parameters without a value are omitted. Basic credentials with an empty body count as a request with the grant type
    client_credentials. Raises InvalidRequestError for a body that is not a form or too large, and for a repeated
    parameter. It is also raised for credentials in the URL, because logs contain URLs,
    and for a parameter with different values in URL and form.
    """
    form = _parse_form(request)
    query = _unique(request.args, (*_GRANT_PARAMETERS, *_CREDENTIAL_PARAMETERS))
    if any(name in request.args for name in _CREDENTIAL_PARAMETERS):
        raise InvalidRequestError("Credentials must be in the Authorization header or the body, not in the URL.")
    for name in form.keys() & query.keys():
        if form[name] != query[name]:
            raise InvalidRequestError(
                f"The URL and the body have different values of {name}. Send it in the body only."
            )
    params = query | form
    if "grant_type" not in params and not request.content_length and _has_basic(request):
        params["grant_type"] = CLIENT_CREDENTIALS
    if "grant_type" not in params:
        raise InvalidRequestError(f"The parameter grant_type is required. It must be {CLIENT_CREDENTIALS}.")
    return params


def parse_credentials(authorization: str, params: Mapping[str, str]) -> ClientCredentials | None:
    """Return the credentials in an Authorization header or the parameters, or None if there are none.

    Malformed credentials are returned as credentials that match no client. Raises InvalidRequestError for more than
    one kind of credentials.
    """
    client_id, secret = params.get("client_id", ""), params.get("client_secret", "")
    basic = _parse_basic(authorization)
    if sum((basic is not None, bool(secret), "client_assertion" in params)) > 1:
        raise InvalidRequestError("The request has more than one kind of credentials. Send one kind only.")
    if basic is not None:
        if client_id and client_id != basic.client_id:
            raise InvalidRequestError("The Authorization header and the body name different clients.")
        return basic
    if "client_assertion" in params:
        return _parse_assertion(params, client_id)
    return SecretCredentials(client_id, secret) if client_id or secret else None


def _parse_assertion(params: Mapping[str, str], client_id: str) -> AssertionCredentials:
    assertion = params["client_assertion"] if params.get("client_assertion_type") == JWT_BEARER else ""
    claimed_id = unverified_client_id(assertion)
    if client_id in ("", claimed_id):
        return AssertionCredentials(claimed_id, assertion)
    return AssertionCredentials(client_id, "")


def _parse_form(request: Request) -> dict[str, str]:
    if not request.content_length:
        return {}
    if request.mimetype != FORM_CONTENT_TYPE:
        raise InvalidRequestError(f"The Content-Type of the body must be {FORM_CONTENT_TYPE}.")
    request.max_content_length = MAX_BODY_BYTES
    try:
        return _unique(request.form, (*_GRANT_PARAMETERS, *_CREDENTIAL_PARAMETERS))
    except RequestEntityTooLarge as error:
        raise InvalidRequestError(f"The body must have at most {MAX_BODY_BYTES} bytes.") from error


def _unique(params: MultiDict[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """Return those of the named parameters that have a value."""
    for name in names:
        if len(params.getlist(name)) > 1:
            raise InvalidRequestError(f"The parameter {name} is repeated. Send it once.")
    return {name: params[name] for name in names if params.get(name)}


def _has_basic(request: Request) -> bool:
    return _parse_basic(request.headers.get("Authorization", "")) is not None


def _parse_basic(authorization: str) -> SecretCredentials | None:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        # Strict decoding: otherwise the first of two headers that a server joined by a comma would be accepted.
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except ValueError:
        return SecretCredentials("", "")
    client_id, _, secret = text.partition(":")
    return SecretCredentials(unquote_plus(client_id), unquote_plus(secret))

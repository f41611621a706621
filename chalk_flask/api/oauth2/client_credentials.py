"""What a request for a token says: its parameters, and the credentials of a client (RFC 6749, section 2.3)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from authlib.oauth2.rfc6749.errors import InvalidRequestError
from flask import Request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import RequestEntityTooLarge

from chalk_flask.auth.clients.assertions import JWT_BEARER, unverified_client_id

__all__ = ["AssertionCredentials", "Credentials", "SecretCredentials", "credentials", "parameters"]

FORM = "application/x-www-form-urlencoded"
LARGEST = 64 * 1024
"""The most bytes of a request's body."""

_IN_QUERY = ("grant_type", "scope")
_CREDENTIALS = ("client_id", "client_secret", "client_assertion", "client_assertion_type")


@dataclass(frozen=True, slots=True)
class SecretCredentials:
    """A client by its id and secret, as they came; either may be empty."""

    client: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AssertionCredentials:
    """A client by a JWT that it has signed; `client` is whom the text names, which nobody has verified."""

    client: str
    text: str = field(repr=False)


Credentials = SecretCredentials | AssertionCredentials


def parameters(request: Request) -> Mapping[str, str]:
    """The parameters of a request for a token: the form's, and grant_type and scope also from the query string.

    One without a value counts as left out. Raises InvalidRequestError for a body that is no form or too large, a
    parameter that is repeated, and credentials in the query string, where they would end in logs.
    """
    form = _form(request)
    query = _single(request.args, (*_IN_QUERY, *_CREDENTIALS))
    if any(name in request.args for name in _CREDENTIALS):
        raise InvalidRequestError("Credentials belong into the Authorization header or the body, not into the URL.")
    for name in form.keys() & query.keys():
        if form[name] != query[name]:
            raise InvalidRequestError(f"The URL and the body have different values of {name}.")
    if "grant_type" not in form | query:
        raise InvalidRequestError("The parameter grant_type is missing; it has to be client_credentials.")
    return query | form


def credentials(header: str, given: Mapping[str, str]) -> Credentials | None:
    """The credentials in an Authorization header or the parameters; None when there are none.

    Malformed ones are returned as credentials that nobody has. Raises InvalidRequestError for more than one kind.
    """
    client, secret = given.get("client_id", ""), given.get("client_secret", "")
    basic = _basic(header)
    if sum((basic is not None, bool(secret), "client_assertion" in given)) > 1:
        raise InvalidRequestError("There are credentials of more than one kind: send one.")
    if basic is not None:
        if client and client != basic.client:
            raise InvalidRequestError("The Authorization header and the body name different clients.")
        return basic
    if "client_assertion" in given:
        return _assertion(given, client)
    return SecretCredentials(client, secret) if client or secret else None


def _assertion(given: Mapping[str, str], client: str) -> AssertionCredentials:
    text = given["client_assertion"] if given.get("client_assertion_type") == JWT_BEARER else ""
    signer = unverified_client_id(text)
    return AssertionCredentials(signer, text) if client in ("", signer) else AssertionCredentials(client, "")


def _form(request: Request) -> dict[str, str]:
    if not request.content_length:
        return {}
    if request.mimetype != FORM:
        raise InvalidRequestError(f"The body has to be {FORM}.")
    request.max_content_length = LARGEST
    try:
        return _single(request.form, (*_IN_QUERY, *_CREDENTIALS))
    except RequestEntityTooLarge as error:
        raise InvalidRequestError("The body is too large.") from error


def _single(given: MultiDict[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """Those of these parameters that have a value."""
    for name in names:
        if len(given.getlist(name)) > 1:
            raise InvalidRequestError(f"The parameter {name} is repeated.")
    return {name: given[name] for name in names if given.get(name)}


def _basic(header: str) -> SecretCredentials | None:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        # Strictly: of two headers that a server has joined by a comma the first would be read otherwise.
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except ValueError:
        return SecretCredentials("", "")
    client, _, secret = text.partition(":")
    return SecretCredentials(unquote_plus(client), unquote_plus(secret))

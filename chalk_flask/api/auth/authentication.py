"""Bearer tokens and signed requests at the door, through Flask-HTTPAuth."""

from __future__ import annotations

from typing import Any

from flask import Response, g, request
from flask_httpauth import HTTPTokenAuth
from werkzeug.datastructures import Authorization

from chalk_flask.api import errors
from chalk_flask.api.auth.oauth1_request import SCHEME, is_signed, signed_request
from chalk_flask.api.auth.rate_limits import Auth, FailedAuthLimiter
from chalk_flask.api.errors import ApiError
from chalk_flask.auth.authenticator import Authenticator
from chalk_flask.auth.oauth1.verifier import MalformedRequestError, OAuth1Verifier
from chalk_flask.permissions.principal import Principal

__all__ = ["current_principal", "current_version", "make_auth"]

CHALLENGES = {401: "Bearer", 403: 'Bearer error="insufficient_scope"'}
BAD_TOKEN = 'Bearer error="invalid_token"'
"""Who shows none is not told of an error (RFC 6750, section 3.1)."""
CHALLENGE_SIGNED = f'{SCHEME} realm="OneRoster"'
SIGNED = {
    401: "The signature does not fit the request, its time has passed, or it was used before.",
    403: "The client does not have the scope that this needs.",
}


class _BearerOrOAuth1Auth(HTTPTokenAuth):  # type: ignore[misc]  # the library ships no types
    """Lets in bearer tokens and, beside them, requests that are signed as a whole (OAuth 1.0a).

    Flask-HTTPAuth's MultiAuth would wrap the view anew for each request, and knows schemes in one letter case only.
    """

    def __init__(self, door: Authenticator, oauth1: OAuth1Verifier, public_url: str) -> None:
        super().__init__(scheme="Bearer")
        self._door = door
        self._oauth1 = oauth1
        self._public_url = public_url

    def ensure_sync(self, f: Any) -> Any:
        """The callback as it is: Flask-HTTPAuth asks of each, in every request, whether it is a coroutine."""
        return f

    def authenticate(self, auth: Authorization | None, stored_password: None) -> Principal | None:
        """What the credentials open; `auth` is None unless the scheme is Bearer. Raises Problem (400)."""
        grant: Principal | None = None
        if auth is not None:
            if auth.token:
                grant, g.stamp = self._door.authenticate(auth.token)
        elif is_signed(request.environ):
            grant, g.stamp = self._signed()
        g.grant = grant
        return grant

    def _signed(self) -> tuple[Principal | None, object]:
        try:
            return self._oauth1.authenticate(signed_request(request, self._public_url))
        except MalformedRequestError as error:
            raise ApiError(400, str(error)) from error


def make_auth(door: Authenticator, oauth1: OAuth1Verifier, public_url: str) -> Auth:
    """The guard of the views: `login_required(role=scopes)` wants a token or a signature with one of the scopes.

    The scheme is compared without regard to case. 401 and 403 have the one error body and `WWW-Authenticate`; a signed
    request that is malformed is 400.
    """
    made = _BearerOrOAuth1Auth(door, oauth1, public_url)
    guesses = FailedAuthLimiter()

    @made.get_user_roles  # type: ignore[untyped-decorator]  # the library ships no types
    def scopes(grant: Principal) -> tuple[str, ...]:
        return tuple(grant.scopes)

    @made.error_handler  # type: ignore[untyped-decorator]  # the library ships no types
    def refuse(status: int) -> Response:
        if status == 401:
            guesses.token_rejected()
        if is_signed(request.environ):
            return errors.error_response(status, SIGNED[status], headers=[("WWW-Authenticate", CHALLENGE_SIGNED)])
        challenge = BAD_TOKEN if status == 401 and _shows_a_token() else CHALLENGES[status]
        return errors.error_response(status, headers=[("WWW-Authenticate", challenge)])

    guarding: Auth = made
    return guarding


def _shows_a_token() -> bool:
    auth = request.authorization
    return auth is not None and auth.type == "bearer" and bool(auth.token)


def current_principal() -> Principal:
    """What the token of this request allows; there is one in every guarded view."""
    grant: Any = g.flask_httpauth_user
    assert isinstance(grant, Principal)
    return grant


def current_version() -> object:
    """The stamp of the store at which this request was let in."""
    return g.stamp

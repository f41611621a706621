"""Bearer tokens and signed requests at the door, through Flask-HTTPAuth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from flask import Response, g, request
from flask_httpauth import HTTPTokenAuth

from chalk_flask.access import Door, Grant
from chalk_flask.access.oauth1 import Malformed, OAuth1
from chalk_flask.api import errors
from chalk_flask.api.errors import Problem
from chalk_flask.api.signed import SCHEME, is_signed, signed_request
from chalk_flask.api.throttle import Guard, Guesses, View

__all__ = ["current_grant", "current_stamp", "guard"]

CHALLENGES = {401: "Bearer", 403: 'Bearer error="insufficient_scope"'}
REALM = "OneRoster"
SIGNED = {
    401: "The signature does not fit the request, its time has passed, or it was used before.",
    403: "The client does not have the scope that this needs.",
}


class _Synchronous(HTTPTokenAuth):  # type: ignore[misc]  # the library ships no types
    """Flask-HTTPAuth asks of every callback of every request whether it is a coroutine; ours are not."""

    def ensure_sync(self, f: Any) -> Any:
        return f


class _Bearer(_Synchronous):
    """Lets in tokens."""

    def __init__(self, door: Door) -> None:
        super().__init__(scheme="Bearer")

        @self.verify_token  # type: ignore[untyped-decorator]  # the library ships no types
        def verify(token: str) -> Grant | None:
            g.grant, g.stamp = door.admit(token)
            grant: Grant | None = g.grant
            return grant


class _Signed(_Synchronous):
    """Lets in requests that are signed as a whole: there is no token in the header."""

    def __init__(self, oauth1: OAuth1, public_url: str) -> None:
        super().__init__(scheme=SCHEME, realm=REALM)
        self._oauth1 = oauth1
        self._public_url = public_url

    def get_auth(self) -> None:
        """What is given is read in `authenticate`, where a parameter that stands twice is noticed."""

    def authenticate(self, auth: None, stored_password: None) -> Grant | None:
        """The grant of the client that signed. Raises Problem (400)."""
        g.grant = None
        try:
            g.grant, g.stamp = self._oauth1.admit(signed_request(request, self._public_url))
        except Malformed as error:
            raise Problem(400, str(error)) from error
        grant: Grant | None = g.grant
        return grant


class _ByScheme:
    """Two guards, of which the scheme in the Authorization header chooses one.

    Flask-HTTPAuth's MultiAuth wraps the view anew for each request, and takes schemes only in the letter case it knows.
    """

    def __init__(self, bearer: HTTPTokenAuth, signed: HTTPTokenAuth) -> None:
        self._bearer = bearer
        self._signed = signed

    def login_required(self, *, role: list[str]) -> Callable[[View], View]:
        """Decorates a view that needs one of these scopes."""

        def decorate(view: View) -> View:
            by_bearer, by_signature = (each.login_required(role=role)(view) for each in (self._bearer, self._signed))

            @wraps(view)
            def guarded(**ids: str) -> Any:
                return by_signature(**ids) if is_signed(request.environ) else by_bearer(**ids)

            return guarded

        return decorate


def guard(door: Door, oauth1: OAuth1, public_url: str) -> Guard:
    """The guard of the views: `login_required(role=scopes)` wants a token or a signature with one of the scopes.

    The scheme is compared without regard to case. 401 and 403 have the one error body and `WWW-Authenticate`; a signed
    request that is malformed is 400.
    """
    guesses = Guesses()
    bearer = _answering(_Bearer(door), guesses, CHALLENGES, {})
    challenge = f'{SCHEME} realm="{REALM}"'
    signed = _answering(_Signed(oauth1, public_url), guesses, dict.fromkeys(CHALLENGES, challenge), SIGNED)
    return _ByScheme(bearer, signed)


def _answering(
    auth: HTTPTokenAuth, guesses: Guesses, challenges: Mapping[int, str], messages: Mapping[int, str]
) -> HTTPTokenAuth:
    """The guard with what it asks of a grant, and what it answers without one."""

    @auth.get_user_roles  # type: ignore[untyped-decorator]  # the library ships no types
    def scopes(grant: Grant) -> tuple[str, ...]:
        return tuple(grant.scopes)

    @auth.error_handler  # type: ignore[untyped-decorator]  # the library ships no types
    def refuse(status: int) -> Response:
        if status == 401:
            guesses.bad_token()
        return errors.answer(status, messages.get(status, ""), headers=[("WWW-Authenticate", challenges[status])])

    return auth


def current_grant() -> Grant:
    """What the token of this request allows; there is one in every guarded view."""
    grant: Any = g.flask_httpauth_user
    assert isinstance(grant, Grant)
    return grant


def current_stamp() -> object:
    """The stamp of the store at which this request was let in."""
    return g.stamp

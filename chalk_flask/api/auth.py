"""Bearer tokens at the door, through Flask-HTTPAuth."""

from __future__ import annotations

from typing import Any

from flask import Response, g
from flask_httpauth import HTTPTokenAuth

from chalk_flask.access import Door, Grant
from chalk_flask.api import errors
from chalk_flask.api.throttle import Guesses

__all__ = ["bearer", "current_grant", "current_stamp"]

CHALLENGES = {401: "Bearer", 403: 'Bearer error="insufficient_scope"'}


class _Synchronous(HTTPTokenAuth):  # type: ignore[misc]  # the library ships no types
    """Flask-HTTPAuth asks of every callback of every request whether it is a coroutine; ours are not."""

    def ensure_sync(self, f: Any) -> Any:
        return f


def bearer(door: Door) -> HTTPTokenAuth:
    """The guard of the views: `login_required(role=scopes)` wants a token that carries one of the scopes.

    The scheme is compared without regard to case. 401 and 403 have the one error body and `WWW-Authenticate`.
    """
    auth = _Synchronous(scheme="Bearer")
    guesses = Guesses()

    @auth.verify_token  # type: ignore[untyped-decorator]  # the library ships no types
    def verify(token: str) -> Grant | None:
        g.grant, g.stamp = door.admit(token)
        grant: Grant | None = g.grant
        return grant

    @auth.get_user_roles  # type: ignore[untyped-decorator]  # the library ships no types
    def scopes(grant: Grant) -> tuple[str, ...]:
        return tuple(grant.scopes)

    @auth.error_handler  # type: ignore[untyped-decorator]  # the library ships no types
    def refuse(status: int) -> Response:
        if status == 401:
            guesses.bad_token()
        return errors.answer(status, headers=[("WWW-Authenticate", CHALLENGES[status])])

    return auth


def current_grant() -> Grant:
    """What the token of this request allows; there is one in every guarded view."""
    grant: Any = g.flask_httpauth_user
    assert isinstance(grant, Grant)
    return grant


def current_stamp() -> object:
    """The stamp of the store at which this request was let in."""
    return g.stamp

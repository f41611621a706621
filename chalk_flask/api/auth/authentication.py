"""Authentication of requests with bearer tokens or OAuth 1.0a signatures, through Flask-HTTPAuth."""

from __future__ import annotations

from typing import Any

from flask import Response, g, request
from flask_httpauth import HTTPTokenAuth
from werkzeug.datastructures import Authorization

from chalk_flask.api.auth.internal_requests import PRINCIPAL_KEY
from chalk_flask.api.auth.oauth1_request import SCHEME, has_oauth1_header, parse_signed_request
from chalk_flask.api.auth.rate_limits import Auth, FailedAuthLimiter
from chalk_flask.api.errors import ApiError, error_response
from chalk_flask.auth.authenticator import Authenticator
from chalk_flask.auth.oauth1.verifier import MalformedRequestError, OAuth1Verifier
from chalk_flask.auth.rejections import take_rejection
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.scopes import PREFIX, includes_scope, sort_scopes
from chalk_flask.server.loop_requests import require_thread
from chalk_flask.services import ServiceAddress
from chalk_flask.shared_state import SharedState

__all__ = ["INVALID_TOKEN_CHALLENGE", "current_principal", "current_version", "make_auth", "require_scope"]

NO_TOKEN_CHALLENGE = "Bearer"
INVALID_TOKEN_CHALLENGE = 'Bearer error="invalid_token"'
"""Challenge for an invalid token. A request without a token gets no error code (RFC 6750, section 3.1)."""
BEARER_SCOPE_MESSAGE = "The bearer token does not have the required scope"
OAUTH1_CHALLENGE = f'{SCHEME} realm="OneRoster"'
OAUTH1_MESSAGES = {
    401: "The OAuth 1.0a signature is invalid, expired or already used.",
    403: "The client does not have the required scope",
}
NO_ADDRESS_MESSAGE = (
    "Requests with an OAuth 1.0a signature are rejected, because the service has no public_url, which they must sign."
    " Ask its operator to set it."
)


class _BearerOrOAuth1Auth(HTTPTokenAuth):  # type: ignore[misc]  # the library ships no types
    """Flask-HTTPAuth guard that accepts bearer tokens and requests signed with OAuth 1.0a.

    MultiAuth of Flask-HTTPAuth would wrap the view anew for each request and compares schemes case-sensitively.
    """

    def __init__(self, authenticator: Authenticator, oauth1: OAuth1Verifier, address: ServiceAddress) -> None:
        super().__init__(scheme="Bearer")
        self._authenticator = authenticator
        self._oauth1 = oauth1
        self._address = address

    def ensure_sync(self, f: Any) -> Any:
        """Return the callback unchanged. Flask-HTTPAuth would test it for a coroutine in every request."""
        return f

    def get_auth(self) -> Authorization | None:
        """Return the credential of the current request, or None if its scheme is not Bearer."""
        return _bearer_authorization()

    def get_auth_password(self, auth: Authorization | None) -> None:
        """Return None, because no credential has a user name."""

    def authenticate(self, auth: Authorization | None, stored_password: None) -> Principal | None:
        """Return the principal of the current request, or None. `auth` is None unless the scheme is Bearer.

        Sets `g.principal` and `g.store_version`. Raises ApiError (400) for a malformed signed request.
        """
        principal: Principal | None = None
        context = _request_globals()
        if auth is not None:
            if auth.token:
                principal, context.store_version = self._authenticator.authenticate(auth.token)
        elif has_oauth1_header(request.environ) and self._address.is_known_for("requests with OAuth 1.0a signatures"):
            principal, context.store_version = self._authenticate_signature()
        elif PRINCIPAL_KEY in request.environ:
            principal, context.store_version = request.environ[PRINCIPAL_KEY], None
        context.principal = principal
        return principal

    def authorize(self, role: list[str], user: Principal, auth: Authorization | None) -> bool:
        """Return True if the principal has one of the scopes. Otherwise set `g.required_scopes` for the message."""
        if user.scopes.isdisjoint(role):
            g.required_scopes = role
            return False
        return True

    def _authenticate_signature(self) -> tuple[Principal | None, object]:
        try:
            return self._oauth1.authenticate(parse_signed_request(request, self._address.url))
        except MalformedRequestError as error:
            raise ApiError(400, str(error)) from error


def make_auth(
    authenticator: Authenticator, oauth1: OAuth1Verifier, address: ServiceAddress, shared_state: SharedState
) -> Auth:
    """Return the guard of the views: `login_required(role=scopes)` requires a principal with one of the scopes.

    The scheme is compared case-insensitively. Responses with 401 and 403 have the common error body and the header
    `WWW-Authenticate`. The response to a malformed signed request is 400.
    """
    auth = _BearerOrOAuth1Auth(authenticator, oauth1, address)
    failed_auth = FailedAuthLimiter(shared_state)

    @auth.error_handler  # type: ignore[untyped-decorator]  # the library ships no types
    def reject(status: int) -> Response:
        require_thread(request.environ)  # rejections are counted in a file, and logged
        if status == 401:
            g.rejection = _reason(address)
            failed_auth.count_rejected_token()
        if has_oauth1_header(request.environ):
            message, challenge = OAUTH1_MESSAGES[status] if address.url else NO_ADDRESS_MESSAGE, OAUTH1_CHALLENGE
        else:
            is_invalid = status == 401 and _has_bearer_token()
            message, challenge = "", INVALID_TOKEN_CHALLENGE if is_invalid else NO_TOKEN_CHALLENGE
        if status == 403:
            message = g.rejection = f"{message or BEARER_SCOPE_MESSAGE}: {_required_scopes()}."
            challenge = OAUTH1_CHALLENGE if has_oauth1_header(request.environ) else _scope_challenge()
        return error_response(status, message, headers=[("WWW-Authenticate", challenge)])

    guard: Auth = auth
    return guard


def _reason(address: ServiceAddress) -> str:
    """Return why the credential of the current request is rejected, for the log."""
    if has_oauth1_header(request.environ):
        return take_rejection() if address.url else "requests with OAuth 1.0a signatures require the setting public_url"
    if _has_bearer_token():
        return take_rejection()
    scheme = "HTTP_AUTHORIZATION" in request.environ
    return "the Authorization header has no bearer token" if scheme else "the request has no credential"


def require_scope(scope: str) -> None:
    """Raise ApiError (403) as the guard does, unless the authenticated principal has a scope.

    For requests whose body decides that they require it.
    """
    if not includes_scope(current_principal().scopes, scope):
        g.required_scopes = [scope]
        is_signed = has_oauth1_header(request.environ)
        message = OAUTH1_MESSAGES[403] if is_signed else BEARER_SCOPE_MESSAGE
        challenge = OAUTH1_CHALLENGE if is_signed else _scope_challenge()
        raise ApiError(403, f"{message}: {_required_scopes()}.", challenge=challenge)


def _scope_challenge() -> str:
    """Return the challenge that names the narrowest scope with which the current request would be accepted.

    A client can request a token with it (RFC 6750, section 3).
    """
    return f'Bearer error="insufficient_scope", scope="{sort_scopes(g.required_scopes)[0]}"'


def _required_scopes() -> str:
    """Return the short names of the scopes of which the current request needs one."""
    return " or ".join(scope.removeprefix(PREFIX) for scope in sort_scopes(g.required_scopes))


def _bearer_authorization() -> Authorization | None:
    """Return the Authorization header if its scheme is Bearer.

    Others are not parsed: Werkzeug raises ValueError for a Basic credential with a character that is not ASCII.
    """
    header: str = request.environ.get("HTTP_AUTHORIZATION", "")
    is_bearer = header.partition(" ")[0].lower() == "bearer"
    return Authorization.from_header(header) if is_bearer else None


def _has_bearer_token() -> bool:
    auth = _bearer_authorization()
    return auth is not None and bool(auth.token)


def current_principal() -> Principal:
    """Return the principal of the current request. Every guarded view has one."""
    principal: Any = _request_globals().flask_httpauth_user
    assert isinstance(principal, Principal)
    return principal


def current_version() -> object:
    """Return the store version at which the current request was authenticated."""
    return _request_globals().store_version


def _request_globals() -> Any:
    """Return the object behind `g`. Attribute access on the proxy is slower."""
    return g._get_current_object()

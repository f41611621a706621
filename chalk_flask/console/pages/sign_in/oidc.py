"""Sign-in with an account of an identity provider: the redirect to it, and its response.

A failure shows the sign-in page again with a sentence that contains nothing of the provider's response.
"""

from __future__ import annotations

from flask import Response, redirect, request, session, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from chalk_flask.admins import TooManyAttemptsError
from chalk_flask.admins.oidc_sign_in import AccessDeniedError, OidcSignIn
from chalk_flask.api.public_url import request_base_url
from chalk_flask.console.context import current_services, signed_in
from chalk_flask.console.formatting import format_sentence
from chalk_flask.console.pages.redirects import redirect_to, safe_path
from chalk_flask.console.pages.sign_in.sign_in import (
    begin_session,
    client_address,
    sign_in_page,
    too_many,
)
from chalk_flask.oidc import OidcError, PendingOidc, ProviderError, SignInCanceledError, SignInExpiredError

__all__ = ["CALLBACK_PATH", "begin_oidc_sign_in", "complete_oidc_sign_in"]

CALLBACK_PATH = "/login/oidc/callback"
"""Path of the redirect URI that is registered at the provider."""

MAX_PENDING = 3
"""Maximum number of sign-ins that one browser can begin at once, for example in several windows."""
MAX_PATH_LENGTH = 500
"""Maximum length of the path to show after sign-in. It is in a cookie, whose size is limited."""
EXPIRED_MESSAGE = "This sign-in is out of date or was already completed. Sign in again."

_PENDING = "oidc"


def begin_oidc_sign_in() -> ResponseReturnValue:
    """Redirect to the identity provider. A link on another site leads to the sign-in page instead."""
    oidc, path = _require_oidc(), safe_path(request.args.get("next", ""))
    if signed_in() is not None:
        return redirect_to(path)
    if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        return redirect(url_for("console.show_sign_in", next=path or None), 303)
    redirect_uri = request_base_url(request, current_services().settings.public_url) + CALLBACK_PATH
    try:
        url, pending = oidc.begin(redirect_uri, path if len(path) <= MAX_PATH_LENGTH else "")
    except ProviderError:
        return _problem_page(_provider_message(oidc), path)
    except TooManyAttemptsError as error:
        return _wait_page(error, path)
    _keep(pending)
    return redirect(url, 303)


def complete_oidc_sign_in() -> ResponseReturnValue:
    """Verify the response of the identity provider, and begin a session of the administrator."""
    oidc = _require_oidc()
    pending = _take(request.args.get("state", ""))
    if pending is None:
        return redirect_to("") if signed_in() is not None else _problem_page(EXPIRED_MESSAGE)
    try:
        administrator = oidc.complete(pending, request.args, client_address())
    except SignInExpiredError:
        return _problem_page(EXPIRED_MESSAGE, pending.path)
    except SignInCanceledError:
        return _problem_page(f"You did not sign in with {oidc.provider_name}. Try again.", pending.path)
    except OidcError:
        return _problem_page(_provider_message(oidc), pending.path)
    except AccessDeniedError as error:
        return _problem_page(_denied_message(oidc, error), pending.path, 403)
    except TooManyAttemptsError as error:
        return _wait_page(error, pending.path)
    return begin_session(administrator, pending.path)


def _require_oidc() -> OidcSignIn:
    oidc = current_services().oidc_sign_in
    if oidc is None:
        raise NotFound
    return oidc


def _keep(pending: PendingOidc) -> None:
    """Keep a sign-in in the page session until the response of the provider."""
    latest = list(session.get(_PENDING, ()))[1 - MAX_PENDING :]
    session[_PENDING] = [*latest, pending.to_dict()]


def _take(state: str) -> PendingOidc | None:
    """Return the sign-in with this state, once, or None if this browser has not begun it."""
    kept = list(session.get(_PENDING, ()))
    found = next((data for data in kept if data.get("state") == state), None)
    if found is None:
        return None
    session[_PENDING] = [data for data in kept if data is not found]
    return PendingOidc.from_dict(found)


def _provider_message(oidc: OidcSignIn) -> str:
    return (
        f"Sign-in with {oidc.provider_name} does not work now: it cannot be reached, or its response is"
        " invalid. Try again in a minute. If that does not help, tell the operator: the log of the service contains"
        " the reason."
    )


def _denied_message(oidc: OidcSignIn, error: AccessDeniedError) -> str:
    return (
        f"You signed in with {oidc.provider_name}, but this account has no access to this console. Use another account,"
        f" or ask the operator of the service for access. The id of the account is {error.subject}"
    )


def _problem_page(problem: str, path: str = "", status: int = 400) -> Response:
    return sign_in_page(problem=problem, status=status, path=path)


def _wait_page(error: TooManyAttemptsError, path: str) -> Response:
    return too_many(sign_in_page(problem=format_sentence(error), status=429, path=path), error)

"""The token endpoint: OAuth 2 client credentials with Authlib (RFC 6749, section 4.4; digest 9.1)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, OAuth2Error, OAuth2Request
from authlib.oauth2.rfc6749.errors import InvalidClientError, InvalidRequestError, InvalidScopeError
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from chalk_flask.api.oauth2.client_credentials import Credentials, SecretCredentials, credentials, parameters
from chalk_flask.api.public_url import request_base_url
from chalk_flask.api.routes import ROOTS
from chalk_flask.auth.clients.assertions import ClientAssertionVerifier
from chalk_flask.auth.clients.record import OAuthClient
from chalk_flask.auth.secrets.key_file import KeyFileError
from chalk_flask.permissions.scopes import ALL, scope_satisfied, sort_scopes
from chalk_flask.services import Services

__all__ = ["PATHS", "TokenEndpoint"]

log = logging.getLogger(__name__)

PATHS = ("/oauth/token", *(above + "/token" for root in ROOTS for above in (root.path, root.path.rpartition("/")[0])))
"""Where tokens are asked for: a client is told one, or looks beside the API root that it knows."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
REALM = "chalk-flask"


class TokenEndpoint:
    """Answers requests for tokens.

    `on_success` is called with each client that has shown the right credentials, before it gets a token; `on_failure`
    when they are wrong, with the client whose id they bear, or None when there is none. Either may refuse by raising
    an HTTPException, such as TooManyRequests.
    """

    def __init__(self, chalk: Services) -> None:
        self.on_success: Callable[[OAuthClient], None] = _pass
        self.on_failure: Callable[[OAuthClient | None], None] = _pass
        self._chalk = chalk
        self._assertions = ClientAssertionVerifier(chalk.clients)
        self._server = _TokenServer(self.authenticate_client, self.issue_token)
        # At its lowest level Authlib logs the tokens that it issues.
        logging.getLogger("authlib").setLevel(logging.INFO)

    def blueprint(self) -> Blueprint:
        """The endpoint at each of its paths."""
        made = Blueprint("oauth", __name__)
        for path in PATHS:
            made.add_url_rule(path, "token", self.respond, methods=METHODS, provide_automatic_options=False)
        made.register_error_handler(HTTPException, self._refused)
        return made

    def respond(self) -> Response:
        """The answer to the current request: a token, or an error as RFC 6749 has it (section 5.2)."""
        try:
            if request.method != "POST":
                raise _MethodNotAllowed("Tokens are asked for with POST.")
            return self._server.answer(parameters(request))
        except OAuth2Error as error:
            return self._server.refusal(error)
        except KeyFileError as error:
            log.error("no access token can be issued: %s", error)
            why = "The server cannot issue tokens; its log says why."
            return self._server.refusal(OAuth2Error(why, status_code=500, error="server_error"))

    def _refused(self, error: HTTPException) -> Response:
        """What is refused for another reason than the token's (a rate, a size), in the words of this endpoint."""
        code = error.code or 500
        kind = "temporarily_unavailable" if code in (429, 503) else "invalid_request" if code < 500 else "server_error"
        made = self._server.refusal(OAuth2Error(error.name, status_code=code, error=kind))
        made.headers.extend((name, value) for name, value in error.get_headers() if name == "Retry-After")
        return made

    def authenticate_client(self, given: Mapping[str, str]) -> _Client:
        """The client whose credentials are in the current request or these parameters of it.

        The one place where credentials are judged. Raises InvalidClientError, which says the same whatever is wrong
        with them, and InvalidRequestError.
        """
        shown = credentials(request.headers.get("Authorization", ""), given)
        if shown is None:
            raise _InvalidClient("There are no credentials of a client.", status_code=401)
        record = self._verify_credentials(shown)
        if record is None:
            known, _ = self._chalk.clients.get_at(shown.client, self._chalk.clients.version())
            self.on_failure(known)
            raise _InvalidClient("The client cannot be let in with these credentials.", status_code=401)
        self.on_success(record)
        return _Client(record)

    def issue_token(self, client: _Client, scope: str | None) -> dict[str, Any]:
        """What a client is given for the scopes that it asks for; those that it may not have are left out.

        Raises InvalidScopeError when none is left.
        """
        record, asked = client.record, frozenset((scope or "").split())
        # A client that may read the whole roster may ask for the core alone: the wider scope opens it (digest 9.1).
        granted = frozenset(each for each in asked.intersection(ALL) if scope_satisfied(record.scopes, each))
        if asked and not granted:
            raise InvalidScopeError("The client may have none of the scopes that it asks for.")
        granted = granted or record.scopes
        return {
            "access_token": self._chalk.access_tokens.issue(record.id, record.tenant, granted),
            "token_type": "bearer",
            "expires_in": self._chalk.access_tokens.seconds,
            "scope": " ".join(sort_scopes(granted)),
        }

    def _verify_credentials(self, shown: Credentials) -> OAuthClient | None:
        if isinstance(shown, SecretCredentials):
            return self._chalk.clients.authenticate(shown.client, shown.secret)
        return self._assertions.authenticate(shown.text, self._audiences())

    def _audiences(self) -> list[str]:
        """Whom an assertion may be for: the token endpoint by any of its addresses."""
        site = request_base_url(request, self._chalk.settings.public_url)
        return [site + path for path in PATHS]


class _Client(ClientMixin):  # type: ignore[misc]  # the library ships no types
    """A client as Authlib looks at it."""

    def __init__(self, record: OAuthClient) -> None:
        self.record = record

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "client_credentials"


class _InvalidClient(InvalidClientError):  # type: ignore[misc]  # the library ships no types
    def get_headers(self) -> list[tuple[str, str]]:
        plain: list[tuple[str, str]] = OAuth2Error.get_headers(self)
        return [*plain, ("WWW-Authenticate", f'Basic realm="{REALM}", charset="UTF-8"')]


class _MethodNotAllowed(InvalidRequestError):  # type: ignore[misc]  # the library ships no types
    status_code = 405

    def get_headers(self) -> list[tuple[str, str]]:
        return [*super().get_headers(), ("Allow", "POST")]


class _TokenServer(AuthorizationServer):  # type: ignore[misc]  # the library ships no types
    """Authlib's server, which is told who a client is and what it is given, and stores nothing."""

    def __init__(
        self,
        client_of: Callable[[Mapping[str, str]], _Client],
        token_for: Callable[[_Client, str | None], dict[str, Any]],
    ) -> None:
        super().__init__()
        self._client_of = client_of
        self._token_for = token_for
        self.register_grant(ClientCredentialsGrant)

    def answer(self, given: Mapping[str, str]) -> Response:
        """The answer to a request with these parameters."""
        made: Response = self.create_token_response(given)
        return made

    def refusal(self, error: OAuth2Error) -> Response:
        """The answer that an error is."""
        made: Response = self.handle_error_response(None, error)
        return made

    def create_oauth2_request(self, request: Mapping[str, str]) -> OAuth2Request:
        # Authlib wants https. TLS ends at the proxy in front of us, so a request that came by it says http.
        made = OAuth2Request("POST", "https://localhost")
        made.payload = BasicOAuth2Payload(request)
        return made

    def authenticate_client(self, request: OAuth2Request, methods: object, endpoint: str = "token") -> _Client:
        return self._client_of(request.payload.data)

    def generate_token(self, grant_type: str, client: _Client, scope: str | None = None, **_: object) -> dict[str, Any]:
        return self._token_for(client, scope)

    def save_token(self, token: object, request: OAuth2Request) -> None:
        """Tokens are signed, not stored."""


def _pass(_: object) -> None:
    """Nobody has asked to be told."""

"""OAuth 2 token endpoint for client credentials, built with Authlib (RFC 6749, section 4.4).

docs/conformance, C-01 to C-06, describes its behavior.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, OAuth2Error, OAuth2Request
from authlib.oauth2.rfc6749.errors import (
    InvalidClientError,
    InvalidRequestError,
    InvalidScopeError,
    UnsupportedGrantTypeError,
)
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from flask import Blueprint, Response, g, request
from werkzeug.exceptions import HTTPException

from backends import StorageBusyError
from chalk_flask.api.errors import RETRY_AFTER_SECONDS, STORAGE_ERRORS
from chalk_flask.api.oauth2.token_request import (
    CLIENT_CREDENTIALS,
    ClientCredentials,
    SecretCredentials,
    parse_credentials,
    parse_parameters,
)
from chalk_flask.api.routes import ROOTS
from chalk_flask.api.url_paths import any_case_rule
from chalk_flask.auth.clients.assertions import ClientAssertionVerifier
from chalk_flask.auth.clients.record import OAuthClient
from chalk_flask.auth.rejections import take_rejection
from chalk_flask.permissions.scopes import includes_scope, known_scopes, sort_scopes
from chalk_flask.services import Services

__all__ = ["TokenEndpoint"]

log = logging.getLogger(__name__)

PATHS = (
    "/oauth/token",
    "/token",
    *(parent + "/token" for root in ROOTS for parent in (root.path, root.path.rpartition("/")[0])),
)
"""Paths of the endpoint: two fixed ones, and two beside every API root, where clients expect it.

The last segment may have any letter case (docs/conformance, C-01).
"""

NO_ADDRESS_MESSAGE = (
    "Client assertions are rejected, because the service has no public_url, which is their audience. Ask its operator"
    " to set it."
)

NO_ADDRESS_REASON = "client assertions require the setting public_url"

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
REALM = "chalk-flask"


class TokenEndpoint:
    """Endpoint that issues access tokens to OAuth clients.

    `on_success` is called with the client if its credentials are valid, before it gets a token. `on_failure` is called
    if they are invalid, with the client that they name or None. Both may reject the request by raising an
    HTTPException such as TooManyRequests.
    """

    def __init__(self, services: Services) -> None:
        self.on_success: Callable[[OAuthClient], None] = _ignore
        self.on_failure: Callable[[OAuthClient | None], None] = _ignore
        self._services = services
        self._assertions = ClientAssertionVerifier(services.clients, shared_state=services.credential_state)
        self._server = _TokenServer(self.authenticate_client, self.issue_token)
        # At level DEBUG Authlib logs the tokens that it issues.
        logging.getLogger("authlib").setLevel(logging.INFO)

    def blueprint(self) -> Blueprint:
        """Return a blueprint with the endpoint at all of its paths."""
        blueprint = Blueprint("oauth", __name__)
        for path in PATHS:
            rule = any_case_rule(path)
            blueprint.add_url_rule(rule, "token", self.respond, methods=METHODS, provide_automatic_options=False)
        blueprint.register_error_handler(HTTPException, self._on_http_error)
        return blueprint

    def respond(self, segment: str) -> Response:
        """Return the response to the current request: a token, or an error (RFC 6749, section 5.2).

        `segment` is the last segment of the path.
        """
        try:
            if request.method != "POST":
                raise _MethodError("The token endpoint requires POST.")
            return self._server.token_response(parse_parameters(request))
        except OAuth2Error as error:
            return self._server.error_response(error)
        except (StorageBusyError, *STORAGE_ERRORS) as error:
            log.error("No access token can be issued: %s", error)
            return self._unavailable_response()

    def _unavailable_response(self) -> Response:
        message = "The server cannot issue tokens at present. Its log has the details."
        response = self._server.error_response(OAuth2Error(message, status_code=503, error="temporarily_unavailable"))
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return response

    def _on_http_error(self, error: HTTPException) -> Response:
        """Return the response to an error that is not from Authlib, such as a rate limit, in the format of RFC 6749."""
        status = error.code or 500
        if status in (429, 503):
            name = "temporarily_unavailable"
        else:
            name = "invalid_request" if status < 500 else "server_error"
        response = self._server.error_response(OAuth2Error(error.name, status_code=status, error=name))
        response.headers.extend((header, value) for header, value in error.get_headers() if header == "Retry-After")
        return response

    def authenticate_client(self, params: Mapping[str, str]) -> _AuthlibClient:
        """Return the client whose credentials are in the current request or in its parameters.

        Raises InvalidClientError, with the same message in all cases (C-06), and InvalidRequestError.
        """
        credentials = parse_credentials(request.headers.get("Authorization", ""), params)
        if credentials is None:
            g.rejection = "no client credentials were sent"
            raise _ClientError("Client credentials are required.", status_code=401)
        client = self._verify_credentials(credentials)
        if client is None:
            clients = self._services.clients
            named_client, _ = clients.find_at_version(credentials.client_id, clients.version())
            g.rejection = _reason(credentials, named_client)
            self.on_failure(named_client)
            raise _ClientError("Invalid client credentials.", status_code=401)
        self._services.clients.record_use(client.id, client.last_used)
        self.on_success(client)
        return _AuthlibClient(client)

    def issue_token(self, client: _AuthlibClient, scope: str | None) -> dict[str, Any]:
        """Return the token response for those of the requested scopes that the client is allowed to have.

        Raises InvalidScopeError if no scope remains.
        """
        record, requested = client.record, (scope or "").split()
        # A client with the whole roster may request the core scope alone, which the wider scope includes (C-02).
        granted = frozenset(name for name in known_scopes(requested) if includes_scope(record.scopes, name))
        if requested and not granted:
            allowed = " ".join(sort_scopes(record.scopes))
            raise InvalidScopeError(f"The client has none of the requested scopes. Request some of its own: {allowed}")
        granted = granted or record.scopes
        return {
            "access_token": self._services.access_tokens.issue(record.id, record.tenant, granted),
            "token_type": "bearer",
            "expires_in": self._services.access_tokens.lifetime_seconds,
            "scope": " ".join(sort_scopes(granted)),
        }

    def _verify_credentials(self, credentials: ClientCredentials) -> OAuthClient | None:
        if isinstance(credentials, SecretCredentials):
            return self._services.clients.authenticate(credentials.client_id, credentials.secret)
        if not self._services.address.is_known_for("client assertions"):
            g.rejection = NO_ADDRESS_REASON
            raise _ClientError(NO_ADDRESS_MESSAGE, status_code=401)
        return self._assertions.authenticate(credentials.assertion, self._audiences())

    def _audiences(self) -> list[str]:
        """Return the accepted audiences: every URL of the endpoint, and the path of this request at `public_url`.

        The Host header never counts.
        """
        return [self._services.address.url + path for path in (*PATHS, request.path)]


class _AuthlibClient(ClientMixin):  # type: ignore[misc]  # the library ships no types
    """OAuth client with the interface that Authlib expects."""

    def __init__(self, record: OAuthClient) -> None:
        self.record = record

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == CLIENT_CREDENTIALS


class _ClientError(InvalidClientError):  # type: ignore[misc]  # the library ships no types
    def get_headers(self) -> list[tuple[str, str]]:
        headers: list[tuple[str, str]] = OAuth2Error.get_headers(self)
        return [*headers, ("WWW-Authenticate", f'Basic realm="{REALM}", charset="UTF-8"')]


class _MethodError(InvalidRequestError):  # type: ignore[misc]  # the library ships no types
    status_code = 405

    def get_headers(self) -> list[tuple[str, str]]:
        return [*super().get_headers(), ("Allow", "POST")]


class _TokenServer(AuthorizationServer):  # type: ignore[misc]  # the library ships no types
    """Authlib server that delegates authentication and token creation to callbacks, and stores nothing."""

    def __init__(
        self,
        authenticate: Callable[[Mapping[str, str]], _AuthlibClient],
        issue: Callable[[_AuthlibClient, str | None], dict[str, Any]],
    ) -> None:
        super().__init__()
        self._authenticate = authenticate
        self._issue = issue
        self.register_grant(ClientCredentialsGrant)

    def token_response(self, params: Mapping[str, str]) -> Response:
        """Return the response to a token request with these parameters."""
        response: Response = self.create_token_response(params)
        return response

    def error_response(self, error: OAuth2Error) -> Response:
        """Return the response for an error."""
        response: Response = self.handle_error_response(None, error)
        return response

    def handle_error_response(self, request: object, error: OAuth2Error) -> Response:
        if isinstance(error, UnsupportedGrantTypeError):  # the library would quote the value of the client
            error.description = f"The parameter grant_type must be {CLIENT_CREDENTIALS}."
        response: Response = super().handle_error_response(request, error)
        return response

    def create_oauth2_request(self, request: Mapping[str, str]) -> OAuth2Request:
        # Authlib requires https. The proxy ends TLS, so the actual request has the scheme http.
        oauth2_request = OAuth2Request("POST", "https://localhost")
        oauth2_request.payload = BasicOAuth2Payload(request)
        return oauth2_request

    def authenticate_client(self, request: OAuth2Request, methods: object, endpoint: str = "token") -> _AuthlibClient:
        return self._authenticate(request.payload.data)

    def generate_token(
        self, grant_type: str, client: _AuthlibClient, scope: str | None = None, **_: object
    ) -> dict[str, Any]:
        return self._issue(client, scope)

    def save_token(self, token: object, request: OAuth2Request) -> None:
        """Do nothing: access tokens are signed and not stored."""


def _reason(credentials: ClientCredentials, named_client: OAuthClient | None) -> str:
    """Return why credentials are rejected, for the log. An unknown id may be a secret, so it is left out."""
    if not isinstance(credentials, SecretCredentials):
        return take_rejection()
    if named_client is None:
        return "the client is unknown"
    state = "revoked" if named_client.revoked is not None else "known, but its secret is wrong or has ended"
    return f"the client {named_client.id} is {state}"


def _ignore(_: object) -> None:
    """Do nothing. Default of the login callbacks."""

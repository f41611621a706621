"""What follows from a login at the token endpoint: it is noted, and guessing is slowed down."""

from __future__ import annotations

from flask import request

from chalk_flask.api.auth.rate_limits import FailedAuthLimiter
from chalk_flask.api.oauth2.token_endpoint import TokenEndpoint
from chalk_flask.auth.clients.record import OAuthClient
from chalk_flask.services import Services

__all__ = ["register_login_hooks"]


def register_login_hooks(endpoint: TokenEndpoint, chalk: Services) -> None:
    """Note every login, right or wrong, and refuse with TooManyRequests where too many were wrong."""
    guesses = FailedAuthLimiter()

    def right(client: OAuthClient) -> None:
        guesses.login_succeeded(client.id)
        chalk.login_log.succeeded(client.tenant, client.id)

    def wrong(client: OAuthClient | None) -> None:
        address = request.remote_addr or "unknown"
        tenant, known = (client.tenant, client.id) if client else (None, None)
        chalk.login_log.failed(tenant, known, address)
        guesses.login_failed(known)

    endpoint.on_success = right
    endpoint.on_failure = wrong

"""What follows from a login at the token endpoint: it is noted, and guessing is slowed down."""

from __future__ import annotations

from flask import request

from chalk_flask.api.auth.rate_limits import Guesses
from chalk_flask.api.oauth2.token_endpoint import TokenEndpoint
from chalk_flask.auth.clients.record import ClientRecord
from chalk_flask.services import Chalk

__all__ = ["watch"]


def watch(endpoint: TokenEndpoint, chalk: Chalk) -> None:
    """Note every login, right or wrong, and refuse with TooManyRequests where too many were wrong."""
    guesses = Guesses()

    def right(client: ClientRecord) -> None:
        guesses.good_login(client.id)
        chalk.logins.succeeded(client.tenant, client.id)

    def wrong(client: ClientRecord | None) -> None:
        address = request.remote_addr or "unknown"
        tenant, known = (client.tenant, client.id) if client else (None, None)
        chalk.logins.failed(tenant, known, address)
        guesses.bad_login(known)

    endpoint.on_success = right
    endpoint.on_failure = wrong

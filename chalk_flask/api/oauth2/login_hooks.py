"""Hooks of the token endpoint that record logins in the audit log and limit failed ones."""

from __future__ import annotations

from flask import request

from chalk_flask.api.auth.rate_limits import FailedAuthLimiter
from chalk_flask.api.oauth2.token_endpoint import TokenEndpoint
from chalk_flask.auth.clients.record import OAuthClient
from chalk_flask.services import Services

__all__ = ["register_login_hooks"]


def register_login_hooks(endpoint: TokenEndpoint, services: Services) -> None:
    """Record every login of the endpoint, and reject logins with TooManyRequests after too many failures."""
    failed_auth = FailedAuthLimiter(services.credential_state)

    def on_success(client: OAuthClient) -> None:
        failed_auth.check_valid_login(client.id)
        services.login_log.record_success(client.tenant, client.id)

    def on_failure(client: OAuthClient | None) -> None:
        address = request.remote_addr or "unknown"
        tenant, client_id = (client.tenant, client.id) if client else (None, None)
        services.login_log.record_failure(tenant, client_id, address)
        failed_auth.count_failed_login(client_id)

    endpoint.on_success = on_success
    endpoint.on_failure = on_failure

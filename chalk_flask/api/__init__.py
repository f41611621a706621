"""HTTP API of OneRoster 1.1: reads, gradebook writes, the change feed, imports and the OAuth 2 token endpoint.

Requests come in through Flask. JSON responses go out, and all error responses have the same format. `register` is the
entry point: it adds everything to an application.
"""

from __future__ import annotations

from flask import Flask

from chalk_flask.api import access_log, errors, request_log, url_paths
from chalk_flask.api.admin import admin_blueprint
from chalk_flask.api.auth import make_auth, with_rate_limits
from chalk_flask.api.oauth2 import TokenEndpoint, register_login_hooks
from chalk_flask.api.reads import changes_blueprint, read_blueprint
from chalk_flask.api.routes import ROOTS
from chalk_flask.api.writes import write_blueprint
from chalk_flask.services import Services

__all__ = ["register"]


def register(app: Flask, services: Services) -> None:
    """Add every route under both API roots, the token endpoint and the error handlers to the application."""
    url_paths.configure_url_map(app)
    settings = services.settings
    auth = make_auth(services.authenticator, services.oauth1, services.address, services.credential_state)
    auth = with_rate_limits(app, auth, settings, services.shared_state)
    for root in ROOTS:
        app.register_blueprint(read_blueprint(services, root, auth))
        app.register_blueprint(write_blueprint(services, root, auth))
    app.register_blueprint(changes_blueprint(services, auth))
    app.register_blueprint(admin_blueprint(services, auth))
    endpoint = TokenEndpoint(services)
    register_login_hooks(endpoint, services)
    app.register_blueprint(endpoint.blueprint())
    errors.register(app)
    access_log.register(app, services.access_log)
    counter = services.metrics.requests if settings.metrics else None
    request_log.register(app, counter, logs_requests=settings.log_requests)

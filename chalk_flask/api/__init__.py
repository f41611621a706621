"""The HTTP side of OneRoster: routes, parameters, envelopes, errors."""

from __future__ import annotations

from flask import Flask

from chalk_flask.api import access_log, errors, url_paths
from chalk_flask.api.auth import authentication, rate_limits
from chalk_flask.api.oauth2 import login_hooks, token_endpoint
from chalk_flask.api.reads import changes
from chalk_flask.api.reads.views import blueprint
from chalk_flask.api.routes import ROOTS
from chalk_flask.api.writes import views
from chalk_flask.services import Services

__all__ = ["register"]


def register(app: Flask, chalk: Services) -> None:
    """Give the application every route under both roots, and errors in one shape for any path."""
    url_paths.configure_url_map(app)
    bearer = rate_limits.with_rate_limits(
        app, authentication.make_auth(chalk.authenticator, chalk.oauth1, chalk.settings.public_url), chalk.settings
    )
    for root in ROOTS:
        app.register_blueprint(blueprint(chalk, root, bearer))
        app.register_blueprint(views.blueprint(chalk, root, bearer))
    app.register_blueprint(changes.blueprint(chalk, bearer))
    endpoint = token_endpoint.TokenEndpoint(chalk)
    login_hooks.register_login_hooks(endpoint, chalk)
    app.register_blueprint(endpoint.blueprint())
    errors.register(app)
    access_log.register(app, chalk.access_log)

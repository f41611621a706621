"""The HTTP side of OneRoster: routes, parameters, envelopes, errors."""

from __future__ import annotations

from flask import Flask

from chalk_flask.api import auth, errors, feed, logins, oauth, paths, reading_log, throttle, writing
from chalk_flask.api.routes import ROOTS
from chalk_flask.api.views import blueprint
from chalk_flask.chalk import Chalk

__all__ = ["register"]


def register(app: Flask, chalk: Chalk) -> None:
    """Give the application every route under both roots, and errors in one shape for any path."""
    paths.prepare(app)
    bearer = throttle.limited(app, auth.guard(chalk.door, chalk.oauth1, chalk.settings.public_url), chalk.settings)
    for root in ROOTS:
        app.register_blueprint(blueprint(chalk, root, bearer))
        app.register_blueprint(writing.blueprint(chalk, root, bearer))
    app.register_blueprint(feed.blueprint(chalk, bearer))
    endpoint = oauth.TokenEndpoint(chalk)
    logins.watch(endpoint, chalk)
    app.register_blueprint(endpoint.blueprint())
    errors.register(app)
    reading_log.record(app, chalk.reads)

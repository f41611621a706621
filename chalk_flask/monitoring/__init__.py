"""Pages for monitoring systems and load balancers, and the start page of the service.

`register` is the entry point. `/healthz` says that the process answers, `/readyz` that the service does its work.
`/metrics` has numbers for Prometheus, and `/` describes the service.
"""

from __future__ import annotations

from flask import Flask

from chalk_flask.monitoring.start_page import describe_service, prefers_page
from chalk_flask.monitoring.views import monitoring_blueprint
from chalk_flask.services import Services

__all__ = ["describe_service", "prefers_page", "register"]


def register(app: Flask, services: Services) -> None:
    """Add the pages to an application that already has the API."""
    app.register_blueprint(monitoring_blueprint(services))

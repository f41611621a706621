"""Pages for monitoring systems and load balancers, and the start page of the service.

`register` is the entry point. `/healthz` says that the process answers, `/readyz` that the service does its work.
`/metrics` has numbers for Prometheus, and `/` describes the service.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flask import Flask

from chalk_flask.monitoring.start_page import describe_service, prefers_page
from chalk_flask.monitoring.views import monitoring_blueprint
from chalk_flask.services import Services
from chalk_flask.settings import Settings

if TYPE_CHECKING:
    from chalk_flask.openapi.sections import ApiSection

__all__ = ["describe_service", "prefers_page", "register", "sections"]


def register(app: Flask, services: Services) -> None:
    """Add the pages to an application that already has the API."""
    app.register_blueprint(monitoring_blueprint(services))


def sections(settings: Settings) -> Sequence[ApiSection]:
    """Return the sections of the OpenAPI document about the pages."""
    from chalk_flask.monitoring.description import monitoring_section  # takes time to import

    return [monitoring_section(settings)]

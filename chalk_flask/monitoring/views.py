"""Views of the pages for monitoring, and the blueprint that binds them."""

from __future__ import annotations

import orjson
from flask import Blueprint, Response, request

from chalk_flask.metrics import CONTENT_TYPE
from chalk_flask.monitoring.metrics_access import check_metrics_access
from chalk_flask.monitoring.readiness import ReadinessCheck
from chalk_flask.monitoring.roster_age import RosterAges
from chalk_flask.monitoring.start_page import describe_service, prefers_page, service_page
from chalk_flask.monitoring.store_collector import StoreCollector
from chalk_flask.services import Services

__all__ = ["monitoring_blueprint"]

HEALTHY = {"status": "ok"}


def monitoring_blueprint(services: Services) -> Blueprint:
    """Return a blueprint with `/healthz`, `/readyz`, `/metrics` if enabled, and `/` unless the console serves it."""
    blueprint = Blueprint("monitoring", __name__, template_folder="templates")
    ages = RosterAges(services.store)
    check, collector = ReadinessCheck(services, ages), StoreCollector(services, ages)

    def show_health() -> Response:
        return _json_response(HEALTHY, 200)

    def show_readiness() -> Response:
        readiness = check.run()
        return _json_response(readiness.to_dict(), 200 if readiness.is_ready else 503)

    def show_metrics() -> Response:
        check_metrics_access(request, services.settings.metrics_token)
        text = services.metrics.render(collector)
        return Response(text, headers={"Cache-Control": "no-store"}, content_type=CONTENT_TYPE)

    def show_service() -> Response:
        return service_page(request, services) if prefers_page(request) else describe_service(request, services)

    blueprint.add_url_rule("/healthz", view_func=show_health, provide_automatic_options=False)
    blueprint.add_url_rule("/readyz", view_func=show_readiness, provide_automatic_options=False)
    if services.settings.metrics:
        blueprint.add_url_rule("/metrics", view_func=show_metrics, provide_automatic_options=False)
    if not services.settings.console:
        blueprint.add_url_rule("/", view_func=show_service, provide_automatic_options=False)
    return blueprint


def _json_response(data: object, status: int) -> Response:
    return Response(orjson.dumps(data), status, {"Cache-Control": "no-store"}, content_type="application/json")

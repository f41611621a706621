"""Description of the service at `/`: JSON for programs, and a page for browsers if the console is off."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Request, Response, render_template

from chalk_flask.api.oauth2 import token_endpoint
from chalk_flask.api.public_url import request_base_url
from chalk_flask.api.reads import changes
from chalk_flask.api.routes import ROOTS
from chalk_flask.openapi import DOCS_PATH, DOCUMENT_PATH
from chalk_flask.services import Services

__all__ = ["describe_service", "prefers_page", "service_page"]

NAME = "Chalk Flask"
STANDARD = "OneRoster 1.1"


def prefers_page(request: Request) -> bool:
    """Return True if the client is a browser: it prefers HTML to JSON. `*/*`, which curl sends, is no preference."""
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"


def describe_service(request: Request, services: Services) -> Response:
    """Return the description as JSON, with the URLs of the service. Raises ApiError (400) for an invalid host."""
    response = Response(orjson.dumps(_description(request, services)), content_type="application/json")
    return _vary(response)


def service_page(request: Request, services: Services) -> Response:
    """Return the description as a page. Raises ApiError (400) for an invalid host."""
    page = render_template("monitoring/service.html", **_description(request, services))
    response = Response(page, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
    return _vary(response)


def _description(request: Request, services: Services) -> dict[str, Any]:
    base = request_base_url(request, services.settings.public_url)
    description: dict[str, Any] = {
        "name": NAME,
        "standard": STANDARD,
        "roots": [base + root.path for root in ROOTS],
        "changes": base + changes.PATH,
        "token_endpoint": base + token_endpoint.PATHS[0],
        "health": f"{base}/healthz",
        "readiness": f"{base}/readyz",
    }
    settings = services.settings
    if settings.api_description:
        description |= {"openapi": base + DOCUMENT_PATH, "docs": base + DOCS_PATH}
    return description | ({"console": f"{base}/"} if settings.console else {})


def _vary(response: Response) -> Response:
    response.headers["Vary"] = "Accept"
    response.headers["Cache-Control"] = "no-cache"
    return response

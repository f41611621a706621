"""Security headers of the console's responses."""

from __future__ import annotations

from typing import TypeVar

from flask import request
from werkzeug.wrappers import Response

from chalk_flask.console.session_cookie import page_sessions
from chalk_flask.web_pages.headers import CONTENT_SECURITY_POLICY, PAGE_HEADERS

__all__ = ["CONTENT_SECURITY_POLICY", "add_security_headers"]

AnyResponse = TypeVar("AnyResponse", bound=Response)

HSTS_SECONDS = 365 * 24 * 3600


def add_security_headers(response: AnyResponse) -> AnyResponse:
    """Add the headers of every console response. `X-Content-Type-Options` comes from `api/errors.py`.

    A response without `Cache-Control` must not be stored, so that the back button shows nothing after sign-out.
    """
    response.headers.update(PAGE_HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    if page_sessions().is_secure(request):
        response.headers["Strict-Transport-Security"] = f"max-age={HSTS_SECONDS}"
    return response

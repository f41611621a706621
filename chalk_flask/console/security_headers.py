"""Security headers of the console's responses."""

from __future__ import annotations

from typing import TypeVar

from flask import request
from werkzeug.wrappers import Response

from chalk_flask.console.session_cookie import page_sessions

__all__ = ["CONTENT_SECURITY_POLICY", "add_security_headers"]

AnyResponse = TypeVar("AnyResponse", bound=Response)

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "font-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
"""Policy of every page: no inline code, and nothing from another host."""

HSTS_SECONDS = 365 * 24 * 3600

_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def add_security_headers(response: AnyResponse) -> AnyResponse:
    """Add the headers of every console response. `X-Content-Type-Options` comes from `api/errors.py`.

    A response without `Cache-Control` must not be stored, so that the back button shows nothing after sign-out.
    """
    response.headers.update(_HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    if page_sessions().is_secure(request):
        response.headers["Strict-Transport-Security"] = f"max-age={HSTS_SECONDS}"
    return response

"""Light and dark theme, which a cookie of the browser selects."""

from __future__ import annotations

from flask import Request, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest

from chalk_flask.console.pages.redirects import redirect_to
from chalk_flask.console.session_cookie import page_sessions

__all__ = ["choose_theme", "current_theme"]

THEMES = ("system", "light", "dark")
THEME_COOKIE = "chalk-theme"
COOKIE_SECONDS = 365 * 24 * 3600


def current_theme(current: Request) -> str:
    """Return `light` or `dark`, or "" for the theme of the system."""
    theme = current.cookies.get(THEME_COOKIE, "")
    return theme if theme in THEMES[1:] else ""


def choose_theme() -> ResponseReturnValue:
    """Store the theme in a cookie, and return to the page."""
    theme = request.form.get("theme", "")
    if theme not in THEMES:
        raise BadRequest("The theme must be system, light or dark.")
    response = redirect_to(request.form.get("next", ""))
    response.set_cookie(
        THEME_COOKIE,
        theme,
        max_age=COOKIE_SECONDS,
        httponly=True,
        samesite="Lax",
        secure=page_sessions().is_secure(request),
    )
    return response

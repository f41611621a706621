"""Redirects to paths that come from the browser, which never lead to another site."""

from __future__ import annotations

import re

from flask import redirect, request, url_for
from werkzeug.wrappers import Response

__all__ = ["redirect_to", "safe_path"]

MAX_PATH_LENGTH = 8000
"""Maximum length in characters of a path with its query, which may contain an encrypted search."""

# Browsers treat `//` and `/\` as the beginning of a host, and ignore control characters.
_SAFE_PATH = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*")


def safe_path(text: str) -> str:
    """Return a path with its query if it leads to this application, else ""."""
    return text if len(text) <= MAX_PATH_LENGTH and _SAFE_PATH.fullmatch(text) else ""


def redirect_to(path: str) -> Response:
    """Return a redirect (303) to a path of the console that the browser sent, or to the dashboard."""
    target = safe_path(path)
    return redirect(request.script_root + target if target else url_for("console.show_dashboard"), 303)

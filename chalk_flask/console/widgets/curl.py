"""Commands that send a request of the API from a terminal."""

from __future__ import annotations

import shlex

from flask import request

from chalk_flask.api.public_url import request_base_url
from chalk_flask.console.context import current_services

__all__ = ["TOKEN_VARIABLE", "curl_command"]

TOKEN_VARIABLE = "$CHALK_TOKEN"
"""Text that stands for the token in a command. The shell replaces it."""


def curl_command(path: str, method: str = "GET", body: str = "") -> str:
    """Return a curl command for a path of the API with its query. The token is in an environment variable."""
    url = request_base_url(request, current_services().settings.public_url) + path
    words = ["curl", *(["-X", method] if method != "GET" else []), f'-H "Authorization: Bearer {TOKEN_VARIABLE}"']
    if body:
        words += ["-H 'Content-Type: application/json'", "--data-binary", shlex.quote(body)]
    return " ".join([*words, shlex.quote(url)])

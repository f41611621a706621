"""Base URL of a request, taken from the setting `public_url` or from the request itself."""

from __future__ import annotations

import re
from functools import lru_cache

from flask import Request

from chalk_flask.api.errors import ApiError

__all__ = ["request_base_url"]

MAX_QUOTED_CHARACTERS = 80

_HOST = re.compile(r"[A-Za-z0-9._~-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")


def request_base_url(request: Request, public_url: str) -> str:
    """Return the URL at which the application is mounted, such as `https://roster.example.org`.

    It has no trailing slash. Raises ApiError (400) if `public_url` is empty and the Host header is invalid
    (docs/conformance, Q-19).
    """
    return public_url or _base_url(request.scheme, request.host or _server_name(request), request.root_path)


@lru_cache(maxsize=256)
def _base_url(scheme: str, host: str, mount: str) -> str:
    # The host becomes part of JSON and of headers, so no other characters are accepted.
    if not _HOST.fullmatch(host):
        raise ApiError(
            400, f"The Host header {host[:MAX_QUOTED_CHARACTERS]!r} is invalid. Send a host name or address."
        )
    return f"{scheme}://{host}{mount.rstrip('/')}"


def _server_name(request: Request) -> str:
    """Return the server's own name for HTTP/1.0 requests, which may omit the Host header."""
    if "HTTP_HOST" in request.environ:
        return ""
    return f"{request.environ['SERVER_NAME']}:{request.environ['SERVER_PORT']}"

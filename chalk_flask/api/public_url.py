"""The absolute address of a request, from the operator's setting or from the request itself."""

from __future__ import annotations

import re
from functools import lru_cache

from flask import Request

from chalk_flask.api.errors import ApiError

__all__ = ["request_base_url"]

_HOST = re.compile(r"[A-Za-z0-9._~-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")


def request_base_url(request: Request, public_url: str) -> str:
    """Where the application is mounted, as in `https://roster.example.org`, without a trailing slash.

    Raises Problem (400) when neither the operator nor the request says so.
    """
    return public_url or _origin(request.scheme, request.host or _server(request), request.root_path)


@lru_cache(maxsize=256)
def _origin(scheme: str, host: str, mount: str) -> str:
    # It becomes part of JSON and of headers: nothing but a host gets through.
    if not _HOST.fullmatch(host):
        raise ApiError(400, "The Host header is not the name of a host.")
    return f"{scheme}://{host}{mount.rstrip('/')}"


def _server(request: Request) -> str:
    """A client of HTTP/1.0 need not say which host it means."""
    if "HTTP_HOST" in request.environ:
        return ""
    return f"{request.environ['SERVER_NAME']}:{request.environ['SERVER_PORT']}"

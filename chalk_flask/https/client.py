"""Small HTTPS client for servers that the operator configures, with limits on time and size."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from contextlib import closing
from urllib.parse import SplitResult

from chalk_flask.https.connection import Connection, Deadline, HttpRequest, HttpResponse
from chalk_flask.https.url import parse_url

__all__ = ["MAX_RESPONSE_BYTES", "ResponseTooLargeError", "send_request"]

TIMEOUT_SECONDS = 5.0
"""Timeout for connecting, and for sending the request and reading the response."""
MAX_RESPONSE_BYTES = 1024 * 1024


class ResponseTooLargeError(Exception):
    """Response of more than MAX_RESPONSE_BYTES."""


def send_request(url: str, headers: Mapping[str, str], body: bytes | None = None) -> HttpResponse:
    """Send a GET request, or a POST request if there is a body, and return the response with its whole body.

    Uses no proxy and follows no redirect. Raises InvalidUrlError, ResponseTooLargeError, OSError or
    http.client.HTTPException.
    """
    parts = parse_url(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    request = HttpRequest("GET" if body is None else "POST", target, {"Host": _authority(parts), **headers}, body)
    with closing(_open(parts)) as connection:
        response = connection.exchange(request, MAX_RESPONSE_BYTES + 1, Deadline(TIMEOUT_SECONDS))
    if len(response.body) > MAX_RESPONSE_BYTES:
        raise ResponseTooLargeError(f"the response has more than {MAX_RESPONSE_BYTES} bytes")
    return response


def _open(parts: SplitResult) -> Connection:
    assert parts.hostname is not None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    entries = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    addresses = [(str(entry[4][0]), port) for entry in entries]
    context = ssl.create_default_context() if parts.scheme == "https" else None
    return Connection.open(parts.hostname, addresses, Deadline(TIMEOUT_SECONDS), context)


def _authority(parts: SplitResult) -> str:
    """Return the Host header: the host as the URL writes it, in lower case, and the port if the URL has one."""
    return parts.netloc.lower()

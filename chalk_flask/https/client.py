"""Small HTTPS client for servers that the operator configures, with limits on time and size."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import SplitResult

from chalk_flask.https.url import parse_url

__all__ = ["MAX_RESPONSE_BYTES", "HttpsResponse", "ResponseTooLargeError", "send_request"]

TIMEOUT_SECONDS = 5.0
"""Timeout for connecting, and for sending the request and reading the response."""
MAX_RESPONSE_BYTES = 1024 * 1024


class ResponseTooLargeError(Exception):
    """Response of more than MAX_RESPONSE_BYTES."""


@dataclass(frozen=True, slots=True)
class HttpsResponse:
    """Response with its headers and its whole body."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def send_request(url: str, headers: Mapping[str, str], body: bytes | None = None) -> HttpsResponse:
    """Send a GET request, or a POST request if there is a body, and return the response.

    Uses no proxy and follows no redirect. Raises InvalidUrlError, ResponseTooLargeError, OSError or
    http.client.HTTPException.
    """
    parts = parse_url(url)
    connection = _make_connection(parts)
    try:
        connection.connect()
        with _deadline(connection.sock):
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET" if body is None else "POST", target, body, dict(headers))
            return _read(connection.getresponse())
    finally:
        connection.close()


def _make_connection(parts: SplitResult) -> http.client.HTTPConnection:
    assert parts.hostname is not None
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_SECONDS)
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT_SECONDS, context=context)


@contextmanager
def _deadline(connection: socket.socket) -> Iterator[None]:
    """Shut down the connection after TIMEOUT_SECONDS. A socket timeout applies to single reads only."""
    timer = threading.Timer(TIMEOUT_SECONDS, _shut_down, [connection])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut_down(connection: socket.socket) -> None:
    with suppress(OSError):  # the connection may be closed already
        # The shutdown of a TLS socket is not safe in another thread; that of the plain socket is.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _read(response: http.client.HTTPResponse) -> HttpsResponse:
    body = response.read(MAX_RESPONSE_BYTES + 1)
    if len(body) > MAX_RESPONSE_BYTES:
        raise ResponseTooLargeError(f"the response has more than {MAX_RESPONSE_BYTES} bytes")
    return HttpsResponse(response.status, response.headers, body)

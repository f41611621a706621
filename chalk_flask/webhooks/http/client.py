"""HTTP client for one webhook: sends a POST request within a time limit, and only to targets the SSRF guard allows."""

from __future__ import annotations

import errno
import http.client
import re
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Final

from chalk_flask.https.connection import Connection, Deadline, HttpRequest, HttpResponse, InvalidResponseError
from chalk_flask.webhooks.http.ssrf_guard import ForbiddenTargetError, ResolutionError, SsrfGuard, TargetUrl

__all__ = ["AttemptResponse", "WebhookClient"]

TIMEOUT_SECONDS: Final = 15.0
"""Time limit of an attempt, from the resolution of the name to the end of the response."""
IDLE_TIMEOUT_SECONDS: Final = 30.0
"""An idle connection is not used again after this time."""
MAX_TEXT_BYTES: Final = 1024
"""Upper limit of the bytes that are read of a response body."""
MAX_RETRY_AFTER_SECONDS: Final = 86_400.0

_HEADER_NAME = re.compile(r"[A-Za-z0-9-]+")
_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")


@dataclass(frozen=True, slots=True)
class AttemptResponse:
    """Result of an attempt: either the `status` of the response, or an `error` message of ours.

    `text` is the first 1,024 bytes of the response body, decoded with replacements. It comes from the receiver and may
    contain anything. `retry_after` is in seconds, at most a day.
    """

    status: int | None
    duration_ms: int
    error: str | None = None
    text: str = ""
    retry_after: float | None = None

    @property
    def delivered(self) -> bool:
        """True if the receiver accepted the delivery: the status is 2xx."""
        return self.status is not None and 200 <= self.status < 300


class WebhookClient:
    """HTTP client that keeps one connection open between requests. Not thread-safe; call `close` at the end.

    `ssl_context` verifies certificates; the default trusts the certificate authorities of the system.
    """

    def __init__(
        self,
        guard: SsrfGuard,
        *,
        timeout: float = TIMEOUT_SECONDS,
        idle_timeout: float = IDLE_TIMEOUT_SECONDS,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._guard, self._timeout, self._idle_timeout, self._ssl_context = guard, timeout, idle_timeout, ssl_context
        self._connection: Connection | None = None
        self._connection_origin: tuple[str, str, int] | None = None
        self._last_used = 0.0

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> AttemptResponse:
        """Send `body` to `url` once and return the response or the network error.

        Follows no redirect and uses no proxy. Sends again only if the receiver closed the open connection before it
        responded. Raises ValueError for an invalid header.
        """
        started = time.monotonic()
        _check_headers(headers)
        try:
            target = self._guard.check_url(url)
        except ForbiddenTargetError as error:
            return AttemptResponse(None, _milliseconds_since(started), f"rejected: {error}")
        request = HttpRequest("POST", target.path, {"Host": target.authority, **headers}, body)
        try:
            response = self._send(target, request, Deadline(self._timeout))
        except Exception as error:
            if (error_text := _error_text(error)) is None:
                raise
            return AttemptResponse(None, _milliseconds_since(started), error_text)
        return AttemptResponse(
            response.status,
            _milliseconds_since(started),
            text=response.body.decode(errors="replace"),
            retry_after=_parse_retry_after(response.headers.get("Retry-After")),
        )

    def close(self) -> None:
        """Close the open connection, if there is one. The next request opens a new one."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _send(self, target: TargetUrl, request: HttpRequest, deadline: Deadline) -> HttpResponse:
        connection = self._take_connection(target)
        if connection is not None:
            try:
                return self._exchange(connection, target, request, deadline)
            except (ConnectionError, ssl.SSLError):
                # The receiver closed the idle connection, perhaps before it read the request. A duplicate delivery is
                # harmless.
                if connection.response_started:
                    raise
        return self._exchange(self._connect(target, deadline), target, request, deadline)

    def _take_connection(self, target: TargetUrl) -> Connection | None:
        """Return the open connection if it is usable for the target; `_exchange` gives it back after a response."""
        connection, self._connection = self._connection, None
        same_origin = self._connection_origin == (target.scheme, target.hostname, target.port)
        fresh = time.monotonic() - self._last_used <= self._idle_timeout
        if connection is None or (same_origin and fresh and connection.is_quiet()):
            return connection
        connection.close()
        return None

    def _exchange(
        self, connection: Connection, target: TargetUrl, request: HttpRequest, deadline: Deadline
    ) -> HttpResponse:
        response = None
        try:
            response = connection.exchange(request, MAX_TEXT_BYTES, deadline)
        finally:
            if response is None or not response.reusable:
                connection.close()
        if response.reusable:
            self._connection, self._last_used = connection, time.monotonic()
            self._connection_origin = target.scheme, target.hostname, target.port
        return response

    def _connect(self, target: TargetUrl, deadline: Deadline) -> Connection:
        context = (self._ssl_context or _default_ssl_context()) if target.scheme == "https" else None
        return Connection.open(target.hostname, _resolve(self._guard, target, deadline), deadline, context)


@cache
def _default_ssl_context() -> ssl.SSLContext:
    """Return a context with the certificate authorities of the system. Cached, because it is slow to create."""
    return ssl.create_default_context()


def _resolve(guard: SsrfGuard, target: TargetUrl, deadline: Deadline) -> list[tuple[str, int]]:
    """Return the checked addresses of the target.

    Resolves a name in a thread, because the system's resolver has no time limit. Raises ResolutionError after the
    deadline.
    """
    if not isinstance(target.host, str):
        return guard.resolve_target(target)
    results: list[list[tuple[str, int]] | Exception] = []

    def resolve() -> None:
        try:
            results.append(guard.resolve_target(target))
        except Exception as error:  # noqa: BLE001 - raised again below, in the caller's thread
            results.append(error)

    thread = threading.Thread(target=resolve, name="webhooks: resolver", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise ResolutionError("cannot start a thread to resolve the name") from error
    thread.join(deadline.remaining())
    if not results:
        raise ResolutionError("the name cannot be resolved in time")
    if isinstance(results[0], Exception):
        raise results[0]
    return results[0]


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"invalid header {name!r}")


def _milliseconds_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


# The first match counts: some of these types are subclasses of later ones.
_ERROR_TEXTS: tuple[tuple[type[Exception], str], ...] = (
    (ForbiddenTargetError, "rejected: the address is private and not in webhook_allowed_hosts"),
    (ResolutionError, "the name cannot be resolved"),
    (TimeoutError, "timed out"),
    (ConnectionRefusedError, "connection refused"),
    (http.client.RemoteDisconnected, "closed without a response"),
    (ssl.SSLEOFError, "closed without a response"),
    (ssl.SSLZeroReturnError, "closed without a response"),
    (ConnectionError, "connection reset"),
    (http.client.HTTPException, "the response is not HTTP"),
)


def _error_text(error: Exception) -> str | None:
    """Return a message without any text of the receiver, or None if the error does not come from the network."""
    if isinstance(error, InvalidResponseError):
        return str(error)
    for error_type, text in _ERROR_TEXTS:
        if isinstance(error, error_type):
            return text
    match error:
        case ssl.SSLCertVerificationError():
            return f"invalid certificate: {error.verify_message.partition(',')[0].rstrip('.').lower()}"
        case ssl.SSLError():
            return f"TLS failed: {(error.reason or 'unknown reason').replace('_', ' ').lower()}"
        case OSError():
            return f"cannot connect ({errno.errorcode.get(error.errno or 0, 'unknown reason')})"
    return None


def _parse_retry_after(value: str | None) -> float | None:
    """Return the seconds from now in a Retry-After header, a number or a date; None if it is missing or invalid.

    RFC 9110, section 10.2.3.
    """
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,18}", value.strip(), re.ASCII):
        return min(float(value), MAX_RETRY_AFTER_SECONDS)
    try:
        date = parsedate_to_datetime(value)
        # A date without a time zone is in UTC.
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return min(max((date - datetime.now(UTC)).total_seconds(), 0.0), MAX_RETRY_AFTER_SECONDS)
    except (ValueError, OverflowError, TypeError):
        return None

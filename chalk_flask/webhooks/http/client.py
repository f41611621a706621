"""One attempt to deliver: a POST that ends in time, whatever the other side does, and that goes where it may."""

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

from chalk_flask.webhooks.http.connection import Connection, Deadline, InvalidResponseError, Response
from chalk_flask.webhooks.http.ssrf_guard import ForbiddenTargetError, ResolutionError, SsrfGuard, TargetUrl

__all__ = ["SECONDS", "TEXT", "AttemptResponse", "WebhookClient"]

SECONDS: Final = 15.0
"""How long an attempt may take, from the name to the end of the answer."""
TEXT: Final = 1024
"""The most bytes of an answer's body that are read."""
IDLE: Final = 30.0
"""The seconds for which an unused connection is kept."""

_LONGEST_WAIT = 86400.0
_NAME = re.compile(r"[A-Za-z0-9-]+")
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")


@dataclass(frozen=True, slots=True)
class AttemptResponse:
    """What came of an attempt. There is either a `status`, whatever it says, or an `error` in a few words of ours.

    `ms` is how long it took. `text` is the first 1,024 bytes of the body, decoded with replacements: it is the
    receiver's, and may hold anything. `retry_after` is in seconds, a day at most.
    """

    status: int | None
    ms: int
    error: str | None = None
    text: str = ""
    retry_after: float | None = None

    @property
    def delivered(self) -> bool:
        """Whether the receiver has taken it: the status is 2xx."""
        return self.status is not None and 200 <= self.status < 300


class WebhookClient:
    """Posts to one endpoint at a time, and keeps its connection between posts. For one thread; `close` it at the end.

    `context` verifies certificates; without one, those of the system are believed.
    """

    def __init__(
        self, guard: SsrfGuard, *, seconds: float = SECONDS, idle: float = IDLE, context: ssl.SSLContext | None = None
    ) -> None:
        self._guard, self._seconds, self._idle, self._context = guard, seconds, idle, context
        self._line: Connection | None = None
        self._kept: tuple[str, str, int] | None = None
        self._used = 0.0

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> AttemptResponse:
        """Send `body` to `url` once and say what came of it. Whatever happens on the way is in the answer.

        Follows no redirect, uses no proxy, and tries again only when a connection that was kept turns out to be closed.
        Raises ValueError for a header that cannot be sent.
        """
        began = time.monotonic()
        fields = _fields(headers)
        try:
            target = self._guard.check_url(url)
        except ForbiddenTargetError as error:
            return AttemptResponse(None, _since(began), f"refused: {error}")
        try:
            received = self._received(target, _head(target, fields, len(body)) + body, Deadline(self._seconds))
        except Exception as error:
            if (words := _words(error)) is None:
                raise
            return AttemptResponse(None, _since(began), words)
        return AttemptResponse(
            received.status,
            _since(began),
            text=received.body.decode(errors="replace"),
            retry_after=_seconds(received.retry_after),
        )

    def close(self) -> None:
        """Close the connection that is kept, if there is one; another post opens a new one."""
        if self._line is not None:
            self._line.close()
        self._line = None

    def _received(self, target: TargetUrl, message: bytes, deadline: Deadline) -> Response:
        line = self._taken(target)
        if line is not None:
            try:
                return self._exchanged(line, target, message, deadline)
            except (ConnectionError, ssl.SSLError):
                # It was closed while it lay idle, perhaps before this was read: deliveries bear being sent twice.
                if line.answered:
                    raise
        return self._exchanged(self._connected(target, deadline), target, message, deadline)

    def _taken(self, target: TargetUrl) -> Connection | None:
        """The connection that is kept, if it still serves; it is ours no more until an answer has come."""
        line, self._line = self._line, None
        same = self._kept == (target.scheme, target.hostname, target.port)
        if line is None or (same and time.monotonic() - self._used <= self._idle and line.quiet()):
            return line
        line.close()
        return None

    def _exchanged(self, line: Connection, target: TargetUrl, message: bytes, deadline: Deadline) -> Response:
        received = None
        try:
            received = line.exchange(message, TEXT, deadline)
        finally:
            if received is None or not received.reusable:
                line.close()
        if received.reusable:
            self._line, self._used = line, time.monotonic()
            self._kept = target.scheme, target.hostname, target.port
        return received

    def _connected(self, target: TargetUrl, deadline: Deadline) -> Connection:
        context = (self._context or _context()) if target.scheme == "https" else None
        return Connection.to(_addresses(self._guard, target, deadline), deadline, context, target.hostname)


@cache
def _context() -> ssl.SSLContext:
    """What verifies certificates with the authorities of the system; it takes long to make."""
    return ssl.create_default_context()


def _addresses(guard: SsrfGuard, target: TargetUrl, deadline: Deadline) -> list[tuple[str, int]]:
    """The checked addresses. A system that takes its time to resolve a name is not waited for beyond the deadline."""
    if not isinstance(target.host, str):
        return guard.resolve_target(target)
    found: list[list[tuple[str, int]] | Exception] = []

    def find() -> None:
        try:
            found.append(guard.resolve_target(target))
        except Exception as error:  # noqa: BLE001 - raised again below, in the thread that asked
            found.append(error)

    finding = threading.Thread(target=find, name="resolving the host of a webhook", daemon=True)
    try:
        finding.start()
    except RuntimeError as error:
        raise ResolutionError("there are no threads left to resolve it") from error
    finding.join(deadline.left())
    if not found:
        raise ResolutionError("the name cannot be resolved in time")
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def _fields(headers: Mapping[str, str]) -> str:
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"the header {name!r} cannot be sent")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


def _head(target: TargetUrl, fields: str, length: int) -> bytes:
    return (
        f"POST {target.path} HTTP/1.1\r\nHost: {target.authority}\r\nAccept-Encoding: identity\r\n"
        f"{fields}Content-Length: {length}\r\n\r\n"
    ).encode("ascii")


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


# The first that fits counts: some of these are kinds of others.
_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (ForbiddenTargetError, "the address is private: refused"),
    (ResolutionError, "the name cannot be resolved"),
    (TimeoutError, "timed out"),
    (ConnectionRefusedError, "connection refused"),
    (http.client.RemoteDisconnected, "closed without an answer"),
    (ssl.SSLEOFError, "closed without an answer"),
    (ssl.SSLZeroReturnError, "closed without an answer"),
    (ConnectionError, "reset"),
    (http.client.HTTPException, "the answer is not HTTP"),
)


def _words(error: Exception) -> str | None:
    """What went wrong, in words that hold nothing of the receiver's; None when it is nothing of the network."""
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    match error:
        case InvalidResponseError():
            return str(error)
        case ssl.SSLCertVerificationError():
            return f"the certificate is not valid: {error.verify_message.partition(',')[0].rstrip('.').lower()}"
        case ssl.SSLError():
            return f"TLS failed: {(error.reason or 'no reason').replace('_', ' ').lower()}"
        case OSError():
            return f"cannot be reached ({errno.errorcode.get(error.errno or 0, 'no reason')})"
    return None


def _seconds(said: str | None) -> float | None:
    """What Retry-After says, a number of seconds or a date, in seconds from now; None when it says nothing."""
    if said is None:
        return None
    if re.fullmatch(r"[0-9]{1,18}", said.strip(), re.ASCII):
        return min(float(said), _LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(said)
        # A date that names no zone is in UTC.
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return min(max((moment - datetime.now(UTC)).total_seconds(), 0.0), _LONGEST_WAIT)
    except (ValueError, OverflowError, TypeError):
        return None

"""HTTP client for providers: requests with retries, deadlines and limits on the size of bodies.

It uses urllib3, without a proxy. Certificates are verified. No message contains a query, a body or a header.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit

from urllib3 import BaseHTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from chalk_flask.sources.errors import SourceError
from chalk_flask.sources.limits import SourceLimits
from chalk_flask.times import utc_now

__all__ = ["HttpClient", "HttpResponse", "origin_of"]

RETRIED_STATUSES: Final = (408, 425, 429, 500, 502, 503, 504)
REDIRECT_STATUSES: Final = (301, 302, 303, 307, 308)
MAX_REDIRECTS: Final = 3
CHUNK_BYTES: Final = 1 << 16
USER_AGENT: Final = "chalk-flask-source"

# urllib3 logs URLs, whose paths and filters must not be in the log.
logging.getLogger("urllib3").addHandler(logging.NullHandler())
logging.getLogger("urllib3").propagate = False


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """Response with its decoded body. Names of headers are in lower case. `url` is the last one after redirects."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


class _AttemptError(Exception):
    """Failure of one attempt. `pause_seconds` is the pause that the provider asks for."""

    def __init__(self, reason: str, pause_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.pause_seconds = pause_seconds


def origin_of(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port of a URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


class HttpClient:
    """Client for the requests of one sync, with a connection per origin. Close it. Not thread-safe."""

    def __init__(
        self,
        limits: SourceLimits,
        sleep: Callable[[float], None] = time.sleep,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._limits, self._sleep = limits, sleep
        self._ssl_context = ssl_context or ssl.create_default_context()
        self._connections: dict[tuple[str, str | None, int | None], HTTPConnection] = {}
        self._end = time.monotonic() + limits.sync_seconds
        self._paused_seconds = 0.0

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections.values():
            connection.close()

    def send(
        self, method: str, url: str, headers: Callable[[str], Mapping[str, str]], body: bytes | None = None
    ) -> HttpResponse:
        """Send a request until it is answered, and return the response.

        `headers` returns the headers for a URL; it is called for each attempt. Redirects are followed within the
        origin. Raises SourceError if the attempts, or the time for all of them, are used up.
        """
        for attempt in range(1, self._limits.max_attempts + 1):
            try:
                return self._send_and_redirect(method, url, headers, body)
            except _AttemptError as error:
                reason = str(error)
                if attempt < self._limits.max_attempts:
                    pause = self._limits.first_pause_seconds * 2 ** (attempt - 1)
                    self._pause(max(pause, error.pause_seconds), url, reason)
        raise SourceError(
            f"{_target(method, url)} failed {self._limits.max_attempts} times, the last time because {reason}: check"
            " the provider, and try again later"
        )

    def _pause(self, seconds: float, url: str, reason: str) -> None:
        self._paused_seconds += seconds
        is_too_long = self._paused_seconds > self._limits.max_total_pause_seconds
        if is_too_long or time.monotonic() + seconds > self._end:
            raise SourceError(
                f"the provider {urlsplit(url).hostname} requires longer pauses than a sync allows, the last one because"
                f" {reason}: try again later"
            )
        self._sleep(seconds)

    def _send_and_redirect(
        self, method: str, url: str, headers: Callable[[str], Mapping[str, str]], body: bytes | None
    ) -> HttpResponse:
        for _ in range(MAX_REDIRECTS + 1):
            response = self._attempt(method, url, headers(url), body)
            if response.status not in REDIRECT_STATUSES:
                return response
            location = _location(url, response.headers.get("location", ""))
            if location is None or origin_of(location) != origin_of(url):
                raise SourceError(
                    f"{_target(method, url)} is redirected to another host, which is not followed: change the URL of"
                    " the source to that host if you trust it"
                )
            url = location
        raise SourceError(f"{_target(method, url)} is redirected more than {MAX_REDIRECTS} times: check the URL")

    def _attempt(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> HttpResponse:
        if time.monotonic() > self._end:
            raise SourceError(
                f"the sync takes longer than {self._limits.sync_seconds:,.0f} seconds: check the speed of the provider"
            )
        connection = self._connection(url)
        try:
            response = self._exchange(connection, method, url, headers, body)
        except ssl.SSLCertVerificationError as error:
            raise _certificate_error(url) from error
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            connection.close()
            if isinstance(error.__cause__, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise _certificate_error(url) from error
            raise _AttemptError(_reason(error)) from error
        except BaseException:
            connection.close()
            raise
        if response.status in RETRIED_STATUSES:
            pause = _retry_after(response.headers.get("retry-after", ""), utc_now())
            raise _AttemptError(f"the status is {response.status}", pause)
        return response

    def _connection(self, url: str) -> HTTPConnection:
        origin = origin_of(url)
        if origin not in self._connections:
            self._connections[origin] = self._make_connection(urlsplit(url))
        connection = self._connections[origin]
        if connection.sock is not None and not connection.is_connected:
            connection.close()  # the provider has closed it
        return connection

    def _make_connection(self, parts: SplitResult) -> HTTPConnection:
        assert parts.hostname is not None
        timeout = self._limits.connect_timeout_seconds
        if parts.scheme == "https":
            return HTTPSConnection(parts.hostname, parts.port, timeout=timeout, ssl_context=self._ssl_context)
        return HTTPConnection(parts.hostname, parts.port, timeout=timeout)

    def _exchange(
        self, connection: HTTPConnection, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> HttpResponse:
        if connection.sock is None:
            connection.timeout = self._limits.connect_timeout_seconds
            connection.connect()
        connection.timeout = self._limits.read_timeout_seconds
        seconds = min(self._limits.response_seconds, max(0.1, self._end - time.monotonic()))
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        with _deadline(connection.sock, seconds) as is_over:
            all_headers = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": USER_AGENT, **headers}
            try:
                connection.request(method, target, body, all_headers, preload_content=False)
                response = connection.getresponse()
                content = self._read(response, method, url)
            except (HTTPError, HTTPException, OSError) as error:
                if is_over():
                    raise TimeoutError(f"the response takes longer than {seconds:,.0f} seconds") from error
                raise
            if is_over():  # the body ended because the connection was shut down
                raise TimeoutError(f"the response takes longer than {seconds:,.0f} seconds")
        names = {name.lower(): value for name, value in response.headers.items()}
        return HttpResponse(url, response.status, names, content)

    def _read(self, response: BaseHTTPResponse, method: str, url: str) -> bytes:
        chunks, size = [], 0
        while chunk := response.read1(CHUNK_BYTES):
            size += len(chunk)
            if size > self._limits.max_body_bytes:
                raise SourceError(
                    f"the response to {_target(method, url)} is larger than {self._limits.max_body_bytes >> 20} MiB:"
                    " check the provider"
                )
            chunks.append(chunk)
        return b"".join(chunks)


def _location(url: str, header: str) -> str | None:
    """Return the URL of a redirect; None for an invalid one."""
    try:
        location: str = urljoin(url, header)
        urlsplit(location).port  # noqa: B018 - it raises ValueError
    except ValueError:
        return None
    return location


@contextmanager
def _deadline(connection: socket.socket, seconds: float) -> Iterator[Callable[[], bool]]:
    """Shut down a connection after this time, and yield a function that returns True then.

    A socket timeout applies to single reads only.
    """
    over = threading.Event()

    def shut_down() -> None:
        over.set()
        with suppress(OSError):  # the connection may be closed already
            # The shutdown of a TLS socket is not safe in another thread; that of the plain socket is.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, shut_down)
    timer.daemon = True
    timer.start()
    try:
        yield over.is_set
    finally:
        timer.cancel()


def _retry_after(value: str, now: datetime) -> float:
    """Return the seconds of a Retry-After header, which is a number or a date (RFC 9110, section 10.2.3)."""
    if value.strip().isdecimal():
        return float(value[:9])
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _reason(error: Exception) -> str:
    """Return why an attempt failed, without texts of the provider or of urllib3, which quote URLs."""
    if isinstance(error, TimeoutError) or type(error).__name__.endswith("TimeoutError"):
        return "the provider does not answer in time"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return f"the connection failed ({cause.strerror})"
        cause = cause.__cause__
    return f"the connection failed ({type(error).__name__})"


def _certificate_error(url: str) -> SourceError:
    return SourceError(
        f"the certificate of {urlsplit(url).hostname} is invalid: correct it, or add its authority to the certificates"
        " of this system"
    )


def _target(method: str, url: str) -> str:
    """Return a request as messages name it: without query and user, because they may contain a secret."""
    parts = urlsplit(url)
    return f"{method} {parts.netloc.rpartition('@')[2]}{parts.path}"

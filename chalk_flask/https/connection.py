"""HTTP/1.1 connection on urllib3, with one deadline for all steps and upper limits on the bytes of a response.

urllib3 writes requests, reads responses and verifies certificates. It resolves no name here: the caller passes the
addresses to which it may connect. The name is used for SNI and the certificate. Redirects, proxies and retries are
features of the pools of urllib3, which this module does not use.
"""

from __future__ import annotations

import http.client
import io
import logging
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from urllib3 import HTTPHeaderDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse
from urllib3.util import SKIP_HEADER

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["Connection", "Deadline", "HttpRequest", "HttpResponse", "InvalidResponseError"]

MAX_HEAD_BYTES: Final = 32 * 1024
"""Upper limit of the status line and the headers of a response."""
MAX_CHUNK_HEADER_BYTES: Final = 15 * 1024
"""Upper limit of the received bytes of a body beyond those that are returned, such as headers of chunks."""
_TRUNCATED: Final = "the response ended early"
_HEAD_TOO_LARGE: Final = "the response headers are too large"
_NOT_HTTP: Final = "the response is not HTTP"

_TCP_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
"""None on systems without this option."""

# The library logs URLs, which may contain secrets.
logging.getLogger("urllib3").setLevel(logging.CRITICAL + 1)


class InvalidResponseError(http.client.HTTPException):
    """Error for a response that is too large, truncated or not HTTP. The message contains the reason."""


class Deadline:
    """Point in time by which all steps of an exchange must end."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds until the deadline, more than 0. Raises TimeoutError after it."""
        remaining = self._end - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the deadline has passed")
        return remaining


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """Request: method, path with query, headers with `Host`, and body."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """Response with the beginning of its body. `reusable` is True if the connection can send another request."""

    status: int
    body: bytes
    headers: HTTPHeaderDict
    reusable: bool


class Connection:
    """Open connection. Methods raise OSError (TimeoutError, SSLError, ...) if the network fails. Not thread-safe."""

    def __init__(self, connected: HTTPConnection) -> None:
        assert connected.sock is not None
        self._http = connected
        self._socket = connected.sock = _LimitedSocket(connected.sock)
        self._http.auto_open = 0
        self.response_started = False
        """True if at least one byte of the response to the last request arrived."""

    @classmethod
    def open(
        cls,
        host: str,
        addresses: Sequence[tuple[str, int]],
        deadline: Deadline,
        ssl_context: ssl.SSLContext | None,
    ) -> Connection:
        """Connect to the first address that can be reached; with `ssl_context` verify that it is `host`."""
        if ssl_context is None:
            connection: HTTPConnection = _HttpConnection(host, addresses[0][1])
        else:
            connection = _HttpsConnection(host, addresses[0][1], ssl_context=ssl_context)
        assert isinstance(connection, _AddressConnection)
        connection.addresses, connection.deadline = addresses, deadline
        try:
            connection.connect()
            return cls(connection)
        except BaseException:
            connection.close()
            raise

    def is_quiet(self) -> bool:
        """Return True if nothing waits to be read: neither unexpected bytes nor the end of the connection."""
        return self._http.is_connected

    def exchange(self, request: HttpRequest, max_body_bytes: int, deadline: Deadline) -> HttpResponse:
        """Send a whole request and return the response with at most `max_body_bytes` of its body.

        Follows no redirect, and decodes no content encoding. Raises also InvalidResponseError and
        http.client.HTTPException.
        """
        self.response_started = False
        self._socket.begin_exchange(deadline)
        send_error = self._send(request)
        try:
            return self._read(max_body_bytes, is_complete=send_error is None)
        except ConnectionError as error:
            raise send_error or error from None
        except ValueError as error:  # raised by the library for a negative chunk size
            raise InvalidResponseError(_NOT_HTTP) from error
        finally:
            self.response_started = self._socket.received > 0

    def close(self) -> None:
        """Close the connection at once."""
        self._http.close()
        self._socket.close()

    def _send(self, request: HttpRequest) -> ConnectionError | None:
        """Send a request; return the error if the receiver closed the connection.

        The receiver may have sent a response before it closed, such as 413 for a large body.
        """
        headers = {"User-Agent": SKIP_HEADER, "Accept-Encoding": "identity", **request.headers}
        try:
            self._http.request(
                request.method, request.path, request.body, headers, preload_content=False, decode_content=False
            )
            self._socket.flush()
        except ConnectionError as error:
            return error
        return None

    def _read(self, max_body_bytes: int, *, is_complete: bool) -> HttpResponse:
        try:
            response = self._http.getresponse()
        except http.client.HTTPException as error:
            # The library raises the base class itself for too many headers.
            if type(error) in (http.client.HTTPException, http.client.LineTooLong):
                raise InvalidResponseError(_HEAD_TOO_LARGE) from error
            raise
        try:
            if self._socket.at_end:  # the library accepts truncated headers
                raise InvalidResponseError(_TRUNCATED)
            body = self._read_body(response, max_body_bytes)
            # Another response follows an interim one. The library closes a connection that ends with its response.
            reusable = is_complete and response.closed and not self._http.is_closed and response.status >= 200
            return HttpResponse(response.status, body[:max_body_bytes], response.headers, reusable)
        finally:
            response.close()

    def _read_body(self, response: BaseHTTPResponse, max_body_bytes: int) -> bytes:
        self._socket.allow(max_body_bytes + MAX_CHUNK_HEADER_BYTES, "the response chunks are too small")
        length = response.length_remaining
        # With chunks, one byte more shows if the body ends.
        size = max_body_bytes + 1 if length is None else min(length, max_body_bytes)
        try:
            body = response.read(size or 1)  # an empty body ends only when something is read
        except HTTPError as error:  # the library wraps errors of the network
            cause = error.__cause__ or error.__context__
            if isinstance(cause, (OSError, InvalidResponseError)):
                raise cause from None
            raise InvalidResponseError(
                _TRUNCATED if isinstance(cause, http.client.IncompleteRead) else _NOT_HTTP
            ) from error
        if length is not None and len(body) < size:
            raise InvalidResponseError(_TRUNCATED)
        return body


class _AddressConnection(HTTPConnection):
    """Connection of the library to given addresses instead of those of its host name."""

    addresses: Sequence[tuple[str, int]]
    deadline: Deadline

    def _new_conn(self) -> socket.socket:
        """Return a connected socket. Its timeout applies to the TLS handshake as a whole."""
        connected = _connect(self.addresses, self.deadline)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.settimeout(self.deadline.remaining())
        return connected


class _HttpConnection(_AddressConnection):
    """Connection without TLS."""


class _HttpsConnection(_AddressConnection, HTTPSConnection):
    """Connection with TLS, which verifies the certificate for its host name."""


class _LimitedSocket:
    """Connected socket for the library, with a deadline and an upper limit on received bytes for each exchange."""

    def __init__(self, connected: Any) -> None:
        self._socket: socket.socket = connected
        self.deadline = Deadline(0)
        self._unsent: list[ReadableBuffer] = []
        self._max_received, self._error_text = 0, ""
        self.received, self.at_end = 0, False

    def begin_exchange(self, deadline: Deadline) -> None:
        """Set the deadline of the next request and its response."""
        self.deadline, self.received, self.at_end = deadline, 0, False
        self._unsent.clear()
        self.allow(MAX_HEAD_BYTES, _HEAD_TOO_LARGE)

    def allow(self, max_bytes: int, error_text: str) -> None:
        """Allow this number of further bytes; more of them raise InvalidResponseError with this message."""
        self._max_received, self._error_text = self.received + max_bytes, error_text

    def check_limit(self) -> None:
        """Raise InvalidResponseError if no further byte is allowed."""
        if self.received >= self._max_received:
            raise InvalidResponseError(self._error_text)

    def fileno(self) -> int:
        """Return the descriptor, with which the library asks if something can be read."""
        return self._socket.fileno()

    def settimeout(self, timeout: float | None) -> None:
        """Ignore the timeout of the library for single reads."""

    def sendall(self, data: ReadableBuffer) -> None:
        """Keep bytes for `flush`. The library sends head and body separately, which would take two packets."""
        self._unsent.append(data)

    def flush(self) -> None:
        """Send all bytes of the request before the deadline."""
        unsent = memoryview(b"".join(self._unsent))
        self._unsent.clear()
        while unsent:
            self._socket.settimeout(self.deadline.remaining())
            unsent = unsent[self._socket.send(unsent) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return a buffered reader of the response."""
        return io.BufferedReader(_ResponseSource(self, self._socket))

    def close(self) -> None:
        """Close the socket. A reader of the response can go on."""
        self._socket.close()


class _ResponseSource(io.RawIOBase):
    """Bytes from a socket, with the limits of the exchange."""

    def __init__(self, limits: _LimitedSocket, connected: socket.socket) -> None:
        self._limits, self._socket = limits, connected
        self._raw = cast(io.RawIOBase, connected.makefile("rb", buffering=0))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._limits.check_limit()
        self._socket.settimeout(self._limits.deadline.remaining())
        _acknowledge_at_once(self._socket)
        count = self._raw.readinto(buffer) or 0
        self._limits.received += count
        self._limits.at_end = count == 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _acknowledge_at_once(connected: socket.socket) -> None:
    """Switch delayed acknowledgments off for the next read; the system switches them on again by itself.

    A receiver that sends head and body separately waits for the acknowledgment of the head, which the system would
    delay by 40 ms.
    """
    if _TCP_QUICKACK is not None:
        connected.setsockopt(socket.IPPROTO_TCP, _TCP_QUICKACK, 1)


def _connect(addresses: Sequence[tuple[str, int]], deadline: Deadline) -> socket.socket:
    last_error: OSError | None = None
    for index, address in enumerate(addresses):
        try:
            # Divide the remaining time, so that an address that does not respond leaves time for the next ones.
            return socket.create_connection(address, deadline.remaining() / (len(addresses) - index))
        except OSError as error:
            last_error = error
    raise last_error or OSError("there is no address")

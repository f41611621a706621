"""HTTP/1.1 connection with one deadline for all steps and an upper limit on the bytes of a response."""

from __future__ import annotations

import http.client
import io
import select
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Connection", "Deadline", "InvalidResponseError", "Response"]

MAX_HEAD_BYTES: Final = 32 * 1024
"""Upper limit of the status line and the headers of a response."""
MAX_BODY_BYTES_RECEIVED: Final = 16 * 1024
"""Upper limit of the received bytes of a body, chunk headers included."""
_TRUNCATED: Final = "the response ended early"
_HEAD_TOO_LARGE: Final = "the response headers are too large"

_TCP_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
"""None on systems without this option."""


class InvalidResponseError(Exception):
    """Error for a response that is too large or truncated. The message contains the reason."""


class Deadline:
    """Point in time by which all steps of an attempt must end."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds until the deadline, more than 0. Raises TimeoutError after it."""
        remaining = self._end - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the deadline has passed")
        return remaining


@dataclass(frozen=True, slots=True)
class Response:
    """HTTP response with the beginning of its body. `reusable` is True if the connection can send another request."""

    status: int
    body: bytes
    retry_after: str | None
    reusable: bool


class Connection:
    """Connection to one checked address. Methods raise OSError (TimeoutError, SSLError, ...) if the network fails."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.response_started = False
        """True if at least one byte of the response to the last request arrived."""

    @classmethod
    def open(
        cls,
        addresses: Sequence[tuple[str, int]],
        deadline: Deadline,
        ssl_context: ssl.SSLContext | None,
        hostname: str,
    ) -> Connection:
        """Connect to the first address that can be reached; with `ssl_context` verify that it is `hostname`."""
        connected = _connect(addresses, deadline)
        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if ssl_context is not None:
                connected.settimeout(deadline.remaining())  # for the handshake as a whole
                connected = ssl_context.wrap_socket(connected, server_hostname=hostname)
        except BaseException:
            connected.close()
            raise
        return cls(connected)

    def is_quiet(self) -> bool:
        """Return True if nothing waits to be read: neither unexpected bytes nor the end of the connection."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def exchange(self, message: bytes, max_body_bytes: int, deadline: Deadline) -> Response:
        """Send a whole request and return the response with at most `max_body_bytes` of its body.

        Raises also InvalidResponseError and http.client.HTTPException.
        """
        self.response_started = False
        send_error = self._send(message, deadline)
        source = _ResponseSource(self._socket, deadline)
        http_response = http.client.HTTPResponse(cast(socket.socket, source), method="POST")
        try:
            response = self._read(http_response, source, max_body_bytes)
        except ConnectionError as error:
            raise send_error or error from None
        except ValueError as error:  # raised by the library for a negative chunk size
            raise InvalidResponseError("the response is not HTTP") from error
        finally:
            self.response_started = source.received > 0
            http_response.close()
        return response if send_error is None else replace(response, reusable=False)

    def close(self) -> None:
        """Close the connection at once."""
        self._socket.close()

    def _send(self, message: bytes, deadline: Deadline) -> ConnectionError | None:
        """Send a request; return the error if the receiver closed the connection.

        The receiver may have sent a response before it closed, such as 413 for a large body.
        """
        unsent = memoryview(message)
        try:
            while unsent:
                self._socket.settimeout(deadline.remaining())
                unsent = unsent[self._socket.send(unsent) :]
        except ConnectionError as error:
            return error
        return None

    def _read(self, http_response: http.client.HTTPResponse, source: _ResponseSource, max_body_bytes: int) -> Response:
        source.set_limit(MAX_HEAD_BYTES, _HEAD_TOO_LARGE)
        try:
            http_response.begin()
        except http.client.HTTPException as error:
            # The library raises the base class itself for too many headers.
            if type(error) in (http.client.HTTPException, http.client.LineTooLong):
                raise InvalidResponseError(_HEAD_TOO_LARGE) from error
            raise
        if source.at_end:  # the library accepts truncated headers
            raise InvalidResponseError(_TRUNCATED)
        body = self._read_body(http_response, source, max_body_bytes)
        # Another response follows an interim one.
        final = http_response.status >= 200
        reusable = http_response.isclosed() and not http_response.will_close and final
        return Response(http_response.status, body[:max_body_bytes], http_response.headers.get("Retry-After"), reusable)

    def _read_body(
        self, http_response: http.client.HTTPResponse, source: _ResponseSource, max_body_bytes: int
    ) -> bytes:
        source.set_limit(MAX_BODY_BYTES_RECEIVED, "the response chunks are too small")
        # With chunks, one byte more shows if the body ends.
        size = max_body_bytes + 1 if http_response.length is None else min(http_response.length, max_body_bytes)
        try:
            body = http_response.read(size)
        except http.client.IncompleteRead as error:
            raise InvalidResponseError(_TRUNCATED) from error
        if http_response.length is not None and len(body) < size:
            raise InvalidResponseError(_TRUNCATED)
        return body


class _ResponseSource(io.RawIOBase):
    """Bytes from a socket as a file for HTTPResponse, with a deadline and an upper limit."""

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket, self._deadline = connected, deadline
        self._max_received, self._error_text = 0, ""
        self.received, self.at_end = 0, False

    def set_limit(self, max_bytes: int, error_text: str) -> None:
        """Allow this number of further bytes; more of them raise InvalidResponseError with this message."""
        self._max_received, self._error_text = self.received + max_bytes, error_text

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return a buffered reader, as HTTPResponse requests from a socket."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self.received >= self._max_received:
            raise InvalidResponseError(self._error_text)
        self._socket.settimeout(self._deadline.remaining())
        _acknowledge_at_once(self._socket)
        count = self._socket.recv_into(buffer)
        self.received += count
        self.at_end = count == 0
        return count


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
            # An address that does not respond leaves time for the next ones.
            return socket.create_connection(address, deadline.remaining() / (len(addresses) - index))
        except OSError as error:
            last_error = error
    raise last_error or OSError("there is no address")

"""A connection on which every step ends by one deadline, and an answer costs no more bytes than it may."""

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

HEAD: Final = 32 * 1024
"""The most bytes that the status and the headers of an answer may take."""
_FRAMES = 16 * 1024
_ENDED = "the answer ended early"
_LARGE = "the headers of the answer are too large"


class InvalidResponseError(Exception):
    """An answer came, but it is too large or it is cut off; the message says which."""


class Deadline:
    """A moment by which something must have ended."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """The seconds until then, more than 0. Raises TimeoutError when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline is over")
        return left


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: its status, the beginning of its body, Retry-After, and whether the connection may be used again."""

    status: int
    body: bytes
    retry_after: str | None
    reusable: bool


_QUICK: int | None = getattr(socket, "TCP_QUICKACK", None)
"""Not every system has it."""


class Connection:
    """A connection to one checked address. Every method that fails raises OSError, as TimeoutError and SSLError are."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.answered = False
        """Whether any byte of an answer to the last message has come."""

    @classmethod
    def to(
        cls, addresses: Sequence[tuple[str, int]], deadline: Deadline, context: ssl.SSLContext | None, name: str
    ) -> Connection:
        """Connect to the first of these addresses that can be reached, and prove with `context` that it is `name`."""
        connected = _connected(addresses, deadline)
        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                connected.settimeout(deadline.left())  # for the handshake as a whole
                connected = context.wrap_socket(connected, server_hostname=name)
        except BaseException:
            connected.close()
            raise
        return cls(connected)

    def quiet(self) -> bool:
        """Whether nothing waits to be read: neither the end of the connection nor what nobody asked for."""
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        return not waiting.poll(0)

    def exchange(self, message: bytes, most: int, deadline: Deadline) -> Response:
        """Send a whole request and read the answer, of whose body no more than `most` bytes.

        Raises also InvalidResponseError and http.client.HTTPException.
        """
        self.answered = False
        unsent = self._send(message, deadline)
        source = _Source(self._socket, deadline)
        answer = http.client.HTTPResponse(cast(socket.socket, source), method="POST")
        try:
            received = self._read(answer, source, most)
        except ConnectionError as error:
            raise unsent or error from None
        except ValueError as error:  # as the library says it when a chunk has less than no bytes
            raise InvalidResponseError("the answer is not HTTP") from error
        finally:
            self.answered = source.received > 0
            answer.close()
        return received if unsent is None else replace(received, reusable=False)

    def close(self) -> None:
        """Close it at once."""
        self._socket.close()

    def _send(self, message: bytes, deadline: Deadline) -> ConnectionError | None:
        """Send it; what is returned ended that early. Who closes on a large body may have said why before (413)."""
        rest = memoryview(message)
        try:
            while rest:
                self._socket.settimeout(deadline.left())
                rest = rest[self._socket.send(rest) :]
        except ConnectionError as error:
            return error
        return None

    def _read(self, answer: http.client.HTTPResponse, source: _Source, most: int) -> Response:
        source.allow(HEAD, _LARGE)
        try:
            answer.begin()
        except http.client.HTTPException as error:
            # Too many lines are told by the class of all such errors.
            if type(error) in (http.client.HTTPException, http.client.LineTooLong):
                raise InvalidResponseError(_LARGE) from error
            raise
        if source.ended:  # the library takes headers that are cut off for whole ones
            raise InvalidResponseError(_ENDED)
        body = self._body(answer, source, most)
        # An interim answer has another behind it.
        whole = answer.isclosed() and not answer.will_close and answer.status >= 200
        return Response(answer.status, body[:most], answer.headers.get("Retry-After"), whole)

    def _body(self, answer: http.client.HTTPResponse, source: _Source, most: int) -> bytes:
        source.allow(_FRAMES, "the chunks of the answer are too small")
        # Of chunks, one byte more shows whether there is an end.
        wanted = most + 1 if answer.length is None else min(answer.length, most)
        try:
            body = answer.read(wanted)
        except http.client.IncompleteRead as error:
            raise InvalidResponseError(_ENDED) from error
        if answer.length is not None and len(body) < wanted:
            raise InvalidResponseError(_ENDED)
        return body


class _Source(io.RawIOBase):
    """What a socket receives, as the file that an HTTPResponse wants: by a deadline, and not more than is allowed."""

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket, self._deadline = connected, deadline
        self._most, self._else = 0, ""
        self.received, self.ended = 0, False

    def allow(self, more: int, otherwise: str) -> None:
        """Let so many bytes come from now on; beyond them InvalidResponseError is raised with these words."""
        self._most, self._else = self.received + more, otherwise

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self.received >= self._most:
            raise InvalidResponseError(self._else)
        self._socket.settimeout(self._deadline.left())
        _acknowledge_at_once(self._socket)
        count = self._socket.recv_into(buffer)
        self.received += count
        self.ended = count == 0
        return count


def _acknowledge_at_once(connected: socket.socket) -> None:
    """A receiver that sends head and body apart waits with the body until the head is acknowledged, which the system
    would put off for 40 ms. It falls back to that by itself, so this is said before each read."""
    if _QUICK is not None:
        connected.setsockopt(socket.IPPROTO_TCP, _QUICK, 1)


def _connected(addresses: Sequence[tuple[str, int]], deadline: Deadline) -> socket.socket:
    failed: OSError | None = None
    for number, address in enumerate(addresses):
        try:
            # One that does not answer leaves time for those behind it.
            return socket.create_connection(address, deadline.left() / (len(addresses) - number))
        except OSError as error:
            failed = error
    raise failed or OSError("there is no address")

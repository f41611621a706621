"""Channel that sends the head of a response together with its first block, and parks responses.

Its times are those of `time.monotonic`, in seconds. The server loop reads them to enforce the deadlines.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.task import WSGITask
from waitress.utilities import build_http_date

from backends import StorageError, WaitRequired, immediate_reads
from chalk_flask.server.dispatcher import Shares
from chalk_flask.server.large_bodies import BODY_REJECTED_KEY, Admission, RequestHead
from chalk_flask.server.loop_requests import IN_LOOP_KEY, MAX_LOOP_SECONDS, ThreadRequired
from chalk_flask.server.parked_response import OUTPUT_BUFFER_BYTES, TASK_KEY, Parked, abandon
from chalk_flask.server.request_parser import JsonErrorTask, LastHead, OverloadError, Parser
from chalk_flask.tracebacks import error_location

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalk_flask.server.listener import Listener

__all__ = ["Channel", "SendingChannel", "Task", "is_in_loop", "served_channel"]

log = logging.getLogger(__name__)

RESUME_BYTES = OUTPUT_BUFFER_BYTES // 2
"""Size of buffered output below which a parked stream goes on."""

_STATUSES_WITHOUT_BODY = ("1", "204", "304")


class _Thread(threading.local):
    channel: Channel | None = None
    """Connection whose request the thread runs."""
    is_loop = False
    """True if the thread is that of the server loop, while it runs a request."""


_thread = _Thread()


class SendingChannel(HTTPChannel):
    """Connection that buffers only what the socket does not accept at once.

    waitress copies every block into a buffer first. `head` is sent in front of the next block.
    """

    socket: Any
    head: bytes = b""
    sending_since: float = 0.0
    """Time at which output of the current response was buffered first; 0 if there was none."""
    last_sent: float = 0.0
    """Time at which the client last accepted output that was buffered, or at which it was buffered."""

    def write_soon(self, data: Any) -> int:
        """Send a block and return its length. Raises ClientDisconnected.

        What the socket does not accept is buffered.
        """
        if not self.connected:
            raise ClientDisconnected
        head, self.head = self.head, b""
        if not isinstance(data, bytes):
            self._write(head, b"")
            return super().write_soon(data)  # a file, which waitress sends itself
        self._write(head, data)
        return len(data)

    def send_continue(self) -> None:
        """Send `100 Continue`. It is buffered first, so its time counts from now on."""
        self.last_sent = time.monotonic()
        super().send_continue()

    def handle_write(self) -> None:
        """Send buffered output.

        waitress locks the buffer only during a request. A thread that has ended one can still send `100 Continue`.
        """
        with self.outbuf_lock:
            super().handle_write()

    def _write(self, head: bytes, data: bytes) -> None:
        with self.outbuf_lock:
            if not self.connected:  # the client may have disconnected meanwhile
                raise ClientDisconnected
            sent = 0 if self.total_outbufs_len else self._send(head, data)
            if sent:
                self.last_activity = time.time()
            if sent == len(head) + len(data):
                return
            self.last_sent = time.monotonic()
            self.sending_since = self.sending_since or self.last_sent
        super().write_soon(head[sent:] + data[max(sent - len(head), 0) :])

    def _send(self, head: bytes, data: bytes) -> int:
        """Send both with one system call and without a copy. Return the number of bytes that the socket accepts."""
        if not head:
            return self.send(data, do_close=False)
        try:
            return int(self.socket.sendmsg((head, data)))
        except OSError:
            return self.send(head, do_close=False)  # it tells a full socket and a disconnected client from an error


class Task(WSGITask):
    """Response that sends its head with the first block of the body.

    The connection stays open after a response without a body.
    """

    channel: Channel
    request: Parser  # type: ignore[assignment]  # the stubs declare an error
    environ: dict[str, Any] | None
    _has_length = False

    def service(self) -> None:
        """Run the response or its rest. Raises Parked if it goes on later.

        An error after the head ends the connection without an end of the body, so that the client notices it.
        """
        try:
            super().service()
        except Parked:
            self.channel.interrupted = self
            raise
        except ClientDisconnected:
            raise
        except Exception as error:
            if not self.wrote_header:
                raise
            # Messages of other errors may quote personal data.
            is_safe = isinstance(error, (StorageError, TimeoutError))
            log.error("a response broke off: %s", error if is_safe else error_location(error))
            raise ClientDisconnected from error
        if self.status[0] in "23":
            self.channel.note_success()

    def get_environment(self) -> dict[str, Any]:
        """Return the WSGI environment, which is the same for the rest of the response."""
        environ = super().get_environment()
        environ[TASK_KEY] = self
        if _thread.is_loop:
            environ[IN_LOOP_KEY] = True
        request: Any = self.request
        if request.admission and request.admission.rejection:
            environ[BODY_REJECTED_KEY] = request.admission.rejection
        return environ

    @property
    def has_body(self) -> bool:
        """True if waitress must treat the response as one with a body."""
        is_bodiless = self.status.startswith(_STATUSES_WITHOUT_BODY) or self.request.command == "HEAD"
        return self._has_length or not is_bodiless

    def build_response_header(self) -> bytes:
        """Return the head.

        waitress closes the connection after a response without a length. Responses without a body (304, 204, HEAD)
        therefore declare the length 0 while the head is built.
        """
        if self.has_body:
            return self._usual_head() or super().build_response_header()
        declares_length = any(name.lower() == "content-length" for name, _ in self.response_headers)
        self._has_length = True
        try:
            self.content_length = self.content_length or 0
            head = super().build_response_header()
        finally:
            self._has_length = False
        return head if declares_length else head.replace(b"\r\nContent-Length: 0\r\n", b"\r\n", 1)

    def _usual_head(self) -> bytes | None:
        """Return the head of a response of known length on a connection that stays open; None for any other one.

        waitress would correct and sort the headers, which takes several times as long.
        """
        names = dict(self.response_headers)
        if "Content-Length" not in names or "Date" in names or "Server" in names:
            return None
        closes = self.close_on_finish or self.request.headers.get("CONNECTION", "").lower() == "close"
        if closes or self.version != "1.1":
            return None
        lines = "\r\n".join([f"{name}: {value}" for name, value in self.response_headers])
        server_lines = _server_lines(self.channel.server.adj.ident, int(self.start_time))
        return f"HTTP/1.1 {self.status}\r\n{lines}\r\n{server_lines}\r\n\r\n".encode("latin-1")

    def write(self, data: bytes) -> None:
        """Send a block of the body, or only the head if there is no body."""
        if self.complete and not self.wrote_header and data and self.has_body:
            self.channel.head = self.build_response_header()
            self.wrote_header = True
        if self.chunked_response and data and self.has_body:
            self._write_chunk(data)
        else:
            super().write(data)

    def _write_chunk(self, data: bytes) -> None:
        """Send a block without copying it, as waitress would. The line break after it is sent with what follows."""
        self.channel.head += b"%X\r\n" % len(data)
        self.channel.write_soon(data)
        self.channel.head = b"\r\n"

    def finish(self) -> None:
        """Finish the response, and send the head of one without a body."""
        super().finish()
        if self.channel.head:
            self.channel.write_soon(b"")


@lru_cache(maxsize=8)
def _server_lines(ident: str, second: int) -> str:
    """Return the headers that name the server and the time."""
    return f"Server: {ident}\r\nDate: {build_http_date(second)}"


class Channel(SendingChannel):
    """Connection that can park its response, and whose times the server loop compares with the deadlines.

    It is closed or resumed by the server loop. A thread of the dispatcher runs `service`.
    """

    error_task_class: Any = JsonErrorTask
    server: Listener
    request: Parser | None

    interrupted: Task | None = None
    """Response whose rest `service` runs next."""
    network: str = ""
    """Address or network of the client; empty if the other end is a proxy of many clients."""
    credential: str = ""
    """Key of the credential of the last request; empty without one."""
    shares: Shares = ()
    """Keys of the client of the last request, each with the threads that it can use."""
    last_head: LastHead
    """Headers that the next request probably repeats."""
    identified_headers: Mapping[str, str] | None = None
    """Headers for which `read_shares` and `search_shares` were computed."""
    read_shares: Shares = ()
    """Shares of the client for requests that neither filter nor sort."""
    search_shares: Shares = ()
    """Shares of the client for other requests."""
    kind: str = ""
    """Kind of the next request, or of the one in progress, with its credential; empty if only a thread may run it."""
    has_succeeded = False
    """True if a request was successful, so the client probably has a credential."""
    response_count = 0
    idle_since: float = 0.0
    """Time of the last response, of the start of the request in progress, or of the connection."""
    _is_parked = False
    _is_held = False
    """True if a pipelined request waits until its client has read the earlier responses."""

    def task_class(self, _channel: object, request: Any) -> Task:  # type: ignore[override]  # see below
        """Return the interrupted response of the request, or a new one. waitress calls this as a class."""
        task, self.interrupted = self.interrupted, None
        return task or Task(self, request)

    def parser_class(self, adj: Any) -> Parser:  # type: ignore[override]  # see below
        """Return a new parser. waitress calls this as a class."""
        return Parser(adj, self.last_head, self._admit_large_body)

    def must_park(self) -> bool:
        """Return True if a stream must make room: the client does not read, or others wait for a thread."""
        return self.total_outbufs_len > OUTPUT_BUFFER_BYTES or self.server.task_dispatcher.must_make_room

    def service(self) -> None:
        """Run a request, or the rest of a response, until it ends or is parked."""
        interrupted = self.interrupted
        _thread.channel = self
        # The loop may rank this connection after the response was sent, and before the end of this method.
        self.idle_since = time.monotonic()
        try:
            super().service()
        except Parked as parked:
            self._record_long()
            self._park(is_waiting=parked.is_waiting)
        else:
            if interrupted:
                abandon(interrupted.environ)  # it did not go on if the client has disconnected
            self._end_response()
        finally:
            _thread.channel = None

    def serve_in_loop(self) -> bool:
        """Run a request in the server loop. Return False if it had no effect and a thread must run it."""
        _thread.is_loop = True
        try:
            with immediate_reads(MAX_LOOP_SECONDS):
                self.service()
        except (ThreadRequired, WaitRequired):
            self._record_long()
            return False
        except Exception as error:  # noqa: BLE001 - the loop must go on
            log.error("a request in the server loop failed: %s", error_location(error))
            self.handle_close()
        finally:
            _thread.is_loop = False
        return True

    def note_success(self) -> None:
        """Record that a request was successful, and the time that it took."""
        self.has_succeeded = True
        if self.kind:
            self.server.loop_queue.kinds.record(self.kind, time.monotonic() - self.idle_since)

    def _record_long(self) -> None:
        kind, self.kind = self.kind, ""
        if kind:
            self.server.loop_queue.kinds.record_long(kind)

    def reject_overload(self) -> None:
        """Answer the next request with 503 instead of running it."""
        self.requests[0].error = OverloadError("no thread was free in time")

    def hold_if_unread(self) -> bool:
        """Let the next request wait if the client has yet to read much of the earlier responses. Return True if so.

        The loop queues the request when its client has read most of them.
        """
        if self.total_outbufs_len <= OUTPUT_BUFFER_BYTES:
            return False  # without a running response, nothing adds to the buffer, so this needs no lock
        with self.outbuf_lock:
            self._is_held = self.connected and self.total_outbufs_len > OUTPUT_BUFFER_BYTES
            if self._is_held:
                self.server.pull_trigger()
            return self._is_held

    def _flush_outbufs_below_high_watermark(self) -> None:
        """Do nothing, where waitress lets the thread wait for the client.

        A stream parks and a pipelined request is held before the buffer grows by more than a block.
        """

    def _end_response(self) -> None:
        self.response_count += 1
        self.idle_since = time.monotonic()
        if not self.total_outbufs_len:
            self.sending_since = 0.0
        if (request := self.request) is not None:
            request.started = self.idle_since  # until now the client could not send its rest

    def _park(self, *, is_waiting: bool) -> None:
        with self.outbuf_lock:
            self._is_parked = True
            if is_waiting:
                self.server.wait_for_application(self)
            elif self.total_outbufs_len > RESUME_BYTES and self.connected:
                self.server.pull_trigger()  # the loop sends the rest and resumes the response
            else:
                self.resume()
            if not self.connected:
                self.resume()

    def is_abandoned(self) -> bool:
        """Return True if the response is parked and the client has closed its end of the connection.

        The server does not read from a connection with a request, so it would notice that only when it sends.
        """
        if not (self._is_parked and self.connected):
            return False
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)  # it never waits, because the socket does not block
        except BlockingIOError:
            return False
        except OSError:
            return True

    def resume(self) -> None:
        """Queue the rest of a parked response; does nothing if it is not parked."""
        with self.outbuf_lock:
            is_parked, self._is_parked = self._is_parked, False
        if is_parked:
            self.server.task_dispatcher.resume_task(self, self.shares)

    def handle_write(self) -> None:
        """Send buffered output, and resume the response once little is left."""
        before = self.total_outbufs_len
        super().handle_write()
        if self.total_outbufs_len < before:
            self.last_sent = time.monotonic()
        if not self.total_outbufs_len and not self.requests:
            self.sending_since = 0.0
        if self.total_outbufs_len <= RESUME_BYTES:
            if self._is_parked:
                self.resume()
            if self._is_held:
                self._is_held = False
                self.server.add_task(self)

    def handle_close(self) -> None:
        """Close the connection. A thread ends its parked response."""
        super().handle_close()
        if self.request is not None:
            self.request.close()
        self.resume()

    def cancel(self) -> None:
        """End the connection and its response, because the server stops."""
        super().cancel()
        if self.interrupted:
            abandon(self.interrupted.environ)

    def _admit_large_body(self, request: Any) -> Admission | None:
        address = self.server.client_network_of(self, request.headers)
        head = RequestHead(request.command.upper(), request.path, request.headers, address)
        return self.server.large_bodies.admit(head, request.content_length)

    def add_channel(self, map: Any = None) -> None:  # noqa: A002 - as in waitress
        """Open the connection. The listener counts it, once its address is known."""
        super().add_channel(map)
        self.last_head = LastHead()
        self.idle_since = time.monotonic()

    def del_channel(self, map: Any = None) -> None:  # noqa: A002 - as in waitress
        """Stop counting the connection."""
        super().del_channel(map)
        self.server.connections.remove(self)


def served_channel() -> Channel | None:
    """Return the connection whose request the current thread runs."""
    return _thread.channel


def is_in_loop() -> bool:
    """Return True if the current thread is that of the server loop, and runs a request."""
    return _thread.is_loop

"""Server on waitress: one process, a pool of threads, and a graceful shutdown."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from wsgiref.types import WSGIApplication

from waitress import wasyncore
from waitress.adjustments import Adjustments

from chalk_flask.server.connection_channel import Channel
from chalk_flask.server.connection_limits import Connections
from chalk_flask.server.descriptors import reserve_descriptors
from chalk_flask.server.dispatcher import SHORT_REQUEST_SECONDS, ShortRequestFirstDispatcher
from chalk_flask.server.large_bodies import BodyLimit, LargeBodies
from chalk_flask.server.listener import APPLICATION_POLL_SECONDS, Listener, PolledResponses, StandbyListeners
from chalk_flask.server.loop_requests import ClassifyRequest, LoopQueue
from chalk_flask.server.parked_response import OUTPUT_BUFFER_BYTES
from chalk_flask.server.socket_map import make_socket_map
from chalk_flask.settings import Settings

__all__ = ["BACKLOG", "SHUTDOWN_SECONDS", "BindError", "listen", "local_url", "serve"]

SHUTDOWN_SECONDS = 30.0
"""Maximum time for active requests to finish after a stop signal."""

THREAD_SWITCH_SECONDS = 0.0005
"""Interval at which Python switches threads.

Python's default is ten times longer. The thread that reads sockets would then delay a short request until the
dispatcher treats it as a long one.
"""

BACKLOG = 1024
MAX_REQUEST_BODY_BYTES = 1048576
MAX_REQUEST_HEAD_BYTES = 65536
DEADLINE_CHECK_SECONDS = 1.0
UNAVAILABLE_ERRNOS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
LOCAL_ADDRESSES = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}


class BindError(Exception):
    """Error of listening on a host and port; the message contains the reason and the settings to change."""


def serve(
    app: WSGIApplication,
    settings: Settings,
    ready: Callable[[str], None] | None = None,
    body_limit: BodyLimit | None = None,
    on_stop: Callable[[int], None] | None = None,
    *,
    on_check: Callable[[], None] | None = None,
    listeners: Sequence[socket.socket] = (),
    standby: StandbyListeners | None = None,
    classify_request: ClassifyRequest | None = None,
    watch_commits: Callable[[Callable[[], None]], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then let active requests finish within SHUTDOWN_SECONDS and return.

    `ready` is called once connections are accepted, with the URL, for example http://127.0.0.1:8080; with port 0 it
    contains the port that was chosen. `body_limit` decides about bodies that are larger than 1 MiB; without it, they
    are rejected. `on_stop` is called with the number of the signal, before active requests are completed. A second
    signal stops at once. `on_check` is called about once per second by the loop that reads the sockets. `listeners` are
    sockets that listen already, and `standby` those of other processes; all are closed. Call this in the main thread,
    which receives the signals. With `classify_request`, this thread runs loop requests itself, see
    `chalk_flask.server.loop_requests`. `watch_commits` is called with a function that resumes responses which wait for
    a commit; the store calls it after commits. Raises BindError.
    """
    sys.setswitchinterval(THREAD_SWITCH_SECONDS)
    listeners = listeners or listen(settings.host, settings.port)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # otherwise it warns of every queued request
    connections = Connections(settings, reserve_descriptors(settings.connection_limit))
    dispatcher = ShortRequestFirstDispatcher()
    dispatcher.set_thread_count(settings.threads)
    loop = _Loop(dispatcher, connections, classify_request, on_check, standby)
    adjustments = Adjustments(**_adjustments(settings))
    large_bodies = LargeBodies(body_limit)

    def make_listener(listener: socket.socket) -> Listener:
        return Listener(
            app,
            settings,
            listener,
            adjustments,
            loop.sockets,
            dispatcher,
            connections,
            loop.waiting,
            large_bodies,
            loop.loop_queue,
        )

    for listener in listeners:
        make_listener(listener)
    if standby is not None:
        standby.open(make_listener)
    loop.waiting.open(_listeners(loop.sockets)[0].wake_loop)
    if watch_commits is not None:
        watch_commits(loop.waiting.wake)
    try:
        with _signals(loop.sockets) as received:
            if ready:
                ready(local_url(settings.host, listeners[0].getsockname()[1]))
            while not received:
                loop.run_once()
            if on_stop:
                on_stop(received[0])
            if standby is not None:
                standby.close()
            _drain(loop, received)
    finally:
        loop.waiting.close()
        dispatcher.shutdown()
        loop.sockets.close()


class _Loop:
    """Loop over all sockets: it receives and sends, enforces deadlines and limits, and resumes parked responses.

    It runs loop requests too.
    """

    def __init__(
        self,
        dispatcher: ShortRequestFirstDispatcher,
        connections: Connections,
        classify_request: ClassifyRequest | None,
        on_check: Callable[[], None] | None = None,
        standby: StandbyListeners | None = None,
    ) -> None:
        self._on_check, self._standby = on_check, standby
        self.sockets = make_socket_map()
        self.waiting = PolledResponses()
        self.loop_queue = LoopQueue(dispatcher, self.sockets, classify_request)
        self._dispatcher = dispatcher
        self._connections = connections
        self._next_check = 0.0

    def run_once(self, timeout: float = DEADLINE_CHECK_SECONDS) -> None:
        """Wait for events, at most for `timeout` seconds, and handle them."""
        if self.waiting.channels:
            timeout = min(timeout, APPLICATION_POLL_SECONDS)
        if self._dispatcher.is_busy:
            timeout = min(timeout, SHORT_REQUEST_SECONDS)
            if self._dispatcher.has_queued_requests:
                self._dispatcher.wake_if_all_long()
        self.sockets.handle_events(0 if self.loop_queue else timeout)
        if self.loop_queue:
            self.loop_queue.run()
        if self._connections.crowded:
            self._connections.make_room()
        if self.waiting.channels:
            self.waiting.resume_due()
        if self._standby is not None and self._standby.has_changed:
            self._standby.apply()
        if time.monotonic() >= self._next_check:
            self._connections.close_overdue()
            self._next_check = time.monotonic() + DEADLINE_CHECK_SECONDS
            if self._on_check is not None:
                self._on_check()


def _adjustments(settings: Settings) -> dict[str, Any]:
    return {
        "threads": settings.threads,
        "backlog": BACKLOG,
        # The rest of a large response waits in SQLite, not in memory, until the client has read what was sent.
        "outbuf_high_watermark": OUTPUT_BUFFER_BYTES,
        "max_request_header_size": MAX_REQUEST_HEAD_BYTES,
        "max_request_body_size": MAX_REQUEST_BODY_BYTES,  # waitress accepts 1 GiB by default
        "asyncore_use_poll": True,  # select() is limited to 1024 descriptors
        # ForwardedHeaders does that if there is a trusted proxy. The application does not read X-Forwarded-* headers.
        "clear_untrusted_proxy_headers": False,
        "ident": "chalk-flask",
    }


def listen(host: str, port: int, *, shares_port: bool = False) -> list[socket.socket]:
    """Return a listening socket for each address of the host. Raises BindError if there is none.

    One socket is enough, because a machine without IPv6 may still resolve its own name to ::1. With `shares_port`,
    other sockets with SO_REUSEPORT can listen on the same address later. Now the address must be free.
    """
    listeners: list[socket.socket] = []
    failure: OSError | None = None
    for family, address in _addresses(host, port):
        try:
            # With port 0, the first address chooses the port and the others share it.
            actual_port = port or (listeners[0].getsockname()[1] if listeners else 0)
            listeners.append(_listen_at((address, actual_port), family, shares_port))
        except OSError as error:
            failure = error
            if error.errno not in UNAVAILABLE_ERRNOS:
                break
    if listeners and (failure is None or failure.errno in UNAVAILABLE_ERRNOS):
        return listeners
    for listener in listeners:
        listener.close()
    raise _bind_error(host, port, os.strerror(failure.errno or 0) if failure else "it has no address") from failure


def _listen_at(address: tuple[str, int], family: socket.AddressFamily, shares_port: bool) -> socket.socket:
    if not shares_port:
        return socket.create_server(address, family=family, backlog=BACKLOG)
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as create_server does
        listener.bind(address)
        # Set after binding. Otherwise the port of another process with this option would not be in use.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    name = None if host == "*" else host.strip("[]")
    try:
        infos = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a host name"
        raise _bind_error(host, port, reason) from error
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in infos))


def _bind_error(host: str, port: int, reason: str) -> BindError:
    return BindError(
        f"cannot listen on host {host}, port {port}: {reason}; choose others with --host and --port"
        " (CHALK_HOST, CHALK_PORT)"
    )


def local_url(host: str, port: int) -> str:
    """Return the URL at which a service that listens on this host and port is reached from the same machine."""
    name = LOCAL_ADDRESSES.get(host.strip("[]"), f"[{host.strip('[]')}]" if ":" in host else host)
    return f"http://{name}:{port}"


@contextmanager
def _signals(sockets: dict[int, Any]) -> Iterator[list[int]]:
    """Yield a list to which SIGTERM and SIGINT are appended when they arrive; restore their handlers at the end."""
    received: list[int] = []
    server = _listeners(sockets)[0]

    def on_signal(number: int, _: object) -> None:
        received.append(number)
        with suppress(OSError):
            server.pull_trigger()  # wake the loop, which a signal does not interrupt

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _drain(loop: _Loop, received: list[int]) -> None:
    """Stop accepting, close idle connections and finish the active requests, at most until the deadline.

    A second signal ends this at once. The method `run` of waitress is not used, because it leaves its loop first. That
    would cut off every response that is larger than a socket buffer.
    """
    for server in _listeners(loop.sockets):
        wasyncore.dispatcher.close(server)  # the listening socket alone: the threads still use the trigger
    deadline, checked = time.monotonic() + SHUTDOWN_SECONDS, set[Channel]()
    while (channels := _channels(loop.sockets)) and time.monotonic() < deadline and len(received) < 2:
        idle = [channel for channel in channels if not (channel.requests or channel.total_outbufs_len)]
        for channel in checked.intersection(idle):
            channel.will_close = True
        is_first = not checked.issuperset(idle)
        checked.update(idle)
        loop.sockets.update_all()
        # Each idle connection may have received a request that no event has reported yet, beside the end of another.
        # A thread that ends a response does not wake the loop.
        loop.run_once(timeout=0 if is_first else SHORT_REQUEST_SECONDS)
    for channel in _channels(loop.sockets):
        channel.handle_close()


def _listeners(sockets: dict[int, Any]) -> list[Listener]:
    return [server for server in sockets.values() if isinstance(server, Listener)]


def _channels(sockets: dict[int, Any]) -> list[Channel]:
    return [channel for channel in sockets.values() if isinstance(channel, Channel)]

"""Server on waitress: one process, a pool of threads, and a graceful shutdown."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from wsgiref.types import WSGIApplication

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server

from chalk_flask.server.dispatcher import SHORT_REQUEST_SECONDS, ShortRequestFirstDispatcher
from chalk_flask.server.request_parser import Channel
from chalk_flask.settings import Settings

__all__ = ["BindError", "serve"]

SHUTDOWN_SECONDS = 30.0
"""Maximum time for active requests to finish after a stop signal."""

THREAD_SWITCH_SECONDS = 0.0005
"""Interval at which Python switches threads.

Python's default is ten times longer. The thread that reads sockets would then delay a short request until the
dispatcher treats it as a long one.
"""

BACKLOG = 1024
MAX_REQUEST_BODY_BYTES = 1048576
OUTPUT_BUFFER_BYTES = 262144
FORWARDED_HEADERS = "x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port"
UNAVAILABLE_ERRNOS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
LOCAL_ADDRESSES = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}


class BindError(Exception):
    """Error of listening on a host and port; the message contains the reason and the settings to change."""


def serve(app: WSGIApplication, settings: Settings, ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then let active requests finish within SHUTDOWN_SECONDS and return.

    `ready` is called once connections are accepted, with the URL, for example http://127.0.0.1:8080; with port 0 it
    contains the port that was chosen. A second signal stops at once. Call this in the main thread, which receives the
    signals. Raises BindError.
    """
    sys.setswitchinterval(THREAD_SWITCH_SECONDS)
    listeners = _listen(settings.host, settings.port)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # otherwise it warns of every queued request
    sockets: dict[int, Any] = {}
    dispatcher = ShortRequestFirstDispatcher()
    dispatcher.set_thread_count(settings.threads)
    server = create_server(app, map=sockets, sockets=listeners, _dispatcher=dispatcher, **_adjustments(settings))
    for listener in _listening_servers(sockets):
        listener.channel_class = Channel
    try:
        with _signals(sockets) as received:
            if ready:
                ready(_url(settings.host, listeners[0].getsockname()[1]))
            next_check = 0.0
            while not received:
                _run_once(sockets, dispatcher)
                if time.monotonic() >= next_check:
                    _close_stalled(sockets, settings.channel_timeout)
                    next_check = time.monotonic() + 1
            _drain(sockets, dispatcher, received)
    finally:
        server.task_dispatcher.shutdown()
        wasyncore.close_all(sockets)


def _adjustments(settings: Settings) -> dict[str, Any]:
    proxy = {"trusted_proxy": settings.trusted_proxy, "trusted_proxy_headers": FORWARDED_HEADERS}
    return {
        "threads": settings.threads,
        "connection_limit": settings.connection_limit,
        "channel_timeout": settings.channel_timeout,
        "backlog": BACKLOG,
        # The rest of a large response waits in SQLite, not in memory, until the client has read what was sent.
        "outbuf_high_watermark": OUTPUT_BUFFER_BYTES,
        "max_request_body_size": MAX_REQUEST_BODY_BYTES,  # waitress accepts 1 GiB by default
        "asyncore_use_poll": True,  # select() is limited to 1024 descriptors
        # The application does not read X-Forwarded-* headers, so without a trusted proxy they can stay.
        "clear_untrusted_proxy_headers": bool(settings.trusted_proxy),
        "ident": "chalk-flask",
        **(proxy if settings.trusted_proxy else {}),
    }


def _listen(host: str, port: int) -> list[socket.socket]:
    """Return a listening socket for each address of the host. Raises BindError if there is none.

    One socket is enough, because a machine without IPv6 may still resolve its own name to ::1.
    """
    listeners: list[socket.socket] = []
    failure: OSError | None = None
    for family, address in _addresses(host, port):
        try:
            # With port 0, the first address chooses the port and the others share it.
            actual_port = port or (listeners[0].getsockname()[1] if listeners else 0)
            listeners.append(socket.create_server((address, actual_port), family=family, backlog=BACKLOG))
        except OSError as error:
            failure = error
            if error.errno not in UNAVAILABLE_ERRNOS:
                break
    if listeners and (failure is None or failure.errno in UNAVAILABLE_ERRNOS):
        return listeners
    for listener in listeners:
        listener.close()
    raise _bind_error(host, port, os.strerror(failure.errno or 0) if failure else "it has no address") from failure


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


def _url(host: str, port: int) -> str:
    name = LOCAL_ADDRESSES.get(host.strip("[]"), f"[{host.strip('[]')}]" if ":" in host else host)
    return f"http://{name}:{port}"


@contextmanager
def _signals(sockets: dict[int, Any]) -> Iterator[list[int]]:
    """Yield a list to which SIGTERM and SIGINT are appended when they arrive; restore their handlers at the end."""
    received: list[int] = []
    server = _listening_servers(sockets)[0]

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


def _run_once(sockets: dict[int, Any], dispatcher: ShortRequestFirstDispatcher, timeout: float = 1) -> None:
    wasyncore.loop(
        timeout=min(timeout, SHORT_REQUEST_SECONDS) if dispatcher.has_queued_requests else timeout,
        use_poll=True,
        map=sockets,
        count=1,
    )
    if dispatcher.has_queued_requests:
        dispatcher.wake_if_all_long()


def _close_stalled(sockets: dict[int, Any], seconds: float) -> None:
    """Close connections whose client has read nothing for that long. Each of them occupies a thread and a snapshot.

    Without this, waitress closes only connections without an active request.
    """
    limit = time.time() - seconds
    for channel in _channels(sockets):
        if channel.total_outbufs_len and channel.last_activity < limit:
            channel.handle_close()


def _drain(sockets: dict[int, Any], dispatcher: ShortRequestFirstDispatcher, received: list[int]) -> None:
    """Stop accepting, close idle connections and finish the active requests, at most until the deadline.

    A second signal ends this at once. The method `run` of waitress is not used, because it leaves its loop first. That
    would cut off every response that is larger than a socket buffer.
    """
    for server in _listening_servers(sockets):
        wasyncore.dispatcher.close(server)  # the listening socket alone: the threads still use the trigger
    _run_once(sockets, dispatcher, timeout=0)  # reads requests that have already arrived
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    while (channels := _channels(sockets)) and time.monotonic() < deadline and len(received) < 2:
        for channel in channels:
            channel.will_close = channel.will_close or not (channel.requests or channel.total_outbufs_len)
        _run_once(sockets, dispatcher)
    for channel in _channels(sockets):
        channel.handle_close()


def _listening_servers(sockets: dict[int, Any]) -> list[BaseWSGIServer]:
    return [server for server in sockets.values() if isinstance(server, BaseWSGIServer)]


def _channels(sockets: dict[int, Any]) -> list[HTTPChannel]:
    return [channel for channel in sockets.values() if isinstance(channel, HTTPChannel)]

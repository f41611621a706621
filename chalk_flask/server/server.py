"""Serving on waitress: one process, a thread a request, and a stop that lets requests in flight finish."""

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
"""Seconds that requests in flight have to finish once a stop was asked for."""

THREAD_SWITCH_SECONDS = 0.0005
"""Seconds after which the thread that reads from sockets lets the one that answers go on; Python's own are ten times as
many, in which a short request looks like a long one."""

BACKLOG = 1024
FORWARDED = "x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port"
ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
ANYWHERE = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}


class BindError(Exception):
    """The host or port cannot be listened on; the message says why and what to change."""


def serve(app: WSGIApplication, settings: Settings, ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, let requests in flight finish within GRACE seconds, and return.

    `ready` is told the address, as in http://127.0.0.1:8080, once connections are accepted; with port 0 it names the
    port that was found. A second signal stops at once. Call it in the main thread, where signals arrive. Raises
    BindError.
    """
    sys.setswitchinterval(THREAD_SWITCH_SECONDS)
    listeners = _listen(settings.host, settings.port)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a line for every request that waits a millisecond
    sockets: dict[int, Any] = {}
    dispatcher = ShortRequestFirstDispatcher()
    dispatcher.set_thread_count(settings.threads)
    server = create_server(app, map=sockets, sockets=listeners, _dispatcher=dispatcher, **_adjustments(settings))
    for each in sockets.values():
        if isinstance(each, BaseWSGIServer):
            each.channel_class = Channel
    try:
        with _signals(sockets) as received:
            if ready:
                ready(_address(settings.host, listeners[0].getsockname()[1]))
            due = 0.0
            while not received:
                _turn(sockets, dispatcher)
                if time.monotonic() >= due:
                    _let_stalled_go(sockets, settings.channel_timeout)
                    due = time.monotonic() + 1
            _drain(sockets, dispatcher, received)
    finally:
        server.task_dispatcher.shutdown()
        wasyncore.close_all(sockets)


def _adjustments(settings: Settings) -> dict[str, Any]:
    proxy = {"trusted_proxy": settings.trusted_proxy, "trusted_proxy_headers": FORWARDED}
    return {
        "threads": settings.threads,
        "connection_limit": settings.connection_limit,
        "channel_timeout": settings.channel_timeout,
        "backlog": BACKLOG,
        # A large answer waits in SQLite, not in memory, until its reader has taken what was sent.
        "outbuf_high_watermark": 262144,
        "max_request_body_size": 1048576,  # nothing that is sent here is larger; waitress would take a GiB
        "asyncore_use_poll": True,  # select() ends at 1024 descriptors
        # Nothing here reads X-Forwarded-* headers; without a trusted proxy they need not be taken out either.
        "clear_untrusted_proxy_headers": bool(settings.trusted_proxy),
        "ident": "chalk-flask",
        **(proxy if settings.trusted_proxy else {}),
    }


def _listen(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of the host. A machine without IPv6 may still call itself ::1: one is enough."""
    listeners: list[socket.socket] = []
    absent: OSError | None = None
    for family, address in _addresses(host, port):
        try:
            # With port 0 the first address finds the port and the others share it.
            free = port or (listeners[0].getsockname()[1] if listeners else 0)
            listeners.append(socket.create_server((address, free), family=family, backlog=BACKLOG))
        except OSError as error:
            absent = error
            if error.errno not in ABSENT:
                break
    if listeners and (absent is None or absent.errno in ABSENT):
        return listeners
    for listener in listeners:
        listener.close()
    raise _refusal(host, port, os.strerror(absent.errno or 0) if absent else "it has no address") from absent


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    name = None if host == "*" else host.strip("[]")
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a host name"
        raise _refusal(host, port, reason) from error
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _refusal(host: str, port: int, reason: str) -> BindError:
    return BindError(
        f"cannot listen on host {host}, port {port}: {reason}; choose others with --host and --port"
        " (CHALK_HOST, CHALK_PORT)"
    )


def _address(host: str, port: int) -> str:
    name = ANYWHERE.get(host.strip("[]"), f"[{host.strip('[]')}]" if ":" in host else host)
    return f"http://{name}:{port}"


@contextmanager
def _signals(sockets: dict[int, Any]) -> Iterator[list[int]]:
    """The list to which SIGTERM and SIGINT are appended as they come, instead of what they did before."""
    received: list[int] = []
    server = next(each for each in sockets.values() if isinstance(each, BaseWSGIServer))

    def note(number: int, _: object) -> None:
        received.append(number)
        with suppress(OSError):
            server.pull_trigger()  # the loop sleeps through a signal that does not raise

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _turn(sockets: dict[int, Any], dispatcher: ShortRequestFirstDispatcher, timeout: float = 1) -> None:
    wasyncore.loop(
        timeout=min(timeout, SHORT_REQUEST_SECONDS) if dispatcher.waiting else timeout,
        use_poll=True,
        map=sockets,
        count=1,
    )
    if dispatcher.waiting:
        dispatcher.relieve()


def _let_stalled_go(sockets: dict[int, Any], seconds: float) -> None:
    """Close connections whose reader has taken nothing for that long: each holds a thread and a snapshot.

    waitress itself closes only those that no request is served on.
    """
    late = time.time() - seconds
    for channel in _channels(sockets):
        if channel.total_outbufs_len and channel.last_activity < late:
            channel.handle_close()


def _drain(sockets: dict[int, Any], dispatcher: ShortRequestFirstDispatcher, received: list[int]) -> None:
    """Accept nothing more, close idle connections, and go on until the others are done, the time or patience is up.

    waitress's own `run` leaves the loop first, and whatever was larger than a socket buffer is cut short.
    """
    for server in [each for each in sockets.values() if isinstance(each, BaseWSGIServer)]:
        wasyncore.dispatcher.close(server)  # only the listening socket: workers still pull the server's trigger
    _turn(sockets, dispatcher, timeout=0)  # takes in the requests that had already arrived
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    while (channels := _channels(sockets)) and time.monotonic() < deadline and len(received) < 2:
        for channel in channels:
            channel.will_close = channel.will_close or not (channel.requests or channel.total_outbufs_len)
        _turn(sockets, dispatcher)
    for channel in _channels(sockets):
        channel.handle_close()


def _channels(sockets: dict[int, Any]) -> list[HTTPChannel]:
    return [each for each in sockets.values() if isinstance(each, HTTPChannel)]

"""Sockets of the server by descriptor, as waitress keeps them, and the wait for their events.

waitress asks every connection before each wait, and wakes the server loop after each response to do so. With epoll, a
connection is asked only when it may wait for something else than before. The thread that ends a response lets the
connection wait for the next request without the loop.
"""

from __future__ import annotations

import select
import threading
from contextlib import suppress
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer

__all__ = ["SocketMap", "make_socket_map"]

_READ = select.POLLIN | select.POLLPRI
_WRITE = select.POLLOUT


class SocketMap(dict[int, Any]):
    """Sockets on a system without epoll. The server loop calls all methods; any thread can call `await_request`."""

    def handle_events(self, timeout: float) -> None:
        """Wait for events, at most for `timeout` seconds, and handle them."""
        wasyncore.loop(timeout=timeout, use_poll=True, map=self, count=1)

    def await_request(self, channel: HTTPChannel) -> bool:
        """Let an idle connection wait for its next request. Return False if the server loop must do that."""
        return False

    def update_channel(self, channel: HTTPChannel) -> None:
        """Ask a connection what it waits for, after a change outside of its events."""

    def update_all(self) -> None:
        """Ask every connection what it waits for, after a change outside of its events."""

    def close(self) -> None:
        """Close all sockets."""
        wasyncore.close_all(self)


class _EpollSocketMap(SocketMap):
    """Sockets that are registered with epoll.

    A connection is armed for one event. After that it is asked what it waits for, and armed again.
    """

    def __init__(self) -> None:
        super().__init__()
        self._epoll = select.epoll()
        self._lock = threading.Lock()
        self._armed: dict[int, int] = {}
        """Events for which each connection is armed, by descriptor."""

    def __setitem__(self, fileno: int, sock: Any) -> None:
        is_channel = isinstance(sock, HTTPChannel)
        with self._lock:
            super().__setitem__(fileno, sock)
            self._armed[fileno] = _READ
            self._epoll.register(fileno, _READ | select.EPOLLONESHOT if is_channel else _READ)

    def __delitem__(self, fileno: int) -> None:
        # Under the lock and before the socket is closed, so that no thread arms another socket with this descriptor.
        with self._lock:
            super().__delitem__(fileno)
            del self._armed[fileno]
            with suppress(OSError):
                self._epoll.unregister(fileno)

    def handle_events(self, timeout: float) -> None:
        # By default at most 1,023 events: at shutdown the requests of other connections would be dropped.
        for fileno, events in self._epoll.poll(timeout, max(1, len(self))):
            sock = self.get(fileno)
            if isinstance(sock, HTTPChannel):
                self._handle(fileno, sock, events)
            elif sock is not None:
                wasyncore.readwrite(sock, events)
                if not isinstance(sock, BaseWSGIServer):
                    self.update_all()  # a thread has pulled the trigger, because it has changed a connection

    def _handle(self, fileno: int, channel: HTTPChannel, events: int) -> None:
        with self._lock:
            self._armed[fileno] = 0
        if events & _READ and not channel.readable():
            events &= ~_READ  # its thread armed it when a request had arrived already
        wasyncore.readwrite(channel, events)
        self.update_channel(channel)

    def await_request(self, channel: HTTPChannel) -> bool:
        if not channel.readable() or channel.writable():
            return False
        self.update_channel(channel)
        return True

    def update_all(self) -> None:
        for sock in list(self.values()):
            if isinstance(sock, HTTPChannel):
                self.update_channel(sock)

    def update_channel(self, channel: HTTPChannel) -> None:
        # Arm the connection for what it waits for. A closed connection waits for nothing.
        with self._lock:
            fileno: int | None = channel._fileno  # type: ignore[attr-defined]  # missing in the stubs
            if fileno is None or self.get(fileno) is not channel:
                return
            events = (_READ if channel.readable() else 0) | (_WRITE if channel.writable() else 0)
            if events and events != self._armed[fileno]:
                self._armed[fileno] = events
                self._epoll.modify(fileno, events | select.EPOLLONESHOT)

    def close(self) -> None:
        super().close()
        self._epoll.close()


def make_socket_map() -> SocketMap:
    """Return an empty map that uses epoll if the system has it."""
    return _EpollSocketMap() if hasattr(select, "epoll") else SocketMap()

"""Listening sockets of all serving processes, which share one address by SO_REUSEPORT.

Linux spreads new connections over the sockets. While a process is replaced, the supervisor keeps its socket open, and
other processes accept from it. So no connection is refused or reset.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack

from chalk_flask.server import BACKLOG, listen

__all__ = ["open_listeners"]


def open_listeners(host: str, port: int, count: int) -> list[Sequence[socket.socket]]:
    """Return the listening sockets of each of `count` processes: one for each address of the host.

    With port 0, one free port is chosen for all of them. Raises BindError, also if another supervisor uses the address.
    """
    with ExitStack() as stack:
        first = [stack.enter_context(listener) for listener in listen(host, port, shares_port=True)]
        slots: list[Sequence[socket.socket]] = [first]
        for _ in range(count - 1):
            slots.append([stack.enter_context(_listen_beside(listener)) for listener in first])
        stack.pop_all()
    return slots


def _listen_beside(listener: socket.socket) -> socket.socket:
    """Return another socket that listens on the address of a socket."""
    address = listener.getsockname()
    return socket.create_server(address[:2], family=listener.family, backlog=BACKLOG, reuse_port=True)

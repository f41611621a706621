"""Signals of the supervisor as bytes that arrive on a socket, so that its loop can wait for them."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["SignalSocket", "blocked_signals", "caught_signals", "restore_signals"]

CAUGHT: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class SignalSocket:
    """Socket that becomes readable when a signal arrives."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def fileno(self) -> int:
        """Return the descriptor, for selectors."""
        return self._connection.fileno()

    def take(self) -> list[int]:
        """Return the numbers of the signals that have arrived. Never waits."""
        try:
            return list(self._connection.recv(4096))
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Close the descriptor of this process."""
        self._connection.close()


@contextmanager
def caught_signals() -> Iterator[SignalSocket]:
    """Yield a socket with the signals that arrive. Restore the former handlers at the end. For the main thread only."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        former_descriptor = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        former = {number: signal.signal(number, lambda *_: None) for number in CAUGHT}
        try:
            yield SignalSocket(reader)
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(former_descriptor)


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Block the caught signals until the block ends. A process that is forked meanwhile must call `restore_signals`."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, CAUGHT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def restore_signals() -> None:
    """Handle signals as a new process does, after a fork. Those that have arrived since are for this process."""
    signal.set_wakeup_fd(-1)
    for number in CAUGHT:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)

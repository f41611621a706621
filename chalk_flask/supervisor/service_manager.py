"""Notifications to systemd, see sd_notify(3). They are single datagrams, so no library is needed."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final, Self

__all__ = ["NOTIFY_VARIABLES", "ServiceManager"]

SOCKET_VARIABLE: Final = "NOTIFY_SOCKET"
NOTIFY_VARIABLES: Final = (SOCKET_VARIABLE, "WATCHDOG_USEC", "WATCHDOG_PID")
"""Variables that concern the main process alone."""


class ServiceManager:
    """Service manager that started this process and receives its state. Without one, methods do nothing."""

    def __init__(self, address: str | None, watchdog_seconds: float | None = None) -> None:
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._interval = None if watchdog_seconds is None else watchdog_seconds / 2
        self._next_notification = 0.0

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Return the service manager that the environment names. Invalid variables are ignored."""
        microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", str(os.getpid()))
        has_watchdog = microseconds.isdecimal() and int(microseconds) > 0 and pid == str(os.getpid())
        return cls(environ.get(SOCKET_VARIABLE) or None, int(microseconds) / 1e6 if has_watchdog else None)

    @property
    def is_present(self) -> bool:
        """True if a service manager waits for notifications."""
        return self._address is not None

    def notify_ready(self) -> None:
        """Report that the service accepts requests, also at the end of a reload."""
        self._send("READY=1")

    def notify_reloading(self) -> None:
        """Report that a reload has begun."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def notify_stopping(self) -> None:
        """Report that the service stops."""
        self._send("STOPPING=1")

    def notify_alive(self, is_alive: Callable[[], bool] = lambda: True) -> None:
        """Reset the watchdog, at most twice in its time, if `is_alive` returns True."""
        if self._interval is not None and time.monotonic() >= self._next_notification and is_alive():
            self._next_notification = time.monotonic() + self._interval
            self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
                connection.sendto(state.encode(), socket.MSG_DONTWAIT, self._address)
        except OSError:
            return  # without notifications, systemd restarts the service

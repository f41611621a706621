"""Notifications to systemd, received on a real socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from chalk_flask.supervisor import ServiceManager


@pytest.fixture
def received(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.setblocking(False)
        yield server


def environ(server: socket.socket, **variables: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": server.getsockname(), **variables}


def test_states_are_single_datagrams(received: socket.socket) -> None:
    manager = ServiceManager.from_environ(environ(received))
    manager.notify_ready()
    manager.notify_reloading()
    manager.notify_stopping()
    messages = [received.recv(200).decode() for _ in range(3)]
    assert (messages[0], messages[2]) == ("READY=1", "STOPPING=1")
    assert messages[1].startswith("RELOADING=1\nMONOTONIC_USEC=")


def test_watchdog_is_reset_at_most_twice_in_its_time_and_only_while_alive(received: socket.socket) -> None:
    manager = ServiceManager.from_environ(environ(received, WATCHDOG_USEC="60000000", WATCHDOG_PID=str(os.getpid())))
    manager.notify_alive(lambda: False)
    with pytest.raises(BlockingIOError):
        received.recv(200)
    manager.notify_alive()
    manager.notify_alive()
    assert received.recv(200) == b"WATCHDOG=1"
    with pytest.raises(BlockingIOError):
        received.recv(200)


@pytest.mark.parametrize("variables", [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}])
def test_watchdog_of_another_process_is_left_alone(received: socket.socket, variables: dict[str, str]) -> None:
    ServiceManager.from_environ(environ(received, **variables)).notify_alive()
    with pytest.raises(BlockingIOError):
        received.recv(200)


def test_abstract_socket_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(f"\0chalk-{os.getpid()}")
        server.settimeout(5)
        ServiceManager.from_environ({"NOTIFY_SOCKET": f"@chalk-{os.getpid()}"}).notify_ready()
        assert server.recv(200) == b"READY=1"


def test_nothing_fails_without_systemd(tmp_path: Path) -> None:
    assert not ServiceManager.from_environ({}).is_present
    ServiceManager.from_environ({}).notify_ready()
    ServiceManager.from_environ({"NOTIFY_SOCKET": str(tmp_path / "missing")}).notify_ready()

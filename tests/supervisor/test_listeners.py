"""Listening sockets that share an address."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from chalk_flask.server import BindError
from chalk_flask.supervisor import open_listeners


def test_listeners_share_one_port_and_its_connections() -> None:
    slots = open_listeners("127.0.0.1", 0, 3)
    with ExitStack() as stack:
        listeners = [stack.enter_context(listener) for slot in slots for listener in slot]
        [port] = {listener.getsockname()[1] for listener in listeners}
        for _ in range(60):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        for listener in listeners:
            listener.setblocking(False)
            stack.enter_context(listener.accept()[0])


def test_port_of_another_service_with_several_processes_is_in_use() -> None:
    slots = open_listeners("127.0.0.1", 0, 2)
    with ExitStack() as stack:
        [first, _] = [stack.enter_context(listener) for slot in slots for listener in slot]
        with pytest.raises(BindError, match="Address already in use; choose others with --host and --port"):
            open_listeners("127.0.0.1", first.getsockname()[1], 2)


def test_every_address_of_a_host_is_shared() -> None:
    slots = open_listeners("*", 0, 2)
    with ExitStack() as stack:
        listeners = [[stack.enter_context(listener) for listener in slot] for slot in slots]
        assert len(listeners[0]) == len(listeners[1])
        assert len({listener.getsockname()[1] for slot in listeners for listener in slot}) == 1

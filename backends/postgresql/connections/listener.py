"""Listener that receives messages about the commits of all processes, so that versions are in memory."""

from __future__ import annotations

import hashlib
import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import lru_cache

import psycopg
from psycopg import pq

from backends.postgresql.text import encode_text

__all__ = ["LAG_SECONDS", "CommitListener", "channel_of", "payload_of"]

LAG_SECONDS = 0.5
"""Maximum age of the latest answered heartbeat with which versions in memory are returned."""

_HEARTBEAT_SECONDS = 0.25
_MAX_ANSWER_SECONDS = 5.0
"""Time after which a connection whose server sent no answer counts as lost."""
_RECONNECT_SECONDS = 1.0
_CLOSE_SECONDS = 2.0
"""Maximum time for which `close` waits for the thread, because the server may not answer."""
_MAX_NAME_BYTES = 1000


def channel_of(schema: str) -> str:
    """Return the name of the channel on which the writers of a store report their commits."""
    return f"chalk_{hashlib.sha256(schema.encode()).hexdigest()[:32]}"


def payload_of(tenant: str, serial: int) -> str:
    """Return the message about a commit of a tenant."""
    return f"{serial} {_key(tenant)}"


@lru_cache(maxsize=4096)
def _key(tenant: str) -> str:
    """Return the name of a tenant, or its hash if the name is too long for a message."""
    name = encode_text(tenant)
    return name if len(name.encode()) <= _MAX_NAME_BYTES else hashlib.sha256(name.encode()).hexdigest()


class CommitListener:
    """Cache of the versions of all tenants. From `start` to `close`, a thread receives the messages of writers.

    Each heartbeat is a query. PostgreSQL sends all messages of earlier commits before its answer. So the cache has all
    commits up to the time at which the latest answered heartbeat was sent. Thread-safe.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection], channel: str) -> None:
        self._connect, self._channel = connect, channel
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wakeup, self._waker = os.pipe()
        self._is_closed = False
        self._heartbeat = -LAG_SECONDS
        self._generation = 0
        self._serials: dict[str, int] = {}
        self._watchers: list[Callable[[], None]] = []
        self.server_pid: int | None = None
        """Id of the server process that sends the messages; None before the first connection."""

    def start(self) -> None:
        """Start to listen, unless it has started."""
        with self._lock:
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="postgresql: commits", daemon=True)
                self._thread.start()

    def watch(self, on_commit: Callable[[], None]) -> None:
        """Call a function after each commit from now on, in the thread that learns of it. It must not wait or raise."""
        self._watchers.append(on_commit)
        self.start()

    def version(self, tenant: str) -> object | None:
        """Return the version of a tenant, or None if the listener may have missed commits for longer than the lag."""
        if time.monotonic() - self._heartbeat >= LAG_SECONDS:
            return None
        return self._generation, self._serials.get(_key(tenant), 0)

    def add(self, tenant: str, serial: int) -> None:
        """Store the serial number of a commit of this process, before its message arrives."""
        self._add(_key(tenant), serial)

    def close(self) -> None:
        """End the thread. A second call does nothing."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            thread = self._thread
        os.write(self._waker, b"x")
        if thread is not None:
            thread.join(_CLOSE_SECONDS)
        if thread is None or not thread.is_alive():
            os.close(self._wakeup)
            os.close(self._waker)

    def _add(self, key: str, serial: int) -> None:
        with self._lock:
            is_new = serial > self._serials.get(key, 0)
            if is_new:
                self._serials[key] = serial
        if is_new:
            self._call_watchers()

    def _call_watchers(self) -> None:
        for on_commit in self._watchers:
            on_commit()

    def _run(self) -> None:
        while not self._is_closed:
            try:
                with closing(self._connect()) as connection:
                    self._listen(connection)
            except (psycopg.Error, OSError):
                self._wait(None, _RECONNECT_SECONDS)

    def _listen(self, connection: psycopg.Connection) -> None:
        started = time.monotonic()
        self.server_pid = connection.info.backend_pid
        connection.execute(f'LISTEN "{self._channel}"')
        with self._lock:
            # Messages of the time without a connection are lost, so all versions change.
            self._generation += 1
            self._serials.clear()
        self._heartbeat = started
        self._call_watchers()
        sent: float | None = None
        while not self._is_closed:
            now = time.monotonic()
            if sent is None and now >= self._heartbeat + _HEARTBEAT_SECONDS:
                connection.pgconn.send_query(b"SELECT 1")
                sent = now
            until = self._heartbeat + _HEARTBEAT_SECONDS if sent is None else sent + _MAX_ANSWER_SECONDS
            if not self._wait(connection.pgconn, max(until - now, 0)) and sent is not None:
                raise OSError("the listener got no answer")
            if self._receive(connection.pgconn) and sent is not None:
                self._heartbeat, sent = sent, None

    def _wait(self, connection: pq.abc.PGconn | None, seconds: float) -> bool:
        """Wait until the connection has data or the listener is closed; return False if `seconds` have passed."""
        poll = select.poll()
        for descriptor in [self._wakeup] if connection is None else [self._wakeup, connection.socket]:
            poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _receive(self, connection: pq.abc.PGconn) -> bool:
        """Store the messages that have arrived. Return True if the heartbeat was answered, or none was sent.

        The messages precede the end of the answer, which is a result of None.
        """
        connection.consume_input()
        is_idle = False
        while not is_idle and not connection.is_busy():
            is_idle = connection.get_result() is None
        while (message := connection.notifies()) is not None:
            serial, _, key = message.extra.decode().partition(" ")
            self._add(key, int(serial))
        return is_idle

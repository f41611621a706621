"""How an answer is sent: its head with its first block, and each block straight from where it was made."""

from __future__ import annotations

import time
from typing import Any

from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.task import WSGITask

__all__ = ["SendingChannel", "Task"]

TOGETHER = 262144
"""Bytes up to which copying a block behind the head costs less than another call into the system."""


class SendingChannel(HTTPChannel):
    """waitress copies every block into a buffer and out again; here only what the socket does not take is kept.

    `head` is put before the next block.
    """

    head: bytes = b""

    def write_soon(self, data: Any) -> int:
        """Send a block, or as much as the socket takes now; the rest waits in a buffer, for whose end this may wait.

        Raises ClientDisconnected.
        """
        if not self.connected:
            raise ClientDisconnected
        head, self.head = self.head, b""
        if not isinstance(data, bytes):
            self._write(head)
            return super().write_soon(data)  # a file, that waitress sends as one
        if len(data) > TOGETHER:
            self._write(head)
            self._write(data)
        else:
            self._write(head + data)
        return len(data)

    def _write(self, data: bytes) -> None:
        with self.outbuf_lock:
            sent = 0 if self.total_outbufs_len else self.send(data, do_close=False)
            if sent:
                self.last_activity = time.time()
            if sent == len(data):
                return
        super().write_soon(data[sent:])


class Task(WSGITask):
    """Sends the head together with the first block of the body."""

    channel: SendingChannel

    def write(self, data: bytes) -> None:
        """Send a block of the body, or the head alone when there is none."""
        if self.complete and not self.wrote_header and data and self.has_body:
            self.channel.head = self.build_response_header()
            self.wrote_header = True
        super().write(data)

    def finish(self) -> None:
        """Send what is left: the head of an answer without a body."""
        super().finish()
        if self.channel.head:
            self.channel.write_soon(b"")

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
            if not self.connected:  # the client may have gone since
                raise ClientDisconnected
            sent = 0 if self.total_outbufs_len else self.send(data, do_close=False)
            if sent:
                self.last_activity = time.time()
            if sent == len(data):
                return
        super().write_soon(data[sent:])


class Task(WSGITask):
    """Sends the head together with the first block of the body, and keeps the connection when there is no body."""

    channel: SendingChannel
    _measured = False

    @property
    def has_body(self) -> bool:
        """Whether a body follows the head, as far as the length of the answer is concerned."""
        return self._measured or (super().has_body and getattr(self.request, "command", "") != "HEAD")

    def build_response_header(self) -> bytes:
        """The head. waitress closes a connection after an answer without a length, though 304, 204, HEAD end there."""
        if self.has_body:
            return super().build_response_header()
        told = any(name.lower() == "content-length" for name, _ in self.response_headers)
        self._measured = True
        try:
            self.content_length = self.content_length or 0
            head = super().build_response_header()
        finally:
            self._measured = False
        return head if told else head.replace(b"\r\nContent-Length: 0\r\n", b"\r\n", 1)

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

"""Channel that sends the head of a response together with its first block, and blocks without a copy."""

from __future__ import annotations

import time
from typing import Any

from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.task import WSGITask

__all__ = ["SendingChannel", "Task"]

MAX_JOINED_BYTES = 262144
"""Size up to which it is cheaper to append a block to the head than to make another system call."""


class SendingChannel(HTTPChannel):
    """Connection that buffers only what the socket does not accept at once.

    waitress copies every block into a buffer first. `head` is sent in front of the next block.
    """

    head: bytes = b""

    def write_soon(self, data: Any) -> int:
        """Send a block and return its length. Raises ClientDisconnected.

        What the socket does not accept is buffered; this waits while the buffer is full.
        """
        if not self.connected:
            raise ClientDisconnected
        head, self.head = self.head, b""
        if not isinstance(data, bytes):
            self._write(head)
            return super().write_soon(data)  # a file, which waitress sends itself
        if len(data) > MAX_JOINED_BYTES:
            self._write(head)
            self._write(data)
        else:
            self._write(head + data)
        return len(data)

    def _write(self, data: bytes) -> None:
        with self.outbuf_lock:
            if not self.connected:  # the client may have disconnected meanwhile
                raise ClientDisconnected
            sent = 0 if self.total_outbufs_len else self.send(data, do_close=False)
            if sent:
                self.last_activity = time.time()
            if sent == len(data):
                return
        super().write_soon(data[sent:])


class Task(WSGITask):
    """Response that sends its head with the first block of the body.

    The connection stays open after a response without a body.
    """

    channel: SendingChannel
    _has_length = False

    @property
    def has_body(self) -> bool:
        """True if waitress must treat the response as one with a body."""
        return self._has_length or (super().has_body and getattr(self.request, "command", "") != "HEAD")

    def build_response_header(self) -> bytes:
        """Return the head.

        waitress closes the connection after a response without a length. Responses without a body (304, 204, HEAD)
        therefore declare the length 0 while the head is built.
        """
        if self.has_body:
            return super().build_response_header()
        declares_length = any(name.lower() == "content-length" for name, _ in self.response_headers)
        self._has_length = True
        try:
            self.content_length = self.content_length or 0
            head = super().build_response_header()
        finally:
            self._has_length = False
        return head if declares_length else head.replace(b"\r\nContent-Length: 0\r\n", b"\r\n", 1)

    def write(self, data: bytes) -> None:
        """Send a block of the body, or only the head if there is no body."""
        if self.complete and not self.wrote_header and data and self.has_body:
            self.channel.head = self.build_response_header()
            self.wrote_header = True
        super().write(data)

    def finish(self) -> None:
        """Finish the response, and send the head of one without a body."""
        super().finish()
        if self.channel.head:
            self.channel.write_soon(b"")

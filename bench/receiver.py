"""A receiver of webhooks that costs as little as it can: it prints its port, takes every POST, and counts."""

from __future__ import annotations

import re
import socket
import threading

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class _Count:
    """How many posts came; of one endpoint, so one at a time."""

    posts = 0


def main() -> None:
    """Listen on a free port until killed."""
    count = _Count()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            stream, _ = listening.accept()
            threading.Thread(target=_serve, args=(stream, count), daemon=True).start()


def _serve(stream: socket.socket, count: _Count) -> None:
    waiting = b""
    with stream:
        while data := stream.recv(65536):
            waiting += data
            head, found, body = waiting.partition(b"\r\n\r\n")
            length = _LENGTH.search(head + b"\r\n")
            size = int(length[1]) if length else 0
            if not found or len(body) < size:
                continue
            count.posts += head.startswith(b"POST")
            told = b"" if head.startswith(b"POST") else str(count.posts).encode()
            stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told))
            waiting = body[size:]


if __name__ == "__main__":
    main()

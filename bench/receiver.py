"""Webhook receiver with little overhead: prints its port, accepts every POST, and returns the count to a GET."""

from __future__ import annotations

import re
import socket
import threading

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class _Counter:
    """Number of received POST requests. They come from one webhook, so one at a time."""

    posts = 0


def main() -> None:
    """Listen on a free port until the process is killed."""
    counter = _Counter()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            stream, _ = listening.accept()
            threading.Thread(target=_serve, args=(stream, counter), daemon=True).start()


def _serve(stream: socket.socket, counter: _Counter) -> None:
    received = b""
    with stream:
        while data := stream.recv(65536):
            received += data
            head, separator, body = received.partition(b"\r\n\r\n")
            match = _CONTENT_LENGTH.search(head + b"\r\n")
            size = int(match[1]) if match else 0
            if not separator or len(body) < size:
                continue
            counter.posts += head.startswith(b"POST")
            count = b"" if head.startswith(b"POST") else str(counter.posts).encode()
            stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(count), count))
            received = body[size:]


if __name__ == "__main__":
    main()

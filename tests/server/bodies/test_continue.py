"""100 Continue after a pipelined request: a thread sends it while the server loop may look at the same connection."""

from __future__ import annotations

import pytest

from tests.support.server_process import ServerProcess, read_all, server_process

pytestmark = pytest.mark.slow

# Application that returns the body of a request. Buffered output is sent slowly, so that others run in the meantime.
APP = """
import time
from waitress.buffers import OverflowableBuffer

take = OverflowableBuffer.get

def take_slowly(*args):
    data = take(*args)
    time.sleep(0.2)
    return data

OverflowableBuffer.get = take_slowly

def app(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
CHECK_DEADLINES = "from chalk_flask.server import server\nserver.DEADLINE_CHECK_SECONDS = 0\n"

READ = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"


def upload_after_a_read(server: ServerProcess) -> bytes:
    """Return the responses to a client that sends a read, and `body` after `100 Continue`."""
    with server.connect() as client:
        client.sendall(READ + UPLOAD)
        for _ in range(10):
            server.get("/")  # its end wakes the server loop
        client.sendall(b"body")
        return read_all(client)


def test_continue_is_sent_once_while_other_responses_end() -> None:
    with server_process(APP) as server:
        received = upload_after_a_read(server)
    assert received.count(b"HTTP/1.1 100 Continue") == 1
    assert received.endswith(b"body")


def test_continue_that_is_being_sent_misses_no_deadline() -> None:
    with server_process(CHECK_DEADLINES + APP) as server:
        assert upload_after_a_read(server).endswith(b"body")

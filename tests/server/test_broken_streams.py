"""Streams that fail after their first blocks: the client sees an incomplete body, the log has the reason."""

from __future__ import annotations

import pytest

from tests.support.server_process import read_all, send_get, server_process

# Application whose stream fails after three blocks: /storage with the error of a store, /other with another error.
PROGRAM = """
import logging, sys
from backends import StorageUnavailableError

def blocks(path):
    for number in range(3):
        yield b"x" * 70000
    if path == "/storage":
        raise StorageUnavailableError("reading: disk I/O error")
    raise KeyError("Brien")

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return blocks(environ["PATH_INFO"])

logging.basicConfig(stream=sys.stderr, level="INFO")
"""


@pytest.mark.parametrize(
    ("path", "reason"), [("/storage", "reading: disk I/O error"), ("/other", "KeyError at <string>:")]
)
def test_broken_stream_is_incomplete_and_logged_in_one_line(path: str, reason: str) -> None:
    with server_process(PROGRAM, "", True) as server:
        with server.connect() as connection:
            send_get(connection, path)
            response = read_all(connection)
        server.process.terminate()
        _, log = server.process.communicate(timeout=60)
    head, _, body = response.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert body.count(b"x") == 210000
    assert not body.endswith(b"0\r\n\r\n")
    [line] = [line for line in log.splitlines() if "ERROR" in line]
    assert "a response broke off" in line
    assert reason in line
    assert "Traceback" not in log
    assert "Brien" not in log

"""Streams that fail after their first blocks: the client sees an incomplete body, the log has the reason."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

# Application whose stream fails after three blocks: /storage with the error of a store, /other with another error.
PROGRAM = """
import logging, sys
from backends import StorageUnavailableError
from chalk_flask.server import serve
from chalk_flask.settings import load_settings

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
serve(app, load_settings(), lambda url: print(url, flush=True))
"""


@pytest.mark.parametrize(
    ("path", "reason"), [("/storage", "reading: disk I/O error"), ("/other", "KeyError at <string>:")]
)
def test_broken_stream_is_incomplete_and_logged_in_one_line(path: str, reason: str) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CHALK_")}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=environ | {"CHALK_PORT": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        match = re.search(r":(\d+)$", process.stdout.readline().strip())
        assert match
        response = get(int(match[1]), path)
        process.terminate()
        _, log = process.communicate(timeout=30)
    head, _, body = response.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert body.count(b"x") == 210000
    assert not body.endswith(b"0\r\n\r\n")
    [line] = [line for line in log.splitlines() if "ERROR" in line]
    assert "a response broke off" in line
    assert reason in line
    assert "Traceback" not in log
    assert "Brien" not in log


def get(port: int, path: str) -> bytes:
    """Return everything that the server sends before it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))

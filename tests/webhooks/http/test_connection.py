"""HTTP connection with random responses: an exchange ends with a response or a documented error."""

from __future__ import annotations

import random
import socket
from http.client import HTTPException

import pytest
from urllib3.connection import HTTPConnection

from chalk_flask.https.connection import Connection, Deadline, HttpRequest, InvalidResponseError
from chalk_flask.webhooks.http.client import MAX_TEXT_BYTES

SEEDS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nRetry-After: 5\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
    b"2\r\nok\r\n0\r\nA: b\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 404 No\r\nContent-Type: message/rfc822\r\n\r\nabc",
)
REQUEST = HttpRequest("POST", "/", {"Host": "hooks.example.org"}, b"")
TOKENS = (b"\r\n", b"\n", b"\r", b":", b" ", b"\0", b"\xff", b"-1", b"0x", b"9" * 30, b"chunked", b"Content-Length: ")


def mutated_response(chance: random.Random) -> bytes:
    response = bytearray(chance.choice(SEEDS))
    for _ in range(chance.randint(1, 5)):
        position = chance.randrange(len(response) + 1)
        match chance.randrange(3):
            case 0:
                response[position:position] = chance.choice(TOKENS)
            case 1:
                del response[position : position + chance.randint(1, 6)]
            case _:
                response[position : position + 1] = chance.randbytes(1)
    return bytes(response)


def test_mutated_response_is_read_or_rejected() -> None:
    chance = random.Random(0)
    for _ in range(1000):
        response_bytes = mutated_response(chance)
        here, there = socket.socketpair()
        with here, there:
            there.sendall(response_bytes)
            there.shutdown(socket.SHUT_WR)
            connected = HTTPConnection("hooks.example.org")
            connected.sock = here
            connection = Connection(connected)
            try:
                response = connection.exchange(REQUEST, MAX_TEXT_BYTES, Deadline(5))
            except (InvalidResponseError, HTTPException, OSError):
                continue
            assert len(response.body) <= MAX_TEXT_BYTES, response_bytes
            assert 100 <= response.status <= 999, response_bytes
            assert connection.response_started


def test_deadline_raises_after_its_end() -> None:
    with pytest.raises(TimeoutError):
        Deadline(0).remaining()
    assert 0 < Deadline(5).remaining() <= 5

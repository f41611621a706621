"""HTTP connection with random responses: an exchange ends with a response or a documented error."""

from __future__ import annotations

import logging
import random
import socket
from contextlib import closing
from http.client import HTTPException

import pytest
from urllib3.connection import HTTPConnection

from chalk_flask.https.connection import Connection, Deadline, HttpRequest, InvalidResponseError
from chalk_flask.webhooks.http.client import MAX_TEXT_BYTES, WebhookClient
from chalk_flask.webhooks.http.ssrf_guard import SsrfGuard
from tests.support.receiver import respond, run_receiver

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


def test_urls_and_headers_reach_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    malformed = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nhush-header without a colon\r\n\r\n"
    with run_receiver(respond(malformed)) as receiver, closing(WebhookClient(SsrfGuard(["127.0.0.1"]))) as client:
        assert client.post(receiver.url, {}, b"").status == 200
    logging.getLogger("urllib3.connection").warning("a message of the library")
    assert "hush" not in caplog.text
    assert "message of the library" not in caplog.text


def test_connection_goes_to_the_given_address_under_its_own_name() -> None:
    with run_receiver(respond()) as receiver:
        address = ("127.0.0.1", receiver.port)
        with closing(Connection.open("hooks.example.org", [address], Deadline(5), None)) as connection:
            request = HttpRequest("GET", "/a?b=c", {"Host": "hooks.example.org"}, b"")
            assert connection.exchange(request, 10, Deadline(5)).status == 200
    [(first, headers, _)] = receiver.requests
    assert first == "GET /a?b=c HTTP/1.1"
    assert headers == {"host": "hooks.example.org", "accept-encoding": "identity", "content-length": "0"}

"""Whatever bytes come back, an exchange ends with an answer or with an error that has a name."""

from __future__ import annotations

import random
import socket
from http.client import HTTPException

import pytest

from chalk_flask.webhooks.http.client import TEXT
from chalk_flask.webhooks.http.connection import Connection, Deadline, InvalidResponseError

SEEDS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nRetry-After: 5\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
    b"2\r\nok\r\n0\r\nA: b\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 404 No\r\nContent-Type: message/rfc822\r\n\r\nabc",
)
TOKENS = (b"\r\n", b"\n", b"\r", b":", b" ", b"\0", b"\xff", b"-1", b"0x", b"9" * 30, b"chunked", b"Content-Length: ")


def broken(chance: random.Random) -> bytes:
    answer = bytearray(chance.choice(SEEDS))
    for _ in range(chance.randint(1, 5)):
        place = chance.randrange(len(answer) + 1)
        match chance.randrange(3):
            case 0:
                answer[place:place] = chance.choice(TOKENS)
            case 1:
                del answer[place : place + chance.randint(1, 6)]
            case _:
                answer[place : place + 1] = chance.randbytes(1)
    return bytes(answer)


@pytest.mark.parametrize("seed", range(4))
def test_a_broken_answer_is_read_or_refused(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(400):
        answer = broken(chance)
        here, there = socket.socketpair()
        with here, there:
            there.sendall(answer)
            there.shutdown(socket.SHUT_WR)
            line = Connection(here)
            try:
                received = line.exchange(b"POST", TEXT, Deadline(5))
            except (InvalidResponseError, HTTPException, OSError):
                continue
            assert len(received.body) <= TEXT, answer
            assert 100 <= received.status <= 999, answer
            assert line.answered


def test_a_deadline_that_is_over_leaves_nothing() -> None:
    with pytest.raises(TimeoutError):
        Deadline(0).left()
    assert 0 < Deadline(5).left() <= 5

"""Receivers and resolvers that mean harm: each costs one failed attempt, in time, and reaches nothing it should not."""

from __future__ import annotations

import gzip
import itertools
import re
import socket
import ssl
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress

import pytest

from chalk_flask.webhooks.http.client import TEXT, AttemptResponse, WebhookClient
from chalk_flask.webhooks.http.ssrf_guard import SsrfGuard
from tests.support.receiver import OK, Authority, Behaviour, Receiver, answering, read_request, receiving

SECONDS = 0.4
"""The deadline of those who let it pass; what ends by it may be late by SLACK."""
SLACK = 3.0
HEADERS = {"Content-Type": "application/json"}
BODY = b'{"event_id":"evt_1"}'
HEAD = b"HTTP/1.1 200 OK\r\n"
SECRET = b"\xe2\x80\xaeINJECTED"


@contextmanager
def posting(context: ssl.SSLContext | None = None, seconds: float = 10) -> Iterator[WebhookClient]:
    with closing(WebhookClient(SsrfGuard(["127.0.0.1"]), seconds=seconds, context=context)) as poster:
        yield poster


def attempt(behave: Behaviour, *, body: bytes = BODY, seconds: float = 10) -> AttemptResponse:
    """What comes of one post to a receiver that does this, which ends by the deadline."""
    with receiving(behave) as receiver, posting(seconds=seconds) as poster:
        began = time.monotonic()
        answer = poster.post(receiver.url, HEADERS, body)
        assert time.monotonic() - began < seconds + SLACK
        assert receiver.connections == 1
    return answer


def sending(*pieces: bytes, endless: bytes = b"", pause: float = 0.0) -> Behaviour:
    """Read the request, send the pieces, then `endless` over and over with a pause before each, and close."""

    def behave(receiver: Receiver, stream: socket.socket) -> None:
        read_request(receiver, stream)
        for piece in pieces:
            stream.sendall(piece)
        while endless:
            time.sleep(pause)
            stream.sendall(endless)

    return behave


def hanging(receiver: Receiver, stream: socket.socket) -> None:
    read_request(receiver, stream)
    stream.recv(1)  # until the other side is gone


def hanging_at_once(receiver: Receiver, stream: socket.socket) -> None:
    threading.Event().wait(SECONDS + SLACK)


def resetting(receiver: Receiver, stream: socket.socket) -> None:
    read_request(receiver, stream)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


def closing_at_once(receiver: Receiver, stream: socket.socket) -> None:
    """Close without reading; what was sent is answered with a reset."""


HARMFUL: list[tuple[str, Behaviour, str]] = [
    ("hangs with the request", hanging, "timed out"),
    ("reads nothing", hanging_at_once, "timed out"),
    ("resets", resetting, "reset"),
    ("closes at once", closing_at_once, "reset|closed without an answer"),
    ("closes when it has read", sending(), "closed without an answer"),
    ("drips its status", sending(endless=b"H", pause=0.05), "timed out"),
    ("drips a header", sending(HEAD + b"X-A: ", endless=b"x", pause=0.05), "timed out"),
    ("drips headers", sending(HEAD, endless=b"X-A: b\r\n", pause=0.05), "timed out"),
    ("drips interim answers", sending(endless=b"HTTP/1.1 100 Go on\r\n\r\n", pause=0.05), "timed out"),
    ("drips a body", sending(HEAD + b"Content-Length: 900\r\n\r\n", endless=b"x", pause=0.05), "timed out"),
    ("drips a body to the end", sending(HEAD + b"\r\n", endless=b"x", pause=0.05), "timed out"),
    (
        "drips chunks",
        sending(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", endless=b"1\r\nx\r\n", pause=0.05),
        "timed out",
    ),
    ("owes its body", sending(HEAD + b"Content-Length: 9\r\n\r\nx"), "the answer ended early"),
    ("ends within a chunk", sending(HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\nx"), "the answer ended early"),
    ("ends within a header", sending(HEAD + b"Content-Length: 0"), "the answer ended early"),
    ("has a chunk of no size", sending(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "the answer ended early"),
    ("ends within its headers", sending(HEAD + b"Content-Length: 0\r\n"), "the answer ended early"),
    ("has a chunk of less", sending(HEAD + b"Transfer-Encoding: chunked\r\n\r\n-2\r\nx"), "the answer is not HTTP"),
    ("is garbage", sending(SECRET + b"\x00\xff\xfe garbage\r\n\r\n"), "the answer is not HTTP"),
    ("is HTTP/0.9", sending(b"<html>" + SECRET), "the answer is not HTTP"),
    ("is SSH", sending(b"SSH-2.0-OpenSSH_9.6\r\n"), "the answer is not HTTP"),
    ("is HTTP/2", sending(b"HTTP/2.0 200 OK\r\n\r\n"), "the answer is not HTTP"),
    ("has no status", sending(b"HTTP/1.1 OK " + SECRET + b"\r\n\r\n"), "the answer is not HTTP"),
    ("has a wild status", sending(b"HTTP/1.1 99999 OK\r\n\r\n"), "the answer is not HTTP"),
    (
        "is an endless status",
        sending(b"HTTP/1.1 200 ", endless=b"x" * 65536),
        "the headers of the answer are too large",
    ),
    ("is an endless header", sending(HEAD + b"A: ", endless=b"x" * 65536), "the headers of the answer are too large"),
    ("has endless headers", sending(HEAD, endless=b"A: b\r\n" * 9999), "the headers of the answer are too large"),
    ("has 200 headers", sending(HEAD + b"A: b\r\n" * 200 + b"\r\n"), "the headers of the answer are too large"),
    (
        "is endlessly interim",
        sending(endless=b"HTTP/1.1 100 Go on\r\n\r\n" * 999),
        "the headers of the answer are too large",
    ),
    (
        "has endless words in a chunk",
        sending(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", endless=b"x" * 65536),
        "the chunks of the answer are too small",
    ),
    (
        "has endless trailers",
        sending(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", endless=b"A: b\r\n" * 9999),
        "the chunks of the answer are too small",
    ),
]


@pytest.mark.parametrize(("behave", "error"), [row[1:] for row in HARMFUL], ids=[row[0] for row in HARMFUL])
def test_a_receiver_that(behave: Behaviour, error: str) -> None:
    answer = attempt(behave, seconds=SECONDS if error == "timed out" else 10)
    assert (answer.status, answer.text, answer.retry_after, answer.delivered) == (None, "", None, False)
    assert answer.error
    assert re.fullmatch(error, answer.error)
    assert "hush" not in answer.error  # the query of the URL
    assert "INJECTED" not in answer.error


def test_a_receiver_that_never_accepts_is_given_up() -> None:
    with ExitStack() as stack:
        listening = stack.enter_context(closing(socket.socket()))
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):  # more than its queue holds
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(listening.getsockname())
        time.sleep(0.05)
        poster = stack.enter_context(posting(seconds=SECONDS))
        answer = poster.post(f"http://127.0.0.1:{listening.getsockname()[1]}/", HEADERS, BODY)
        assert answer.error == "timed out"
        assert answer.ms < (SECONDS + SLACK) * 1000


def test_where_nobody_listens_the_connection_is_refused() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        port = listening.getsockname()[1]
    with posting() as poster:
        assert poster.post(f"http://127.0.0.1:{port}/", HEADERS, BODY).error == "connection refused"


def test_a_receiver_that_stops_reading_a_large_body_is_given_up() -> None:
    assert attempt(hanging_at_once, body=b"x" * 16_000_000, seconds=SECONDS).error == "timed out"


def test_who_refuses_a_large_body_before_it_is_sent_is_heard() -> None:
    def behave(receiver: Receiver, stream: socket.socket) -> None:
        stream.recv(1000)
        stream.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")

    answer = attempt(behave, body=b"x" * 16_000_000)
    assert (answer.status, answer.error) == (413, None)


def test_a_receiver_that_reads_a_large_body_in_drips_is_given_up() -> None:
    def behave(receiver: Receiver, stream: socket.socket) -> None:
        while stream.recv(1000):
            time.sleep(0.02)

    assert attempt(behave, body=b"x" * 16_000_000, seconds=SECONDS).error == "timed out"


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"Content-Length: 1000000000\r\n\r\n",
        HEAD + b"\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3B9ACA00\r\n",
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 1000000000\r\n\r\n",
    ],
)
def test_of_a_gigabyte_a_kilobyte_is_read(head: bytes) -> None:
    sent = 0

    def behave(receiver: Receiver, stream: socket.socket) -> None:
        nonlocal sent
        read_request(receiver, stream)
        stream.sendall(head)
        piece = b"x" * 65536
        while sent < 1_000_000_000:
            sent += stream.send(piece)

    tracemalloc.start()
    try:
        answer = attempt(behave)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert (answer.status, answer.text) == (200, "x" * TEXT)
    assert sent < 50_000_000  # what the buffers of the system hold


def test_a_gzip_bomb_is_not_decoded() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    answer = attempt(sending(head + bomb))
    assert answer.status == 200
    assert answer.text == bomb[:TEXT].decode(errors="replace")


def test_an_answer_that_is_no_text_is_told_with_replacements() -> None:
    answer = attempt(sending(HEAD + b"Content-Length: 4\r\n\r\n\xffa\x00b"))
    assert answer.text == "\ufffda\x00b"


@pytest.mark.parametrize("kind", [b"message/rfc822", b"multipart/mixed; boundary=x", b"text/plain; charset=\xff"])
def test_the_kind_of_an_answer_does_not_matter(kind: bytes) -> None:
    assert attempt(sending(HEAD + b"Content-Type: " + kind + b"\r\nContent-Length: 2\r\n\r\nok")).text == "ok"


def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one() -> None:
    def behave(receiver: Receiver, stream: socket.socket) -> None:
        while read_request(receiver, stream):
            stream.sendall(OK)
            time.sleep(0.02)
            with suppress(OSError):
                stream.sendall(OK.replace(b"200 OK", b"500 No"))

    with receiving(behave) as receiver, posting() as poster:
        for number in itertools.count(1):
            assert poster.post(receiver.url, HEADERS, BODY).status == 200
            time.sleep(0.1)
            if number == 3:
                break
        assert receiver.connections == 3


def test_a_redirect_leads_nowhere() -> None:
    with receiving(answering()) as canary:
        for status, location in itertools.product((301, 302, 303, 307, 308), (canary.url, "/elsewhere")):
            answer = attempt(
                sending(f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
            )
            assert (answer.status, answer.error, answer.delivered) == (status, None, False)
        assert canary.connections == 0


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def over_tls(authority: Authority, serving: ssl.SSLContext) -> tuple[str | None, Receiver]:
    with receiving(answering(), tls=serving) as receiver, posting(authority.believing()) as poster:
        return poster.post(f"https://127.0.0.1:{receiver.port}/?key=hush", HEADERS, BODY).error, receiver


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda authority: authority.serving("127.0.0.1", self_signed=True), "self-signed certificate"),
        (lambda authority: authority.serving("127.0.0.2"), "ip address mismatch"),
        (lambda authority: authority.serving("hooks.example.org"), "ip address mismatch"),
        (lambda authority: authority.serving("127.0.0.1", days=-1), "certificate has expired"),
        (lambda authority: authority.another().serving("127.0.0.1"), "unable to get (local )?issuer certificate"),
    ],
    ids=["self-signed", "another address", "a name", "expired", "another authority"],
)
def test_a_certificate_that_proves_nothing_gets_nothing(
    make: Callable[[Authority], ssl.SSLContext], why: str, authority: Authority
) -> None:
    error, receiver = over_tls(authority, make(authority))
    assert error is not None
    assert re.fullmatch(f"the certificate is not valid: {why}", error)
    assert not receiver.requests


def test_a_certificate_for_another_name_gets_nothing(authority: Authority) -> None:
    guard = SsrfGuard(["127.0.0.1"], lambda host, port: ["127.0.0.1"])
    with (
        receiving(answering(), tls=authority.serving("other.example.org")) as receiver,
        closing(WebhookClient(guard, seconds=10, context=authority.believing())) as poster,
    ):
        answer = poster.post(f"https://hooks.example.org:{receiver.port}/", HEADERS, BODY)
    assert answer.error == "the certificate is not valid: hostname mismatch"
    assert not receiver.requests


def test_old_tls_is_not_spoken(authority: Authority) -> None:
    serving = authority.serving("127.0.0.1")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        serving.minimum_version = serving.maximum_version = ssl.TLSVersion.TLSv1_1
    error, receiver = over_tls(authority, serving)
    assert error
    assert error.startswith(("TLS failed: ", "closed without", "reset"))
    assert not receiver.requests


@pytest.mark.parametrize(
    ("behave", "error"),
    [
        (closing_at_once, "closed without an answer"),
        (hanging_at_once, "timed out"),
        (lambda receiver, stream: stream.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9), "TLS failed: [a-z ]+"),
        (lambda receiver, stream: stream.sendall(SECRET * 99), "TLS failed: [a-z ]+"),
    ],
    ids=["closes", "hangs", "speaks plain http", "speaks nonsense"],
)
def test_on_a_port_without_tls_nothing_is_said(behave: Behaviour, error: str, authority: Authority) -> None:
    def once(receiver: Receiver, stream: socket.socket) -> None:
        stream.recv(65536)
        behave(receiver, stream)

    seconds = SECONDS if error == "timed out" else 10
    with receiving(once) as receiver, posting(authority.believing(), seconds) as poster:
        answer = poster.post(f"https://127.0.0.1:{receiver.port}/", HEADERS, BODY)
    assert answer.error
    assert re.fullmatch(error, answer.error)
    assert answer.ms < (seconds + SLACK) * 1000
    assert not receiver.requests


def test_plain_http_to_a_port_with_tls_is_a_failed_attempt(authority: Authority) -> None:
    with receiving(answering(), tls=authority.serving("127.0.0.1")) as receiver, posting() as poster:
        answer = poster.post(receiver.url, HEADERS, BODY)
    assert answer.error in ("the answer is not HTTP", "closed without an answer", "reset")
    assert not receiver.requests


def test_a_receiver_that_drips_over_tls_is_cut_off(authority: Authority) -> None:
    with (
        receiving(sending(HEAD, endless=b"x", pause=0.05), tls=authority.serving("127.0.0.1")) as receiver,
        posting(authority.believing(), 1) as poster,
    ):
        answer = poster.post(f"https://127.0.0.1:{receiver.port}/", HEADERS, BODY)
    assert answer.error == "timed out"
    assert answer.ms < (1 + SLACK) * 1000


# Resolvers


class Changing:
    """A resolver that gives each of these answers in turn, and the last one from then on."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers, self.asked = list(answers), 0

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


HERE_IN_DISGUISE = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "0.0.0.0", "::"]


@pytest.mark.parametrize("private", HERE_IN_DISGUISE)
@pytest.mark.parametrize("mixed", [False, True])
def test_a_name_that_turns_private_after_registration_is_not_connected_to(private: str, mixed: bool) -> None:
    later = ["8.8.8.8", private] if mixed else [private]
    resolver = Changing(["8.8.8.8"], later)
    guard = SsrfGuard(resolve=resolver)
    with receiving(answering()) as receiver, closing(WebhookClient(guard, seconds=10)) as poster:
        url = f"https://hooks.example.org:{receiver.port}/"
        assert guard.resolve_target(guard.check_url(url)) == [("8.8.8.8", receiver.port)]
        for _ in range(3):
            answer = poster.post(url, HEADERS, BODY)
            assert (answer.status, answer.error) == (None, "the address is private: refused")
        assert resolver.asked == 4
        assert receiver.connections == 0


def test_what_is_connected_to_is_what_was_checked(authority: Authority) -> None:
    guard = SsrfGuard(["127.0.0.1"], Changing(["127.0.0.1"], ["127.0.0.2"]))
    with (
        receiving(answering(), tls=authority.serving("hooks.example.org")) as receiver,
        closing(WebhookClient(guard, seconds=10, context=authority.believing())) as poster,
    ):
        url = f"https://hooks.example.org:{receiver.port}/"
        assert poster.post(url, HEADERS, BODY).delivered
        assert poster.post(url, HEADERS, BODY).delivered  # over the connection to the address that was checked
        poster.close()
        assert poster.post(url, HEADERS, BODY).error == "the address is private: refused"
        assert receiver.connections == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}/", "https://[::1]:{}/", "https://2130706433:{}/", "nonsense"])
def test_a_url_that_is_not_allowed_any_more_is_not_connected_to(url: str) -> None:
    with receiving(answering()) as receiver, closing(WebhookClient(SsrfGuard(), seconds=10)) as poster:
        answer = poster.post(url.format(receiver.port), HEADERS, BODY)
        assert answer.error
        assert answer.error.startswith("refused: ")
        assert receiver.connections == 0


def test_a_resolver_that_fails_is_a_failed_attempt() -> None:
    def failing(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with closing(WebhookClient(SsrfGuard(resolve=failing), seconds=10)) as poster:
        assert poster.post("https://hooks.example.org/", HEADERS, BODY).error == "the name cannot be resolved"


def test_a_resolver_that_hangs_is_not_waited_for() -> None:
    go_on = threading.Event()

    def hanging_resolver(host: str, port: int) -> Sequence[str]:
        go_on.wait(10)
        return ["127.0.0.1"]

    with closing(WebhookClient(SsrfGuard(resolve=hanging_resolver), seconds=SECONDS)) as poster:
        answer = poster.post("https://hooks.example.org/", HEADERS, BODY)
        go_on.set()
    assert answer.error == "the name cannot be resolved"
    assert answer.ms < (SECONDS + SLACK) * 1000


def test_a_receiver_that_hangs_delays_no_other() -> None:
    with posting() as one, posting() as other, receiving(answering()) as quick:
        with receiving(hanging) as slow:
            stuck = threading.Thread(target=one.post, args=[slow.url, HEADERS, BODY])
            stuck.start()
            assert all(other.post(quick.url, HEADERS, BODY).delivered for _ in range(20))
            assert stuck.is_alive()
        stuck.join()

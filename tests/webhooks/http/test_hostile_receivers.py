"""Hostile receivers and resolvers: each costs one failed attempt in time and reaches no private target."""

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

from chalk_flask.webhooks.http.client import MAX_TEXT_BYTES, AttemptResponse, WebhookClient
from chalk_flask.webhooks.http.ssrf_guard import SsrfGuard
from tests.support.receiver import (
    OK_RESPONSE,
    CertificateAuthority,
    ConnectionHandler,
    Receiver,
    read_request,
    respond,
    run_receiver,
)

SHORT_TIMEOUT_SECONDS = 0.3
"""Timeout in tests that reach it."""
TIMEOUT_SECONDS = 10.0
MAX_DELAY_SECONDS = 20.0
"""Tolerated delay after the timeout on a busy machine."""
HEADERS = {"Content-Type": "application/json"}
BODY = b'{"event_id":"evt_1"}'
HEAD = b"HTTP/1.1 200 OK\r\n"
SECRET = b"\xe2\x80\xaeINJECTED"


@contextmanager
def open_client(ssl_context: ssl.SSLContext | None = None, timeout: float = TIMEOUT_SECONDS) -> Iterator[WebhookClient]:
    with closing(WebhookClient(SsrfGuard(["127.0.0.1"]), timeout=timeout, ssl_context=ssl_context)) as client:
        yield client


def attempt(handle: ConnectionHandler, *, body: bytes = BODY, timeout: float = TIMEOUT_SECONDS) -> AttemptResponse:
    """Send one request to a receiver with this handler; check that the attempt ends in time."""
    with run_receiver(handle) as receiver, open_client(timeout=timeout) as client:
        started = time.monotonic()
        response = client.post(receiver.url, HEADERS, body)
        assert time.monotonic() - started < timeout + MAX_DELAY_SECONDS
        assert receiver.connections == 1
    return response


def send(*pieces: bytes, endless: bytes = b"", pause: float = 0.0) -> ConnectionHandler:
    """Read the request, send the pieces, then `endless` again and again with a pause before each, and close."""

    def handle(receiver: Receiver, stream: socket.socket) -> None:
        read_request(receiver, stream)
        for piece in pieces:
            stream.sendall(piece)
        while endless:
            time.sleep(pause)
            stream.sendall(endless)

    return handle


def hang(receiver: Receiver, stream: socket.socket) -> None:
    read_request(receiver, stream)
    stream.recv(1)  # until the client closes the connection


def hang_at_once(receiver: Receiver, stream: socket.socket) -> None:
    threading.Event().wait(SHORT_TIMEOUT_SECONDS + MAX_DELAY_SECONDS)


def reset(receiver: Receiver, stream: socket.socket) -> None:
    read_request(receiver, stream)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


def close_at_once(receiver: Receiver, stream: socket.socket) -> None:
    """Close without reading, so that the system resets the connection."""


HOSTILE: list[tuple[str, ConnectionHandler, str]] = [
    ("hangs with the request", hang, "timed out"),
    ("reads nothing", hang_at_once, "timed out"),
    ("resets", reset, "connection reset"),
    ("closes at once", close_at_once, "connection reset|closed without a response"),
    ("closes when it has read", send(), "closed without a response"),
    ("drips its status", send(endless=b"H", pause=0.05), "timed out"),
    ("drips a header", send(HEAD + b"X-A: ", endless=b"x", pause=0.05), "timed out"),
    ("drips headers", send(HEAD, endless=b"X-A: b\r\n", pause=0.05), "timed out"),
    ("drips interim responses", send(endless=b"HTTP/1.1 100 Go on\r\n\r\n", pause=0.05), "timed out"),
    ("drips a body", send(HEAD + b"Content-Length: 900\r\n\r\n", endless=b"x", pause=0.05), "timed out"),
    ("drips a body to the end", send(HEAD + b"\r\n", endless=b"x", pause=0.05), "timed out"),
    (
        "drips chunks",
        send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", endless=b"1\r\nx\r\n", pause=0.05),
        "timed out",
    ),
    ("owes its body", send(HEAD + b"Content-Length: 9\r\n\r\nx"), "the response ended early"),
    ("ends within a chunk", send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\nx"), "the response ended early"),
    ("ends within a header", send(HEAD + b"Content-Length: 0"), "the response ended early"),
    ("has a chunk of no size", send(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "the response ended early"),
    ("ends within its headers", send(HEAD + b"Content-Length: 0\r\n"), "the response ended early"),
    ("has a chunk of less", send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n-2\r\nx"), "the response is not HTTP"),
    ("is garbage", send(SECRET + b"\x00\xff\xfe garbage\r\n\r\n"), "the response is not HTTP"),
    ("is HTTP/0.9", send(b"<html>" + SECRET), "the response is not HTTP"),
    ("is SSH", send(b"SSH-2.0-OpenSSH_9.6\r\n"), "the response is not HTTP"),
    ("is HTTP/2", send(b"HTTP/2.0 200 OK\r\n\r\n"), "the response is not HTTP"),
    ("has no status", send(b"HTTP/1.1 OK " + SECRET + b"\r\n\r\n"), "the response is not HTTP"),
    ("has a wild status", send(b"HTTP/1.1 99999 OK\r\n\r\n"), "the response is not HTTP"),
    (
        "is an endless status",
        send(b"HTTP/1.1 200 ", endless=b"x" * 65536),
        "the response headers are too large",
    ),
    ("is an endless header", send(HEAD + b"A: ", endless=b"x" * 65536), "the response headers are too large"),
    ("has endless headers", send(HEAD, endless=b"A: b\r\n" * 9999), "the response headers are too large"),
    ("has 200 headers", send(HEAD + b"A: b\r\n" * 200 + b"\r\n"), "the response headers are too large"),
    (
        "is endlessly interim",
        send(endless=b"HTTP/1.1 100 Go on\r\n\r\n" * 999),
        "the response headers are too large",
    ),
    (
        "has endless words in a chunk",
        send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", endless=b"x" * 65536),
        "the response chunks are too small",
    ),
    (
        "has endless trailers",
        send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", endless=b"A: b\r\n" * 9999),
        "the response chunks are too small",
    ),
]


@pytest.mark.parametrize(("handle", "error"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_hostile_receiver_costs_one_failed_attempt(handle: ConnectionHandler, error: str) -> None:
    response = attempt(handle, timeout=SHORT_TIMEOUT_SECONDS if error == "timed out" else 10)
    assert (response.status, response.text, response.retry_after, response.delivered) == (None, "", None, False)
    assert response.error
    assert re.fullmatch(error, response.error)
    assert "hush" not in response.error  # the query of the URL
    assert "INJECTED" not in response.error


def test_receiver_that_never_accepts_times_out() -> None:
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
        client = stack.enter_context(open_client(timeout=SHORT_TIMEOUT_SECONDS))
        response = client.post(f"http://127.0.0.1:{listening.getsockname()[1]}/", HEADERS, BODY)
        assert response.error == "timed out"
        assert response.duration_ms < (SHORT_TIMEOUT_SECONDS + MAX_DELAY_SECONDS) * 1000


def test_closed_port_refuses_the_connection() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        port = listening.getsockname()[1]
    with open_client() as client:
        assert client.post(f"http://127.0.0.1:{port}/", HEADERS, BODY).error == "connection refused"


def test_receiver_that_stops_reading_a_large_body_times_out() -> None:
    assert attempt(hang_at_once, body=b"x" * 16_000_000, timeout=SHORT_TIMEOUT_SECONDS).error == "timed out"


def test_response_before_the_end_of_a_large_body_is_read() -> None:
    def handle(receiver: Receiver, stream: socket.socket) -> None:
        stream.recv(1000)
        stream.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")

    response = attempt(handle, body=b"x" * 16_000_000)
    assert (response.status, response.error) == (413, None)


def test_receiver_that_reads_a_large_body_slowly_times_out() -> None:
    def handle(receiver: Receiver, stream: socket.socket) -> None:
        while stream.recv(1000):
            time.sleep(0.02)

    assert attempt(handle, body=b"x" * 16_000_000, timeout=SHORT_TIMEOUT_SECONDS).error == "timed out"


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"Content-Length: 1000000000\r\n\r\n",
        HEAD + b"\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3B9ACA00\r\n",
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 1000000000\r\n\r\n",
    ],
)
def test_one_kilobyte_of_a_gigabyte_is_read(head: bytes) -> None:
    sent_bytes = 0

    def handle(receiver: Receiver, stream: socket.socket) -> None:
        nonlocal sent_bytes
        read_request(receiver, stream)
        stream.sendall(head)
        piece = b"x" * 65536
        while sent_bytes < 1_000_000_000:
            sent_bytes += stream.send(piece)

    tracemalloc.start()
    try:
        response = attempt(handle)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert (response.status, response.text) == (200, "x" * MAX_TEXT_BYTES)
    assert sent_bytes < 50_000_000  # the size of the buffers of the system


def test_compressed_response_is_not_decompressed() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    response = attempt(send(head + bomb))
    assert response.status == 200
    assert response.text == bomb[:MAX_TEXT_BYTES].decode(errors="replace")


def test_binary_response_is_decoded_with_replacements() -> None:
    response = attempt(send(HEAD + b"Content-Length: 4\r\n\r\n\xffa\x00b"))
    assert response.text == "\ufffda\x00b"


@pytest.mark.parametrize("kind", [b"message/rfc822", b"multipart/mixed; boundary=x", b"text/plain; charset=\xff"])
def test_content_type_of_a_response_is_ignored(kind: bytes) -> None:
    assert attempt(send(HEAD + b"Content-Type: " + kind + b"\r\nContent-Length: 2\r\n\r\nok")).text == "ok"


def test_unrequested_response_is_not_used_for_the_next_request() -> None:
    def handle(receiver: Receiver, stream: socket.socket) -> None:
        while read_request(receiver, stream):
            stream.sendall(OK_RESPONSE)
            time.sleep(0.02)
            with suppress(OSError):
                stream.sendall(OK_RESPONSE.replace(b"200 OK", b"500 No"))

    with run_receiver(handle) as receiver, open_client() as client:
        for number in itertools.count(1):
            assert client.post(receiver.url, HEADERS, BODY).status == 200
            time.sleep(0.1)
            if number == 3:
                break
        assert receiver.connections == 3


def test_redirect_is_not_followed() -> None:
    with run_receiver(respond()) as canary:
        for status, location in itertools.product((301, 302, 303, 307, 308), (canary.url, "/elsewhere")):
            response = attempt(
                send(f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
            )
            assert (response.status, response.error, response.delivered) == (status, None, False)
        assert canary.connections == 0


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("authority"))


def over_tls(authority: CertificateAuthority, server_context: ssl.SSLContext) -> tuple[str | None, Receiver]:
    with run_receiver(respond(), tls=server_context) as receiver, open_client(authority.client_context()) as client:
        return client.post(f"https://127.0.0.1:{receiver.port}/?key=hush", HEADERS, BODY).error, receiver


@pytest.mark.parametrize(
    ("make_context", "reason"),
    [
        (lambda authority: authority.server_context("127.0.0.1", self_signed=True), "self-signed certificate"),
        (lambda authority: authority.server_context("127.0.0.2"), "ip address mismatch"),
        (lambda authority: authority.server_context("hooks.example.org"), "ip address mismatch"),
        (lambda authority: authority.server_context("127.0.0.1", days=-1), "certificate has expired"),
        (
            lambda authority: authority.with_same_name().server_context("127.0.0.1"),
            "unable to get (local )?issuer certificate",
        ),
    ],
    ids=["self-signed", "another address", "a name", "expired", "another authority"],
)
def test_invalid_certificate_gets_no_request(
    make_context: Callable[[CertificateAuthority], ssl.SSLContext], reason: str, authority: CertificateAuthority
) -> None:
    error, receiver = over_tls(authority, make_context(authority))
    assert error is not None
    assert re.fullmatch(f"invalid certificate: {reason}", error)
    assert not receiver.requests


def test_certificate_for_another_name_gets_no_request(authority: CertificateAuthority) -> None:
    guard = SsrfGuard(["127.0.0.1"], lambda host, port: ["127.0.0.1"])
    with (
        run_receiver(respond(), tls=authority.server_context("other.example.org")) as receiver,
        closing(WebhookClient(guard, timeout=10, ssl_context=authority.client_context())) as client,
    ):
        response = client.post(f"https://hooks.example.org:{receiver.port}/", HEADERS, BODY)
    assert response.error == "invalid certificate: hostname mismatch"
    assert not receiver.requests


def test_old_tls_version_is_rejected(authority: CertificateAuthority) -> None:
    server_context = authority.server_context("127.0.0.1")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        server_context.minimum_version = server_context.maximum_version = ssl.TLSVersion.TLSv1_1
    error, receiver = over_tls(authority, server_context)
    assert error
    assert error.startswith(("TLS failed: ", "closed without", "connection reset"))
    assert not receiver.requests


@pytest.mark.parametrize(
    ("handle", "error"),
    [
        (close_at_once, "closed without a response"),
        (hang_at_once, "timed out"),
        (lambda receiver, stream: stream.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9), "TLS failed: [a-z ]+"),
        (lambda receiver, stream: stream.sendall(SECRET * 99), "TLS failed: [a-z ]+"),
    ],
    ids=["closes", "hangs", "speaks plain http", "speaks nonsense"],
)
def test_port_without_tls_gets_no_request(
    handle: ConnectionHandler, error: str, authority: CertificateAuthority
) -> None:
    def once(receiver: Receiver, stream: socket.socket) -> None:
        stream.recv(65536)
        handle(receiver, stream)

    timeout = SHORT_TIMEOUT_SECONDS if error == "timed out" else TIMEOUT_SECONDS
    with run_receiver(once) as receiver, open_client(authority.client_context(), timeout) as client:
        response = client.post(f"https://127.0.0.1:{receiver.port}/", HEADERS, BODY)
    assert response.error
    assert re.fullmatch(error, response.error)
    assert response.duration_ms < (timeout + MAX_DELAY_SECONDS) * 1000
    assert not receiver.requests


def test_plain_http_to_a_tls_port_is_a_failed_attempt(authority: CertificateAuthority) -> None:
    with run_receiver(respond(), tls=authority.server_context("127.0.0.1")) as receiver, open_client() as client:
        response = client.post(receiver.url, HEADERS, BODY)
    assert response.error in ("the response is not HTTP", "closed without a response", "connection reset")
    assert not receiver.requests


def test_receiver_that_drips_over_tls_times_out(authority: CertificateAuthority) -> None:
    with (
        run_receiver(send(HEAD, endless=b"x", pause=0.05), tls=authority.server_context("127.0.0.1")) as receiver,
        open_client(authority.client_context(), 1) as client,
    ):
        response = client.post(f"https://127.0.0.1:{receiver.port}/", HEADERS, BODY)
    assert response.error == "timed out"
    assert response.duration_ms < (1 + MAX_DELAY_SECONDS) * 1000


# Resolvers


class ChangingResolver:
    """Resolver that returns each of these responses in turn, and the last one from then on."""

    def __init__(self, *responses: Sequence[str]) -> None:
        self._responses, self.calls = list(responses), 0

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.calls += 1
        return self._responses.pop(0) if len(self._responses) > 1 else self._responses[0]


LOCAL_ADDRESSES = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "0.0.0.0", "::"]


@pytest.mark.parametrize("private", LOCAL_ADDRESSES)
@pytest.mark.parametrize("mixed", [False, True])
def test_name_that_becomes_private_is_not_connected_to(private: str, mixed: bool) -> None:
    later = ["8.8.8.8", private] if mixed else [private]
    resolver = ChangingResolver(["8.8.8.8"], later)
    guard = SsrfGuard(resolve=resolver)
    with run_receiver(respond()) as receiver, closing(WebhookClient(guard, timeout=10)) as client:
        url = f"https://hooks.example.org:{receiver.port}/"
        assert guard.resolve_target(guard.check_url(url)) == [("8.8.8.8", receiver.port)]
        for _ in range(3):
            response = client.post(url, HEADERS, BODY)
            assert (response.status, response.error) == (
                None,
                "rejected: the address is private and not in webhook_allowed_hosts",
            )
        assert resolver.calls == 4
        assert receiver.connections == 0


def test_checked_address_is_the_connected_address(authority: CertificateAuthority) -> None:
    guard = SsrfGuard(["127.0.0.1"], ChangingResolver(["127.0.0.1"], ["127.0.0.2"]))
    with (
        run_receiver(respond(), tls=authority.server_context("hooks.example.org")) as receiver,
        closing(WebhookClient(guard, timeout=10, ssl_context=authority.client_context())) as client,
    ):
        url = f"https://hooks.example.org:{receiver.port}/"
        assert client.post(url, HEADERS, BODY).delivered
        assert client.post(url, HEADERS, BODY).delivered  # over the connection to the address that was checked
        client.close()
        assert (
            client.post(url, HEADERS, BODY).error == "rejected: the address is private and not in webhook_allowed_hosts"
        )
        assert receiver.connections == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}/", "https://[::1]:{}/", "https://2130706433:{}/", "nonsense"])
def test_forbidden_url_is_not_connected_to(url: str) -> None:
    with run_receiver(respond()) as receiver, closing(WebhookClient(SsrfGuard(), timeout=10)) as client:
        response = client.post(url.format(receiver.port), HEADERS, BODY)
        assert response.error
        assert response.error.startswith("rejected: ")
        assert receiver.connections == 0


def test_resolver_that_fails_is_a_failed_attempt() -> None:
    def failing(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with closing(WebhookClient(SsrfGuard(resolve=failing), timeout=10)) as client:
        assert client.post("https://hooks.example.org/", HEADERS, BODY).error == "the name cannot be resolved"


def test_resolver_that_hangs_times_out() -> None:
    go_on = threading.Event()

    def hanging_resolver(host: str, port: int) -> Sequence[str]:
        go_on.wait(10)
        return ["127.0.0.1"]

    with closing(WebhookClient(SsrfGuard(resolve=hanging_resolver), timeout=SHORT_TIMEOUT_SECONDS)) as client:
        response = client.post("https://hooks.example.org/", HEADERS, BODY)
        go_on.set()
    assert response.error == "the name cannot be resolved"
    assert response.duration_ms < (SHORT_TIMEOUT_SECONDS + MAX_DELAY_SECONDS) * 1000


def test_hanging_receiver_does_not_delay_others() -> None:
    with open_client() as client, open_client() as other, run_receiver(respond()) as quick:
        with run_receiver(hang) as slow:
            stuck = threading.Thread(target=client.post, args=[slow.url, HEADERS, BODY])
            stuck.start()
            assert all(other.post(quick.url, HEADERS, BODY).delivered for _ in range(20))
            assert stuck.is_alive()
        stuck.join()

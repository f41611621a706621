"""Request parser: requests are rejected whose head or end a proxy could understand in another way."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from waitress.adjustments import Adjustments

from chalk_flask.server.request_parser import MAX_KEPT_BYTES, LastHead, Parser
from tests.support.server_process import ServerProcess, read_all, read_response, server_process

pytestmark = pytest.mark.slow

# Application that returns the method and the body of a request, as JSON.
ECHO = """
import json

def app(environ, start_response):
    body = environ["wsgi.input"].read().decode("latin-1")
    answer = json.dumps([environ["REQUEST_METHOD"], environ["PATH_INFO"], body]).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]
"""

FOLLOWER = b"GET /second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with server_process(ECHO) as started:
        yield started


def head(*lines: bytes, start: bytes = b"POST /first HTTP/1.1", host: bytes = b"Host: x") -> bytes:
    return b"\r\n".join([start, *([host] if host else []), *lines, b"", b""])


INVALID = {
    "repeated Transfer-Encoding": head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "chunked, chunked": head(b"Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n",
    "chunked then identity": head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity") + b"0\r\n\r\n",
    "unknown transfer coding": head(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
    "xchunked": head(b"Transfer-Encoding: xchunked") + b"0\r\n\r\n",
    "empty Transfer-Encoding": head(b"Transfer-Encoding:"),
    "Transfer-Encoding with a blank before the colon": head(b"Transfer-Encoding : chunked") + b"0\r\n\r\n",
    "Transfer-Encoding in HTTP/1.0": head(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.0") + b"0\r\n\r\n",
    "Transfer-Encoding and Content-Length": head(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "repeated Content-Length": head(b"Content-Length: 0", b"Content-Length: 0"),
    "conflicting Content-Length": head(b"Content-Length: 0", b"Content-Length: 40"),
    "Content-Length list": head(b"Content-Length: 0, 0"),
    "Content-Length with a sign": head(b"Content-Length: +0"),
    "hexadecimal Content-Length": head(b"Content-Length: 0x10"),
    "Content-Length of 5,000 digits": head(b"Content-Length: " + b"0" * 4_999 + b"1"),
    "folded header": head(b"X-Note: one", b" two"),
    "header folded with a tab": head(b"X-Note: one", b"\ttwo"),
    "first header folded": head(b" Host: x", host=b""),
    "missing Host": head(host=b""),
    "repeated Host": head(b"Host: x"),
    "another Host": head(b"Host: y"),
    "Host list": head(host=b"Host: x, y"),
    "header without a name": head(b": value"),
    "header without a colon": head(b"Header"),
    "bare CR in a header": head(b"X-Note: one\rTransfer-Encoding: chunked"),
    "bare LF in a header": head(b"X-Note: one\nTransfer-Encoding: chunked"),
    "NUL in a header": head(b"X-Note: one\0two"),
    "control character in a header": head(b"X-Note: one\x01two"),
    "DEL in a header": head(b"X-Note: one\x7ftwo"),
    "bare CR in the target": head(start=b"GET /a\rb HTTP/1.1"),
    "bare LF in the target": head(start=b"GET /a\nb HTTP/1.1"),
    "NUL in the target": head(start=b"GET /a\0b HTTP/1.1"),
    "tab in the target": head(start=b"GET /a\tb HTTP/1.1"),
    "two tokens": head(start=b"GET /first"),
    "HTTP/2.0": head(start=b"GET /first HTTP/2.0"),
    "HTTP/1.2 with Transfer-Encoding": head(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.2") + b"0\r\n\r\n",
    "lower-case version": head(start=b"GET /first http/1.1"),
    "invalid IPv6 target": head(start=b"GET http://[::1/first HTTP/1.1"),
    "target without a slash": head(start=b"GET first HTTP/1.1"),
    "target of another scheme": head(start=b"GET ftp://x/first HTTP/1.1"),
    "two blanks before the target": head(start=b"GET  /first HTTP/1.1"),
    "more than 256 chunks of one byte": head(b"Transfer-Encoding: chunked") + b"1\r\na\r\n" * 300 + b"0\r\n\r\n",
    "blank lines between chunks": head(b"Transfer-Encoding: chunked") + b"\r\n" * 300 + b"1\r\na\r\n0\r\n\r\n",
    "lower-case method": head(start=b"get /first HTTP/1.1"),
    "thousand blanks before a value": head(b"X-Note:" + b" " * 1_000 + b"a"),
}


@pytest.mark.parametrize("name", INVALID)
def test_ambiguous_request_is_rejected_and_the_rest_unread(server: ServerProcess, name: str) -> None:
    with server.connect() as connection:
        connection.sendall(INVALID[name] + FOLLOWER)
        answer = read_all(connection)
    status, _, body = answer.partition(b"\r\n\r\n")
    assert status.split()[1] == b"400", answer
    assert answer.count(b"Content-Type:") == 1
    assert json.loads(body)["statusInfoSet"][0]["imsx_codeMinor"] == "invalid data"


def test_rejection_names_the_reason_and_quotes_no_header(server: ServerProcess) -> None:
    with server.connect() as connection:
        connection.sendall(head(b"Authorization: Bearer secret", b" folded"))
        message = json.loads(read_all(connection).partition(b"\r\n\r\n")[2])["message"]
    assert "folded: send it in one line" in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("sent", "reason", "other"),
    [
        (head(start=b"GET http://[::1/first HTTP/1.1"), "its target is invalid", "Content-Length"),
        (head(b"Content-Length: " + b"1" * 5_000), "its Content-Length is invalid", "target"),
    ],
)
def test_rejection_names_only_what_is_invalid(server: ServerProcess, sent: bytes, reason: str, other: str) -> None:
    with server.connect() as connection:
        connection.sendall(sent)
        message = json.loads(read_all(connection).partition(b"\r\n\r\n")[2])["message"]
    assert reason in message
    assert other not in message


@pytest.mark.parametrize("blanks", [b"\r\n", b"\n", b" \r\n\r\n"])
@pytest.mark.parametrize("is_split", [False, True])
def test_many_blank_lines_before_a_request_are_rejected(server: ServerProcess, blanks: bytes, is_split: bool) -> None:
    with server.connect() as connection:
        for part in [blanks * 10] * 20 if is_split else [blanks * 200]:
            with suppress(OSError):  # the server closes the connection before it receives all of them
                connection.sendall(part)
            time.sleep(0.01 * is_split)
        answer = read_all(connection)
    assert is_split or answer.startswith(b"HTTP/1.0 400 ")
    assert not answer or b"blank" in answer
    with server.connect() as connection:
        connection.sendall(blanks * 50)
        assert read_all(connection).startswith(b"HTTP/1.0 400 ")


VALID = {
    "no body": (head(), b""),
    "empty Content-Length 0": (head(b"Content-Length: 0"), b""),
    "Content-Length": (head(b"Content-Length: 3") + b"abc", b"abc"),
    "chunked": (head(b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
    "256 chunks of one byte": (
        head(b"Transfer-Encoding: chunked") + b"1\r\na\r\n" * 256 + b"0\r\n\r\n",
        b"a" * 256,
    ),
    "1,500 chunks of 256 bytes": (
        head(b"Transfer-Encoding: chunked") + (b"100\r\n" + b"a" * 256 + b"\r\n") * 1_500 + b"0\r\n\r\n",
        b"a" * 384_000,
    ),
    "100 headers": (head(*(b"X-%d: a" % number for number in range(98)), b"Content-Length: 3") + b"abc", b"abc"),
    "absolute target": (head(b"Content-Length: 3", start=b"POST HTTP://x/first HTTP/1.1") + b"abc", b"abc"),
    "chunked in capitals": (head(b"TRANSFER-ENCODING:\tCHUNKED") + b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
    "header about transfer encodings": (head(b"X-Transfer-Encoding: none", b"Content-Length: 3") + b"abc", b"abc"),
    "blank line before": (b"\r\n" + head(b"Content-Length: 3") + b"abc", b"abc"),
    "sixteen blank lines before": (b"\r\n" * 16 + head(b"Content-Length: 3") + b"abc", b"abc"),
    "tabs and letters in a header": (head(b"X-Note: a\tb \xc3\xa9", b"Content-Length: 3") + b"abc", b"abc"),
    "Expect without a body": (head(b"Expect: 100-continue"), b""),
    "Expect with an empty body": (head(b"Expect: 100-continue", b"Content-Length: 0"), b""),
}


@pytest.mark.parametrize("name", VALID)
def test_valid_request_is_served_and_the_next_one_too(server: ServerProcess, name: str) -> None:
    sent, body = VALID[name]
    with server.connect() as connection:
        connection.sendall(sent)
        answer = read_response(connection)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == ["POST", "/first", body.decode()]
        connection.sendall(FOLLOWER)
        assert json.loads(read_response(connection).partition(b"\r\n\r\n")[2])[1] == "/second"


@pytest.mark.parametrize("name", [b"X", b"X-%d"])
def test_more_than_100_headers_are_431(server: ServerProcess, name: bytes) -> None:
    headers = [(name % number if b"%" in name else name) + b": a" for number in range(100)]
    with server.connect() as connection:
        connection.sendall(head(*headers))
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.0 431 ")
    assert b"more than 100 headers" in answer


def test_chunk_that_arrives_byte_by_byte_counts_once(server: ServerProcess) -> None:
    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(head(b"Transfer-Encoding: chunked") + b"200\r\n")
        for _ in range(512):
            connection.sendall(b"a")
            time.sleep(0.001)
        connection.sendall(b"\r\n0\r\n\r\n")
        assert json.loads(read_response(connection).partition(b"\r\n\r\n")[2])[2] == "a" * 512


READ = head(b"Authorization: Bearer a", b"X-Note: \xc3\xa9", start=b"GET /first?limit=1 HTTP/1.1")

LINES = [
    b"GET /a?limit=1&filter=a%3D'b' HTTP/1.1",
    b"HEAD / HTTP/1.1",
    b"GET /a?b?c HTTP/1.1",
    b"GET /a?http://b/[c]?{d}|e HTTP/1.1",
    b"GET /a:b@c//d;e HTTP/1.1",
    b"GET /a? HTTP/1.1",
    b"GET /a%20b%2Fc HTTP/1.1",
    b"GET /a b?c=d e HTTP/1.1",
    b"GET /M\xc3\xbcller?a=\xff HTTP/1.1",
    b"GET //host/a HTTP/1.1",
    b"GET /a#b?c HTTP/1.1",
    b"GET /a?b#c HTTP/1.1",
    b"GET http://host/a?b HTTP/1.1",
    b"GET http://[host/a HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"POST /a HTTP/1.1",
    b"get /a HTTP/1.1",
    b"GET a HTTP/1.1",
    b"GET  /a HTTP/1.1",
    b"GET /a  HTTP/1.1",
    b"GET /a HTTP/1.1 ",
    b"GET /a HTTP/1.0",
    b"GET /a HTTP/1.2",
    b"GET /a",
    b"GET /a\tb HTTP/1.1",
    b"GET /a\x00 HTTP/1.1",
    b"GET /a\nb HTTP/1.1",
    b"\r\nGET /a HTTP/1.1",
    b"GET /a HTTP/1.1\r\nX-Other: b",
    b"GET /a HTTP/1.1\r\nHost: y",
    b"GET /a HTTP/1.1\r\nContent-Length: 3",
    b"GET /a HTTP/1.1\r\nTransfer-Encoding: chunked",
    b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1",
]


def parse(data: bytes, last: LastHead | None) -> dict[str, object]:
    """Return what a new parser makes of data."""
    parser = Parser(Adjustments(max_request_header_size=65536), last)
    consumed = parser.received(data)
    names = ["command", "path", "query", "fragment", "request_uri", "version", "headers", "url_scheme", "reason"]
    names += ["completed", "empty", "headers_finished", "content_length", "connection_close", "expect_continue"]
    parsed: dict[str, object] = {name: getattr(parser, name, None) for name in names}
    error = parser.error and parser.error.to_response("test")
    return parsed | {"consumed": consumed, "error": error, "has_body": parser.body_rcv is not None}


@pytest.mark.parametrize("line", LINES)
def test_repeated_headers_make_the_same_request_as_new_ones(line: bytes) -> None:
    last = LastHead()
    parse(READ, last)
    assert last.end
    data = line + last.end
    assert parse(data, last) == parse(data, None)


@pytest.mark.parametrize(
    "sent",
    [
        head(b"Content-Length: 3"),
        head(b"Transfer-Encoding: chunked"),
        head(b"Expect: 100-continue"),
        head(b"Connection: close"),
        head(b"Content-Length: 0, 0"),
        head(b"Host: y"),
        head(start=b"GET / HTTP/1.0"),
        head(b"X-Note: " + b"a" * MAX_KEPT_BYTES),
    ],
)
def test_headers_are_not_kept_of_requests_that_are_not_usual_reads(sent: bytes) -> None:
    last = LastHead()
    parse(sent, last)
    assert not last.end


def test_requests_with_repeated_headers_are_served_in_their_order(server: ServerProcess) -> None:
    def target(number: int) -> bytes:
        return READ.replace(b"/first", b"/%d" % number)

    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sent = [target(1), target(2), target(3) + target(4) + target(5), target(6)[:20], target(6)[20:], FOLLOWER]
        for part in sent:
            connection.sendall(part)
            time.sleep(0.05)
        answers = read_all(connection)
    assert re.findall(rb'"GET", "([^"]*)"', answers) == [b"/1", b"/2", b"/3", b"/4", b"/5", b"/6", b"/second"]


def test_host_may_be_missing_in_http_1_0(server: ServerProcess) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /first HTTP/1.0\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.0 200 ")


@pytest.mark.parametrize("body", [b"Content-Length: 3", b"Transfer-Encoding: chunked"])
def test_client_that_expects_100_gets_it_before_its_body(server: ServerProcess, body: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(head(b"Expect: 100-continue", body))
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc" if b"Length" in body else b"3\r\nabc\r\n0\r\n\r\n")
        assert json.loads(read_response(connection).partition(b"\r\n\r\n")[2])[2] == "abc"


def test_client_that_expects_100_for_too_large_a_body_gets_413(server: ServerProcess) -> None:
    with server.connect() as connection:
        connection.sendall(head(b"Expect: 100-continue", b"Content-Length: 50000000"))
        assert b" 413 " in connection.recv(1000)


def test_large_chunked_body_gets_413_with_the_remedy(server: ServerProcess) -> None:
    with server.connect() as connection:
        connection.sendall(head(b"Transfer-Encoding: chunked") + b"%x\r\n" % (2 << 20))
        with suppress(OSError):
            connection.sendall(bytes(2 << 20))
        assert b"requires a Content-Length" in read_response(connection)


def test_blanks_in_a_head_do_not_keep_the_server_busy(server: ServerProcess) -> None:
    with server.connect() as connection:
        connection.sendall(head(b"X-Note:" + b" " * 60_000 + b"a"))
        began = time.monotonic()
        assert json.loads(server.get("/other"))[1] == "/other"
    assert time.monotonic() - began < 15

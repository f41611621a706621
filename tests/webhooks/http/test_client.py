"""One attempt to deliver, to receivers that answer."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from statistics import median

import pytest

from chalk_flask.webhooks.http.client import AttemptResponse, WebhookClient
from chalk_flask.webhooks.http.ssrf_guard import SsrfGuard
from tests.support.receiver import OK, Authority, Receiver, answering, read_request, receiving

HEADERS = {"Content-Type": "application/json", "webhook-id": "evt_1"}
BODY = b'{"event_id":"evt_1"}'
HERE = SsrfGuard(["127.0.0.1"])


@pytest.fixture
def poster() -> Iterator[WebhookClient]:
    with closing(WebhookClient(HERE, seconds=5)) as made:
        yield made


def local(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


def post(poster: WebhookClient, receiver: Receiver) -> AttemptResponse:
    return poster.post(receiver.url, HEADERS, BODY)


def test_the_request_is_a_plain_post_of_the_exact_bytes(poster: WebhookClient) -> None:
    body = '{"name": "Zoë"}'.encode()
    with receiving(answering()) as receiver:
        answer = poster.post(receiver.url, HEADERS, body)
    assert (answer.status, answer.error, answer.text, answer.delivered) == (200, None, "ok", True)
    assert 0 <= answer.ms < 5000
    first, headers, sent = receiver.requests[0]
    assert first == "POST /hooks?key=hush HTTP/1.1"
    assert sent == body
    assert headers == {
        "host": f"127.0.0.1:{receiver.port}",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "webhook-id": "evt_1",
        "content-length": str(len(body)),
    }


def test_posts_share_one_connection(poster: WebhookClient) -> None:
    with receiving(answering()) as receiver:
        assert {post(poster, receiver).status for _ in range(20)} == {200}
        assert (receiver.connections, len(receiver.requests)) == (1, 20)


def test_python_s_own_server_which_sends_head_and_body_apart_does_not_wait_for_us(poster: WebhookClient) -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(202)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        answers = [poster.post(url, HEADERS, BODY) for _ in range(41)]
        poster.close()
        server.shutdown()
    assert {each.status for each in answers} == {202}
    assert median(each.ms for each in answers) < 30, "an acknowledgement that is put off takes 40 ms"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000,
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
    ],
)
def test_a_connection_that_cannot_be_used_again_is_not(answer: bytes, poster: WebhookClient) -> None:
    with receiving(answering(answer)) as receiver:
        assert post(poster, receiver).error is post(poster, receiver).error is None
        assert receiver.connections == 2


def test_an_answer_in_chunks_is_read_to_its_end_and_the_connection_kept(poster: WebhookClient) -> None:
    with receiving(answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")) as receiver:
        assert [post(poster, receiver).text for _ in range(3)] == ["ok"] * 3
        assert receiver.connections == 1


def test_a_connection_that_was_closed_while_idle_costs_no_attempt(poster: WebhookClient) -> None:
    with receiving(answering(close=True)) as receiver:
        for _ in range(3):
            assert post(poster, receiver).status == 200
            time.sleep(0.05)
        assert receiver.connections == len(receiver.requests) == 3


def test_a_kept_connection_that_ends_before_an_answer_is_replaced_once(poster: WebhookClient) -> None:
    def behave(receiver: Receiver, stream: socket.socket) -> None:
        read_request(receiver, stream)
        if len(receiver.requests) == 1:
            stream.sendall(OK)
            read_request(receiver, stream)

    with receiving(behave) as receiver:
        assert post(poster, receiver).status == 200
        assert post(poster, receiver).error == "closed without an answer"
        assert (receiver.connections, len(receiver.requests)) == (2, 3)


def test_a_new_connection_that_ends_before_an_answer_is_not_replaced(poster: WebhookClient) -> None:
    with receiving(answering(b"", close=True)) as receiver:
        assert post(poster, receiver).error == "closed without an answer"
        assert receiver.connections == 1


def test_an_idle_connection_is_kept_for_a_short_while_only() -> None:
    with receiving(answering()) as receiver, closing(WebhookClient(HERE, idle=0.05)) as poster:
        post(poster, receiver)
        post(poster, receiver)
        assert receiver.connections == 1
        time.sleep(0.1)
        post(poster, receiver)
        assert receiver.connections == 2


def test_a_connection_is_for_its_host_and_port_alone(poster: WebhookClient) -> None:
    with receiving(answering()) as first, receiving(answering()) as second:
        for receiver in (first, second, second, first):
            assert post(poster, receiver).status == 200
        assert (len(first.requests), len(second.requests)) == (2, 2)
        assert (first.connections, second.connections) == (2, 1)


@pytest.mark.parametrize("status", [204, 301, 302, 307, 308, 400, 401, 404, 410, 429, 500, 503])
def test_a_status_is_told_and_a_redirect_is_only_a_status(status: int, poster: WebhookClient) -> None:
    with receiving(answering()) as canary:
        said = f"HTTP/1.1 {status} X\r\nLocation: {canary.url}\r\nContent-Length: 0\r\n\r\n".encode()
        with receiving(answering(said)) as receiver:
            answer = post(poster, receiver)
        assert (answer.status, answer.error, answer.delivered) == (status, None, status == 204)
        assert canary.connections == 0


def retry_after(poster: WebhookClient, said: str) -> float | None:
    head = f"HTTP/1.1 429 Too Many\r\nRetry-After: {said}\r\nContent-Length: 0\r\n\r\n"
    with receiving(answering(head.encode())) as receiver:
        return post(poster, receiver).retry_after


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("86401", 86400),
        ("99999999999999999", 86400),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("1.5", None),
        ("٣", None),
        ("Sat, 01 Jan 2000 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86400),
        ("Fri, 99 Dec 9999 23:59:59 GMT", None),
    ],
)
def test_retry_after_is_read_within_a_day(said: str, seconds: float | None, poster: WebhookClient) -> None:
    assert retry_after(poster, said) == seconds


def test_retry_after_may_be_a_date(poster: WebhookClient) -> None:
    moment = datetime.now(UTC) + timedelta(minutes=10)
    assert retry_after(poster, format_datetime(moment, usegmt=True)) == pytest.approx(600, abs=5)


def test_proxies_of_the_environment_are_not_used(poster: WebhookClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving(answering()) as proxy, receiving(answering()) as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert post(poster, receiver).status == 200
        assert (proxy.connections, receiver.connections) == (0, 1)


def test_cookies_are_not_sent_back(poster: WebhookClient) -> None:
    with receiving(answering(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")) as receiver:
        post(poster, receiver)
        post(poster, receiver)
    assert "cookie" not in receiver.requests[1][1]


@pytest.mark.parametrize(("name", "value"), [("X-A", "b\r\nX-C: d"), ("X-A\r\nB", "c"), ("X-A", "ü"), ("X-A", "")])
def test_a_header_that_would_end_its_line_is_never_sent(name: str, value: str, poster: WebhookClient) -> None:
    with receiving(answering()) as receiver, pytest.raises(ValueError, match="cannot be sent"):
        poster.post(receiver.url, {name: value}, BODY)
    assert receiver.connections == 0


def test_by_https_the_name_is_proven_and_told_though_the_connection_goes_to_the_address(tmp_path: Path) -> None:
    authority, told = Authority(tmp_path), []
    serving = authority.serving("hooks.example.org")
    serving.sni_callback = lambda stream, name, context: told.append(name)
    guard = SsrfGuard(["127.0.0.1"], local)
    with (
        receiving(answering(), tls=serving) as receiver,
        closing(WebhookClient(guard, seconds=5, context=authority.believing())) as poster,
    ):
        url = f"https://hooks.example.org:{receiver.port}/"
        assert [poster.post(url, HEADERS, BODY).status for _ in range(3)] == [200] * 3
        assert receiver.connections == 1
    assert told == ["hooks.example.org"]
    assert receiver.requests[0][1]["host"] == f"hooks.example.org:{receiver.port}"


def test_the_authorities_of_the_system_are_believed_when_no_others_are_given(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with (
        receiving(answering(), tls=authority.serving("127.0.0.1")) as receiver,
        closing(WebhookClient(HERE, seconds=5)) as poster,
    ):
        answer = poster.post(f"https://127.0.0.1:{receiver.port}/", HEADERS, BODY)
    assert answer.error is not None
    assert answer.error.startswith("the certificate is not valid: ")
    assert not receiver.requests


def test_an_address_with_a_certificate_of_its_own_is_believed(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with (
        receiving(answering(), tls=authority.serving("127.0.0.1")) as receiver,
        closing(WebhookClient(HERE, seconds=5, context=authority.believing())) as poster,
    ):
        assert poster.post(f"https://127.0.0.1:{receiver.port}/", HEADERS, BODY).delivered


def test_the_next_address_of_a_name_is_tried_when_the_first_cannot_be_reached() -> None:
    guard = SsrfGuard(["hooks.lan"], lambda host, port: ["::1", "127.0.0.1"])
    with receiving(answering()) as receiver, closing(WebhookClient(guard, seconds=5)) as poster:
        assert poster.post(f"http://hooks.lan:{receiver.port}/", HEADERS, BODY).status == 200


def test_a_large_body_is_sent_whole_over_tls(tmp_path: Path) -> None:
    authority, body = Authority(tmp_path), b"x" * 512 * 1024
    context: ssl.SSLContext = authority.serving("127.0.0.1")
    with (
        receiving(answering(), tls=context) as receiver,
        closing(WebhookClient(HERE, seconds=5, context=authority.believing())) as poster,
    ):
        assert poster.post(f"https://127.0.0.1:{receiver.port}/", HEADERS, body).delivered
    assert receiver.requests[0][2] == body

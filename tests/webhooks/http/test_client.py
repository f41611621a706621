"""HTTP client of webhooks with receivers that respond."""

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
from tests.support.receiver import OK_RESPONSE, CertificateAuthority, Receiver, read_request, respond, run_receiver

HEADERS = {"Content-Type": "application/json", "webhook-id": "evt_1"}
BODY = b'{"event_id":"evt_1"}'
LOCAL_GUARD = SsrfGuard(["127.0.0.1"])


@pytest.fixture
def client() -> Iterator[WebhookClient]:
    with closing(WebhookClient(LOCAL_GUARD, timeout=5)) as client:
        yield client


def local(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


def post(client: WebhookClient, receiver: Receiver) -> AttemptResponse:
    return client.post(receiver.url, HEADERS, BODY)


def test_request_is_a_plain_post_of_the_exact_bytes(client: WebhookClient) -> None:
    body = '{"name": "Zoë"}'.encode()
    with run_receiver(respond()) as receiver:
        response = client.post(receiver.url, HEADERS, body)
    assert (response.status, response.error, response.text, response.delivered) == (200, None, "ok", True)
    assert 0 <= response.duration_ms < 5000
    first, headers, sent_body = receiver.requests[0]
    assert first == "POST /hooks?key=hush HTTP/1.1"
    assert sent_body == body
    assert headers == {
        "host": f"127.0.0.1:{receiver.port}",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "webhook-id": "evt_1",
        "content-length": str(len(body)),
    }


def test_requests_share_one_connection(client: WebhookClient) -> None:
    with run_receiver(respond()) as receiver:
        assert {post(client, receiver).status for _ in range(20)} == {200}
        assert (receiver.connections, len(receiver.requests)) == (1, 20)


def test_acknowledgments_are_not_delayed_for_pythons_http_server(client: WebhookClient) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(202)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        responses = [client.post(url, HEADERS, BODY) for _ in range(41)]
        client.close()
        server.shutdown()
    assert {response.status for response in responses} == {202}
    assert median(response.duration_ms for response in responses) < 30, "a delayed acknowledgment takes 40 ms"


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000,
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
    ],
)
def test_connection_is_closed_after_a_response_that_ends_it(response: bytes, client: WebhookClient) -> None:
    with run_receiver(respond(response)) as receiver:
        assert post(client, receiver).error is post(client, receiver).error is None
        assert receiver.connections == 2


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok"),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok", "ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", ""),
    ],
)
def test_complete_response_keeps_the_connection(response: bytes, text: str, client: WebhookClient) -> None:
    with run_receiver(respond(response)) as receiver:
        assert [post(client, receiver).text for _ in range(3)] == [text] * 3
        assert receiver.connections == 1


def test_idle_connection_closed_by_the_receiver_is_replaced(client: WebhookClient) -> None:
    with run_receiver(respond(close=True)) as receiver:
        for _ in range(3):
            assert post(client, receiver).status == 200
            time.sleep(0.05)
        assert receiver.connections == len(receiver.requests) == 3


def test_connection_that_ends_before_a_response_is_replaced_once(client: WebhookClient) -> None:
    def handle(receiver: Receiver, stream: socket.socket) -> None:
        read_request(receiver, stream)
        if len(receiver.requests) == 1:
            stream.sendall(OK_RESPONSE)
            read_request(receiver, stream)

    with run_receiver(handle) as receiver:
        assert post(client, receiver).status == 200
        assert post(client, receiver).error == "closed without a response"
        assert (receiver.connections, len(receiver.requests)) == (2, 3)


def test_new_connection_without_a_response_is_not_replaced(client: WebhookClient) -> None:
    with run_receiver(respond(b"", close=True)) as receiver:
        assert post(client, receiver).error == "closed without a response"
        assert receiver.connections == 1


def test_idle_connection_is_closed_after_its_timeout() -> None:
    for seconds, connections in ((600.0, 1), (0.0, 2)):
        with run_receiver(respond()) as receiver, closing(WebhookClient(LOCAL_GUARD, idle_timeout=seconds)) as client:
            post(client, receiver)
            time.sleep(0.01)
            post(client, receiver)
            assert receiver.connections == connections


def test_connection_is_reused_for_the_same_host_and_port_only(client: WebhookClient) -> None:
    with run_receiver(respond()) as first, run_receiver(respond()) as second:
        for receiver in (first, second, second, first):
            assert post(client, receiver).status == 200
        assert (len(first.requests), len(second.requests)) == (2, 2)
        assert (first.connections, second.connections) == (2, 1)


@pytest.mark.parametrize("status", [204, 301, 302, 307, 308, 400, 401, 404, 410, 429, 500, 503])
def test_status_is_returned_and_a_redirect_is_not_followed(status: int, client: WebhookClient) -> None:
    with run_receiver(respond()) as canary:
        value = f"HTTP/1.1 {status} X\r\nLocation: {canary.url}\r\nContent-Length: 0\r\n\r\n".encode()
        with run_receiver(respond(value)) as receiver:
            response = post(client, receiver)
        assert (response.status, response.error, response.delivered) == (status, None, status == 204)
        assert canary.connections == 0


def retry_after(client: WebhookClient, value: str) -> float | None:
    head = f"HTTP/1.1 429 Too Many\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n"
    with run_receiver(respond(head.encode())) as receiver:
        return post(client, receiver).retry_after


@pytest.mark.parametrize(
    ("value", "seconds"),
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
def test_retry_after_is_limited_to_a_day(value: str, seconds: float | None, client: WebhookClient) -> None:
    assert retry_after(client, value) == seconds


def test_retry_after_can_be_a_date(client: WebhookClient) -> None:
    retry_at = datetime.now(UTC) + timedelta(minutes=10)
    assert retry_after(client, format_datetime(retry_at, usegmt=True)) == pytest.approx(600, abs=5)


def test_proxy_variables_are_ignored(client: WebhookClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with run_receiver(respond()) as proxy, run_receiver(respond()) as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert post(client, receiver).status == 200
        assert (proxy.connections, receiver.connections) == (0, 1)


def test_cookies_are_not_sent_back(client: WebhookClient) -> None:
    with run_receiver(respond(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")) as receiver:
        post(client, receiver)
        post(client, receiver)
    assert "cookie" not in receiver.requests[1][1]


@pytest.mark.parametrize(("name", "value"), [("X-A", "b\r\nX-C: d"), ("X-A\r\nB", "c"), ("X-A", "ü"), ("X-A", "")])
def test_invalid_header_is_never_sent(name: str, value: str, client: WebhookClient) -> None:
    with run_receiver(respond()) as receiver, pytest.raises(ValueError, match="invalid header"):
        client.post(receiver.url, {name: value}, BODY)
    assert receiver.connections == 0


def test_https_uses_the_name_for_sni_and_the_certificate(tmp_path: Path) -> None:
    authority, server_names = CertificateAuthority(tmp_path), []
    server_context = authority.server_context("hooks.example.org")
    server_context.sni_callback = lambda stream, name, context: server_names.append(name)
    guard = SsrfGuard(["127.0.0.1"], local)
    with (
        run_receiver(respond(), tls=server_context) as receiver,
        closing(WebhookClient(guard, timeout=5, ssl_context=authority.client_context())) as client,
    ):
        url = f"https://hooks.example.org:{receiver.port}/"
        assert [client.post(url, HEADERS, BODY).status for _ in range(3)] == [200] * 3
        assert receiver.connections == 1
    assert server_names == ["hooks.example.org"]
    assert receiver.requests[0][1]["host"] == f"hooks.example.org:{receiver.port}"


def test_default_context_trusts_system_authorities_only(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    with (
        run_receiver(respond(), tls=authority.server_context("127.0.0.1")) as receiver,
        closing(WebhookClient(LOCAL_GUARD, timeout=5)) as client,
    ):
        response = client.post(f"https://127.0.0.1:{receiver.port}/", HEADERS, BODY)
    assert response.error is not None
    assert response.error.startswith("invalid certificate: ")
    assert not receiver.requests


def test_certificate_for_an_address_is_accepted(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    with (
        run_receiver(respond(), tls=authority.server_context("127.0.0.1")) as receiver,
        closing(WebhookClient(LOCAL_GUARD, timeout=5, ssl_context=authority.client_context())) as client,
    ):
        assert client.post(f"https://127.0.0.1:{receiver.port}/", HEADERS, BODY).delivered


def test_next_address_is_tried_if_the_first_cannot_be_reached() -> None:
    guard = SsrfGuard(["hooks.lan"], lambda host, port: ["::1", "127.0.0.1"])
    with run_receiver(respond()) as receiver, closing(WebhookClient(guard, timeout=5)) as client:
        assert client.post(f"http://hooks.lan:{receiver.port}/", HEADERS, BODY).status == 200


def test_large_body_is_sent_completely_over_tls(tmp_path: Path) -> None:
    authority, body = CertificateAuthority(tmp_path), b"x" * 512 * 1024
    context: ssl.SSLContext = authority.server_context("127.0.0.1")
    with (
        run_receiver(respond(), tls=context) as receiver,
        closing(WebhookClient(LOCAL_GUARD, timeout=5, ssl_context=authority.client_context())) as client,
    ):
        assert client.post(f"https://127.0.0.1:{receiver.port}/", HEADERS, body).delivered
    assert receiver.requests[0][2] == body

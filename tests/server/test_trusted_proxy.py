"""Addresses of clients behind a reverse proxy, over sockets: rate limits count each client, and none can pretend."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from chalk_flask.api.auth.rate_limits import MAX_FAILED_LOGINS
from chalk_flask.server.forwarded import ForwardedHeaders
from tests.e2e.conftest import RunningService, serve

pytestmark = pytest.mark.slow

TOKEN_PATH = "/oauth/token"


@pytest.fixture(scope="module")
def behind_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """Service whose trusted proxy is this machine."""
    with serve(tmp_path_factory.mktemp("proxied"), "none", "--trusted-proxy", "127.0.0.1") as service:
        yield service


def log_in(service: RunningService, forwarded_for: str) -> int:
    """Return the status of a failed login that the proxy forwards."""
    body = b"grant_type=client_credentials&client_id=unknown&client_secret=wrong"
    lines = [
        f"POST {TOKEN_PATH} HTTP/1.1", "Host: x", f"X-Forwarded-For: {forwarded_for}", "Connection: close",
        "Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}",
    ]  # fmt: skip
    return int(exchange(service, "\r\n".join([*lines, "", ""]).encode() + body).split()[1])


def exchange(service: RunningService, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def use_up(service: RunningService, address: str) -> None:
    """Fail to log in as often as one address may."""
    assert {log_in(service, address) for _ in range(MAX_FAILED_LOGINS)} == {401}
    assert log_in(service, address) == 429


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
def test_each_client_of_the_proxy_is_counted(behind_proxy: RunningService, address: str) -> None:
    use_up(behind_proxy, address)
    assert log_in(behind_proxy, "192.0.2.200") == 401
    assert log_in(behind_proxy, "2001:db8:0:1::7") == 401


def test_address_that_a_client_sends_itself_does_not_count(behind_proxy: RunningService) -> None:
    """The proxy appends the real address to what the client sent."""
    use_up(behind_proxy, "192.0.2.8")
    for pretended in ("198.51.100.1", "127.0.0.1", "unknown", "1.1.1.1, 2.2.2.2", '"[::1]:80"'):
        assert log_in(behind_proxy, f"{pretended}, 192.0.2.8") == 429
    assert log_in(behind_proxy, "198.51.100.1") == 401


def test_headers_are_ignored_without_a_trusted_proxy(tmp_path: Path) -> None:
    with serve(tmp_path, "none") as service:
        statuses = [log_in(service, f"192.0.2.{number}") for number in range(MAX_FAILED_LOGINS + 1)]
    assert statuses == [401] * MAX_FAILED_LOGINS + [429]


def test_request_that_cannot_be_parsed_gets_the_protecting_header(behind_proxy: RunningService) -> None:
    response = exchange(behind_proxy, b"GET / HTTP/1.1\r\nHost: x\r\nbroken header\r\n\r\n")
    assert b" 400 " in response
    assert b"X-Content-Type-Options: nosniff" in response


MALFORMED = {
    "protocol": "X-Forwarded-Proto: secret1",
    "two protocols": "X-Forwarded-Proto: http, secret1",
    "unclosed quote": 'X-Forwarded-For: "secret1',
    "quoted blank": 'X-Forwarded-For: " "',
    "address that is empty before its port": "X-Forwarded-For: :secret1.0",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_forwarded_header_is_rejected_as_json(behind_proxy: RunningService, name: str) -> None:
    request = f"GET / HTTP/1.1\r\nHost: x\r\n{MALFORMED[name]}\r\nConnection: close\r\n\r\n"
    head, _, body = exchange(behind_proxy, request.encode()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 "), head
    for line in (b"Content-Type: application/json", b"Cache-Control: no-store", b"X-Content-Type-Options: nosniff"):
        assert line in head.split(b"\r\n")
    error = json.loads(body)
    assert error["statusInfoSet"][0]["imsx_codeMinor"] == "invalid data"
    assert MALFORMED[name].partition(":")[0] in error["message"]
    assert b"secret1" not in body


def test_value_of_a_malformed_forwarded_header_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = ForwardedHeaders(lambda _environ, _start: [b"served"], "*")
    environ = {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_PROTO": "secret1"}
    statuses: list[str] = []
    assert app(environ, lambda status, _headers, _info=None: statuses.append(status)) != [b"served"]  # type: ignore[arg-type]  # it writes nothing
    assert statuses == ["400 Bad Request"]
    assert "X-Forwarded-Proto" in caplog.text
    assert "secret1" not in caplog.text

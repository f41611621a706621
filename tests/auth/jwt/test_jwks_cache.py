"""Keys that issuers publish: how they are fetched, and how long they are cached."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from chalk_flask.auth.jwt.jwks import MAX_JWKS_BYTES, InvalidKeySetError
from chalk_flask.auth.jwt.jwks_cache import MAX_OVERDUE_SECONDS, RemoteJwks, RemoteJwksCache, fetch_jwks
from chalk_flask.https import client as https_client
from tests.auth.conftest import wait_until
from tests.support.clock import FakeClock
from tests.support.keys import JwksServer, make_jwks, rsa_key, serve_jwks

OLD, NEW = rsa_key("old"), rsa_key("new")


URL = "https://tool.example.org/"


class FakeFetch:
    """Replacement of `fetch_jwks` that counts its calls, and fails if there is no body."""

    def __init__(self, body: bytes | None) -> None:
        self.body, self.age, self.call_count = body, 3600.0, 0

    def __call__(self, url: str) -> tuple[bytes, float]:
        self.call_count += 1
        if self.body is None:
            raise ConnectionRefusedError(111, "Connection refused")
        return self.body, self.age


def has_key(remote: RemoteJwks, kid: str) -> bool:
    """Request a key as the verifier of a token does; the request never waits."""
    return bool(remote.keys_for("RS256", kid).matching("RS256", kid))


def arrives(remote: RemoteJwks, kid: str) -> bool:
    """Wait for a key that is fetched in the background."""
    return wait_until(lambda: has_key(remote, kid))


def is_settled(remote: RemoteJwks) -> bool:
    """Wait for the end of the running fetch, if there is one."""
    return wait_until(lambda: not remote.is_fetching)


@pytest.fixture
def server() -> Iterator[JwksServer]:
    with serve_jwks(OLD) as server:
        yield server


@pytest.mark.reading("J-05")
@pytest.mark.parametrize(
    ("cache_control", "seconds"),
    [
        (None, 3600),
        ("public, max-age=7200, must-revalidate", 7200),
        ("max-age=1", 300),
        ("max-age=99999999", 86400),
        ("no-store", 3600),
        ("s-max-age=4000", 3600),
    ],
)
def test_max_age_of_the_server_is_used_within_bounds(
    cache_control: str | None, seconds: int, server: JwksServer
) -> None:
    server.headers = {"Cache-Control": cache_control} if cache_control else {}
    assert fetch_jwks(server.url) == (make_jwks(OLD), seconds)


def test_fetch_uses_no_proxy_of_the_environment(server: JwksServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch_jwks(server.url)[0] == make_jwks(OLD)


@pytest.mark.parametrize("status", [302, 307, 404, 204])
def test_other_status_is_an_error_and_redirects_are_not_followed(status: int, server: JwksServer) -> None:
    with serve_jwks(NEW) as other:
        server.status, server.headers = status, {"Location": other.url}
        with pytest.raises(InvalidKeySetError, match=f"status {status}"):
            fetch_jwks(server.url)
        assert other.request_count == 0


def write_certificate(folder: Path) -> Path:
    """Return a file with a key and a self-signed certificate for 127.0.0.1."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tool")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / "tool.pem"
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return path


def test_https_requires_a_certificate_for_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    with serve_jwks(OLD, tls=context) as tool:
        with pytest.raises(ssl.SSLCertVerificationError):
            fetch_jwks(tool.url)
        remote = RemoteJwks("tool", tool.url)
        assert not has_key(remote, "old")
        assert is_settled(remote)
        assert not has_key(remote, "old")
        assert tool.request_count == 0
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        assert fetch_jwks(tool.url)[0] == make_jwks(OLD)
        with pytest.raises(ssl.SSLCertVerificationError):
            fetch_jwks(tool.url.replace("127.0.0.1", "localhost"))


def test_response_of_more_than_1_mib_is_an_error(server: JwksServer) -> None:
    server.body = b" " * (MAX_JWKS_BYTES + 1)
    with pytest.raises(InvalidKeySetError, match="more than"):
        fetch_jwks(server.url)


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.0 200 OK\r\n\r\n"], ids=["headers", "body"])
def test_slow_response_is_cut_off(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(https_client, "TIMEOUT_SECONDS", 0.3)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def send_slowly() -> None:
            peer, _ = listener.accept()
            with closing(peer):
                try:
                    peer.sendall(start)
                    while True:
                        peer.sendall(b" ")
                        time.sleep(0.05)
                except OSError:
                    return

        thread = threading.Thread(target=send_slowly, daemon=True)
        thread.start()
        remote = RemoteJwks("tool", f"http://127.0.0.1:{listener.getsockname()[1]}/")
        assert not has_key(remote, "old")
        thread.join(60)
        assert not thread.is_alive()
        assert is_settled(remote)
        assert not has_key(remote, "old")


@pytest.mark.reading("J-05")
def test_unknown_key_is_rejected_until_the_new_set_has_arrived(server: JwksServer) -> None:
    release = threading.Event()
    server.before_response = lambda: release.wait(120)
    remote = RemoteJwksCache().get("slow", server.url)
    started = time.monotonic()
    assert not any(has_key(remote, "old") for _ in range(100))
    assert remote.is_fetching
    assert time.monotonic() - started < 60, "a request waited for the server of the issuer"
    release.set()
    assert arrives(remote, "old")
    assert server.request_count == 1


def test_keys_are_fetched_once_and_cached_until_they_expire(clock: FakeClock) -> None:
    fetch = FakeFetch(make_jwks(OLD))
    remote = RemoteJwks("tool", URL, fetch, clock.time)
    assert arrives(remote, "old")
    clock.advance(3599)
    assert has_key(remote, "old")
    assert fetch.call_count == 1
    clock.advance(1)
    fetch.body = make_jwks(NEW)
    assert has_key(remote, "old"), "expired keys are used until the new ones have arrived"
    assert is_settled(remote)
    assert remote.current().matching("RS256", "new")
    assert not remote.current().matching("RS256", "old")
    assert fetch.call_count == 2


@pytest.mark.reading("J-05")
def test_keys_that_expired_long_ago_are_not_used_before_a_fetch(clock: FakeClock) -> None:
    """No request came for hours, and the issuer may have withdrawn a key meanwhile."""
    fetch = FakeFetch(make_jwks(OLD))
    remote = RemoteJwks("tool", URL, fetch, clock.time)
    assert arrives(remote, "old")
    clock.advance(3600 + MAX_OVERDUE_SECONDS)
    fetch.body = make_jwks(NEW)
    assert not remote.current().keys
    assert arrives(remote, "new")
    assert not has_key(remote, "old")


@pytest.mark.reading("J-05")
def test_unknown_key_causes_at_most_one_fetch_per_minute(clock: FakeClock) -> None:
    fetch = FakeFetch(make_jwks(OLD))
    remote = RemoteJwks("tool", URL, fetch, clock.time)
    assert arrives(remote, "old")
    fetch.body = make_jwks(OLD, NEW)
    assert not has_key(remote, "new")
    assert arrives(remote, "new")
    assert fetch.call_count == 2
    for number in range(50):
        assert not has_key(remote, f"unknown {number}")
    assert is_settled(remote)
    assert fetch.call_count == 2
    clock.advance(60)
    assert not has_key(remote, "unknown")
    assert is_settled(remote)
    assert not has_key(remote, "unknown 2")
    assert is_settled(remote)
    assert fetch.call_count == 3


def test_failed_fetch_leaves_the_old_keys_and_is_retried_after_a_minute(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    fetch = FakeFetch(make_jwks(OLD))
    remote = RemoteJwks("tool", "https://tool.example.org/secret-path", fetch, clock.time)
    assert arrives(remote, "old")
    fetch.body = None
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            clock.advance(4000)
            remote.current()
            assert is_settled(remote)
            for _ in range(5):
                assert has_key(remote, "old")
    assert fetch.call_count == 4
    assert [record.getMessage() for record in caplog.records] == [
        "cannot fetch the keys of the issuer tool: [Errno 111] Connection refused"
    ], "a failure that lasts is logged once"
    clock.advance(60)
    fetch.body = make_jwks(NEW)
    assert has_key(remote, "old")
    assert wait_until(lambda: bool(remote.current().matching("RS256", "new")))
    assert fetch.call_count == 5


def test_failed_fetch_without_keys_is_retried_after_a_minute(clock: FakeClock) -> None:
    fetch = FakeFetch(None)
    remote = RemoteJwks("tool", URL, fetch, clock.time)
    for _ in range(5):
        assert not has_key(remote, "old")
        assert is_settled(remote)
    assert fetch.call_count == 1
    clock.advance(60)
    fetch.body = make_jwks(OLD)
    assert arrives(remote, "old")


def test_set_without_a_usable_key_leaves_the_old_keys(clock: FakeClock) -> None:
    fetch = FakeFetch(make_jwks(OLD))
    remote = RemoteJwks("tool", URL, fetch, clock.time)
    assert arrives(remote, "old")
    fetch.body = b'{"keys": []}'
    assert not has_key(remote, "new")
    assert is_settled(remote)
    assert fetch.call_count == 2
    assert has_key(remote, "old")


def test_many_requests_share_a_fetch_and_do_not_delay_other_issuers(server: JwksServer) -> None:
    release = threading.Event()
    server.before_response = lambda: release.wait(120)
    cache = RemoteJwksCache()
    slow = cache.get("slow", server.url)
    with ThreadPoolExecutor(6) as pool:
        assert not any(pool.map(lambda _: has_key(slow, "old"), range(12)))
    with serve_jwks(NEW) as other:
        assert arrives(cache.get("quick", other.url), "new")
    release.set()
    assert arrives(slow, "old")
    assert server.request_count == 1


def test_cache_has_one_entry_per_issuer_and_url() -> None:
    cache = RemoteJwksCache()
    tool = cache.get("tool", URL)
    assert cache.get("tool", URL) is tool
    assert cache.get("tool", "https://tool.example.org/2") is not tool
    assert cache.get("other", URL) is not tool

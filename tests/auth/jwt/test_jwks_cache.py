"""Keys that issuers publish: how they are fetched, and how long they are kept."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
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

from chalk_flask.auth.jwt import jwks_cache
from chalk_flask.auth.jwt.jwks import MAX_JWKS_BYTES, InvalidKeySetError
from chalk_flask.auth.jwt.jwks_cache import RemoteJwks, RemoteJwksCache, fetch
from tests.support.keys import KeyServer, key_set, publishing, rsa_key

OLD, NEW = rsa_key("old"), rsa_key("new")


class Clock:
    """Seconds that are set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Publisher:
    """What fetches for a source: counts, and fails when there is nothing to give."""

    def __init__(self, body: bytes | None) -> None:
        self.body, self.age, self.asked = body, 3600.0, 0

    def __call__(self, url: str) -> tuple[bytes, float]:
        self.asked += 1
        if self.body is None:
            raise ConnectionRefusedError(111, "Connection refused")
        return self.body, self.age


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with publishing(OLD) as running:
        yield running


def settled(done: Callable[[], bool]) -> bool:
    end = time.monotonic() + 5
    while not done() and time.monotonic() < end:
        time.sleep(0.01)
    return done()


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (None, 3600),
        ("max-age=7200", 7200),
        ("public, max-age=7200, must-revalidate", 7200),
        ("max-age=1", 300),
        ("max-age=99999999", 86400),
        ("no-store", 3600),
        ("s-max-age=4000", 3600),
    ],
)
def test_a_set_is_kept_as_long_as_its_server_says_within_bounds(
    said: str | None, seconds: int, server: KeyServer
) -> None:
    server.headers = {"Cache-Control": said} if said else {}
    assert fetch(server.url) == (key_set(OLD), seconds)


def test_proxies_of_the_environment_are_not_used(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch(server.url)[0] == key_set(OLD)


@pytest.mark.parametrize("status", [301, 302, 307, 404, 500, 204])
def test_any_answer_but_200_is_refused_and_redirects_are_not_followed(status: int, server: KeyServer) -> None:
    with publishing(NEW) as other:
        server.status, server.headers = status, {"Location": other.url}
        with pytest.raises(InvalidKeySetError, match=f"status {status}"):
            fetch(server.url)
        assert other.asked == 0


def certificate(folder: Path) -> Path:
    """A file with a key and a certificate for 127.0.0.1 that nobody but itself has signed."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tool")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / "tool.pem"
    path.write_bytes(private + made.public_bytes(Encoding.PEM))
    return path


def test_by_https_only_a_server_that_proves_its_name_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    with publishing(OLD, tls=context) as tool:
        with pytest.raises(ssl.SSLCertVerificationError):
            fetch(tool.url)
        assert not RemoteJwks("tool", tool.url).keys_for("RS256", "old").keys
        assert tool.asked == 0
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        assert fetch(tool.url)[0] == key_set(OLD)
        with pytest.raises(ssl.SSLCertVerificationError):
            fetch(tool.url.replace("127.0.0.1", "localhost"))


def test_an_answer_of_more_than_1_mib_is_refused(server: KeyServer) -> None:
    server.body = b" " * (MAX_JWKS_BYTES + 1)
    with pytest.raises(InvalidKeySetError, match="more than"):
        fetch(server.url)


@pytest.mark.parametrize("dripped", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.0 200 OK\r\n\r\n"])
def test_an_answer_that_drips_is_cut_off(dripped: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks_cache, "FETCH_TIMEOUT_SECONDS", 0.3)
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def drip() -> None:
            peer, _ = listening.accept()
            with closing(peer):
                try:
                    peer.sendall(dripped)
                    while True:
                        peer.sendall(b" ")
                        time.sleep(0.05)
                except OSError:
                    return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        begun = time.monotonic()
        source = RemoteJwks("tool", f"http://127.0.0.1:{listening.getsockname()[1]}/")
        assert not source.keys_for("RS256", "old").keys
        thread.join(5)
        assert not thread.is_alive()
        assert time.monotonic() - begun < 3


def test_keys_are_fetched_once_and_kept_until_their_time_is_over(clock: Clock) -> None:
    fetch = Publisher(key_set(OLD))
    source = RemoteJwks("tool", "https://tool.example.org/", fetch, clock)
    for _ in range(3):
        assert source.keys_for("RS256", "old").matching("RS256", "old")
    clock.now += 3599
    assert (source.keys_for("RS256", "old").keys != (), fetch.asked) == (True, 1)
    clock.now += 1
    fetch.body = key_set(NEW)
    assert not source.keys_for("RS256", "old").matching("RS256", "old")
    assert fetch.asked == 2


def test_an_unknown_key_makes_us_ask_again_at_most_once_a_minute(clock: Clock) -> None:
    """J-05"""
    fetch = Publisher(key_set(OLD))
    source = RemoteJwks("tool", "https://tool.example.org/", fetch, clock)
    assert source.keys_for("RS256", "old").keys
    fetch.body = key_set(OLD, NEW)
    assert source.keys_for("RS256", "new").matching("RS256", "new")
    assert fetch.asked == 2
    for number in range(50):
        source.keys_for("RS256", f"made up {number}")
    assert fetch.asked == 2
    clock.now += 60
    source.keys_for("RS256", "made up")
    source.keys_for("RS256", "made up too")
    assert fetch.asked == 3


def test_when_a_fetch_fails_the_old_keys_stay_and_the_next_try_is_a_minute_later(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    fetch = Publisher(key_set(OLD))
    source = RemoteJwks("tool", "https://tool.example.org/secret-path", fetch, clock)
    source.keys_for("RS256", "old")
    fetch.body = None
    clock.now += 4000
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert source.keys_for("RS256", "old").matching("RS256", "old")
    assert fetch.asked == 2
    assert [record.getMessage() for record in caplog.records] == [
        "the keys of the issuer tool cannot be had: [Errno 111] Connection refused"
    ]
    clock.now += 60
    fetch.body = key_set(NEW)
    assert source.current().matching("RS256", "old"), "nobody waits for a source that failed"
    assert settled(lambda: bool(source.current().matching("RS256", "new")))
    assert fetch.asked == 3


def test_without_any_key_a_failing_address_is_tried_once_a_minute_too(clock: Clock) -> None:
    fetch = Publisher(None)
    source = RemoteJwks("tool", "https://tool.example.org/", fetch, clock)
    for _ in range(5):
        assert not source.keys_for("RS256", "old").keys
    assert fetch.asked == 1
    clock.now += 60
    fetch.body = key_set(OLD)
    assert source.keys_for("RS256", "old").keys


def test_a_set_without_a_usable_key_leaves_the_old_ones(clock: Clock) -> None:
    fetch = Publisher(key_set(OLD))
    source = RemoteJwks("tool", "https://tool.example.org/", fetch, clock)
    source.keys_for("RS256", "old")
    fetch.body = b'{"keys": []}'
    assert source.keys_for("RS256", "new").matching("RS256", "old")


def test_a_crowd_makes_one_fetch_and_another_issuer_does_not_wait_for_it(server: KeyServer) -> None:
    go = threading.Event()
    server.wait = lambda: go.wait(5)
    sources = RemoteJwksCache()
    slow = sources.get("slow", server.url)
    found: list[bool] = []
    crowd = [threading.Thread(target=lambda: found.append(bool(slow.keys_for("RS256", "old").keys))) for _ in range(6)]
    for thread in crowd:
        thread.start()
    with publishing(NEW) as other:
        begun = time.monotonic()
        assert sources.get("quick", other.url).keys_for("RS256", "new").keys
        assert time.monotonic() - begun < 2
    go.set()
    for thread in crowd:
        thread.join(10)
    assert (found, server.asked) == ([True] * 6, 1)


def test_no_more_than_eight_wait_long_for_a_slow_address(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks_cache, "_BRIEFLY", 0.05)
    go = threading.Event()
    server.wait = lambda: go.wait(10)
    source = RemoteJwksCache().get("slow", server.url)
    ended: list[float] = []

    def ask() -> None:
        source.keys_for("RS256", "old")
        ended.append(time.monotonic())

    crowd = [threading.Thread(target=ask) for _ in range(12)]
    for thread in crowd:
        thread.start()
    assert settled(lambda: len(ended) == 4)
    go.set()
    for thread in crowd:
        thread.join(10)
    assert len(ended) == 12


def test_a_source_is_made_once_for_an_issuer_and_address() -> None:
    sources = RemoteJwksCache()
    one = sources.get("tool", "https://tool.example.org/")
    assert sources.get("tool", "https://tool.example.org/") is one
    assert sources.get("tool", "https://tool.example.org/2") is not one
    assert sources.get("other", "https://tool.example.org/") is not one

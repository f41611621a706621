"""Key sets: what is taken from one, how one is fetched, and how long it is kept."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from joserfc.jwk import ECKey, OKPKey

from chalk_flask.access import key_sources
from chalk_flask.access.jwks import LARGEST, BadKeys, checked_url, public_keys
from chalk_flask.access.key_sources import KeySource, KeySources, fetched
from tests.access.issuing import KeyServer, ec_key, key_set, publishing, rsa_key

OLD, NEW = rsa_key("old"), rsa_key("new")


def as_set(*entries: object) -> bytes:
    return json.dumps({"keys": entries}).encode()


def public(**changed: Any) -> dict[str, Any]:
    return {**OLD.as_dict(private=False), **changed}


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


def test_a_key_has_one_algorithm_by_its_type() -> None:
    keys = public_keys(key_set(OLD, ec_key("curve")), strict=True)
    assert [key.kid for key in keys.fitting("RS256", None)] == ["old"]
    assert [key.kid for key in keys.fitting("ES256", None)] == ["curve"]
    assert keys.fitting("ES256", "old") == keys.fitting("RS256", "curve") == keys.fitting("HS256", None) == []


def test_the_set_that_is_kept_has_public_members_only() -> None:
    keys = public_keys(as_set(public(use="sig", alg="RS256", x5c=["text"], other=1)), strict=True)
    assert [sorted(each) for each in keys.as_dict()["keys"]] == [["e", "kid", "kty", "n"]]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (OLD.as_dict(private=True), "key 1 of the set is private"),
        ({**ec_key("curve").as_dict(private=True)}, "key 1 of the set is private"),
        ({"kty": "oct", "k": "c2VjcmV0"}, "key 1 of the set is symmetric"),
        (public(n="AQAB"), "less than 2048"),
        (public(n="!"), "is broken"),
        (public(n=None), "is broken"),
        (public(e="AQAB" * 100), "an exponent of more than 32"),
        ({"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB"}, "is broken"),
        (public(kid=7), "a kid that is no text"),
        ("text", "is not an object"),
    ],
)
def test_a_key_that_will_not_do_refuses_a_file_and_is_left_out_of_a_published_set(entry: object, why: str) -> None:
    with pytest.raises(BadKeys, match=why):
        public_keys(as_set(entry), strict=True)
    assert len(public_keys(as_set(entry, public()), strict=False).held) == 1


@pytest.mark.parametrize(
    "entry",
    [
        OKPKey.generate_key("Ed25519", private=False).as_dict(),
        ECKey.generate_key("P-384", private=False).as_dict(),
        public(use="enc"),
        public(alg="PS256"),
        public(alg="ES256"),
        public(key_ops=["encrypt"]),
        {"kty": ["RSA"]},
        {},
    ],
)
def test_keys_for_something_else_are_left_out(entry: dict[str, Any]) -> None:
    assert len(public_keys(as_set(entry, public()), strict=True).held) == 1
    with pytest.raises(BadKeys, match="holds no key for RS256"):
        public_keys(as_set(entry), strict=True)


@pytest.mark.parametrize("text", [b"", b"-----BEGIN PUBLIC KEY-----", b"[]", b"7", b'{"keys": {}}', b"[" * 100_000])
def test_what_is_no_key_set_is_told_so(text: bytes) -> None:
    with pytest.raises(BadKeys, match="this is not"):
        public_keys(text, strict=False)


def test_a_set_has_32_keys_at_most() -> None:
    with pytest.raises(BadKeys, match="33 keys"):
        public_keys(as_set(*[public()] * 33), strict=False)


@pytest.mark.parametrize(
    "url",
    ["https://tool.example.org/jwks.json?x=1", "http://127.0.0.1:1/", "http://[::1]/keys", "http://localhost/keys"],
)
def test_keys_come_by_https_or_from_this_machine(url: str) -> None:
    assert checked_url(url).geturl() == url


@pytest.mark.parametrize(
    "url",
    [
        "http://tool.example.org/jwks.json",
        "http://127.0.0.1.example.org/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "https://",
        "https://user:secret@tool.example.org/",
        "https://tool.example.org:port/",
        "https://tool.example.org/#fragment",
        "https://tool.example.org/a b",
        "https://tool.example.org/\r\nX: y",
        "https://[::1/",
        "",
        "https://tool.example.org/" + "x" * 1000,
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(BadKeys):
        checked_url(url)


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
    assert fetched(server.url) == (key_set(OLD), seconds)


def test_proxies_of_the_environment_are_not_used(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetched(server.url)[0] == key_set(OLD)


@pytest.mark.parametrize("status", [301, 302, 307, 404, 500, 204])
def test_any_answer_but_200_is_refused_and_redirects_are_not_followed(status: int, server: KeyServer) -> None:
    with publishing(NEW) as other:
        server.status, server.headers = status, {"Location": other.url}
        with pytest.raises(BadKeys, match=f"status {status}"):
            fetched(server.url)
        assert other.asked == 0


def test_an_answer_of_more_than_1_mib_is_refused(server: KeyServer) -> None:
    server.body = b" " * (LARGEST + 1)
    with pytest.raises(BadKeys, match="more than"):
        fetched(server.url)


@pytest.mark.parametrize("dripped", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.0 200 OK\r\n\r\n"])
def test_an_answer_that_drips_is_cut_off(dripped: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_sources, "SECONDS", 0.3)
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
        source = KeySource("tool", f"http://127.0.0.1:{listening.getsockname()[1]}/")
        assert not source.keys_for("RS256", "old").held
        thread.join(5)
        assert not thread.is_alive()
        assert time.monotonic() - begun < 3


def test_keys_are_fetched_once_and_kept_until_their_time_is_over(clock: Clock) -> None:
    fetch = Publisher(key_set(OLD))
    source = KeySource("tool", "https://tool.example.org/", fetch, clock)
    for _ in range(3):
        assert source.keys_for("RS256", "old").fitting("RS256", "old")
    clock.now += 3599
    assert (source.keys_for("RS256", "old").held != (), fetch.asked) == (True, 1)
    clock.now += 1
    fetch.body = key_set(NEW)
    assert not source.keys_for("RS256", "old").fitting("RS256", "old")
    assert fetch.asked == 2


def test_an_unknown_key_makes_us_ask_again_at_most_once_a_minute(clock: Clock) -> None:
    """J-05"""
    fetch = Publisher(key_set(OLD))
    source = KeySource("tool", "https://tool.example.org/", fetch, clock)
    assert source.keys_for("RS256", "old").held
    fetch.body = key_set(OLD, NEW)
    assert source.keys_for("RS256", "new").fitting("RS256", "new")
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
    source = KeySource("tool", "https://tool.example.org/secret-path", fetch, clock)
    source.keys_for("RS256", "old")
    fetch.body = None
    clock.now += 4000
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert source.keys_for("RS256", "old").fitting("RS256", "old")
    assert fetch.asked == 2
    assert [record.getMessage() for record in caplog.records] == [
        "the keys of the issuer tool cannot be had: [Errno 111] Connection refused"
    ]
    clock.now += 60
    fetch.body = key_set(NEW)
    assert source.current().fitting("RS256", "old"), "nobody waits for a source that failed"
    assert settled(lambda: bool(source.current().fitting("RS256", "new")))
    assert fetch.asked == 3


def test_without_any_key_a_failing_address_is_tried_once_a_minute_too(clock: Clock) -> None:
    fetch = Publisher(None)
    source = KeySource("tool", "https://tool.example.org/", fetch, clock)
    for _ in range(5):
        assert not source.keys_for("RS256", "old").held
    assert fetch.asked == 1
    clock.now += 60
    fetch.body = key_set(OLD)
    assert source.keys_for("RS256", "old").held


def test_a_set_without_a_usable_key_leaves_the_old_ones(clock: Clock) -> None:
    fetch = Publisher(key_set(OLD))
    source = KeySource("tool", "https://tool.example.org/", fetch, clock)
    source.keys_for("RS256", "old")
    fetch.body = b'{"keys": []}'
    assert source.keys_for("RS256", "new").fitting("RS256", "old")


def test_a_crowd_makes_one_fetch_and_another_issuer_does_not_wait_for_it(server: KeyServer) -> None:
    go = threading.Event()
    server.wait = lambda: go.wait(5)
    sources = KeySources()
    slow = sources.of("slow", server.url)
    found: list[bool] = []
    crowd = [threading.Thread(target=lambda: found.append(bool(slow.keys_for("RS256", "old").held))) for _ in range(6)]
    for thread in crowd:
        thread.start()
    with publishing(NEW) as other:
        begun = time.monotonic()
        assert sources.of("quick", other.url).keys_for("RS256", "new").held
        assert time.monotonic() - begun < 2
    go.set()
    for thread in crowd:
        thread.join(10)
    assert (found, server.asked) == ([True] * 6, 1)


def test_no_more_than_eight_wait_long_for_a_slow_address(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_sources, "_BRIEFLY", 0.05)
    go = threading.Event()
    server.wait = lambda: go.wait(10)
    source = KeySources().of("slow", server.url)
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
    sources = KeySources()
    one = sources.of("tool", "https://tool.example.org/")
    assert sources.of("tool", "https://tool.example.org/") is one
    assert sources.of("tool", "https://tool.example.org/2") is not one
    assert sources.of("other", "https://tool.example.org/") is not one

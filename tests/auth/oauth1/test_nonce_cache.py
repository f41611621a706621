"""Nonces of signed requests: stored while valid, within a limit per client."""

from __future__ import annotations

import pytest

from chalk_flask.auth.oauth1.nonce_cache import MAX_AGE_SECONDS, NonceCache

NOW = 1_000_000


@pytest.mark.reading("O-03")
def test_client_with_too_many_nonces_is_never_accepted_twice() -> None:
    nonces = NonceCache(max_nonces=100)
    assert all(nonces.check_and_remember("a", NOW - 50 + second, str(second), NOW) for second in range(50))
    assert all(nonces.check_and_remember("a", NOW, str(number), NOW) for number in range(51))
    assert not nonces.check_and_remember("a", NOW - 50, "0", NOW)
    assert not nonces.check_and_remember("a", NOW - 50, "another of a dropped second", NOW)
    assert nonces.check_and_remember("a", NOW - 49, "another of the next second", NOW)
    assert nonces.check_and_remember("b", NOW - 50, "0", NOW)


def test_expired_nonces_are_removed() -> None:
    nonces, later = NonceCache(), NOW + MAX_AGE_SECONDS + 100
    assert all(nonces.check_and_remember(f"client {number}", NOW, "nonce", NOW) for number in range(50))
    assert nonces.check_and_remember("a", later, "nonce", later)
    assert list(nonces._clients) == ["a"]

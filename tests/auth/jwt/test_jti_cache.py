"""Ids of tokens that are accepted once."""

from __future__ import annotations

import logging

import pytest

from chalk_flask.auth.jwt.jti_cache import JtiCache


@pytest.mark.reading("J-04")
def test_used_ids_are_remembered_until_they_expire() -> None:
    cache = JtiCache(max_tokens=2)
    assert cache.check_and_remember("tool", "a", 100.0, 0.0)
    assert cache.check_and_remember("tool", "b", 200.0, 0.0)
    assert not cache.check_and_remember("tool", "a", 100.0, 99.0)
    assert cache.check_and_remember("tool", "c", 300.0, 100.0)
    assert not cache.check_and_remember("tool", "b", 200.0, 100.0)


@pytest.mark.reading("J-04")
def test_full_cache_rejects_further_tokens_and_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    cache = JtiCache(max_tokens=1)
    assert cache.check_and_remember("tool", "a", 100.0, 0.0)
    with caplog.at_level(logging.WARNING):
        assert not cache.check_and_remember("tool", "b", 100.0, 0.0)
        assert not cache.check_and_remember("tool", "c", 100.0, 0.0)
    assert [record.getMessage() for record in caplog.records] == [
        "too many tokens of the issuer tool are in use: further ones are rejected until some expire"
    ]
    assert cache.check_and_remember("other", "b", 100.0, 0.0)

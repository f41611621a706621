"""Key sets of issuers that several processes share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from chalk_flask.auth.jwt.jwks_cache import RemoteJwks, RemoteJwksCache
from chalk_flask.shared_state import SharedState
from tests.auth.conftest import wait_until
from tests.support.keys import JwksServer, make_jwks, rsa_key, serve_jwks

OLD, NEW = rsa_key("old"), rsa_key("new")


@pytest.fixture
def server() -> Iterator[JwksServer]:
    with serve_jwks(OLD) as running:
        yield running


@pytest.fixture
def caches(tmp_path: Path) -> Iterator[list[RemoteJwksCache]]:
    """Caches of two processes, which share a file."""
    with ExitStack() as stack:
        states = [stack.enter_context(closing(SharedState())) for _ in range(2)]
        for state in states:
            state.start(tmp_path / "shared-state.db")
        yield [RemoteJwksCache(state) for state in states]


def has_key(remote: RemoteJwks, kid: str) -> bool:
    """Request a key as the verifier of a token does; the request never waits."""
    return bool(remote.keys_for("RS256", kid).matching("RS256", kid))


def test_process_uses_keys_that_another_one_has_fetched(server: JwksServer, caches: list[RemoteJwksCache]) -> None:
    first, second = (cache.get("tool", server.url) for cache in caches)
    assert wait_until(lambda: has_key(first, "old"))
    assert has_key(second, "old"), "its first token is accepted"
    server.body = make_jwks(NEW)
    assert not has_key(second, "new")
    assert wait_until(lambda: has_key(second, "new"))
    assert has_key(first, "new")
    assert not has_key(first, "old"), "a key that the issuer has withdrawn"
    assert server.request_count == 2


def test_withdrawn_key_is_noticed_without_a_token(server: JwksServer, caches: list[RemoteJwksCache]) -> None:
    first, second = (cache.get("tool", server.url) for cache in caches)
    assert wait_until(lambda: has_key(first, "old"))
    assert has_key(second, "old")
    before = caches[1].latest_fetch()
    server.body = make_jwks(NEW)
    assert wait_until(lambda: has_key(first, "new"))
    assert caches[1].latest_fetch() > before
    second.load_shared_keys()
    assert not second.current().matching("RS256", "old")


def test_unknown_key_causes_one_fetch_of_all_processes(server: JwksServer, caches: list[RemoteJwksCache]) -> None:
    remotes = [cache.get("tool", server.url) for cache in caches]
    assert wait_until(lambda: has_key(remotes[0], "old"))
    for number in range(10):
        for remote in remotes:
            assert not has_key(remote, f"unknown {number}")
            assert wait_until(lambda: not any(each.is_fetching for each in remotes))
    assert server.request_count == 2


def test_processes_do_not_fetch_at_the_same_time(server: JwksServer, caches: list[RemoteJwksCache]) -> None:
    release = threading.Event()
    server.before_response = lambda: release.wait(120)
    first, second = (cache.get("tool", server.url) for cache in caches)
    assert not has_key(first, "old")
    assert wait_until(lambda: server.request_count == 1)
    assert not has_key(second, "old")
    assert wait_until(lambda: not second.is_fetching)
    release.set()
    assert wait_until(lambda: has_key(first, "old"))
    assert has_key(second, "old")
    assert server.request_count == 1


def test_sets_of_other_issuers_are_separate(server: JwksServer, caches: list[RemoteJwksCache]) -> None:
    assert wait_until(lambda: has_key(caches[0].get("tool", server.url), "old"))
    with serve_jwks(NEW) as other:
        assert not has_key(caches[1].get("other", other.url), "old")
        assert wait_until(lambda: has_key(caches[1].get("other", other.url), "new"))

"""API tokens: created, stored as hashes, authenticated fast, and revoked in every process at once."""

from __future__ import annotations

import re
import threading
import time
from datetime import timedelta
from hashlib import sha256
from zlib import crc32

import pytest

from backends import Backend
from chalk_flask.auth.tokens.store import COLLECTION, TokenError, TokenStore
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.scopes import DEFAULT, ROSTER
from chalk_flask.tenants.store import CONTROL, TenantStore
from tests.auth.conftest import CountingBackend, count_calls, wait_until
from tests.support.clock import FakeClock


@pytest.fixture
def tokens(store: Backend, clock: FakeClock) -> TokenStore:
    return TokenStore(store, clock)


def create_token(tokens: TokenStore, **options: object) -> str:
    token, _ = tokens.create("a reader", DEFAULT, **options)  # type: ignore[arg-type]  # options vary by test
    assert token is not None
    return token


def principal_of(tokens: TokenStore, token: str) -> Principal | None:
    return tokens.authenticate(token)[0]


def stored_bodies(store: Backend) -> dict[str, bytes]:
    with store.read(CONTROL) as snapshot:
        return snapshot.get_many(COLLECTION, list(snapshot.keys(COLLECTION)))


def test_token_is_a_prefix_random_digits_and_a_checksum(tokens: TokenStore) -> None:
    live, test = create_token(tokens), create_token(tokens, test=True)
    assert re.fullmatch(r"chk_live_[0-9a-f]{40}", live)
    assert re.fullmatch(r"chk_test_[0-9a-f]{40}", test)
    assert live[-8:] == f"{crc32(live[:-8].encode()):08x}"
    assert live[9:] != test[9:]


def test_store_contains_the_hash_and_never_the_token(tokens: TokenStore, store: Backend) -> None:
    token = create_token(tokens)
    [(key, body)] = stored_bodies(store).items()
    assert key == sha256(token.encode()).hexdigest()
    assert token[13:].encode() not in body
    assert b'"prefix":"%s"' % token[:13].encode() in body


@pytest.mark.every_backend
def test_token_grants_its_scopes_in_its_tenant(tokens: TokenStore, store: Backend) -> None:
    TenantStore(store).create("north", demographics=True)
    token, record = tokens.create("one scope", {ROSTER}, tenant="north")
    assert token is not None
    assert principal_of(tokens, token) == Principal("north", frozenset({ROSTER}), record.id)


@pytest.mark.parametrize("shape", ["chk_{0:032x}", "chk_live_{0:032x}", "chk_{0:064x}", "chk_other.shape-{0}"])
def test_foreign_token_is_registered_by_its_hash(tokens: TokenStore, shape: str) -> None:
    token = shape.format(0xC0FFEE)
    new_token, record = tokens.create("registered", DEFAULT, sha256=sha256(token.encode()).hexdigest().upper())
    assert (new_token, record.prefix) == (None, None)
    assert principal_of(tokens, token) == record.principal


def test_stored_hash_is_rejected_so_that_revoked_stays_revoked(tokens: TokenStore) -> None:
    digest = sha256(b"chk_0123").hexdigest()
    _, record = tokens.create("registered", DEFAULT, sha256=digest)
    tokens.revoke(record.id)
    with pytest.raises(TokenError, match=f"already stored as {record.id} \\(revoked\\)"):
        tokens.create("again", DEFAULT, sha256=digest)
    assert principal_of(tokens, "chk_0123") is None


@pytest.mark.parametrize("digest", ["", "g" * 64, "a" * 63, "a" * 65])
def test_invalid_sha256_is_rejected(tokens: TokenStore, digest: str) -> None:
    with pytest.raises(TokenError, match="64 hexadecimal digits"):
        tokens.create("registered", DEFAULT, sha256=digest)


@pytest.mark.parametrize("label", ["", "x" * 201, "two\nlines", "lone \udc80"])
def test_label_must_be_one_printable_line(tokens: TokenStore, label: str) -> None:
    with pytest.raises(TokenError, match="a label must be one line"):
        tokens.create(label, DEFAULT)


@pytest.mark.parametrize("tenant", ["", CONTROL, "north", "../north", "n" * 65, "lone \udc80"])
def test_unknown_tenant_is_rejected(tokens: TokenStore, store: Backend, tenant: str) -> None:
    with pytest.raises(TokenError, match="there is no tenant") as rejection:
        tokens.create("a label", DEFAULT, tenant=tenant)
    assert repr(tenant[:80]) in str(rejection.value)
    assert not stored_bodies(store)


def test_unknown_token_has_no_principal(tokens: TokenStore) -> None:
    create_token(tokens)
    assert principal_of(tokens, "chk_" + "0" * 32) is None


def test_malformed_token_never_reads_the_store(counting_store: CountingBackend) -> None:
    tokens = TokenStore(counting_store)
    token = create_token(tokens)
    before = counting_store.read_count
    mistyped = token[:-1] + ("0" if token[-1] != "0" else "1")
    shapes = ["", "chk_", "Bearer", token.removeprefix("chk_"), token.upper(), "chk_" + "a" * 253, "chk_é", "chk_a b"]
    assert not any(principal_of(tokens, text) for text in [mistyped, *shapes, token + "\n", " " + token])
    assert counting_store.read_count == before


def test_cached_token_is_read_again_only_after_a_commit(counting_store: CountingBackend) -> None:
    tokens = TokenStore(counting_store)
    token = create_token(tokens)
    principal_of(tokens, token)
    assert wait_until(lambda: tokens.list()[0].last_used is not None)
    principal_of(tokens, token)
    before = counting_store.read_count
    assert all(principal_of(tokens, token) for _ in range(100))
    assert counting_store.read_count == before
    create_token(tokens)
    before = counting_store.read_count
    assert principal_of(tokens, token)
    assert counting_store.read_count == before + 1


@pytest.mark.on_backend("sqlite")
def test_cached_token_is_authenticated_in_few_calls(tokens: TokenStore) -> None:
    token = create_token(tokens)
    principal_of(tokens, token)
    assert wait_until(lambda: tokens.list()[0].last_used is not None)
    principal_of(tokens, token)
    assert count_calls(lambda: tokens.authenticate(token)) < 100


def test_token_store_contains_no_token_in_clear(tokens: TokenStore) -> None:
    token = create_token(tokens)
    principal_of(tokens, token)
    assert token not in repr(vars(tokens))


def test_cached_token_ends_when_it_expires(tokens: TokenStore, clock: FakeClock) -> None:
    token = create_token(tokens, expires=clock.now + timedelta(hours=1))
    clock.advance(minutes=59)
    assert principal_of(tokens, token)
    clock.advance(minutes=1)
    assert principal_of(tokens, token) is None
    assert tokens.list()[0].state_at(clock.now) == "expired"


@pytest.mark.every_backend
def test_revoked_token_ends_in_every_process(store: Backend, clock: FakeClock) -> None:
    here, there = TokenStore(store, clock), TokenStore(store, clock)
    token, record = here.create("a reader", DEFAULT)
    assert token is not None
    assert principal_of(here, token)
    assert principal_of(there, token)
    there.revoke(record.id)
    assert principal_of(here, token) is None
    assert principal_of(there, token) is None


def test_second_revocation_preserves_the_first_time(tokens: TokenStore, clock: FakeClock) -> None:
    _, record = tokens.create("a reader", DEFAULT)
    revoked = clock.now
    tokens.revoke(record.id)
    clock.advance(days=1)
    assert tokens.revoke(record.id).revoked == revoked


def test_revoking_an_unknown_id_is_an_error(tokens: TokenStore) -> None:
    with pytest.raises(TokenError, match="no token with the id 'unknown'"):
        tokens.revoke("unknown")


def test_list_is_sorted_by_age_and_filtered_by_tenant(tokens: TokenStore, store: Backend, clock: FakeClock) -> None:
    for tenant in ("a", "b"):
        TenantStore(store).create(tenant)
    for tenant in ("b", "a", "b"):
        tokens.create(f"of {tenant}", DEFAULT, tenant=tenant)
        clock.advance(seconds=1)
    assert [token.tenant for token in tokens.list()] == ["b", "a", "b"]
    assert [token.label for token in tokens.list("a")] == ["of a"]
    assert tokens.list("unknown") == []


def test_running_write_delays_no_authentication(store: Backend, clock: FakeClock) -> None:
    tokens = TokenStore(store, clock)
    token = create_token(tokens)
    with store.write("default"):
        start = time.monotonic()
        assert principal_of(tokens, token)
        assert time.monotonic() - start < 10, "the lock is held until the end of the block"


@pytest.mark.on_backend("memory", "sqlite")
def test_threads_create_authenticate_and_revoke_at_once(store: Backend) -> None:
    tokens = TokenStore(store)
    steady = create_token(tokens)
    errors: list[str] = []

    def work(number: int) -> None:
        for _ in range(3):
            token, record = tokens.create(f"thread {number}", DEFAULT)
            if not (token and principal_of(tokens, token) and principal_of(tokens, steady)):
                errors.append("a valid token was rejected")
            tokens.revoke(record.id)
            if token and principal_of(tokens, token):
                errors.append("a revoked token was accepted")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(tokens.list()) == 19

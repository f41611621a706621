"""Tokens are made, kept as hashes only, verified quickly and revoked at once."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import pytest

from backends import Backend, Snapshot, open_store
from backends.memory.backend import MemoryBackend
from chalk_flask.auth.tokens.last_used import LastUsedTracker
from chalk_flask.auth.tokens.store import COLLECTION, CONTROL, TokenError, TokenStore
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.scopes import DEFAULT, ROSTER
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants.store import TenantStore

MORNING = datetime(2031, 5, 2, 8, 0, tzinfo=UTC)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.moment = MORNING

    def __call__(self) -> datetime:
        return self.moment

    def later(self, **parts: float) -> None:
        self.moment += timedelta(**parts)


class CountingStore(MemoryBackend):
    """Memory that says how often it was read."""

    reads = 0

    def read(self, tenant: str, *, at_least: object = None) -> Snapshot:
        self.reads += 1
        return super().read(tenant, at_least=at_least)


@pytest.fixture(params=["memory", "sqlite", "json"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    urls = {"memory": "memory:", "sqlite": f"sqlite:///{tmp_path}/chalk.db", "json": f"json:///{tmp_path}/chalk"}
    with open_store(urls[request.param], COLLECTIONS) as opened:
        yield opened


@pytest.fixture
def counting() -> CountingStore:
    return CountingStore.open("memory:", COLLECTIONS)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(store: Backend, clock: Clock) -> TokenStore:
    return TokenStore(store, clock)


def made(tokens: TokenStore, **options: object) -> str:
    token, _ = tokens.create("a reader", DEFAULT, **options)  # type: ignore[arg-type]  # options vary by test
    assert token is not None
    return token


def kept(store: Backend) -> dict[str, bytes]:
    with store.read(CONTROL) as snapshot:
        return snapshot.get_many(COLLECTION, list(snapshot.keys(COLLECTION)))


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def test_a_token_is_a_prefix_thirty_two_random_digits_and_the_checksum_of_both(tokens: TokenStore) -> None:
    live, test = made(tokens), made(tokens, test=True)
    assert re.fullmatch(r"chk_live_[0-9a-f]{40}", live)
    assert re.fullmatch(r"chk_test_[0-9a-f]{40}", test)
    assert live[-8:] == f"{crc32(live[:-8].encode()):08x}"
    assert live[9:] != test[9:]


def test_the_store_holds_the_hash_of_a_token_and_never_the_token(tokens: TokenStore, store: Backend) -> None:
    token = made(tokens)
    [(key, body)] = kept(store).items()
    assert key == sha256(token.encode()).hexdigest()
    assert token[13:].encode() not in body
    assert b'"prefix":"%s"' % token[:13].encode() in body


def test_a_token_grants_its_scopes_in_its_tenant(tokens: TokenStore, store: Backend) -> None:
    TenantStore(store).create("north", demographics=True)
    token, record = tokens.create("one scope", {ROSTER}, tenant="north")
    assert token is not None
    assert tokens.verify(token) == Principal("north", frozenset({ROSTER}), record.id)


@pytest.mark.parametrize("shape", ["chk_{0:032x}", "chk_live_{0:032x}", "chk_{0:064x}", "chk_other.shape-{0}"])
def test_a_token_that_was_issued_elsewhere_is_brought_along_by_its_hash(tokens: TokenStore, shape: str) -> None:
    token = shape.format(0xC0FFEE)
    shown, record = tokens.create("brought", DEFAULT, sha256=sha256(token.encode()).hexdigest().upper())
    assert (shown, record.prefix) == (None, None)
    assert tokens.verify(token) == record.principal


def test_a_hash_that_is_known_is_refused_so_that_a_revoked_token_stays_revoked(tokens: TokenStore) -> None:
    digest = sha256(b"chk_0123").hexdigest()
    _, record = tokens.create("brought", DEFAULT, sha256=digest)
    tokens.revoke(record.id)
    with pytest.raises(TokenError, match=f"known already as {record.id} \\(revoked\\)"):
        tokens.create("again", DEFAULT, sha256=digest)
    assert tokens.verify("chk_0123") is None


@pytest.mark.parametrize("digest", ["", "abc", "g" * 64, "a" * 63, "a" * 65])
def test_what_is_no_sha_256_is_refused(tokens: TokenStore, digest: str) -> None:
    with pytest.raises(TokenError, match="64 hexadecimal digits"):
        tokens.create("brought", DEFAULT, sha256=digest)


@pytest.mark.parametrize("label", ["", "   ", "x" * 201, "two\nlines", "nul\0", "lone \udc80"])
def test_a_label_is_one_printable_line(tokens: TokenStore, label: str) -> None:
    with pytest.raises(TokenError, match="a label is a line"):
        tokens.create(label, DEFAULT)


@pytest.mark.parametrize("tenant", ["", CONTROL, "north", "NORTH", "../north", "n" * 65, "lone \udc80"])
def test_a_token_is_for_a_tenant_that_exists(tokens: TokenStore, store: Backend, tenant: str) -> None:
    with pytest.raises(TokenError, match=r"there is no tenant .*`chalk-flask tenant create ") as refused:
        tokens.create("a label", DEFAULT, tenant=tenant)
    assert repr(tenant[:80]) in str(refused.value)
    assert not kept(store)


def test_an_unknown_token_grants_nothing(tokens: TokenStore) -> None:
    made(tokens)
    assert tokens.verify("chk_" + "0" * 32) is None


def test_a_mistyped_or_malformed_token_never_reaches_the_store(counting: CountingStore) -> None:
    tokens = TokenStore(counting)
    token = made(tokens)
    before = counting.reads
    mistyped = token[:-1] + ("0" if token[-1] != "0" else "1")
    shapes = ["", "chk_", "Bearer", token.removeprefix("chk_"), token.upper(), "chk_" + "a" * 253, "chk_é", "chk_a b"]
    assert not any(tokens.verify(text) for text in [mistyped, *shapes, token + "\n", " " + token])
    assert counting.reads == before


def test_a_token_that_was_seen_is_not_read_again_until_something_was_committed(counting: CountingStore) -> None:
    tokens = TokenStore(counting)
    token = made(tokens)
    tokens.verify(token)
    assert eventually(lambda: tokens.list()[0].last_used is not None)
    tokens.verify(token)
    before = counting.reads
    assert all(tokens.verify(token) for _ in range(100))
    assert counting.reads == before
    made(tokens)
    before = counting.reads
    assert tokens.verify(token)
    assert counting.reads == before + 1


def test_verifying_a_known_token_takes_microseconds(tokens: TokenStore) -> None:
    token = made(tokens)
    tokens.verify(token)
    assert eventually(lambda: tokens.list()[0].last_used is not None)
    best = min(timed(tokens, token) for _ in range(20))
    assert best < 60e-6, "20 us is what it takes on a machine with nothing else to do"


def timed(tokens: TokenStore, token: str) -> float:
    start = time.process_time()
    for _ in range(100):
        tokens.verify(token)
    return (time.process_time() - start) / 100


def test_tokens_are_not_held_in_clear(tokens: TokenStore) -> None:
    token = made(tokens)
    tokens.verify(token)
    assert token not in repr(vars(tokens))


def test_a_token_ends_at_its_expiry_also_when_it_was_seen_before(tokens: TokenStore, clock: Clock) -> None:
    token = made(tokens, expires=MORNING + timedelta(hours=1))
    clock.later(minutes=59)
    assert tokens.verify(token)
    clock.later(minutes=1)
    assert tokens.verify(token) is None
    assert tokens.list()[0].state_at(clock()) == "expired"


def test_a_revoked_token_ends_at_the_next_request_in_every_process(store: Backend, clock: Clock) -> None:
    here, there = TokenStore(store, clock), TokenStore(store, clock)
    token, record = here.create("a reader", DEFAULT)
    assert token is not None
    assert here.verify(token)
    assert there.verify(token)
    there.revoke(record.id)
    assert here.verify(token) is None
    assert there.verify(token) is None


def test_revoking_again_keeps_the_first_moment(tokens: TokenStore, clock: Clock) -> None:
    _, record = tokens.create("a reader", DEFAULT)
    first = tokens.revoke(record.id)
    clock.later(days=1)
    assert tokens.revoke(record.id).revoked == first.revoked == MORNING


def test_an_unknown_id_cannot_be_revoked(tokens: TokenStore) -> None:
    with pytest.raises(TokenError, match="no token with the id 'nobody'"):
        tokens.revoke("nobody")


def test_the_list_has_every_token_of_a_tenant_the_oldest_first(
    tokens: TokenStore, store: Backend, clock: Clock
) -> None:
    for tenant in ("a", "b"):
        TenantStore(store).create(tenant)
    for tenant in ("b", "a", "b"):
        tokens.create(f"of {tenant}", DEFAULT, tenant=tenant)
        clock.later(seconds=1)
    assert [record.tenant for record in tokens.list()] == ["b", "a", "b"]
    assert [record.label for record in tokens.list("a")] == ["of a"]
    assert tokens.list("nobody") == []


def test_the_last_use_is_written_once_a_minute_and_moves_no_revision(store: Backend, clock: Clock) -> None:
    tokens = TokenStore(store, clock)
    tokens._last_used._gather = 0.01
    token = made(tokens)
    with store.read(CONTROL) as snapshot:
        revision = snapshot.revision
    for moment in (MORNING, MORNING + timedelta(seconds=59), MORNING + timedelta(seconds=60)):
        clock.moment = moment
        assert tokens.verify(token)
        written = MORNING + timedelta(seconds=60) if moment > MORNING + timedelta(seconds=59) else MORNING
        assert eventually(lambda written=written: tokens.list()[0].last_used == written)  # type: ignore[misc]  # bound now
    with store.read(CONTROL) as snapshot:
        assert snapshot.revision == revision


def test_a_use_that_is_written_late_does_not_undo_a_revocation(store: Backend, clock: Clock) -> None:
    tokens = TokenStore(store, clock)
    token, record = tokens.create("a reader", DEFAULT)
    assert token is not None
    digest = sha256(token.encode()).hexdigest()
    tokens.revoke(record.id)
    LastUsedTracker(store, CONTROL, COLLECTION).record(digest, None, MORNING)
    assert eventually(lambda: tokens.list()[0].last_used == MORNING)
    assert tokens.list()[0].revoked == MORNING
    assert tokens.verify(token) is None


def test_a_store_that_is_being_written_delays_no_request(store: Backend, clock: Clock) -> None:
    tokens = TokenStore(store, clock)
    token = made(tokens)
    with store.write("default"):
        start = time.monotonic()
        assert tokens.verify(token)
        assert time.monotonic() - start < 0.5


def test_threads_verify_create_and_revoke_at_once(store: Backend) -> None:
    tokens = TokenStore(store)
    steady = made(tokens)
    wrong: list[str] = []

    def work(number: int) -> None:
        for _ in range(5):
            token, record = tokens.create(f"thread {number}", DEFAULT)
            if not (token and tokens.verify(token) and tokens.verify(steady)):
                wrong.append("a valid token was refused")
            tokens.revoke(record.id)
            if token and tokens.verify(token):
                wrong.append("a revoked token was accepted")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(tokens.list()) == 41

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from chalk_flask.caching import LRUCache, VersionedCache


def test_lru_cache_drops_the_least_recently_used_entry() -> None:
    cache: LRUCache[str, int] = LRUCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)
    assert len(cache) == 2


def test_lru_cache_put_replaces_and_renews_an_entry() -> None:
    cache: LRUCache[str, int] = LRUCache(2)
    for key, value in (("a", 1), ("b", 2), ("a", 10), ("c", 3)):
        cache.put(key, value)
    assert (cache.get("a"), cache.get("b")) == (10, None)


def test_lru_cache_peek_does_not_renew_an_entry() -> None:
    cache: LRUCache[str, int] = LRUCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.peek("a") == 1
    cache.put("c", 3)
    assert cache.peek("a") is None


def test_lru_cache_get_returns_the_default_only_for_missing_keys() -> None:
    cache: LRUCache[str, None] = LRUCache(2)
    cache.put("nothing", None)
    assert cache.get("nothing", "default") is None
    assert cache.get("missing", "default") == "default"


def test_lru_cache_get_or_create_creates_once() -> None:
    cache: LRUCache[str, object] = LRUCache(2)
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda _: cache.get_or_create("a", object), range(100)))
    assert len(set(map(id, values))) == 1
    cache.get_or_create("b", object)
    assert cache.get_or_create("a", object) is values[0]
    cache.get_or_create("c", object)
    assert cache.peek("b") is None


def test_lru_cache_update_is_one_step_for_threads() -> None:
    cache: LRUCache[str, int] = LRUCache(2)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: cache.update("a", lambda count: (count or 0) + 1), range(2000)))
    assert cache.get("a") == 2000


def test_versioned_cache_returns_values_of_the_same_version_only() -> None:
    cache: VersionedCache[str, str] = VersionedCache(2)
    cache.put("a", (1, 7), "first")
    assert cache.get("a", (1, 7)) == "first"
    assert cache.get("a", (2, 7)) is None
    assert cache.get("b", (1, 7)) is None


def test_versioned_cache_keeps_one_value_for_a_key() -> None:
    cache: VersionedCache[str, str] = VersionedCache(2)
    cache.put("a", 1, "first")
    cache.put("a", 2, "second")
    assert cache.get("a", 2) == "second"
    cache.put("b", 2, "other")
    cache.put("c", 2, "third")
    assert cache.get("a", 2) is None
    assert len(cache) == 2


def test_values_of_an_earlier_version_are_dropped() -> None:
    """A cached value may be the secret of a client that was revoked since."""
    cache: VersionedCache[str, str] = VersionedCache(10)
    cache.put("revoked", 1, "secret")
    cache.put("other", 1, "another")
    assert cache.get("another", 2) is None
    assert len(cache) == 0
    cache.put("other", 2, "another")
    assert cache.get("other", 2) == "another"

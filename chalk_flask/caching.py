"""Bounded in-memory caches."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar, overload

__all__ = ["LRUCache", "VersionedCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
D = TypeVar("D")


class LRUCache(Generic[K, V]):
    """Mapping of at most `max_entries` that drops the least recently used entry. Thread-safe."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: D | None = None) -> V | D | None:
        """Return the value of a key, which counts as a use of it, or the default."""
        with self._lock:
            try:
                self._entries.move_to_end(key)
            except KeyError:
                return default
            return self._entries[key]

    def peek(self, key: K) -> V | None:
        """Return the value of a key or None, without counting it as a use."""
        return self._entries.get(key)

    def put(self, key: K, value: V) -> None:
        """Store a value as the most recently used one."""
        with self._lock:
            self._put(key, value)

    def clear(self) -> None:
        """Remove all entries."""
        with self._lock:
            self._entries.clear()

    def get_or_create(self, key: K, create: Callable[[], V]) -> V:
        """Return the value of a key. A missing value is created and stored first.

        `create` runs under the lock of the cache, so it must be quick and must not use the cache.
        """
        with self._lock:
            value = self._entries[key] if key in self._entries else create()
            self._put(key, value)
            return value

    def update(self, key: K, change: Callable[[V | None], V]) -> None:
        """Replace the value of a key (None if there is none) by the result of `change`, in one step.

        `change` runs under the lock of the cache, so it must be quick and must not use the cache.
        """
        with self._lock:
            self._put(key, change(self._entries.get(key)))

    def _put(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)


class VersionedCache(Generic[K, V]):
    """LRU cache of values that were read from a store. A value is valid for one version of the store. Thread-safe.

    The first use at another version drops all values, so that a revoked secret does not stay in memory. Take the
    version before you read the value: a commit in between then makes the entry too old, never too new.
    """

    def __init__(self, max_entries: int) -> None:
        self._entries: LRUCache[K, tuple[object, V]] = LRUCache(max_entries)
        self._version: object = None

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K, version: object) -> V | None:
        """Return the value of a key at this version, or None."""
        if version != self._version:
            self._drop_other_versions(version)
        entry = self._entries.get(key)
        return entry[1] if entry is not None and entry[0] == version else None

    def put(self, key: K, version: object, value: V) -> None:
        """Store a value that was read at this version or later."""
        self._drop_other_versions(version)
        self._entries.put(key, (version, value))

    def _drop_other_versions(self, version: object) -> None:
        if version != self._version:
            self._version = version
            self._entries.clear()

"""Nonces of signed requests, so that a request is accepted once.

See RFC 5849, section 3.3, and docs/conformance, O-03.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from hashlib import blake2b

from backends import SharedValues
from chalk_flask.shared_state import SharedState, UsedIdCounter

__all__ = ["NonceCache"]

MAX_AGE_SECONDS = 600
"""Maximum age of a timestamp; clients of OneRoster 1.1 require at least ten minutes."""
MAX_AHEAD_SECONDS = 300
"""Maximum distance of a timestamp in the future."""
DEFAULT_MAX_NONCES = 100_000
CLEANUP_INTERVAL_SECONDS = 60

_REMOVED = "nonces removed"
"""Scope of the last second of each client whose nonces were removed."""


class NonceCache:
    """Cache of the nonces of accepted requests, while their timestamps are valid. Thread-safe.

    It is in the shared state. If a client exceeds `max_nonces`, its oldest nonces are dropped, and requests with
    timestamps as old as theirs are rejected.
    """

    def __init__(self, max_nonces: int = DEFAULT_MAX_NONCES, shared_state: SharedState | None = None) -> None:
        self._max_nonces = max_nonces
        self._state = shared_state or SharedState()
        self._shared_counter = UsedIdCounter(max_nonces + 1)  # the new nonce counts too
        self._lock = threading.Lock()
        self._clients: dict[str, _ClientNonces] = {}
        self._next_cleanup = 0

    def check_and_remember(self, client_id: str, timestamp: int, nonce: str, now: int) -> bool:
        """Store the nonce of a request. Return True if its timestamp is valid and its nonce is new.

        Timestamps from MAX_AGE_SECONDS before `now` to MAX_AHEAD_SECONDS after it are valid. All are epoch seconds.
        """
        if not now - MAX_AGE_SECONDS <= timestamp <= now + MAX_AHEAD_SECONDS:
            return False
        return self._state.attempt(
            lambda state: self._use_shared(state, client_id, timestamp, nonce, now),
            lambda: self._use_local(client_id, timestamp, nonce, now),
        )

    def _use_shared(self, state: SharedValues, client_id: str, timestamp: int, nonce: str, now: int) -> bool:
        scope, removed = f"nonce:{client_id}", state.get(_REMOVED, client_id)
        if removed is not None and timestamp <= removed:
            return False
        nonce_hash = blake2b(f"{timestamp} {nonce}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if not state.use(scope, nonce_hash, timestamp + MAX_AGE_SECONDS + 1, now):
            return False
        if self._shared_counter.is_full(state, scope, now):
            expires = state.delete_earliest_ids(scope)
            state.put(_REMOVED, client_id, expires - MAX_AGE_SECONDS - 1, expires)
        return True

    def _use_local(self, client_id: str, timestamp: int, nonce: str, now: int) -> bool:
        with self._lock:
            if now >= self._next_cleanup:
                self._remove_expired(now)
            nonces = self._clients.setdefault(client_id, _ClientNonces())
            # Python's hash of a text is keyed per process, so it is safe here, and it takes a fraction of the memory.
            return nonces.check_and_remember(timestamp, hash(nonce), self._max_nonces)

    def _remove_expired(self, now: int) -> None:
        self._next_cleanup = now + CLEANUP_INTERVAL_SECONDS
        for client_id, nonces in list(self._clients.items()):
            nonces.remove_before(now - MAX_AGE_SECONDS)
            if not nonces.by_second and nonces.last_removed < now - MAX_AGE_SECONDS:
                del self._clients[client_id]


@dataclass(slots=True)
class _ClientNonces:
    """Nonces of one client by second, and the last second whose nonces were removed."""

    by_second: dict[int, set[int]] = field(default_factory=dict)
    count: int = 0
    last_removed: int = -1

    def check_and_remember(self, timestamp: int, nonce: int, max_nonces: int) -> bool:
        if timestamp <= self.last_removed:
            return False
        nonces = self.by_second.setdefault(timestamp, set())
        if nonce in nonces:
            return False
        nonces.add(nonce)
        self.count += 1
        if self.count > max_nonces:
            self.remove_before(min(self.by_second) + 1)
        return True

    def remove_before(self, timestamp: int) -> None:
        self.last_removed = max(self.last_removed, timestamp - 1)
        for second in [second for second in self.by_second if second < timestamp]:
            self.count -= len(self.by_second.pop(second))

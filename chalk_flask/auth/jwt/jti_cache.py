"""Ids (`jti` of RFC 7519) of JWTs that are accepted once only (docs/conformance, J-04)."""

from __future__ import annotations

import heapq
import logging
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from hashlib import sha256

from backends import SharedValues
from chalk_flask.shared_state import SharedState, UsedIdCounter

__all__ = ["JtiCache"]

log = logging.getLogger(__name__)

DEFAULT_MAX_TOKENS = 50_000


@dataclass(slots=True)
class _IssuerJtis:
    """Hashes of the used ids of one issuer, and the same hashes in a heap by expiry time."""

    hashes: set[bytes] = field(default_factory=set)
    expiries: list[tuple[float, bytes]] = field(default_factory=list)
    was_full: bool = False


class JtiCache:
    """Cache of the ids of used JWTs, in the shared state. An id stays until its token expires. Thread-safe.

    While an issuer has `max_tokens` used tokens that are still valid, its further tokens are rejected. `name`
    distinguishes caches of one shared state.
    """

    def __init__(
        self, max_tokens: int = DEFAULT_MAX_TOKENS, shared_state: SharedState | None = None, name: str = "jti"
    ) -> None:
        self._max_tokens = max_tokens
        self._state, self._name = shared_state or SharedState(), name
        self._shared_counter = UsedIdCounter(max_tokens)
        self._lock = threading.Lock()
        self._issuers: defaultdict[str, _IssuerJtis] = defaultdict(_IssuerJtis)

    def check_and_remember(self, issuer_id: str, jti: str, expires: float, now: float) -> bool:
        """Mark a verified token as used. Return True if this is its first use.

        Both times are in epoch seconds.
        """
        jti_hash = sha256(jti.encode()).digest()
        return self._state.attempt(
            lambda state: self._use_shared(state, issuer_id, jti_hash, expires, now),
            lambda: self._use_local(issuer_id, jti_hash, expires, now),
        )

    def _use_shared(self, state: SharedValues, issuer_id: str, jti_hash: bytes, expires: float, now: float) -> bool:
        scope = f"{self._name}:{issuer_id}"
        if self._shared_counter.is_full(state, scope, now):
            with self._lock:
                _warn_once(self._issuers[issuer_id], issuer_id)
            return False
        return state.use(scope, jti_hash, expires, now)

    def _use_local(self, issuer_id: str, jti_hash: bytes, expires: float, now: float) -> bool:
        with self._lock:
            used = self._issuers[issuer_id]
            _remove_expired(used, now)
            if jti_hash in used.hashes:
                return False
            if len(used.hashes) >= self._max_tokens:
                _warn_once(used, issuer_id)
                return False
            used.hashes.add(jti_hash)
            heapq.heappush(used.expiries, (expires, jti_hash))
            return True


def _remove_expired(used: _IssuerJtis, now: float) -> None:
    while used.expiries and used.expiries[0][0] <= now:
        used.hashes.discard(heapq.heappop(used.expiries)[1])


def _warn_once(used: _IssuerJtis, issuer_id: str) -> None:
    if not used.was_full:
        used.was_full = True
        log.warning(
            "too many tokens of the issuer %s are in use: further ones are rejected until some expire", issuer_id
        )

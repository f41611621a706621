"""Cache of the ids (`jti` of RFC 7519) of JWTs that are accepted once only (docs/conformance, J-04)."""

from __future__ import annotations

import heapq
import logging
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from hashlib import sha256

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
    """Cache of the ids of used JWTs, in the memory of the process. An id stays until its token expires. Thread-safe.

    While an issuer has `max_tokens` used tokens that are still valid, its further tokens are rejected.
    """

    def __init__(self, max_tokens: int = DEFAULT_MAX_TOKENS) -> None:
        self._max_tokens = max_tokens
        self._lock = threading.Lock()
        self._issuers: defaultdict[str, _IssuerJtis] = defaultdict(_IssuerJtis)

    def check_and_remember(self, issuer_id: str, jti: str, expires: float, now: float) -> bool:
        """Mark a verified token as used. Return True if this is its first use.

        Both times are in epoch seconds.
        """
        jti_hash = sha256(jti.encode()).digest()
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

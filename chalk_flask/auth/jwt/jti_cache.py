"""Tokens that were used, for issuers whose tokens are good for one request each (`jti` of RFC 7519)."""

from __future__ import annotations

import heapq
import logging
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from hashlib import sha256

__all__ = ["JtiCache"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _IssuerJtis:
    names: set[bytes] = field(default_factory=set)
    ends: list[tuple[float, bytes]] = field(default_factory=list)
    told: bool = False


class JtiCache:
    """The `jti` that were seen, each until its token expires; kept by this process, as long as it runs.

    Each issuer has room for `most`. When that is full its further tokens are refused rather than used ones forgotten.
    """

    def __init__(self, most: int = 50_000) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._of: defaultdict[str, _IssuerJtis] = defaultdict(_IssuerJtis)

    def check_and_remember(self, issuer_id: str, jti: str, until: float, moment: float) -> bool:
        """Take down that a verified token is used, valid until then; whether that may be: it is its first use."""
        name = sha256(jti.encode()).digest()
        with self._lock:
            used = self._of[issuer_id]
            _forget(used, moment)
            if name in used.names:
                return False
            if len(used.names) >= self._most:
                _tell(used, issuer_id)
                return False
            used.names.add(name)
            heapq.heappush(used.ends, (until, name))
            return True


def _forget(used: _IssuerJtis, moment: float) -> None:
    while used.ends and used.ends[0][0] <= moment:
        used.names.discard(heapq.heappop(used.ends)[1])


def _tell(used: _IssuerJtis, issuer_id: str) -> None:
    if not used.told:
        used.told = True
        log.warning("the issuer %s has so many tokens in use that no more are let in until some expire", issuer_id)

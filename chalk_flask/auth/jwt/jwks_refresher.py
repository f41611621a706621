"""Thread that keeps the published keys of trusted issuers up to date, so that a token rarely arrives before its key."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from backends import Backend, Query
from chalk_flask.auth.jwt.issuers import COLLECTION, TrustedIssuer
from chalk_flask.auth.jwt.jwks_cache import RemoteJwks, RemoteJwksCache
from chalk_flask.background.polling_thread import PollingThread
from chalk_flask.tenants.store import CONTROL

__all__ = ["JwksRefresher"]

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
"""Interval at which expired keys and new issuers are noticed."""

_NEVER_READ = object()


class JwksRefresher:
    """Thread that fetches the keys of issuers when they are new or expired. Each fetch runs in a thread of its own."""

    def __init__(self, store: Backend, cache: RemoteJwksCache) -> None:
        self._store, self._cache = store, cache
        self._thread = PollingThread(
            "keys of issuers", self._poll, _log_error, error_pause=POLL_SECONDS, level=logging.WARNING
        )
        self._version: object = _NEVER_READ
        self._remote_jwks: Sequence[RemoteJwks] = ()
        self._latest_fetch = 0.0

    def start(self) -> None:
        """Start the thread. Call it once."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread. Running fetches are abandoned."""
        self._thread.stop()

    def _poll(self) -> float:
        self._refresh()
        return POLL_SECONDS

    def _refresh(self) -> None:
        version = self._store.version(CONTROL)
        if version != self._version:
            self._remote_jwks = self._read_issuers()
            self._version, self._latest_fetch = version, 0.0
        latest = self._cache.latest_fetch() if self._remote_jwks else 0.0
        for remote_jwks in self._remote_jwks:
            if latest != self._latest_fetch:
                remote_jwks.load_shared_keys()
            remote_jwks.current()
        self._latest_fetch = latest

    def _read_issuers(self) -> Sequence[RemoteJwks]:
        with self._store.read(CONTROL) as control:
            issuers = TrustedIssuer.parse_many(control.find(Query(COLLECTION)).body())
        return [self._cache.get(issuer.id, issuer.jwks_url) for issuer in issuers if issuer.jwks_url is not None]


def _log_error(level: int, message: str) -> None:
    log.log(level, "the keys of issuers are not refreshed: %s", message)

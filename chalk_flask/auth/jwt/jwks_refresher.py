"""Thread that keeps the published keys of trusted issuers up to date, so that a token rarely arrives before its key."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from backends import Backend, Query, StorageError
from chalk_flask.auth.jwt.issuers import COLLECTION, TrustedIssuer
from chalk_flask.auth.jwt.jwks_cache import RemoteJwks, RemoteJwksCache
from chalk_flask.tenants.store import CONTROL
from chalk_flask.tracebacks import RepeatedErrors, error_location

__all__ = ["JwksRefresher"]

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
"""Interval at which expired keys and new issuers are noticed."""

_NEVER_READ = object()


class JwksRefresher:
    """Thread that fetches the keys of issuers when they are new or expired. Each fetch runs in a thread of its own."""

    def __init__(self, store: Backend, cache: RemoteJwksCache) -> None:
        self._store, self._cache = store, cache
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._version: object = _NEVER_READ
        self._remote_jwks: Sequence[RemoteJwks] = ()
        self._errors = RepeatedErrors()

    def start(self) -> None:
        """Start the thread. Call it once."""
        self._thread = threading.Thread(target=self._run, name="keys of issuers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread. Running fetches are abandoned."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._refresh()
                self._errors.clear()
            except StorageError as error:
                self._log(str(error))
            except Exception as error:  # noqa: BLE001 - no error may end the thread
                self._log(error_location(error))
            self._stopping.wait(POLL_SECONDS)

    def _refresh(self) -> None:
        version = self._store.version(CONTROL)
        if version != self._version:
            self._remote_jwks = self._read_issuers()
            self._version = version
        for remote_jwks in self._remote_jwks:
            remote_jwks.current()

    def _read_issuers(self) -> Sequence[RemoteJwks]:
        with self._store.read(CONTROL) as control:
            issuers = TrustedIssuer.parse_many(control.find(Query(COLLECTION)).body())
        return [self._cache.get(issuer.id, issuer.jwks_url) for issuer in issuers if issuer.jwks_url is not None]

    def _log(self, message: str) -> None:
        log.log(self._errors.level(message), "the keys of issuers are not refreshed: %s", message)

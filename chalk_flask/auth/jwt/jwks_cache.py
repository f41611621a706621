"""Cache of the keys that issuers publish: fetched on demand, and used on while fetches fail.

See docs/conformance, J-05.
"""

from __future__ import annotations

import http.client
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import SplitResult

from chalk_flask.auth.jwt.jwks import MAX_JWKS_BYTES, InvalidKeySetError, JwkSet, parse_jwk_set, validate_jwks_url
from chalk_flask.caching import LRUCache

__all__ = ["RemoteJwks", "RemoteJwksCache", "fetch_jwks"]

log = logging.getLogger(__name__)

FETCH_TIMEOUT_SECONDS = 5.0
"""Timeout for connecting, for reading the response, and for a request that waits for keys."""
RETRY_SECONDS = 60.0
"""Pause between two fetches for an unknown key, and after a failed fetch."""

MIN_AGE_SECONDS, DEFAULT_AGE_SECONDS, MAX_AGE_SECONDS = 300.0, 3600.0, 86400.0
MAX_CACHED_ISSUERS = 1024

MAX_LONG_WAITS = 8
"""Maximum number of requests that wait for the full FETCH_TIMEOUT_SECONDS. Further ones wait SHORT_WAIT_SECONDS.

Any client can send tokens that cause fetches, and these must not occupy all threads of the server.
"""
SHORT_WAIT_SECONDS = 1.0

_MAX_AGE = re.compile(r'(?:^|[\s,])max-age="?([0-9]{1,9})', re.IGNORECASE)


def fetch_jwks(url: str) -> tuple[bytes, float]:
    """Return the key set at a URL, and the seconds for which it may be cached.

    Uses no proxy, follows no redirect, and reads at most MAX_JWKS_BYTES. Raises InvalidKeySetError, OSError or
    http.client.HTTPException.
    """
    parts = validate_jwks_url(url)
    connection = _make_connection(parts)
    try:
        connection.connect()
        with _deadline(connection.sock):
            return _read_response(_send_request(connection, parts))
    finally:
        connection.close()


class RemoteJwks:
    """Keys that one issuer publishes, fetched on demand and cached. Thread-safe.

    A fetch runs in a thread of its own, one at a time, without a lock. The requests that need its keys wait for at most
    FETCH_TIMEOUT_SECONDS. If the fetch fails, the former keys stay in use.
    """

    def __init__(
        self,
        issuer_id: str,
        url: str,
        fetch: Callable[[str], tuple[bytes, float]] = fetch_jwks,
        clock: Callable[[], float] = time.monotonic,
        long_waits: threading.Semaphore | None = None,
    ) -> None:
        self._issuer_id, self._url, self._fetch, self._clock = issuer_id, url, fetch, clock
        self._long_waits = long_waits or threading.Semaphore(MAX_LONG_WAITS)
        self._lock = threading.Lock()
        self._keys = JwkSet()
        self._expires = self._retry_at = float("-inf")
        self._last_fetch_failed = False
        self._running: threading.Event | None = None

    def current(self) -> JwkSet:
        """Return the cached keys without waiting; expired ones are fetched again in the background."""
        if self._clock() >= self._expires:
            self._start_fetch(for_unknown_key=False)
        return self._keys

    def keys_for(self, algorithm: str, kid: str | None) -> JwkSet:
        """Return the keys. Fetch them first if they are expired, or if none matches (at most once a minute)."""
        if self._clock() >= self._expires and not (self._last_fetch_failed and self._keys.keys):
            self._wait(self._start_fetch(for_unknown_key=False))
        elif not self.current().matching(algorithm, kid):
            self._wait(self._start_fetch(for_unknown_key=True))
        return self._keys

    def _start_fetch(self, *, for_unknown_key: bool) -> threading.Event | None:
        """Start a fetch if it is due. Return the event that is set at the end of the running fetch, or None."""
        with self._lock:
            now = self._clock()
            if self._running is None and now >= self._retry_at and (for_unknown_key or now >= self._expires):
                if for_unknown_key:
                    self._retry_at = now + RETRY_SECONDS
                self._running = threading.Event()
                self._start_thread(self._running)
            return self._running

    def _start_thread(self, done: threading.Event) -> None:
        try:
            threading.Thread(target=self._run_fetch, args=[done], name="keys of an issuer", daemon=True).start()
        except RuntimeError:  # the system has no more threads
            self._running, self._retry_at = None, self._clock() + RETRY_SECONDS

    def _wait(self, done: threading.Event | None) -> None:
        if done is None:
            return
        may_wait_long = self._long_waits.acquire(blocking=False)
        try:
            done.wait(FETCH_TIMEOUT_SECONDS if may_wait_long else SHORT_WAIT_SECONDS)
        finally:
            if may_wait_long:
                self._long_waits.release()

    def _run_fetch(self, done: threading.Event) -> None:
        keys, age = None, 0.0
        try:
            body, age = self._fetch(self._url)
            keys = parse_jwk_set(body, strict=False)
        except http.client.HTTPException as error:  # its text comes from the other server: log the type only
            log.warning("cannot fetch the keys of the issuer %s: %s", self._issuer_id, type(error).__name__)
        except (InvalidKeySetError, OSError, ValueError) as error:
            log.warning("cannot fetch the keys of the issuer %s: %s", self._issuer_id, error)
        finally:
            self._finish_fetch(keys, age)
            done.set()

    def _finish_fetch(self, keys: JwkSet | None, age: float) -> None:
        with self._lock:
            self._running = None
            self._last_fetch_failed = keys is None
            if keys is None:
                self._retry_at = self._clock() + RETRY_SECONDS
            else:
                self._keys, self._expires = keys, self._clock() + age


class RemoteJwksCache:
    """Cache of the `RemoteJwks` of all issuers, limited to the most recently used ones. Thread-safe."""

    def __init__(self) -> None:
        self._long_waits = threading.Semaphore(MAX_LONG_WAITS)
        self._cache: LRUCache[tuple[str, str], RemoteJwks] = LRUCache(MAX_CACHED_ISSUERS)

    def get(self, issuer_id: str, url: str) -> RemoteJwks:
        """Return the keys of the issuer with this id, published at this URL."""
        return self._cache.get_or_create(
            (issuer_id, url), lambda: RemoteJwks(issuer_id, url, long_waits=self._long_waits)
        )


def _make_connection(parts: SplitResult) -> http.client.HTTPConnection:
    assert parts.hostname is not None
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=FETCH_TIMEOUT_SECONDS)
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=FETCH_TIMEOUT_SECONDS, context=context)


@contextmanager
def _deadline(connection: socket.socket) -> Iterator[None]:
    """Shut down the connection after FETCH_TIMEOUT_SECONDS. A socket timeout applies to single reads only."""
    timer = threading.Timer(FETCH_TIMEOUT_SECONDS, _shut_down, [connection])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut_down(connection: socket.socket) -> None:
    with suppress(OSError):  # the connection may be closed already
        # The shutdown of a TLS socket is not safe in another thread; that of the plain socket is.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _send_request(connection: http.client.HTTPConnection, parts: SplitResult) -> http.client.HTTPResponse:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request("GET", target, headers={"Accept": "application/jwk-set+json, application/json"})
    return connection.getresponse()


def _read_response(response: http.client.HTTPResponse) -> tuple[bytes, float]:
    if response.status != 200:
        raise InvalidKeySetError(f"the response has the status {response.status}, not 200; redirects are not followed")
    body = response.read(MAX_JWKS_BYTES + 1)
    if len(body) > MAX_JWKS_BYTES:
        raise InvalidKeySetError(f"the response has more than {MAX_JWKS_BYTES} bytes")
    max_age = _MAX_AGE.search(response.headers.get("Cache-Control", ""))
    if max_age is None:
        return body, DEFAULT_AGE_SECONDS
    return body, min(max(float(max_age[1]), MIN_AGE_SECONDS), MAX_AGE_SECONDS)

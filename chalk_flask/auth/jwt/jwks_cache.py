"""Cache of the keys that issuers publish: fetched in the background, and used on while fetches fail.

See docs/conformance, J-05.
"""

from __future__ import annotations

import http.client
import logging
import re
import threading
import time
from collections.abc import Callable

from chalk_flask.auth.jwt.jwks import InvalidKeySetError, JwkSet, parse_jwk_set, validate_jwks_url
from chalk_flask.auth.jwt.shared_key_sets import SharedKeySets
from chalk_flask.caching import LRUCache
from chalk_flask.https.client import ResponseTooLargeError, send_request
from chalk_flask.shared_state import SharedState

__all__ = ["RemoteJwks", "RemoteJwksCache", "fetch_jwks"]

log = logging.getLogger(__name__)

RETRY_SECONDS = 60.0
"""Pause between two fetches for an unknown key, and after a failed fetch."""

BUSY_RETRY_SECONDS = 0.5
"""Pause before the next fetch while another process fetches the same keys."""

MIN_AGE_SECONDS, DEFAULT_AGE_SECONDS, MAX_AGE_SECONDS = 300.0, 3600.0, 86400.0
MAX_OVERDUE_SECONDS = 300.0
"""Time for which expired keys are used while no fetch has been tried, as after hours without a request."""
MAX_CACHED_ISSUERS = 1024

_NO_KEYS = JwkSet()
_MAX_AGE = re.compile(r'(?:^|[\s,])max-age="?([0-9]{1,9})', re.IGNORECASE)


def fetch_jwks(url: str) -> tuple[bytes, float]:
    """Return the key set at a URL, and the seconds for which it may be cached.

    Uses no proxy and follows no redirect. Raises InvalidKeySetError, OSError or http.client.HTTPException.
    """
    validate_jwks_url(url)
    try:
        response = send_request(url, {"Accept": "application/jwk-set+json, application/json"})
    except ResponseTooLargeError as error:
        raise InvalidKeySetError(str(error)) from error
    if response.status != 200:
        raise InvalidKeySetError(f"the response has the status {response.status}, not 200; redirects are not followed")
    return response.body, _cache_seconds(response.headers.get("Cache-Control", ""))


class RemoteJwks:
    """Keys that one issuer publishes, fetched in the background and cached. Thread-safe.

    A fetch runs in a thread of its own, one at a time. No request waits for it: until the new keys have arrived, the
    former ones are used, and tokens with an unknown key are rejected. If the fetch fails, the former keys stay in use.
    Keys that another process has fetched are used without a fetch.
    """

    def __init__(
        self,
        issuer_id: str,
        url: str,
        fetch: Callable[[str], tuple[bytes, float]] = fetch_jwks,
        clock: Callable[[], float] = time.monotonic,
        shared: SharedKeySets | None = None,
    ) -> None:
        self._issuer_id, self._url, self._fetch, self._clock = issuer_id, url, fetch, clock
        self._shared, self._shared_key = shared or SharedKeySets(SharedState()), f"{issuer_id} {url}"
        self._fetched = 0.0
        """Time at which the keys were fetched, as all processes know it."""
        self._lock = threading.Lock()
        self._keys = JwkSet()
        self._expires = self._retry_at = float("-inf")
        self._last_fetch_failed = False
        self._is_fetching = False

    @property
    def is_fetching(self) -> bool:
        """True while a fetch is running."""
        return self._is_fetching

    def current(self) -> JwkSet:
        """Return the cached keys without waiting; expired ones are fetched again in the background.

        Returns an empty set if the keys expired more than MAX_OVERDUE_SECONDS ago without an attempt to fetch them.
        """
        overdue_seconds = self._clock() - self._expires
        if overdue_seconds >= 0:
            self._start_fetch()
        is_usable = overdue_seconds < MAX_OVERDUE_SECONDS or self._last_fetch_failed
        return self._keys if is_usable else _NO_KEYS

    def keys_for(self, algorithm: str, kid: str | None) -> JwkSet:
        """Return the cached keys without waiting. If none matches, fetch them again (at most once a minute)."""
        keys = self.current()
        # The fetch that `current` started may have ended already.
        latest = self._keys
        if not keys.matching(algorithm, kid) and not latest.matching(algorithm, kid):
            self.load_shared_keys()
            keys, latest = self.current(), self._keys
            if not keys.matching(algorithm, kid) and not latest.matching(algorithm, kid):
                self._start_fetch(without_match=latest)
        return keys

    def load_shared_keys(self) -> None:
        """Replace the keys by those that another process fetched later."""
        published = self._shared.find(self._shared_key)
        if published is None or published.fetched <= self._fetched:
            return
        keys = parse_jwk_set(published.body, strict=False)
        with self._lock:
            offset = self._clock() - time.time()
            self._keys, self._fetched, self._last_fetch_failed = keys, published.fetched, False
            self._expires = published.expires + offset
            self._retry_at = max(self._retry_at, published.retry_at + offset)

    def _start_fetch(self, *, without_match: JwkSet | None = None) -> None:
        """Start a fetch if it is due and none is running.

        It is due if the keys expired, or if `without_match`, which lacks a key, is still the latest set.
        """
        with self._lock:
            now = self._clock()
            if self._is_fetching or now < self._retry_at or not self._is_due(without_match):
                return
            if without_match is not None:
                self._retry_at = now + RETRY_SECONDS
            self._is_fetching = True
            try:
                threading.Thread(
                    target=self._run_fetch, args=(without_match,), name="keys of an issuer", daemon=True
                ).start()
            except RuntimeError:  # the system has no more threads
                self._is_fetching, self._retry_at = False, now + RETRY_SECONDS

    def _is_due(self, without_match: JwkSet | None) -> bool:
        return self._clock() >= self._expires or without_match is self._keys

    def _run_fetch(self, without_match: JwkSet | None) -> None:
        if not self._shared.begin_fetch(self._shared_key):  # another process will publish the keys
            with self._lock:
                self._is_fetching, self._retry_at = False, self._clock() + BUSY_RETRY_SECONDS
            return
        try:
            self.load_shared_keys()
            if self._is_due(without_match):
                self._fetch_keys()
        finally:
            self._is_fetching = False
            self._shared.end_fetch(self._shared_key)

    def _fetch_keys(self) -> None:
        keys, age, fetched = None, 0.0, self._fetched
        # A failure that lasts is logged once: the next attempt comes after a minute.
        level = logging.DEBUG if self._last_fetch_failed else logging.WARNING
        try:
            body, age = self._fetch(self._url)
            keys = parse_jwk_set(body, strict=False)
            fetched = self._publish(body, age)
        except http.client.HTTPException as error:  # its text comes from the other server: log the type only
            log.log(level, "cannot fetch the keys of the issuer %s: %s", self._issuer_id, type(error).__name__)
        except (InvalidKeySetError, OSError, ValueError) as error:
            log.log(level, "cannot fetch the keys of the issuer %s: %s", self._issuer_id, error)
        finally:
            self._finish_fetch(keys, age, fetched)

    def _publish(self, body: bytes, age: float) -> float:
        """Store the keys for all processes, before this one uses them. Return the time of the fetch."""
        now, offset = time.time(), self._clock() - time.time()
        retry_at = max(0.0, self._retry_at - offset)
        return self._shared.publish(self._shared_key, body, now + age, retry_at)

    def _finish_fetch(self, keys: JwkSet | None, age: float, fetched: float) -> None:
        with self._lock:
            self._is_fetching = False
            self._last_fetch_failed = keys is None
            if keys is None:
                self._retry_at = self._clock() + RETRY_SECONDS
            else:
                self._keys, self._expires, self._fetched = keys, self._clock() + age, fetched


class RemoteJwksCache:
    """Cache of the `RemoteJwks` of all issuers, limited to the most recently used ones. Thread-safe."""

    def __init__(self, shared_state: SharedState | None = None) -> None:
        self._cache: LRUCache[tuple[str, str], RemoteJwks] = LRUCache(MAX_CACHED_ISSUERS)
        self._shared = SharedKeySets(shared_state or SharedState())

    def latest_fetch(self) -> float:
        """Return the time at which a process fetched keys last, in epoch seconds; 0 if none did."""
        return self._shared.latest_fetch()

    def get(self, issuer_id: str, url: str) -> RemoteJwks:
        """Return the keys of the issuer with this id, published at this URL."""
        return self._cache.get_or_create((issuer_id, url), lambda: RemoteJwks(issuer_id, url, shared=self._shared))


def _cache_seconds(cache_control: str) -> float:
    max_age = _MAX_AGE.search(cache_control)
    if max_age is None:
        return DEFAULT_AGE_SECONDS
    return min(max(float(max_age[1]), MIN_AGE_SECONDS), MAX_AGE_SECONDS)

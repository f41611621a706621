"""The keys that issuers publish: fetched when they are needed, kept for a while, and in use when a fetch fails."""

from __future__ import annotations

import http.client
import logging
import re
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import SplitResult

from chalk_flask.auth.jwt.jwks import MAX_JWKS_BYTES, InvalidKeySetError, JwkSet, parse_jwk_set, validate_jwks_url

__all__ = ["FETCH_TIMEOUT_SECONDS", "RETRY_SECONDS", "RemoteJwks", "RemoteJwksCache", "fetch"]

log = logging.getLogger(__name__)

FETCH_TIMEOUT_SECONDS = 5.0
"""How long connecting and answering may take each, and how long a request waits for keys."""
RETRY_SECONDS = 60.0
"""The seconds between two fetches for an unknown key, and after one that failed."""

_AGES = (300.0, 3600.0, 86400.0)
_SOURCES = 1024
_MAX_AGE = re.compile(r'(?:^|[\s,])max-age="?([0-9]{1,9})', re.IGNORECASE)

# Tokens that make us fetch may come from anyone. They must not take every thread of a server for SECONDS.
_PATIENT = 8
_BRIEFLY = 1.0


def fetch(url: str) -> tuple[bytes, float]:
    """The key set at an address, and for how many seconds it may be kept.

    Goes there directly, whatever proxies the environment names, follows no redirect, and reads no more than LARGEST.
    Raises InvalidKeySetError, OSError or http.client.HTTPException.
    """
    parts = validate_jwks_url(url)
    connection = _connection(parts)
    try:
        connection.connect()
        with _deadline(connection.sock):
            return _body(_asked(connection, parts))
    finally:
        connection.close()


class RemoteJwks:
    """The keys that an issuer publishes, fetched when they are asked for and kept. Safe for many threads at once.

    Nobody holds a lock while a fetch is under way: it has a thread of its own, there is one at a time, and those who
    need it wait for it SECONDS at most. When it fails the old keys stay in use.
    """

    def __init__(
        self,
        name: str,
        url: str,
        fetch: Callable[[str], tuple[bytes, float]] = fetch,
        clock: Callable[[], float] = time.monotonic,
        patient: threading.Semaphore | None = None,
    ) -> None:
        self._name, self._url, self._fetch, self._clock = name, url, fetch, clock
        self._patient = patient or threading.Semaphore(_PATIENT)
        self._lock = threading.Lock()
        self._keys = JwkSet()
        self._due = self._barred = float("-inf")
        self._failed = False
        self._running: threading.Event | None = None

    def current(self) -> JwkSet:
        """The keys as they are known, at once; they are fetched again in the background when their time is over."""
        if self._clock() >= self._due:
            self._started(again=False)
        return self._keys

    def keys_for(self, algorithm: str, kid: str | None) -> JwkSet:
        """The keys, fetched again first when their time is over, or when none fits; the latter once a minute."""
        if self._clock() >= self._due and not (self._failed and self._keys.keys):
            self._wait(self._started(again=False))
        elif not self.current().matching(algorithm, kid):
            self._wait(self._started(again=True))
        return self._keys

    def _started(self, again: bool) -> threading.Event | None:
        with self._lock:
            moment = self._clock()
            if self._running is None and moment >= self._barred and (again or moment >= self._due):
                if again:
                    self._barred = moment + RETRY_SECONDS
                self._running = threading.Event()
                self._begin(self._running)
            return self._running

    def _begin(self, done: threading.Event) -> None:
        try:
            threading.Thread(target=self._renew, args=[done], name="keys of an issuer", daemon=True).start()
        except RuntimeError:  # no more threads
            self._running, self._barred = None, self._clock() + RETRY_SECONDS

    def _wait(self, running: threading.Event | None) -> None:
        if running is None:
            return
        patient = self._patient.acquire(blocking=False)
        try:
            running.wait(FETCH_TIMEOUT_SECONDS if patient else _BRIEFLY)
        finally:
            if patient:
                self._patient.release()

    def _renew(self, done: threading.Event) -> None:
        keys, age = None, 0.0
        try:
            body, age = self._fetch(self._url)
            keys = parse_jwk_set(body, strict=False)
        except http.client.HTTPException as error:  # its text is the other side's
            log.warning("the keys of the issuer %s cannot be had: %s", self._name, type(error).__name__)
        except (InvalidKeySetError, OSError, ValueError) as error:
            log.warning("the keys of the issuer %s cannot be had: %s", self._name, error)
        finally:
            self._ended(keys, age)
            done.set()

    def _ended(self, keys: JwkSet | None, age: float) -> None:
        with self._lock:
            self._running = None
            self._failed = keys is None
            if keys is None:
                self._barred = self._clock() + RETRY_SECONDS
            else:
                self._keys, self._due = keys, self._clock() + age


class RemoteJwksCache:
    """A source for each issuer that publishes its keys; those that were not asked for longest are forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._patient = threading.Semaphore(_PATIENT)
        self._known: OrderedDict[tuple[str, str], RemoteJwks] = OrderedDict()

    def get(self, issuer_id: str, url: str) -> RemoteJwks:
        """The source of the issuer with this id, at this address."""
        with self._lock:
            source = self._known.get((issuer_id, url))
            if source is None:
                source = self._known[issuer_id, url] = RemoteJwks(issuer_id, url, patient=self._patient)
            self._known.move_to_end((issuer_id, url))
            if len(self._known) > _SOURCES:
                self._known.popitem(last=False)
            return source


def _connection(parts: SplitResult) -> http.client.HTTPConnection:
    assert parts.hostname is not None
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=FETCH_TIMEOUT_SECONDS)
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=FETCH_TIMEOUT_SECONDS, context=context)


@contextmanager
def _deadline(connected: socket.socket) -> Iterator[None]:
    """End a connection on which bytes drip: a timeout of the socket only counts from one to the next."""
    cut = threading.Timer(FETCH_TIMEOUT_SECONDS, _cut, [connected])
    cut.daemon = True
    cut.start()
    try:
        yield
    finally:
        cut.cancel()


def _cut(connected: socket.socket) -> None:
    with suppress(OSError):  # it may have ended by itself
        # TLS has a shutdown of its own, which is not for another thread.
        socket.socket.shutdown(connected, socket.SHUT_RDWR)


def _asked(connection: http.client.HTTPConnection, parts: SplitResult) -> http.client.HTTPResponse:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request("GET", target, headers={"Accept": "application/jwk-set+json, application/json"})
    return connection.getresponse()


def _body(answer: http.client.HTTPResponse) -> tuple[bytes, float]:
    if answer.status != 200:
        raise InvalidKeySetError(f"the answer has the status {answer.status}, not 200; redirects are not followed")
    body = answer.read(MAX_JWKS_BYTES + 1)
    if len(body) > MAX_JWKS_BYTES:
        raise InvalidKeySetError(f"the answer has more than {MAX_JWKS_BYTES} bytes")
    shortest, usual, longest = _AGES
    said = _MAX_AGE.search(answer.headers.get("Cache-Control", ""))
    return body, min(max(float(said[1]), shortest), longest) if said else usual

"""Request rates that the operator sets (off by default) and limits on failed authentication (always on).

The processes of `chalk-flask serve` count together. An IPv6 client is identified by its /64 network, as it can use any
address in it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from flask import Flask, Response, g, request
from werkzeug.exceptions import TooManyRequests

from backends import SharedValues
from chalk_flask.api.auth.internal_requests import is_internal_request
from chalk_flask.caching import LRUCache
from chalk_flask.client_network import client_network
from chalk_flask.settings import Settings, process_count
from chalk_flask.shared_state import SharedState

if TYPE_CHECKING:
    from flask_limiter import Limiter, RequestLimit

__all__ = ["Auth", "FailedAuthLimiter", "with_rate_limits"]

MAX_REJECTED_TOKENS = 300
"""Maximum rejected bearer tokens per window and address. Further ones get 429 instead of 401; valid ones still work."""
MAX_FAILED_LOGINS = 30
"""Maximum failed logins per window and address, and per window, address and client.

At the address limit, further failures get 429 instead of 401. At the client limit, the client is rejected from that
address even with the right secret, so that guessing cannot continue.
"""
WINDOW_SECONDS = 60.0
MAX_KEYS = 8192
"""Maximum number of keys of a counter in memory. It drops the key whose last failure is oldest."""

UNLIMITED_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths without rate limits: a load balancer that got 429 would take the service out of use."""

View: TypeAlias = Callable[..., Any]


class Auth(Protocol):
    """Guard of views: Flask-HTTPAuth, with or without a rate limit."""

    def login_required(self, *, role: list[str]) -> Callable[[View], View]:
        """Return a decorator for a view that requires one of these scopes."""
        ...


class FailureCounter:
    """Counter of failures per key, within a window that starts with the first failure of the key. Thread-safe.

    `name` distinguishes counters of one shared state.
    """

    def __init__(
        self,
        max_failures: int,
        max_keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.time,
        shared_state: SharedState | None = None,
        name: str = "failures",
    ) -> None:
        self._max_failures = max_failures
        self._state, self._name = shared_state or SharedState(), name
        self._clock = clock
        self._windows: LRUCache[Hashable, tuple[float, int]] = LRUCache(max_keys)

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._windows)

    def count(self, key: Hashable) -> None:
        """Count one more failure of the key."""
        now = self._clock()

        def add_failure(window: tuple[float, int] | None) -> tuple[float, int]:
            start, failures = window or (now, 0)
            return (start, failures + 1) if start <= now < start + WINDOW_SECONDS else (now, 1)

        def add_shared_failure(state: SharedValues) -> None:
            window = add_failure(state.get(self._name, repr(key)))
            state.put(self._name, repr(key), window, window[0] + WINDOW_SECONDS)

        self._state.attempt(add_shared_failure, lambda: self._windows.update(key, add_failure))

    def seconds_until_allowed(self, key: Hashable) -> int:
        """Return the seconds until the end of the window if the key has reached the limit, else 0."""
        window = self._state.attempt(lambda state: state.get(self._name, repr(key)), lambda: self._windows.peek(key))
        start, failures = window or (0.0, 0)
        remaining = start + WINDOW_SECONDS - self._clock()
        return math.ceil(remaining) if failures >= self._max_failures and remaining > 0 else 0


class FailedAuthLimiter:
    """Limiter of failed authentication, per address and client.

    Its methods refer to the current request. They raise TooManyRequests, with Retry-After, once a limit is reached.
    """

    def __init__(self, shared_state: SharedState) -> None:
        self._tokens = FailureCounter(MAX_REJECTED_TOKENS, shared_state=shared_state, name="rejected tokens")
        self._logins = FailureCounter(MAX_FAILED_LOGINS, shared_state=shared_state, name="failed logins")
        self._clients = FailureCounter(MAX_FAILED_LOGINS, shared_state=shared_state, name="failed clients")

    def count_rejected_token(self) -> None:
        """Count a rejected bearer token or signature. A request without credentials does not count."""
        if "HTTP_AUTHORIZATION" in request.environ:
            address = client_network(request.remote_addr)
            seconds = self._tokens.seconds_until_allowed(address)
            self._tokens.count(address)
            _reject_for(seconds)

    def check_valid_login(self, client: str) -> None:
        """Reject a valid login of a client that has failed too often from this address."""
        _reject_for(self._clients.seconds_until_allowed((client_network(request.remote_addr), client)))

    def count_failed_login(self, client: str | None) -> None:
        """Count a failed login. `client` is None if no client has the id that the request names.

        The response depends on the address only, so that it does not reveal which clients exist.
        """
        address = client_network(request.remote_addr)
        seconds = self._logins.seconds_until_allowed(address)
        self._logins.count(address)
        if client is not None:
            self._clients.count((address, client))
        _reject_for(seconds)


def with_rate_limits(app: Flask, auth: Auth, settings: Settings, shared_state: SharedState) -> Auth:
    """Return the guard with the rates of the settings, or the guard itself if the settings have no rates.

    Responses of limited routes carry `X-RateLimit-Limit`, `-Remaining` and `-Reset` (POSIX seconds) of the nearest
    limit. Responses with 429 carry `Retry-After` too.
    """
    if not (settings.rate_limit_token or settings.rate_limit_address):
        return auth
    from flask_limiter import ApplicationLimit, Limiter

    logging.getLogger("flask-limiter").setLevel(logging.WARNING)  # otherwise it logs every rejected request
    limiters: list[Limiter] = []
    storage: dict[str, Any] = {"storage_uri": "memory://"}
    if process_count(settings) > 1:
        from chalk_flask.api.auth.rate_limit_storage import SHARED_STORAGE_URI

        storage = {"storage_uri": SHARED_STORAGE_URI, "storage_options": {"shared_state": shared_state}}
    app.after_request(lambda response: _add_headers(limiters, response))
    if settings.rate_limit_address:
        address_limit = ApplicationLimit(settings.rate_limit_address, key_function=_address_key, scope="address")
        limiters.append(Limiter(_address_key, app=app, application_limits=[address_limit], **storage))
    if settings.rate_limit_token:
        limiters.append(Limiter(_credential_key, app=app, **storage))
    for limiter in limiters:
        limiter.request_filter(_is_unlimited)
    if settings.rate_limit_token:
        return _RateLimitedAuth(auth, limiters[-1].shared_limit(settings.rate_limit_token, scope="token"))
    return auth


class _RateLimitedAuth:
    """Guard that authenticates a request and then counts it."""

    def __init__(self, auth: Auth, limit: Callable[[View], View]) -> None:
        self._auth = auth
        self._limit = limit

    def login_required(self, *, role: list[str]) -> Callable[[View], View]:
        """Return a decorator for a view that requires one of these scopes."""
        return lambda view: self._auth.login_required(role=role)(self._limit(view))


def _add_headers(limiters: list[Limiter], response: Response) -> Response:
    limits = [limit for limiter in limiters for limit in limiter.current_limits]
    if limits:
        nearest = min(limits, key=_nearness)
        response.headers["X-RateLimit-Limit"] = str(nearest.limit.amount)
        response.headers["X-RateLimit-Remaining"] = str(nearest.remaining)
        response.headers["X-RateLimit-Reset"] = str(math.ceil(nearest.window.reset_time))
        if nearest.breached:
            response.headers["Retry-After"] = str(max(1, math.ceil(nearest.window.reset_time - time.time())))
    return response


def _nearness(limit: RequestLimit) -> tuple[bool, int, float]:
    return not limit.breached, limit.remaining, -limit.window.reset_time


def _is_unlimited() -> bool:
    """Return True for requests of this process itself, and for those of load balancers and monitoring systems."""
    return is_internal_request() or request.path in UNLIMITED_PATHS


def _address_key() -> str:
    return client_network(request.remote_addr)


def _credential_key() -> str:
    principal = g.principal
    return f"{principal.credential_type}:{principal.credential_id}"


def _reject_for(seconds: int) -> None:
    if seconds:
        raise TooManyRequests(retry_after=seconds)

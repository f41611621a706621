"""Limits of how often: rates that an operator sets (off by default), and wrong credentials (always).

Every process counts for itself. An IPv6 client is its /64 network, of which it may use any address.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from flask import Flask, Response, g, request
from werkzeug.exceptions import TooManyRequests

from chalk_flask.settings import Settings

if TYPE_CHECKING:
    from flask_limiter import Limiter, RequestLimit

__all__ = ["BAD_LOGINS", "BAD_TOKENS", "Auth", "FailedAuthLimiter", "FailureCounter", "network", "with_rate_limits"]

BAD_TOKENS = 300
"""Wrong bearer tokens a minute after which an address is answered 429 instead of 401; right ones still get in."""
BAD_LOGINS = 30
"""Wrong secrets a minute after which an address is answered 429 at the token endpoint instead of 401; and a client that
they were for is refused from there for the rest of the minute, right or wrong: otherwise guessing could go on."""
MINUTE = 60.0
KEYS = 8192
"""How many keys are remembered; when there are more, the ones that failed longest ago are forgotten."""

View: TypeAlias = Callable[..., Any]


class Auth(Protocol):
    """What lets requests in: Flask-HTTPAuth, or that with a limit behind it."""

    def login_required(self, *, role: list[str]) -> Callable[[View], View]:
        """Decorates a view that needs one of these scopes."""
        ...


class FailureCounter:
    """How often each key failed within a minute that begins with its first failure. Safe for many threads."""

    def __init__(self, most: int, keys: int = KEYS, now: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._keys = keys
        self._now = now
        self._lock = threading.Lock()
        self._failed: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def count(self, key: Hashable) -> None:
        """Count one more failure."""
        moment = self._now()
        with self._lock:
            since, times = self._failed.pop(key, (moment, 0))
            self._failed[key] = (since, times + 1) if moment < since + MINUTE else (moment, 1)
            if len(self._failed) > self._keys:
                self._failed.popitem(last=False)

    def seconds(self, key: Hashable) -> int:
        """How long the key has to wait, because it failed as often as is allowed; 0 when it has not."""
        with self._lock:
            since, times = self._failed.get(key, (0.0, 0))
        left = since + MINUTE - self._now()
        return math.ceil(left) if times >= self._most and left > 0 else 0


class FailedAuthLimiter:
    """Wrong credentials of requests; the one place that answers 429 for them. `TooManyRequests` carries Retry-After."""

    def __init__(self) -> None:
        self._tokens = FailureCounter(BAD_TOKENS)
        self._logins = FailureCounter(BAD_LOGINS)
        self._clients = FailureCounter(BAD_LOGINS)

    def token_rejected(self) -> None:
        """This request's bearer credentials are wrong; none at all are no guess. Raises TooManyRequests."""
        if "HTTP_AUTHORIZATION" in request.environ:
            address = network(request.remote_addr)
            seconds = self._tokens.seconds(address)
            self._tokens.count(address)
            _refuse(seconds)

    def login_succeeded(self, client: str) -> None:
        """This request shows a client's secret. Raises TooManyRequests when it was wrong too often from there."""
        _refuse(self._clients.seconds((network(request.remote_addr), client)))

    def login_failed(self, client: str | None) -> None:
        """This request shows a wrong secret for a client, or is for none that there is. Raises TooManyRequests.

        That depends on the address alone, so that it does not tell which clients there are.
        """
        address = network(request.remote_addr)
        seconds = self._logins.seconds(address)
        self._logins.count(address)
        if client is not None:
            self._clients.count((address, client))
        _refuse(seconds)


def with_rate_limits(app: Flask, auth: Auth, settings: Settings) -> Auth:
    """The guard with the rates of the settings; itself when there are none, at no cost.

    Answers of routes that have a limit say `X-RateLimit-Limit`, `-Remaining` and `-Reset` (POSIX seconds) of the limit
    that is nearest; 429 also `Retry-After`.
    """
    if not (settings.rate_limit_token or settings.rate_limit_address):
        return auth
    from flask_limiter import ApplicationLimit, Limiter

    logging.getLogger("flask-limiter").setLevel(logging.WARNING)  # it logs each refusal
    limiters: list[Limiter] = []
    app.after_request(lambda response: _told(limiters, response))
    if settings.rate_limit_address:
        everywhere = ApplicationLimit(settings.rate_limit_address, key_function=_address, scope="address")
        limiters.append(Limiter(_address, app=app, application_limits=[everywhere], storage_uri="memory://"))
    if settings.rate_limit_token:
        limiters.append(Limiter(_bearer, app=app, storage_uri="memory://"))
        return _RateLimitedAuth(auth, limiters[-1].shared_limit(settings.rate_limit_token, scope="token"))
    return auth


class _RateLimitedAuth:
    """Lets requests in and then counts them."""

    def __init__(self, bearer: Auth, limit: Callable[[View], View]) -> None:
        self._bearer = bearer
        self._limit = limit

    def login_required(self, *, role: list[str]) -> Callable[[View], View]:
        """Decorates a view that needs one of these scopes."""
        return lambda view: self._bearer.login_required(role=role)(self._limit(view))


def _told(limiters: list[Limiter], response: Response) -> Response:
    limits = [limit for limiter in limiters for limit in limiter.current_limits]
    if limits:
        limit = min(limits, key=_nearness)
        response.headers["X-RateLimit-Limit"] = str(limit.limit.amount)
        response.headers["X-RateLimit-Remaining"] = str(limit.remaining)
        response.headers["X-RateLimit-Reset"] = str(math.ceil(limit.window.reset_time))
        if limit.breached:
            response.headers["Retry-After"] = str(max(1, math.ceil(limit.window.reset_time - time.time())))
    return response


def _nearness(limit: RequestLimit) -> tuple[bool, int, float]:
    return not limit.breached, limit.remaining, -limit.window.reset_time


def _address() -> str:
    return network(request.remote_addr)


def _bearer() -> str:
    grant = g.grant
    return f"{grant.way}:{grant.id}"


def _refuse(seconds: int) -> None:
    if seconds:
        raise TooManyRequests(retry_after=seconds)


def network(address: str | None) -> str:
    """The address, for IPv6 its /64 network: that is what one client has."""
    if not address or ":" not in address:
        return address or "unknown"
    try:
        whole = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(whole.ipv4_mapped or ipaddress.IPv6Network((int(whole) >> 64 << 64, 64)))

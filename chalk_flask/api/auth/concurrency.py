"""Limits on responses that take long: streams and long polls, per credential and per address of the client."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

from flask import Request
from prometheus_client import Gauge

from chalk_flask.api.errors import RETRY_AFTER_SECONDS, ApiError
from chalk_flask.client_network import client_network
from chalk_flask.permissions.principal import Principal

__all__ = ["ConcurrencyLimiter"]


class ConcurrencyLimiter:
    """Counter of responses of one kind that are in progress, with limits. Thread-safe.

    `noun` is the plural that names them in messages, and `gauge` the metric with their number.
    """

    def __init__(self, noun: str, gauge: Gauge, *, per_credential: int, per_address: int) -> None:
        self._noun = noun
        self._gauge = gauge
        self._per_credential = per_credential
        self._per_address = per_address
        self._counts: dict[Hashable, int] = {}
        self._lock = threading.Lock()

    def acquire(self, principal: Principal, request: Request) -> Callable[[], None]:
        """Count one more response. Return a function that ends it; further calls of it do nothing.

        Raises ApiError (429) if the credential or the address of the request has reached its limit.
        """
        credential = (principal.tenant, principal.credential_type, principal.credential_id)
        address = client_network(request.remote_addr)
        with self._lock:
            self._check(credential, self._per_credential, "credential")
            self._check(address, self._per_address, "address")
            for key in (credential, address):
                self._counts[key] = self._counts.get(key, 0) + 1
        self._gauge.inc()
        return self._make_release(credential, address)

    def _check(self, key: Hashable, limit: int, owner: str) -> None:
        if self._counts.get(key, 0) >= limit:
            raise ApiError(
                429,
                f"This {owner} has {limit} {self._noun} in progress. Finish one, or try again later.",
                retry_after=RETRY_AFTER_SECONDS,
            )

    def _make_release(self, *keys: Hashable) -> Callable[[], None]:
        pending = list(keys)

        def release() -> None:
            with self._lock:
                if pending:
                    self._gauge.dec()
                while pending:
                    key = pending.pop()
                    self._counts[key] -= 1
                    if not self._counts[key]:
                        del self._counts[key]

        return release

"""Limits on attempts to sign in. The processes of `chalk-flask serve` count together.

A known browser is one in which the administrator has signed in before. It has limits of its own, so that others who
attempt to sign in with this name do not lock the administrator out.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from backends import SharedValues
from chalk_flask.admins.record import fold_name
from chalk_flask.caching import LRUCache
from chalk_flask.client_network import client_network
from chalk_flask.shared_state import SharedState

__all__ = ["SignInThrottle", "TooManyAttemptsError", "account_key"]

MINUTE_SECONDS = 60.0
HOUR_SECONDS = 3600.0
MAX_KEYS = 16384
"""Maximum number of keys of a limit in memory. Above it, the key with the oldest last attempt is dropped.

A process computes fewer hashes in a minute, so no key of the last minute is dropped.
"""


class TooManyAttemptsError(Exception):
    """Rejection of an attempt above a limit. `retry_after` is the time in seconds until an attempt is allowed."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many attempts to sign in: try again in {retry_after} seconds")
        self.retry_after = retry_after


# The storage of the library `limits` has no maximum number of keys and does not drop the keys of moving windows.
@dataclass(frozen=True, slots=True)
class _Limit:
    """Maximum number of attempts of a key within any period of `seconds`."""

    name: str
    max_attempts: int
    seconds: float
    _attempts: LRUCache[str, tuple[float, ...]] = field(default_factory=lambda: LRUCache(MAX_KEYS))

    def read(self, state: SharedValues | None, key: str) -> Sequence[float]:
        """Return the times of the last attempts, from the shared state or from memory."""
        attempts = self._attempts.peek(key) if state is None else state.get(f"sign-in:{self.name}", key)
        return attempts or ()

    def add(self, state: SharedValues | None, key: str, now: float) -> None:
        attempts = (*self.read(state, key), now)[-self.max_attempts :]
        if state is None:
            self._attempts.put(key, attempts)
        else:
            state.put(f"sign-in:{self.name}", key, attempts, now + self.seconds)

    def seconds_until_allowed(self, state: SharedValues | None, key: str, now: float) -> float:
        attempts = self.read(state, key)
        if len(attempts) < self.max_attempts:
            return 0.0
        return max(0.0, min(attempts[0], now) + self.seconds - now)  # the clock may have been set back


class SignInThrottle:
    """Limits on attempts to sign in, by account and by address, or for known browsers by browser. Thread-safe.

    An attempt above a limit is not counted. An IPv6 address counts as its /64 network. `browser` is the id of a browser
    that is known for the account. `clock` returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time, shared_state: SharedState | None = None) -> None:
        self._clock = clock
        self._state = shared_state or SharedState()
        self._lock = threading.Lock()
        self._by_account = _Limit("account", 5, MINUTE_SECONDS)
        self._by_address = _Limit("address", 20, MINUTE_SECONDS)
        # Each sign-in makes a browser known, so the known browsers of an account have a limit together.
        self._by_browser = _Limit("browser", 5, MINUTE_SECONDS)
        self._by_account_in_known_browsers = _Limit("known", 15, MINUTE_SECONDS)
        # A code has 6 digits, so an attacker who knows the password must not have many attempts.
        self._codes_by_account = (_Limit("code", 5, MINUTE_SECONDS), _Limit("codes", 20, HOUR_SECONDS))

    def count_password(self, name: str, address: str, browser: str | None = None) -> None:
        """Count an attempt with a password. Raises TooManyAttemptsError. Any text counts as a name."""
        account = account_key(name)
        if browser is not None:
            self._count((self._by_browser, browser), (self._by_account_in_known_browsers, account))
        else:
            self._count((self._by_account, account), (self._by_address, client_network(address)))

    def count_code(self, administrator_id: str, address: str, browser: str | None = None) -> None:
        """Count an attempt with a one-time code. Raises TooManyAttemptsError."""
        limits = [(limit, administrator_id) for limit in self._codes_by_account]
        by_address = [(self._by_address, client_network(address))] if browser is None else []
        self._count(*limits, *by_address)

    def count_address(self, address: str) -> None:
        """Count an attempt whose account is not known yet. Raises TooManyAttemptsError."""
        self._count((self._by_address, client_network(address)))

    def _count(self, *limits: tuple[_Limit, str]) -> None:
        with self._lock:
            self._state.attempt(
                lambda state: self._count_in(state, limits), otherwise=lambda: self._count_in(None, limits)
            )

    def _count_in(self, state: SharedValues | None, limits: Sequence[tuple[_Limit, str]]) -> None:
        now = self._clock()
        wait = max(limit.seconds_until_allowed(state, key, now) for limit, key in limits)
        if wait:
            raise TooManyAttemptsError(math.ceil(wait))
        for limit, key in limits:
            limit.add(state, key, now)


def account_key(name: str) -> str:
    """Return the key by which attempts with a name are counted. Any text is a name."""
    # A hash, because the name may be a password in the wrong field.
    return sha256(fold_name(name).encode("utf-8", "surrogatepass")).hexdigest()

"""Counters of Flask-Limiter in the state that serving processes share."""

from __future__ import annotations

import time
from typing import Any, Final

from limits.storage import MemoryStorage, Storage

from backends import SharedValues
from chalk_flask.shared_state import SharedState

__all__ = ["SHARED_STORAGE_URI", "SharedStateStorage"]

SCHEME: Final = "chalk-shared-state"
SHARED_STORAGE_URI: Final = f"{SCHEME}://"
SCOPE: Final = "rates"


class SharedStateStorage(Storage):
    """Storage for the strategy `fixed-window`. Without the shared state, it counts in the memory of this process."""

    STORAGE_SCHEME = [SCHEME]

    def __init__(self, uri: str | None = None, *, shared_state: SharedState, **options: Any) -> None:
        super().__init__(uri, **options)
        self._state, self._memory = shared_state, MemoryStorage()

    @property
    def base_exceptions(self) -> type[Exception]:
        """Return the type of the errors of the storage, which raises none of its own."""
        return OSError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Increase the counter of a key by an amount and return it. A new one expires after `expiry` seconds."""

        def increase(state: SharedValues) -> int:
            count, end = _window(state, key)
            end = end if count else end + expiry
            state.put(SCOPE, key, [count + amount, end], end)
            return count + amount

        return self._state.attempt(increase, lambda: self._memory.incr(key, expiry, amount))

    def get(self, key: str) -> int:
        """Return the counter of a key."""
        return self._state.attempt(lambda state: _window(state, key)[0], lambda: self._memory.get(key))

    def get_expiry(self, key: str) -> float:
        """Return the time at which the counter of a key expires, in epoch seconds."""
        return self._state.attempt(lambda state: _window(state, key)[1], lambda: self._memory.get_expiry(key))

    def check(self) -> bool:
        """Return True: without the shared state, the memory is used."""
        return True

    def reset(self) -> int | None:
        """Do nothing: counters expire."""
        return None

    def clear(self, key: str) -> None:
        """Delete the counter of a key."""
        self._state.attempt(lambda state: state.delete(SCOPE, key), lambda: self._memory.clear(key))


def _window(state: SharedValues, key: str) -> tuple[int, float]:
    """Return the counter of a key and its end, which is now if there is none or it has expired."""
    count, end = state.get(SCOPE, key) or (0, 0.0)
    now = time.time()
    return (count, end) if end > now else (0, now)

"""Large request bodies: which requests may send one, and how many are received at once.

The application decides from the head of a request. A body that it does not accept is received and dropped, so that the
client reads the response: a browser shows an error instead of a response that arrives while it still sends.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from waitress.receiver import FixedStreamReceiver

from chalk_flask.tracebacks import error_location

__all__ = [
    "BODY_REJECTED_KEY",
    "Admission",
    "BodyLimit",
    "BodyRejection",
    "DroppingReceiver",
    "LargeBodies",
    "RequestHead",
]

log = logging.getLogger(__name__)

BODY_REJECTED_KEY: Final = "chalk_flask.body_rejected"
"""Key of the WSGI environment with the reason why the body was dropped, a `BodyRejection`."""

BodyRejection: TypeAlias = Literal["too_large", "busy", "disk_full"]

MAX_LARGE_BODIES: Final = 4
"""Maximum number of large bodies that are received at once."""
MAX_LARGE_BODIES_OF_ADDRESS: Final = 2
MAX_DROPPED_BODIES: Final = 16
"""Maximum number of large bodies that are received and dropped at once."""
MAX_DROPPED_BODIES_OF_ADDRESS: Final = 12


@dataclass(frozen=True, slots=True)
class RequestHead:
    """Head of a request with a large body.

    Names of `headers` are in capitals with underscores, as in CONTENT_LENGTH. `address` is that of the client, or its
    IPv6 network.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    address: str


BodyLimit: TypeAlias = Callable[[RequestHead], int | None]
"""Function that returns the maximum size of the body of a request in bytes, or None for that of all requests.

A larger body is dropped, and the application answers without it. The server loop calls the function, so it must be
fast and must not wait for another writer of the store.
"""


class Admission:
    """Large body that the server receives. `rejection` is the reason why it is dropped, None if it is stored."""

    def __init__(self, rejection: BodyRejection | None, on_release: Callable[[], None]) -> None:
        self.rejection = rejection
        self._on_release: Callable[[], None] | None = on_release

    def release(self) -> None:
        """Stop counting the body. A second call does nothing."""
        on_release, self._on_release = self._on_release, None
        if on_release:
            on_release()


class LargeBodies:
    """Large bodies of a server that are being received, or whose requests are being answered. Thread-safe."""

    def __init__(self, body_limit: BodyLimit | None) -> None:
        self._body_limit = body_limit
        self._lock = threading.Lock()
        self._stored: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()

    def admit(self, head: RequestHead, size: int) -> Admission | None:
        """Return the admission of a body of this size, or None if the server must reject the request."""
        limit = self._limit(head)
        if limit is None:
            return None
        with self._lock:
            if size > limit:
                return self._drop("too_large", head.address)
            if not _has_room(self._stored, head.address, MAX_LARGE_BODIES, MAX_LARGE_BODIES_OF_ADDRESS):
                return self._drop("busy", head.address)
            return self._count(self._stored, None, head.address)

    def _limit(self, head: RequestHead) -> int | None:
        if self._body_limit is None:
            return None
        try:
            return self._body_limit(head)
        except Exception as error:  # noqa: BLE001 - the server loop must go on, and the application answers the request
            log.error("cannot decide about a large body: %s", error_location(error))
            return 0

    def _drop(self, rejection: BodyRejection, address: str) -> Admission | None:
        if not _has_room(self._dropped, address, MAX_DROPPED_BODIES, MAX_DROPPED_BODIES_OF_ADDRESS):
            return None
        return self._count(self._dropped, rejection, address)

    def _count(self, counter: Counter[str], rejection: BodyRejection | None, address: str) -> Admission:
        counter[address] += 1

        def release() -> None:
            with self._lock:
                counter[address] -= 1
                if not counter[address]:
                    del counter[address]

        return Admission(rejection, release)


class DroppingReceiver(FixedStreamReceiver):
    """Receiver that drops a body of `size` bytes. Its file `buf` stays empty."""

    def __init__(self, size: int, buf: Any) -> None:
        super().__init__(size, buf)

    def received(self, data: bytes) -> int:
        """Drop data and return the number of bytes that belong to the body."""
        count = min(self.remain, len(data))
        self.remain -= count
        self.completed = not self.remain
        return count


def _has_room(counter: Counter[str], address: str, limit: int, address_limit: int) -> bool:
    return counter.total() < limit and counter[address] < address_limit

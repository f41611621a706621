"""Memory allocator of a process with many threads."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["limit_arenas", "trimmed_memory"]

TRIM_INTERVAL_SECONDS: Final = 60.0

_M_ARENA_MAX: Final = -8
"""Parameter of mallopt(3), from malloc.h of glibc."""


def limit_arenas() -> None:
    """Make glibc use one memory arena for all threads. Call this before threads start.

    By default, glibc gives threads up to eight arenas per core. What a thread frees stays in its arena, so the memory
    of a service with many threads grows for a long time. Threads rarely allocate at the same time, because of the
    interpreter lock. Settings of the operator (`MALLOC_ARENA_MAX`, `GLIBC_TUNABLES`) and other C libraries are left
    alone.
    """
    if "MALLOC_ARENA_MAX" in os.environ or "glibc.malloc.arena_max" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


@contextmanager
def trimmed_memory(interval_seconds: float = TRIM_INTERVAL_SECONDS) -> Iterator[None]:
    """Return free memory of the arena to the system, once per interval, until the block ends.

    glibc returns only what is free at the end of the arena. Long-lived objects there keep the memory of large responses
    and imports. A call takes about a millisecond. With another C library, do nothing.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is None:
        yield
        return
    finished = threading.Event()

    def trim() -> None:
        while not finished.wait(interval_seconds):
            malloc_trim(0)

    thread = threading.Thread(target=trim, name="memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()

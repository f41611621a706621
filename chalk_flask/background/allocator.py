"""Memory allocator of a process with many threads."""

from __future__ import annotations

import ctypes
import os
from typing import Final

__all__ = ["limit_arenas"]

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

"""File descriptors of the process: enough for all connections and for the files of the store."""

from __future__ import annotations

import logging
import resource
from contextlib import suppress

__all__ = ["RESERVED_DESCRIPTORS", "reserve_descriptors"]

log = logging.getLogger(__name__)

RESERVED_DESCRIPTORS = 512
"""Descriptors for the store, logs and webhooks. A stream takes three, for its connection to the store."""


def reserve_descriptors(connection_limit: int) -> int:
    """Raise the soft limit of file descriptors as far as needed and possible. Return how many connections fit."""
    needed = connection_limit + RESERVED_DESCRIPTORS
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    except OSError:  # a sandbox can forbid it
        return connection_limit
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connection_limit
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    if soft >= needed:
        return connection_limit
    fitting = max(soft - RESERVED_DESCRIPTORS, soft // 4, 1)
    log.warning(
        "only %d of %d connections fit into the limit of %d file descriptors: raise it (ulimit -n, LimitNOFILE)",
        fitting,
        connection_limit,
        soft,
    )
    return fitting

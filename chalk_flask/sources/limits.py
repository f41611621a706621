"""Limits on the requests of a sync, so that a slow or broken provider cannot stop the service or fill the disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["DEFAULT_LIMITS", "DEFAULT_PAGE_SIZE", "FALLBACK_PAGE_SIZE", "MAX_PAGE_SIZE", "PART_SUFFIX", "SourceLimits"]

PART_SUFFIX: Final = ".part"
"""End of the names of temporary files. Backups leave them out."""

DEFAULT_PAGE_SIZE: Final = 1_000
"""Number of records to request at once, unless the source says another one."""
MAX_PAGE_SIZE: Final = 10_000
FALLBACK_PAGE_SIZE: Final = 100
"""Page size if the provider rejects a larger one. It is the default of OneRoster 1.1 (section 3.4.1)."""


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """Limits of one sync.

    `max_attempts` is the number of attempts of one request.
    `first_pause_seconds` is the pause before the second one, which doubles each time. `max_total_pause_seconds` is the
    limit of all pauses of a sync together. `read_timeout_seconds` is the maximum time without data,
    `response_seconds` the maximum duration of one response, and `sync_seconds` that of all requests.
    `max_body_bytes` is the maximum size of a decoded body, and `max_readings` the maximum number of readings of a
    collection that changes meanwhile.
    """

    max_attempts: int = 6
    first_pause_seconds: float = 1.0
    max_total_pause_seconds: float = 900.0
    connect_timeout_seconds: float = 10.0
    read_timeout_seconds: float = 60.0
    response_seconds: float = 300.0
    sync_seconds: float = 4 * 3600.0
    max_body_bytes: int = 64 << 20
    max_readings: int = 3


DEFAULT_LIMITS: Final = SourceLimits()

"""Number of serving processes, which depends on the cores of the machine and on the kind of the store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from backends import backend_class

if TYPE_CHECKING:
    from chalk_flask.settings.table import Settings

__all__ = ["MAX_PROCESSES", "process_count"]

MAX_PROCESSES: Final = 64


def process_count(settings: Settings) -> int:
    """Return the number of processes with which `chalk-flask serve` serves the store.

    With the setting 0, this is the number of cores that this program may use. It is 1 if only one process can serve a
    store of this kind. Raises InvalidStorageURLError.
    """
    if settings.processes:
        return settings.processes
    if not backend_class(settings.storage).parallel:
        return 1
    return min(len(os.sched_getaffinity(0)), MAX_PROCESSES)

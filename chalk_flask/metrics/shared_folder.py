"""Folder in which serving processes share their numbers, and the number that names the files of a process in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from prometheus_client import multiprocess, values

from chalk_flask.files import make_private_folder

__all__ = [
    "FOLDER_VARIABLE",
    "METRICS_FOLDER",
    "empty_folder",
    "forget_process",
    "process_identifier",
    "use_process_number",
]

FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

METRICS_FOLDER: Final = "metrics"
"""Folder below the setting `data` in which the processes of `chalk-flask serve` share their numbers."""

_number: int | None = None


def use_process_number(number: int) -> None:
    """Name the files of this process by a number that is used again after its end. Call it before any metric exists.

    The next process with this number continues the counters. So counts are kept, and the number of files is limited.
    """
    global _number  # the class of values of prometheus-client belongs to the process too
    _number = number
    if FOLDER_VARIABLE in os.environ:
        values.ValueClass = values.MultiProcessValue(process_identifier)  # type: ignore[no-untyped-call]  # untyped


def process_identifier() -> int:
    """Return the number that names the files of this process: its id, unless it has another number."""
    return os.getpid() if _number is None else _number


def empty_folder(folder: Path) -> None:
    """Create the folder, or delete the numbers of former processes. Raises OSError."""
    make_private_folder(folder)
    for path in folder.glob("*.db"):
        path.unlink(missing_ok=True)


def forget_process(folder: Path, number: int) -> None:
    """Delete the values that only count while a process runs, such as its streams. Its counters stay."""
    multiprocess.mark_process_dead(number, str(folder))  # type: ignore[no-untyped-call]  # the library types it in part

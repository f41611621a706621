"""Library `faults.c`: its compilation, and the functions with which a process arms a fault in itself."""

from __future__ import annotations

import ctypes
import os
import subprocess
from enum import IntEnum
from pathlib import Path
from typing import Final

__all__ = ["PRELOAD", "Kind", "Operation", "arm_fault", "build_library", "count_calls", "is_loaded"]

SOURCE: Final = Path(__file__).with_name("faults.c")
PRELOAD: Final = "LD_PRELOAD"


class Operation(IntEnum):
    """System call of which one fails. NONE: no fault."""

    NONE = 0
    WRITE = 1
    FSYNC = 2
    RENAME = 3
    OPEN = 4
    CREATE = 5
    """Open with O_CREAT, which is counted as OPEN too."""


class Kind(IntEnum):
    """Effect of the fault."""

    KILL = 0
    """The process ends before the call."""
    TORN = 1
    """The process ends after half of the bytes."""
    SHORT = 2
    """The call writes half of the bytes and succeeds."""
    FULL = 3
    """The call and all later ones fail with ENOSPC."""
    FAIL = 4
    """The call fails with EIO."""


def build_library(folder: Path) -> Path:
    """Compile the library into a folder, and return its path."""
    library = folder / "faults.so"
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True, timeout=60)
    return library


def is_loaded() -> bool:
    """Return True if this process was started with the library."""
    return SOURCE.stem in os.environ.get(PRELOAD, "")


def arm_fault(folder: Path, operation: Operation = Operation.NONE, kind: Kind = Kind.KILL, number: int = 0) -> None:
    """Count all calls on files in the folder. Let the call of `operation` with this number fail."""
    ctypes.CDLL(None).arm_fault(os.fsencode(folder), operation, kind, ctypes.c_long(number))


def count_calls() -> dict[str, int]:
    """Disarm the fault, and return the number of calls of each operation since `arm_fault`."""
    library = ctypes.CDLL(None)
    library.disarm_fault()
    library.count_calls.restype = ctypes.c_long
    return {operation.name: library.count_calls(operation) for operation in Operation}

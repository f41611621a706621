"""Learning of commits without asking SQLite."""

from __future__ import annotations

import contextlib
import mmap
from pathlib import Path

__all__ = ["WalHeader"]


class WalHeader:
    """The header of the WAL index, which every commit by any process changes, read without a call to the system.

    The first 48 bytes of the `-shm` file are the header (SQLite's documentation, "WAL-mode File Format", section 2.1):
    among others a change counter, the number of valid frames and a checksum. The file stays the same one as long as
    some connection is open.
    """

    SIZE = 48

    def __init__(self, database: Path, number: int) -> None:
        self.number = number
        self._map: mmap.mmap | None = None
        with contextlib.suppress(OSError, ValueError), Path(f"{database}-shm").open("rb") as file:
            self._map = mmap.mmap(file.fileno(), self.SIZE, prot=mmap.PROT_READ)

    def read(self) -> bytes | None:
        """The header as it stands now; None when it cannot be read here, or holds nothing."""
        if self._map is None:
            return None
        try:
            header = self._map[: self.SIZE]
        except ValueError:  # closed by another thread just now
            return None
        return header if any(header) else None

    def close(self) -> None:
        """Let go of the file."""
        if self._map is not None:
            self._map.close()

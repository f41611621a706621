"""Files that only their owner can access, as key files must be."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_private"]


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read and write."""
    path.touch(0o600)
    path.chmod(0o600)
    path.write_bytes(content)

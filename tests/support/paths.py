"""Folders of the repository that tests read, and files that only their owner can access."""

from __future__ import annotations

from pathlib import Path

__all__ = ["DATA", "ROOT", "write_private"]

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read and write, as a key file must be."""
    path.touch(0o600)
    path.chmod(0o600)
    path.write_bytes(content)

"""Folders of the repository that tests read, files that only their owner can access, and files that are open."""

from __future__ import annotations

from pathlib import Path

__all__ = ["DATA", "ROOT", "open_files_below", "write_private"]

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read and write, as a key file must be."""
    path.touch(0o600)
    path.chmod(0o600)
    path.write_bytes(content)


def open_files_below(folder: Path) -> list[Path]:
    """Return the files below a folder that this process has open."""
    targets = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.exists()]
    return [target for target in targets if target.is_relative_to(folder)]

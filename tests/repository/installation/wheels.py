"""Wheels of the pinned packages, so that tests can install them often and without a package index."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

from tests.support.paths import ROOT

__all__ = ["wheel_folder"]

REQUIREMENTS = ROOT / "requirements.txt"


def wheel_folder() -> Path:
    """Return a folder with the wheels of requirements.txt and of setuptools. The first call downloads them."""
    folder = Path(sys.prefix) / "test-wheels"
    wanted = folder / hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    with FileLock(f"{folder}.lock"):
        if not wanted.exists():
            shutil.rmtree(folder, ignore_errors=True)
            _download(folder, "--require-hashes", "-r", str(REQUIREMENTS))
            _download(folder, "setuptools>=77")
            wanted.touch()
    return folder


def _download(folder: Path, *requirements: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(folder)]
    completed = subprocess.run([*command, *requirements], capture_output=True, timeout=300)
    assert completed.returncode == 0, "pip cannot download the packages of requirements.txt"  # its output may name URLs

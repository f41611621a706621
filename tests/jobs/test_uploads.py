"""Uploads: a package is stored in full, privately, or nothing stays on disk."""

from __future__ import annotations

import io
import stat
import tracemalloc
from pathlib import Path

import pytest

from chalk_flask.jobs import UploadError
from chalk_flask.jobs.uploads import clean_file_name, store_upload
from tests.support.packages import PackageBuilder
from tests.support.storage.failures import file_size_limit

CONTENT = PackageBuilder().zip_bytes()
MAX_BYTES = 1 << 20


class BrokenStream(io.BytesIO):
    """Stream of a client that disconnects after the first read."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            raise ConnectionResetError("the client has disconnected")
        return super().read(100)


class EndlessZip(io.RawIOBase):
    """Stream that begins as a ZIP file and counts the bytes that were read."""

    count = 0

    def read(self, size: int = -1) -> bytes:
        self.count += size
        return b"PK\x03\x04".ljust(size, b"x")


def test_upload_is_stored_for_its_owner_only(tmp_path: Path) -> None:
    path = store_upload(tmp_path / "jobs" / "north", io.BytesIO(CONTENT), "a.zip", MAX_BYTES)
    assert path.read_bytes() == CONTENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "'a.zip' is empty"),
        (CONTENT[:-30], "'a.zip' is missing: it was not transferred completely"),
        (b"%PDF-1.7\n", "not a ZIP file"),
        (b"sourcedId,status\n", "upload a ZIP file with the CSV files of OneRoster 1.1"),
    ],
)
def test_upload_that_is_no_complete_zip_is_rejected(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(UploadError, match=message):
        store_upload(tmp_path, io.BytesIO(content), "a.zip", MAX_BYTES)
    assert list(tmp_path.iterdir()) == []


def test_upload_that_is_too_large_is_not_read_to_its_end(tmp_path: Path) -> None:
    stream = EndlessZip()
    with pytest.raises(UploadError, match=r"'a.zip' is larger than 1 MiB: if the package is genuine, ask the operator"):
        store_upload(tmp_path, stream, "a.zip", MAX_BYTES)  # type: ignore[arg-type]  # it only needs `read`
    assert stream.count <= 2 * MAX_BYTES
    assert list(tmp_path.iterdir()) == []


def test_upload_of_a_client_that_disconnects_is_removed(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError):
        store_upload(tmp_path, BrokenStream(CONTENT), "a.zip", MAX_BYTES)
    assert list(tmp_path.iterdir()) == []


def test_upload_to_a_full_disk_is_removed(tmp_path: Path) -> None:
    with file_size_limit(1000), pytest.raises(UploadError, match=r"the disk of the service has no space for 'a\.zip'"):
        store_upload(tmp_path, io.BytesIO(CONTENT), "a.zip", MAX_BYTES)
    assert list(tmp_path.iterdir()) == []


def test_upload_needs_little_memory(tmp_path: Path) -> None:
    content = CONTENT.join([b"x" * (8 << 20), b""])
    tracemalloc.start()
    store_upload(tmp_path, io.BytesIO(content), "a.zip", 64 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("district.zip", "district.zip"),
        ("C:\\exports\\district.zip", "district.zip"),
        ("../../etc/passwd", "passwd"),
        ("a\nb\x1b[31m\u202ec.zip", "a\\nb\\x1b[31m\\u202ec.zip"),
        ("\udcff.zip", "\\udcff.zip"),
        ("Österreich.zip", "Österreich.zip"),
        ("", "package.zip"),
        (None, "package.zip"),
        ("x" * 300, "x" * 200),
    ],
)
def test_file_name_of_a_browser_becomes_one_printable_line(sent: str | None, name: str) -> None:
    assert clean_file_name(sent) == name

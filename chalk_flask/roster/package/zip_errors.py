"""Errors of ZIP files that cannot be read, and of their entries."""

from __future__ import annotations

import os
import stat
import zipfile
from typing import BinaryIO

from chalk_flask.oneroster.csv.file_format import HEAD_BYTES, describe_content
from chalk_flask.roster.package.problems import ImportProblem

__all__ = ["PATH_HINT", "ZIP_START", "entry_error", "misplaced_entry", "not_a_zip"]

MIN_RATIO_CHECK_BYTES = 64 << 20
"""Unpacked size up to which the compression ratio is not checked: a million empty rows compress very well."""

ACCEPTED_COMPRESSION = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
COMPRESSION_NAMES = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
"""Names of other compression methods that ZIP tools offer."""

SPLIT_START = b"PK\x07\x08"
"""Signature of the first part of a split ZIP file."""

MAX_APPENDED_BYTES = 16 << 20
"""Size up to which data after the end of a ZIP file is detected."""

SPLIT_HINT = "Create the ZIP in one part, or join its parts."

COMPLETE_HINT = "Transfer it again, and import it once it is complete."

BINARY_HINT = "Transfer it again in binary mode."

PATH_HINT = "Give the path of a OneRoster CSV package: a ZIP or a folder."

ZIP_START, ZIP_END = b"PK\x03\x04", b"PK\x05\x06"
"""Signatures of the first entry, and of the record at the end of every ZIP file."""


def not_a_zip(name: str, file: BinaryIO) -> ImportProblem:
    """Return the error that says what the file is instead of a readable ZIP file. Raises OSError."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if not size:
        return ImportProblem("not_a_zip", f"{name!r} is empty", COMPLETE_HINT)
    end = _last_bytes(file)
    if head.startswith(SPLIT_START) or _is_part(end):
        return ImportProblem("not_a_zip", f"{name!r} is one part of a split ZIP file", SPLIT_HINT)
    has_end = ZIP_END in end
    if head.startswith(ZIP_START) and not has_end and ZIP_END in _last_bytes(file, MAX_APPENDED_BYTES):
        message = f"other data follows the end of the ZIP file {name!r}"
        return ImportProblem("not_a_zip", message, f"{BINARY_HINT} If that does not help, export it again.")
    if head.startswith(ZIP_START) and not has_end:
        message = f"the end of the ZIP file {name!r} is missing: it was not transferred completely"
        return ImportProblem("truncated", message, COMPLETE_HINT)
    if head.startswith(ZIP_START):
        message = f"the ZIP file {name!r} is damaged"
        return ImportProblem("not_a_zip", message, f"{BINARY_HINT} If that does not help, export it again.")
    if kind := describe_content(head):
        return ImportProblem("not_a_zip", f"{name!r} is {kind}, not a ZIP file", PATH_HINT)
    if b"\0" not in head and b"," in head:
        hint = "Give the folder with manifest.csv and the other files, or a ZIP of it."
        return ImportProblem("not_a_zip", f"{name!r} is a text file, not a ZIP file", hint)
    if has_end:
        return ImportProblem("not_a_zip", f"the start of the ZIP file {name!r} is missing", BINARY_HINT)
    return ImportProblem("not_a_zip", f"{name!r} is not a readable ZIP file", PATH_HINT)


def misplaced_entry(file: BinaryIO) -> ImportProblem:
    """Return the error for a ZIP in which an entry is not where its directory says. Raises OSError."""
    if _is_part(_last_bytes(file)):
        return ImportProblem("not_a_zip", "this is one part of a split ZIP file", SPLIT_HINT)
    message = "an entry is not at the place that the directory of the ZIP names: it was damaged in transfer"
    return ImportProblem("damaged", message, BINARY_HINT)


def _last_bytes(file: BinaryIO, count: int = HEAD_BYTES) -> bytes:
    file.seek(max(0, file.seek(0, os.SEEK_END) - count))
    return file.read()


def _is_part(end: bytes) -> bool:
    """Return True if the record at the end of a ZIP gives it another number than the first part. Zip64 has 0xFFFF."""
    record = end[end.rfind(ZIP_END) :] if ZIP_END in end else b""
    return record[4:6] not in (b"", b"\0\0", b"\xff\xff")


def entry_error(entry: zipfile.ZipInfo, max_ratio: int, *, is_repeated: bool) -> ImportProblem | None:
    """Return the reason why an entry is not read; None if there is none. `is_repeated`: an earlier one has its path."""
    name = entry.filename

    def error(code: str, message: str, hint: str) -> ImportProblem:
        return ImportProblem(code, message, hint, file=name)

    path = name.replace("\\", "/")  # written by some programs for Windows
    if ".." in path.split("/") or path.startswith("/") or ":" in path:
        return error("bad_path", "the path of the entry is invalid", "Use plain file names at the root of the ZIP.")
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        return error("not_a_file", "the entry is a link or another special file", "Put the file itself into the ZIP.")
    if entry.flag_bits & 0x1:
        return error("encrypted", "the ZIP is encrypted with a password", "Export the package without a password.")
    if entry.compress_type not in ACCEPTED_COMPRESSION:
        method = COMPRESSION_NAMES.get(entry.compress_type, str(entry.compress_type))
        message = f"the compression method {method} is not supported"
        return error("unknown_compression", message, "Create the ZIP with the method deflate.")
    if is_repeated:
        return error("repeated_file", "the ZIP has two entries with this name", "Remove one of them.")
    if entry.file_size > MIN_RATIO_CHECK_BYTES and entry.file_size > max_ratio * max(entry.compress_size, 1):
        message = f"the entry unpacks to more than {max_ratio} times its packed size"
        return error("bomb", message, "Delete empty rows at its end. Raise import_max_ratio if it is genuine.")
    return None

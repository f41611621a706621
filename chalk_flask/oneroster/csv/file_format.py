"""Detection of the format of a file from its first bytes: its kind, its encoding and the delimiter of its cells."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = [
    "COMMA",
    "DELIMITER_NAMES",
    "HEAD_BYTES",
    "FormatProblem",
    "describe_content",
    "find_damage",
    "find_delimiter",
    "find_problem",
    "one_cell_problem",
]

HEAD_BYTES = 64 << 10
"""Number of first bytes that are examined."""

COMMA = ","
DELIMITER_NAMES = {COMMA: "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}

# Patterns are texts: `re` compiles them at their first use, and most files need none of them.
_ANY_DELIMITER = "[,;|\t]"
MIN_NAMES = 2
"""Number of names of columns by which a cell is known as a whole header."""

_SIGNATURES = (
    (b"PK\x03\x04", "a ZIP file or an Excel workbook"),
    (b"PK\x05\x06", "an empty ZIP file"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"MSCF\0\0\0\0", "a cabinet file"),
    (b"%PDF-", "a PDF document"),
    (b"-----BEGIN PGP", "an OpenPGP message, which must be decrypted"),
    (b"UEsDB", "base64 text, which must be decoded"),
)
_TAR_MAGIC = (257, b"ustar")
_MARKUP = ((b"<!doctype html", "an HTML page"), (b"<html", "an HTML page"), (b"<?xml", "an XML document"))
_JSON = (b"{", b"[")

# UTF-32 comes first, because its byte order mark begins with that of UTF-16.
_WIDE_ENCODINGS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


_CONTINUATION = "\x80-\xbf" + re.escape("".join(bytes([code]).decode("cp1252", "ignore") for code in range(128, 160)))
_ENCODED_TWICE = f"[ÂÃ][{_CONTINUATION}]|â€[{_CONTINUATION}]"
"""UTF-8 of a letter with an accent, or of a typographic mark, that was decoded as Windows-1252."""

LOST_LETTER = "\ufffd"


class FormatProblem(NamedTuple):
    """Error of a file that cannot be read as CSV at all."""

    code: str
    message: str
    hint: str


def describe_content(head: bytes) -> str | None:
    """Return what kind of file begins with these bytes, such as "a RAR archive"; None for text and unknown kinds."""
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head.startswith(_TAR_MAGIC[1], _TAR_MAGIC[0]):
        return "a tar archive"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:100].lower()
    for start, kind in _MARKUP:
        if text.startswith(start):
            return kind
    return "a JSON document" if text.startswith(_JSON) else None


def find_problem(head: bytes) -> FormatProblem | None:
    """Return the error of a data file that begins with these bytes; None if it may be CSV."""
    if kind := describe_content(head):
        hint = "Save it as CSV UTF-8." if "Excel" in kind else "Export or download the file again, as CSV UTF-8."
        return FormatProblem("not_csv", f"the file is {kind}, not CSV", hint)
    if encoding := _wide_encoding(head):
        return FormatProblem("bad_text", f"the file is encoded as {encoding}, not as UTF-8", "Save it as CSV UTF-8.")
    if head and not head.strip(b"\0"):
        return FormatProblem("bad_text", "the file consists of NULs: it was not written completely", "Export it again.")
    return None


def _wide_encoding(head: bytes) -> str | None:
    for mark, encoding in _WIDE_ENCODINGS:
        if head.startswith(mark):
            return encoding
    # ASCII letters in UTF-16 without a byte order mark: every second byte is NUL.
    first, second = head[0:64:2], head[1:64:2]
    return "UTF-16" if head.strip(b"\0") and len(head) >= 8 and (not any(first) or not any(second)) else None


def find_damage(head: bytes) -> FormatProblem | None:
    """Return the warning about a file whose first bytes have letters that an earlier program damaged."""
    text = head.decode("utf-8", "ignore")
    if not text.isascii() and re.search(_ENCODED_TWICE, text):
        hint = "They were stored. Let the exporting program read its text as UTF-8."
        return FormatProblem("encoded_twice", "letters of the file were encoded twice", hint)
    if LOST_LETTER in text:
        message = f"letters of the file were lost, and replaced by {LOST_LETTER.encode('unicode_escape').decode()}"
        return FormatProblem("lost_letters", message, "They were stored. Export it again.")
    return None


def one_cell_problem(header: Sequence[str], names: Iterable[str]) -> FormatProblem | None:
    """Return the error of a file whose rows are one quoted cell each, as a spreadsheet saves undivided rows."""
    if len(header) != 1 or len(set(names).intersection(re.split(_ANY_DELIMITER, header[0]))) < MIN_NAMES:
        return None
    message = "each row is one quoted cell, because a program did not divide it into columns"
    return FormatProblem("bad_header", message, "Export the file again, and do not save it with a spreadsheet.")


def find_delimiter(head: bytes, names: Iterable[str]) -> str:
    """Return the delimiter that divides the first line into the most of these names; a comma if none does."""
    known_names = {name.casefold() for name in names}
    text = head.decode("utf-8-sig", "replace")
    first_line = next(iter(text.splitlines()), "")

    def count(delimiter: str) -> int:
        return len(known_names & {cell.strip(' \t"\ufeff').casefold() for cell in first_line.split(delimiter)})

    return max(DELIMITER_NAMES, key=count)

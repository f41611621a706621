"""Manifest of a backup: what the archive contains, with the size and SHA-256 of each file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import orjson

from chalk_flask.backup.errors import ArchiveError

__all__ = ["ARCHIVE_VERSION", "ArchivedFile", "Manifest"]

ARCHIVE_VERSION = 1
"""Version of the form of an archive. A program rejects archives of later versions."""

MAX_PART_BYTES = 255
"""Maximum length of a name between two slashes, as on most file systems."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_TOP_FOLDERS = ("store", "data")


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """File of an archive: its name, which begins with `store/` or `data/`, size in bytes, and SHA-256 in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Contents of `manifest.json`, the first file of an archive.

    `id` is the random id of the backup, `created` the time of the copied state, `program` the version of the program
    that wrote it. `backend` is the scheme of the storage URL. `files` are all other files in their order.
    """

    id: str
    created: str
    program: str
    backend: str
    schema_version: int
    store_id: str
    files: Sequence[ArchivedFile]

    @property
    def size(self) -> int:
        """Size of all files, in bytes."""
        return sum(file.size for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest without its files as a JSON object."""
        return {
            "id": self.id,
            "created": self.created,
            "program": self.program,
            "backend": self.backend,
            "schemaVersion": self.schema_version,
            "storeId": self.store_id,
        }

    def to_json(self) -> bytes:
        """Return the text of the file."""
        files = [{"name": file.name, "size": file.size, "sha256": file.sha256} for file in self.files]
        return orjson.dumps(
            {"archiveVersion": ARCHIVE_VERSION, **self.to_dict(), "files": files}, option=orjson.OPT_INDENT_2
        )

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Return the manifest of an archive. Raises ArchiveError for invalid contents and for later versions."""
        try:
            data = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise _invalid("it is not JSON") from error
        match data:
            case {"archiveVersion": int(version)} if version > ARCHIVE_VERSION:
                raise ArchiveError(
                    f"the backup has archive version {version}, but this program supports versions up to"
                    f" {ARCHIVE_VERSION}: use the version of the program that wrote it, or a later one"
                )
            case {
                "archiveVersion": int(),
                "id": str(id_),
                "created": str(created),
                "program": str(program),
                "backend": str(backend),
                "schemaVersion": int(schema_version),
                "storeId": str(store_id),
                "files": list(files),
            }:
                archived = [_archived_file(file) for file in files]
                _check_names(file.name for file in archived)
                return cls(id_, created, program, backend, schema_version, store_id, archived)
        raise _invalid("a member is missing")


def _archived_file(data: object) -> ArchivedFile:
    match data:
        case {"name": str(name), "size": int(size), "sha256": str(sha256)}:
            if size >= 0 and not isinstance(size, bool) and _SHA256.fullmatch(sha256):
                return ArchivedFile(name, size, sha256)
    raise _invalid("a file has no valid name, size or SHA-256")


def _check_names(names: Iterable[str]) -> None:
    """Raise ArchiveError for a name that could lead out of its folder, or that excludes another name."""
    ordered = sorted(tuple(name.split("/")) for name in names)
    for parts in ordered:
        if len(parts) < 2 or parts[0] not in _TOP_FOLDERS or not all(map(_is_plain, parts)):
            raise _invalid(f"the name {'/'.join(parts)[:MAX_PART_BYTES]!r} is not allowed")
    for parts, following in pairwise(ordered):
        if following[: len(parts)] == parts:
            raise _invalid(f"the name {'/'.join(parts)!r} occurs twice, or as a folder too")


def _is_plain(part: str) -> bool:
    """Return True for a name between slashes that is not empty, hidden or `..`."""
    return bool(part) and not part.startswith(".") and "\0" not in part and len(part.encode()) <= MAX_PART_BYTES


def _invalid(reason: str) -> ArchiveError:
    return ArchiveError(f"the manifest of the backup is invalid: {reason}. Use another backup")

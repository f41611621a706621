"""Archives: a tar file, compressed by gzip, that contains `manifest.json` and then the files that it lists.

The reader accepts only what the writer writes: regular files in the order of the manifest. Each size is known before
the file is read, so a hostile archive can fill neither the memory nor the disk.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast

from chalk_flask.backup.encryption import MAGIC, DecryptingReader, EncryptingWriter, Input
from chalk_flask.backup.errors import ArchiveError, BackupError
from chalk_flask.backup.manifest import ArchivedFile, Manifest

__all__ = ["ArchiveReader", "Output", "SourceFile", "describe_file", "write_archive"]

MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 32 << 20

COMPRESSION_LEVEL = 1
"""gzip's fastest level. Higher ones take several times as long and save a few percent of a roster."""

_CHUNK_BYTES = 1 << 20
_BLOCK_BYTES = tarfile.BLOCKSIZE
_GZIP_START = b"\x1f\x8b"


class Output(Protocol):
    """Stream to which an archive is written, which need not be seekable."""

    def write(self, data: bytes, /) -> int:
        """Write all bytes."""
        ...

    def flush(self) -> object:
        """Pass on the bytes that are in a buffer."""
        ...


class _PrefixedStream:
    """Stream with bytes that were read from another one, followed by the rest of that one."""

    def __init__(self, start: bytes, rest: Input) -> None:
        self._start, self._rest = start, rest

    def read(self, size: int, /) -> bytes:
        data, self._start = self._start[:size], self._start[size:]
        return data + self._rest.read(size - len(data)) if len(data) < size else data


@dataclass(frozen=True, slots=True)
class SourceFile:
    """File to archive under a name. Only its first `size` bytes are taken, because a log may grow meanwhile."""

    name: str
    path: Path
    size: int

    def chunks(self, owners: set[int] | None = None) -> Iterator[bytes]:
        """Yield the content, and add the id of the user to whom the opened file belongs to `owners`.

        Raises OSError, and BackupError if the file has become shorter.
        """
        remaining = self.size
        with self.path.open("rb") as file:
            if owners is not None:
                owners.add(os.fstat(file.fileno()).st_uid)
            while remaining and (chunk := file.read(min(remaining, _CHUNK_BYTES))):
                remaining -= len(chunk)
                yield chunk
        if remaining:
            raise BackupError(f"{self.name} became shorter during the backup: try again")


def describe_file(source: SourceFile) -> ArchivedFile:
    """Return the line of the manifest for a file. Raises OSError and BackupError."""
    digest = hashlib.sha256()
    for chunk in source.chunks():
        digest.update(chunk)
    return ArchivedFile(source.name, source.size, digest.hexdigest())


def write_archive(
    out: Output,
    manifest: Manifest,
    sources: Sequence[SourceFile],
    passphrase: str | None,
    owners: set[int] | None = None,
) -> None:
    """Write an archive with the files of the manifest, in its order. Raises OSError and BackupError.

    Adds the ids of the users to whom the files belong to `owners`.
    """
    encrypted = None if passphrase is None else EncryptingWriter(out.write, passphrase)
    with gzip.GzipFile("", "wb", COMPRESSION_LEVEL, encrypted or out, mtime=0) as packed:
        text = manifest.to_json()
        packed.write(_header(MANIFEST_NAME, len(text)))
        packed.write(text + _padding(len(text)))
        for source in sources:
            packed.write(_header(source.name, source.size))
            for chunk in source.chunks(owners):
                packed.write(chunk)
            packed.write(_padding(source.size))
        packed.write(bytes(2 * _BLOCK_BYTES))
    if encrypted is not None:
        encrypted.finish()


class ArchiveReader:
    """Reader of an archive from a stream, in one pass. It reads the manifest at once.

    `passphrase` returns the passphrase of an encrypted archive; None rejects encrypted archives. With
    `requires_encryption` all others are rejected, so that an attacker cannot replace an encrypted archive by another
    one. All methods raise ArchiveError for a damaged archive, and OSError.
    """

    def __init__(
        self, stream: Input, passphrase: Callable[[], str] | None, *, requires_encryption: bool = False
    ) -> None:
        with _archive_errors():
            self._packed = gzip.GzipFile(fileobj=cast(IO[bytes], _open_stream(stream, passphrase, requires_encryption)))
            info = self._next_header()
            if info.name != MANIFEST_NAME or info.size > MAX_MANIFEST_BYTES:
                raise ArchiveError("this is not a backup of Chalk Flask: it does not begin with a manifest")
            self.manifest = Manifest.from_json(b"".join(self._content(info.size)))

    def copy_file(self, file: ArchivedFile, write: Callable[[bytes], object]) -> None:
        """Pass the content of the next file to a function. Raises ArchiveError at the end if it is not the listed one.

        Call it for each file of the manifest, in order.
        """
        digest = hashlib.sha256()
        with _archive_errors():
            info = self._next_header()
            if (info.name, info.size) != (file.name, file.size):
                raise ArchiveError(f"the backup is damaged: {file.name} is not at its place. Use another one")
            chunks = self._content(info.size)
        while chunk := self._next_chunk(chunks):
            digest.update(chunk)
            write(chunk)
        if digest.hexdigest() != file.sha256:
            raise ArchiveError(f"the backup is damaged: the checksum of {file.name} is wrong. Use another one")

    def finish(self) -> None:
        """Read the end of the archive, with the checksum of gzip and the last chunk of an encrypted one."""
        with _archive_errors():
            rest = self._packed.read(tarfile.RECORDSIZE + 1)
            if len(rest) > tarfile.RECORDSIZE or rest.strip(b"\0"):
                raise ArchiveError("the backup is damaged: more follows after its last file. Use another one")

    def _next_chunk(self, chunks: Iterator[bytes]) -> bytes:
        with _archive_errors():
            return next(chunks, b"")

    def _next_header(self) -> tarfile.TarInfo:
        info = tarfile.TarInfo.frombuf(self._read(_BLOCK_BYTES), "utf-8", "strict")
        if info.type != tarfile.REGTYPE or info.size < 0:
            raise ArchiveError("the backup contains something else than files: use another one")
        return info

    def _content(self, size: int) -> Iterator[bytes]:
        for start in range(0, size, _CHUNK_BYTES):
            yield self._read(min(_CHUNK_BYTES, size - start))
        self._read(len(_padding(size)))

    def _read(self, size: int) -> bytes:
        data = self._packed.read(size)
        if len(data) < size:
            raise EOFError
        return data


def _open_stream(stream: Input, passphrase: Callable[[], str] | None, requires_encryption: bool) -> Input:
    """Return the stream of the gzip file. Asks for the passphrase only if the archive is encrypted."""
    start = stream.read(len(_GZIP_START))
    source = _PrefixedStream(start, stream)
    if start == MAGIC[: len(_GZIP_START)]:
        if passphrase is None:
            raise ArchiveError("the backup is encrypted: give the file with its passphrase by --passphrase-file")
        return DecryptingReader(source, passphrase())
    if requires_encryption and start == _GZIP_START:
        raise ArchiveError("the backup is not encrypted: if it is yours, leave out --passphrase-file")
    if start != _GZIP_START:
        raise ArchiveError("this is not a backup of Chalk Flask: give a file that `chalk-flask backup` wrote")
    return source


@contextmanager
def _archive_errors() -> Iterator[None]:
    """Convert the errors of damaged gzip and tar files into ArchiveError."""
    try:
        yield
    except (gzip.BadGzipFile, zlib.error, EOFError, tarfile.TarError, UnicodeDecodeError) as error:
        raise ArchiveError("the backup is damaged or incomplete: use another one") from error


def _header(name: str, size: int) -> bytes:
    """Return the tar header of a file, in one block. Raises BackupError for a name that does not fit."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    for tar_format in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT):  # GNU's has larger sizes, the other longer names
        try:
            header = info.tobuf(tar_format, "utf-8", "strict")
        except (ValueError, UnicodeEncodeError):
            continue
        if len(header) == _BLOCK_BYTES:
            return header
    raise BackupError(f"the name {name!a} is too long for a backup: move the file out of the folder `data`")


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK_BYTES)

"""Archives as hostile input: every damage is an ArchiveError, and nothing is written outside of its place."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
import tracemalloc

import pytest

from chalk_flask.backup import ArchiveError, ArchiveReader, BackupError, verify_backup
from chalk_flask.backup.encryption import MAGIC
from tests.backup.conftest import Place, packed, unpacked

PASSPHRASE = "correct horse battery"

pytestmark = pytest.mark.on_backend("sqlite")


def verify(archive: bytes, passphrase: str | None = None) -> None:
    """Read a whole archive."""
    verify_backup(ArchiveReader(io.BytesIO(archive), None if passphrase is None else lambda: passphrase))


def with_manifest(files: dict[str, bytes], /, **changes: object) -> bytes:
    """Return an archive whose manifest has other members."""
    manifest = json.loads(files["manifest.json"]) | changes
    return packed(files | {"manifest.json": json.dumps(manifest).encode()})


def test_repacked_archive_is_accepted(place: Place) -> None:
    verify(packed(unpacked(place.back_up())))


def test_each_truncation_is_rejected(place: Place) -> None:
    archive = place.back_up()
    for length in [*range(40), *range(40, len(archive), len(archive) // 200), len(archive) - 1]:
        with pytest.raises(ArchiveError):
            verify(archive[:length])


def test_changed_bytes_are_rejected(place: Place) -> None:
    archive = place.back_up()
    numbers = random.Random(1)
    for position in numbers.sample(range(10, len(archive)), 200):
        changed = bytearray(archive)
        changed[position] ^= 1 << numbers.randrange(8)
        try:
            verify(bytes(changed))
        except ArchiveError:
            continue
        assert gzip.decompress(changed) == gzip.decompress(archive), "a bit that gzip does not use"


def test_wrong_checksum_size_or_order_is_rejected(place: Place) -> None:
    files = unpacked(place.back_up())
    listed = json.loads(files["manifest.json"])["files"]
    with pytest.raises(ArchiveError, match=r"the checksum of data/secrets\.key is wrong"):
        verify(packed(files | {"data/secrets.key": b"new"}))
    with pytest.raises(ArchiveError, match="is not at its place"):
        verify(with_manifest(files, files=listed[::-1]))
    with pytest.raises(ArchiveError, match="is not at its place"):
        verify(packed(files | {"data/secrets.key": b"longer"}))
    with pytest.raises(ArchiveError, match="more follows after its last file"):
        verify(packed(files | {"data/more": b"x"}))
    with pytest.raises(ArchiveError, match="damaged or incomplete"):
        verify(packed({name: content for name, content in files.items() if name != listed[-1]["name"]}))


@pytest.mark.parametrize(
    "name",
    [
        "../data/x",
        "/etc/x",
        "data/../../x",
        "data//x",
        "data/./x",
        "data/.hidden",
        "store",
        "other/x",
        "data/x\0y",
        "data/" + "x" * 300,
        "data/secrets.key/x",
        "data/secrets.key",
    ],
    ids=range(12),
)
def test_name_that_leads_elsewhere_is_rejected(place: Place, other: Place, name: str) -> None:
    files = unpacked(place.back_up())
    manifest = json.loads(files["manifest.json"])
    manifest["files"].append({"name": name, "size": 0, "sha256": "0" * 64})
    with pytest.raises(ArchiveError, match="the manifest of the backup is invalid"):
        other.restore(with_manifest(files, files=manifest["files"]))
    assert other.files() == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE], ids=range(4))
def test_entry_that_is_no_file_is_rejected(place: Place, kind: bytes) -> None:
    with pytest.raises(ArchiveError, match="something else than files"):
        verify(packed(unpacked(place.back_up()), type=kind, linkname="/etc/passwd"))


def test_extended_headers_are_rejected_unread(place: Place) -> None:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("manifest.json")
        info.pax_headers = {"comment": "x"}
        archive.addfile(info)
    with pytest.raises(ArchiveError, match="something else than files"):
        verify(gzip.compress(output.getvalue()))


def test_bomb_needs_neither_memory_nor_disk(other: Place) -> None:
    size = 1 << 42
    listed = [{"name": "store/chalk.db", "size": size, "sha256": "0" * 64}]
    manifest = {
        "archiveVersion": 1,
        "id": "1",
        "created": "",
        "program": "9",
        "backend": "sqlite",
        "schemaVersion": 1,
        "storeId": "",
        "files": listed,
    }
    header = tarfile.TarInfo("store/chalk.db")
    header.size = size
    text = packed({"manifest.json": json.dumps(manifest).encode()})
    blocks = gzip.decompress(text)[:1024] + header.tobuf(tarfile.GNU_FORMAT)
    bomb = gzip.compress(blocks + bytes(50 << 20), 9)
    tracemalloc.start()
    try:
        with pytest.raises(BackupError, match=r"MiB of free space in .*, but only"):
            other.restore(bomb)
        with pytest.raises(ArchiveError, match="damaged or incomplete"):
            verify(bomb)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    assert other.files() == []


def test_manifest_that_is_too_large_is_rejected_unread() -> None:
    header = tarfile.TarInfo("manifest.json")
    header.size = 1 << 40
    with pytest.raises(ArchiveError, match="does not begin with a manifest"):
        verify(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)))


@pytest.mark.parametrize(
    "changes",
    [
        {"files": [1]},
        {"files": [{"name": "data/x", "size": -1, "sha256": "0" * 64}]},
        {"files": [{"name": "data/x", "size": True, "sha256": "0" * 64}]},
        {"files": [{"name": "data/x", "size": 1, "sha256": "x"}]},
        {"files": None},
        {"schemaVersion": "1"},
        {"archiveVersion": 2},
        {"created": 1},
    ],
    ids=range(8),
)
def test_invalid_manifest_is_rejected(place: Place, changes: dict[str, object]) -> None:
    with pytest.raises(ArchiveError, match=r"manifest of the backup is invalid|archive version 2"):
        verify(with_manifest(unpacked(place.back_up()), **changes))


@pytest.mark.parametrize(
    "content", [b"", b"x", b"PK\3\4 ZIP", gzip.compress(b""), gzip.compress(b"x" * 600)], ids=range(5)
)
def test_other_file_is_rejected(content: bytes) -> None:
    with pytest.raises(ArchiveError):
        verify(content)


def test_encrypted_archive_is_readable_with_its_passphrase_only(place: Place, other: Place) -> None:
    archive = place.back_up(PASSPHRASE)
    assert archive.startswith(MAGIC)
    assert b"manifest" not in archive
    with pytest.raises(ArchiveError, match="the backup is encrypted: give the file"):
        verify(archive)
    with pytest.raises(ArchiveError, match="the passphrase is wrong"):
        verify(archive, PASSPHRASE + "x")
    other.restore(archive, passphrase=lambda: PASSPHRASE)
    assert other.contents() == ("old", "old")


def test_damage_of_an_encrypted_archive_is_rejected(place: Place) -> None:
    archive = place.back_up(PASSPHRASE)
    changed = bytearray(archive)
    changed[len(archive) // 2] ^= 1
    for damaged in (archive[:0], archive[:10], archive[:40], archive[:-1], bytes(changed), archive + b"x"):
        with pytest.raises(ArchiveError):
            verify(damaged, PASSPHRASE)


def test_plain_archive_does_not_pass_for_an_encrypted_one(place: Place) -> None:
    with pytest.raises(ArchiveError, match="the backup is not encrypted"):
        ArchiveReader(io.BytesIO(place.back_up()), lambda: PASSPHRASE, requires_encryption=True)

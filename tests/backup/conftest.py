"""Fixtures with a store and its folder `data`, and helpers that back it up and restore it."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from backends import CONTROL, Backend, Record, open_store
from chalk_flask.backup import ArchiveReader, RestoreResult, create_backup, restore_backup
from chalk_flask.settings import Settings, load_settings
from chalk_flask.storage import COLLECTIONS
from tests.conftest import url_in

__all__ = ["Place", "packed", "unpacked"]


@dataclass(frozen=True)
class Place:
    """Folder with a store `chalk` or `chalk.db` and the folder `data`."""

    folder: Path
    backend: str

    @property
    def settings(self) -> Settings:
        return load_settings({"storage": url_in(self.folder, self.backend), "data": str(self.folder / "data")})

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def open(self) -> Backend:
        return open_store(self.settings.storage, COLLECTIONS)

    def fill(self, text: str) -> None:
        """Store a text in the store and in a key file."""
        with self.open() as store:
            for tenant in (CONTROL, "default"):
                with store.write(tenant) as transaction:
                    transaction.put("tenants", [Record("a", b'"%s"' % text.encode())])
        self.data.mkdir(exist_ok=True)
        (self.data / "secrets.key").write_text(text)

    def contents(self) -> tuple[str, str]:
        """Return the texts in the store and in the key file."""
        with self.open() as store, store.read("default") as snapshot:
            [text] = snapshot.get_many("tenants", ["a"]).values()
        return text.decode().strip('"'), (self.data / "secrets.key").read_text()

    def back_up(self, passphrase: str | None = None) -> bytes:
        """Return an archive of the store."""
        output = io.BytesIO()
        with self.open() as store:
            create_backup(
                store, self.settings, lambda: nullcontext(output), passphrase=passphrase, requested_by="operator"
            )
        return output.getvalue()

    def restore(
        self, archive: bytes, *, replace: bool = False, passphrase: Callable[[], str] | None = None
    ) -> RestoreResult:
        """Restore an archive."""

        def open_archive() -> ArchiveReader:
            return ArchiveReader(io.BytesIO(archive), passphrase)

        return restore_backup(open_archive, self.settings, replace=replace, requested_by="operator")

    def files(self) -> list[str]:
        """Return the paths of all files and folders."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))


@pytest.fixture
def place(tmp_path: Path, backend: str) -> Place:
    """Place with a store that contains "old"."""
    place = Place(tmp_path / "old", backend)
    place.folder.mkdir()
    place.fill("old")
    return place


@pytest.fixture
def other(tmp_path: Path, backend: str) -> Place:
    """Place without a store."""
    return Place(tmp_path / "other", backend)


def unpacked(archive: bytes) -> dict[str, bytes]:
    """Return the files of an archive by name, read by the standard library."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as files:
        contents = {}
        for member in files:
            file = files.extractfile(member)
            assert file
            contents[member.name] = file.read()
        return contents


def packed(files: dict[str, bytes], **members: object) -> bytes:
    """Return an archive with these files, whose headers have these members."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for member, value in members.items():
                setattr(info, member, value)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(output.getvalue(), mtime=0)

"""Files of the folder `data` that belong to one store, with names that do not depend on where the store is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from backends import InvalidStorageURLError, backend_class, file_path
from backends.jsonfile.file_copies import copy_file, link_or_copy
from chalk_flask.background.leader_lock import leader_lock_for
from chalk_flask.backup.archive import SourceFile
from chalk_flask.files import make_private_folder
from chalk_flask.jobs.store import jobs_folder
from chalk_flask.metrics import METRICS_FOLDER
from chalk_flask.roster.imports.run_files import store_folder
from chalk_flask.settings import Settings
from chalk_flask.settings.data_folder import STORE_ID_FILE, folders_of_other_stores
from chalk_flask.shared_state import SHARED_STATE_FILE

__all__ = ["DataFolder"]

_JOURNAL = "webhooks.results"
_TEMPORARY = (".lock", ".part")
_RUNTIME_NAMES = (METRICS_FOLDER, *(SHARED_STATE_FILE + suffix for suffix in ("", "-wal", "-shm")))
"""Names in the folder that matter to running processes alone."""


@dataclass(frozen=True)
class DataFolder:
    """Folder `data` as one store uses it. Other stores may have files in it, which are left out.

    `own` maps the names in archives to the paths of files and folders whose place depends on the store.
    """

    path: Path
    own: Mapping[str, Path]
    store_files: frozenset[Path]

    @classmethod
    def of(cls, settings: Settings) -> DataFolder:
        """Return the folder of the configured store."""
        path = Path(settings.data).resolve()
        own = {"imports": store_folder(settings).resolve(), "jobs": jobs_folder(settings).resolve()}
        journal = leader_lock_for("webhooks", settings.storage, path, shared=True).journal_path
        if journal is not None:
            own[_JOURNAL] = journal
        return cls(path, own, frozenset(_store_files(settings.storage)))

    def pin(self, folder: Path) -> list[SourceFile]:
        """Give each file a second name in an empty folder, so that it stays readable although it may be deleted.

        The size of a file that grows is the one of now. Raises OSError.
        """
        pinned = []
        for name, path in self._files():
            copy = folder / name
            make_private_folder(copy.parent)
            with suppress(FileNotFoundError):  # deleted meanwhile
                if name == _JOURNAL:  # it is emptied in place
                    copy_file(path, copy)
                else:
                    link_or_copy(path, copy)
                pinned.append(SourceFile(f"data/{name}", copy, copy.stat().st_size))
        return pinned

    def path_of(self, name: str) -> PurePosixPath:
        """Return where the file with this name in archives belongs, relative to the folder."""
        for prefix, path in self.own.items():
            if name == prefix or name.startswith(f"{prefix}/"):
                return PurePosixPath(path.relative_to(self.path)) / name[len(prefix) + 1 :]
        return PurePosixPath(name)

    def other_stores(self) -> list[Path]:
        """Return the folders that belong to other stores."""
        return folders_of_other_stores(self.path, self.own["imports"].name)

    def _files(self) -> Iterator[tuple[str, Path]]:
        visited = set()
        for folder, subfolders, names in os.walk(self.path, followlinks=True):
            identity = Path(folder).stat()
            if (identity.st_dev, identity.st_ino) in visited:  # a link to a folder above
                subfolders.clear()
                continue
            visited.add((identity.st_dev, identity.st_ino))
            subfolders[:] = sorted(name for name in subfolders if self._is_kept(Path(folder) / name))
            for path in (Path(folder) / name for name in sorted(names)):
                name = self._name_of(path)
                is_temporary = path.name.endswith(_TEMPORARY)
                if name and not is_temporary and self._is_kept(path) and path.is_file():
                    yield name, path

    def _is_kept(self, path: Path) -> bool:
        is_store_id = path == self.path / STORE_ID_FILE  # a restore writes the one of its place
        is_temporary = path.parent == self.path and path.name in _RUNTIME_NAMES
        is_own = not path.name.startswith(".") and not is_temporary and not is_store_id
        return is_own and path.resolve() not in self.store_files

    def _name_of(self, path: Path) -> str | None:
        """Return the name of a file in archives; None for a file of another store."""
        for prefix, own in self.own.items():
            if path == own or own in path.parents:
                return str(PurePosixPath(prefix) / path.relative_to(own))
        relative = PurePosixPath(path.relative_to(self.path))
        if relative.parts[0] in self.own or relative.suffix == ".results":
            return None
        return str(relative)


def _store_files(url: str) -> list[Path]:
    """Return the files of the store, which may be inside of the folder `data`, and its lock file."""
    try:
        path = file_path(url).resolve()
    except InvalidStorageURLError:
        return []
    return [*backend_class(url).store_files(path), path.with_name(f"{path.name}.lock")]

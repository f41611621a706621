"""Folder `data` of a store: its default location, the names in it, and the file that says which store it belongs to."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

import orjson

from backends import InvalidStorageURLError
from backends.base import file_path
from chalk_flask.settings.setting_type import without_passwords

__all__ = [
    "STORE_ID_FILE",
    "StoreIdFile",
    "default_data_folder",
    "folders_of_other_stores",
    "is_former_data_folder",
    "store_key",
]

STORE_ID_FILE: Final = "store-id.json"
"""Name of the file in the folder `data`. Its name is not hidden, because some backups leave out hidden files."""

FORMER_DEFAULT: Final = "chalk-data"
"""Default of earlier versions, relative to the working directory; still that of stores that are not in files."""

_NAME_IN_UNITS = "data"
"""Name that the systemd units in `config/` give to the folder beside the store."""

_DAMAGED = (
    "it names no store: delete it if this is the folder data of your store, otherwise give the right one with --data"
    " (CHALK_DATA)"
)
_SUBFOLDERS = ("imports", "jobs")
_KEY_LENGTH = 16


@dataclass(frozen=True, slots=True)
class StoreIdFile:
    """Content of `store-id.json`: the store that a folder `data` belongs to.

    `location` is that of the store when the folder was first used. `key` is the store key, which stays when both are
    moved.
    """

    store_id: str
    location: str
    key: str

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Return the content of the file in a folder; None if there is none. Raises OSError, also if it is damaged."""
        path = folder / STORE_ID_FILE
        try:
            content = orjson.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except orjson.JSONDecodeError:
            content = None
        match content:
            case {"store_id": str(store_id), "location": str(location), "key": str(key)} if key.isalnum():
                return cls(store_id, location, key)
        raise OSError(errno.EINVAL, _DAMAGED, str(path))

    def encode(self) -> bytes:
        """Return the content of the file."""
        return orjson.dumps(asdict(self), option=orjson.OPT_APPEND_NEWLINE)


def default_data_folder(storage: str) -> Path:
    """Return the absolute path of the default folder of a store: `district-data` beside `district.db`.

    A folder of an earlier version that belongs to the store is returned instead, if there is nothing beside the store.
    """
    path = _path_of(storage)
    if path is None:
        return Path("memory-data" if storage.startswith("memory:") else FORMER_DEFAULT).absolute()
    folder = _folder_beside(path, storage)
    if not os.path.lexists(folder):
        for former in (path.with_name(_NAME_IN_UNITS), Path(FORMER_DEFAULT).absolute()):
            with suppress(OSError):  # it is unreadable
                if _is_used_by(former, storage) or _has_only_keys_of(former, path):
                    return former
    return folder


def is_former_data_folder(storage: str, folder: Path) -> bool:
    """Return True if this default folder of the store is one of an earlier version, and not beside the store."""
    path = _path_of(storage)
    return path is not None and folder != _folder_beside(path, storage)


def store_key(storage: str, folder: Path) -> str:
    """Return the store key, the name of the subfolders of the store in its folder `data`. Raises OSError.

    `store-id.json` contains it. Without this file, it is a hash of the location of the store.
    """
    stored = StoreIdFile.read(folder)
    return _location_hash(storage) if stored is None else stored.key


def folders_of_other_stores(folder: Path, key: str) -> list[Path]:
    """Return the subfolders of a folder `data` that belong to other stores than the one with this key."""
    parents = [folder / name for name in _SUBFOLDERS]
    return sorted(path for parent in parents if parent.is_dir() for path in parent.iterdir() if path.name != key)


def _path_of(storage: str) -> Path | None:
    """Return the absolute path of a store in files, or of its target if it is a link; None for other stores."""
    try:
        path = file_path(storage)
    except InvalidStorageURLError:
        return None
    path = Path(os.path.realpath(path)) if path.is_symlink() else path.absolute()
    return path if path.name else None


def _folder_beside(path: Path, storage: str) -> Path:
    return path.with_name(f"{path.name if storage.lower().startswith('json:') else path.stem}-data")


def _location_hash(storage: str) -> str:
    from hashlib import sha256  # loads OpenSSL, which most commands do not need

    scheme, _, rest = storage.partition("://")
    location = f"{scheme}:{os.path.realpath(rest[1:])}" if rest.startswith("/") else without_passwords(storage)
    return sha256(location.encode()).hexdigest()[:_KEY_LENGTH]


def _is_used_by(folder: Path, storage: str) -> bool:
    """Return True if the files in a folder show that this store uses it."""
    key, stored = _location_hash(storage), StoreIdFile.read(folder)
    if stored is not None:
        return stored.key == key
    return any((folder / name / key).is_dir() for name in _SUBFOLDERS) or any(folder.glob(f"*-{key}.lock"))


def _has_only_keys_of(folder: Path, store: Path) -> bool:
    """Return True if a folder of an earlier version has key files, and they can only belong to this store."""
    return (
        folder.name == FORMER_DEFAULT
        and store.exists()
        and any(folder.glob("*.key"))
        and not any(_signs_of_other_stores(folder))
    )


def _signs_of_other_stores(folder: Path) -> Iterator[Path]:
    """Yield files of other stores in a folder of an earlier version, and the default store beside it."""
    yield from folders_of_other_stores(folder, "")
    yield from folder.glob("[!.]*.lock")
    yield from folder.glob(STORE_ID_FILE)
    yield from folder.parent.glob(f"{FORMER_DEFAULT.removesuffix('-data')}.db")

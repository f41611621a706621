"""Folder `data` of an open store: it is compared with the store, so that no store uses the folder of another one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from backends import Backend, backend_class, store_exists
from backends.files.private_files import give_to_owner
from chalk_flask.files import create_once, make_private_folder, open_without_links
from chalk_flask.settings import Settings, SettingsError
from chalk_flask.settings.data_folder import (
    STORE_ID_FILE,
    StoreIdFile,
    default_data_folder,
    folders_of_other_stores,
    store_key,
)
from chalk_flask.settings.storage_location import storage_location

__all__ = ["bind_data_folder", "bind_if_created", "bind_on_open", "check_data_folder", "check_missing_store"]

log = logging.getLogger(__name__)


def check_data_folder(store: Backend, settings: Settings) -> None:
    """Raise SettingsError if the folder `data` belongs to another store. Creates nothing. Raises OSError."""
    stored = StoreIdFile.read(Path(settings.data))
    if stored is None or not (store.durable and store.store_id) or stored.store_id == store.store_id:
        return
    raise SettingsError(_mismatch_text(stored, settings, f"was replaced: its id differs from that in {STORE_ID_FILE}"))


def check_missing_store(settings: Settings) -> None:
    """Raise SettingsError if the store is missing, and the folder `data` belongs to one. Raises OSError.

    Call it before a store is created, because a new store cannot use the folder of another one.
    """
    if not backend_class(settings.storage).durable or store_exists(settings.storage):
        return
    stored = StoreIdFile.read(Path(settings.data))
    if stored is not None:
        raise SettingsError(_mismatch_text(stored, settings, "is missing"))


def _mismatch_text(stored: StoreIdFile, settings: Settings, change: str) -> str:
    """Return the message about a folder `data` of another store. `change` is what happened to a store at this path."""
    folder, location = Path(settings.data), storage_location(settings.storage)
    if stored.location == location:
        return (
            f"the store at {location} {change}, and the folder data {folder} belongs to the former one: restore that"
            f" store, or move {folder} away to begin with an empty one"
        )
    return (
        f"the folder data {folder} belongs to another store, which was at {stored.location}, and not to the store at"
        f" {location}: give the folder of this store with --data (CHALK_DATA). If {folder} is a copy that was made for"
        f" this store, delete {folder / STORE_ID_FILE}"
    )


def bind_data_folder(store: Backend, settings: Settings) -> None:
    """Create the folder `data` and write the store id to it, unless it has one. An error is logged.

    A folder that several stores of an earlier version share gets no id. Raises SettingsError if the folder belongs to
    another store.
    """
    check_data_folder(store, settings)
    folder = Path(settings.data)
    if not (store.durable and store.store_id) or StoreIdFile.read(folder) is not None:
        return
    key = store_key(settings.storage, folder)
    if others := folders_of_other_stores(folder, key):
        log.warning("The folder data %s is also used by another store, see %s: give each its own.", folder, others[0])
        return
    _warn_of_other_folder(store, settings)
    location = storage_location(settings.storage)
    try:
        with _give_new_folder_to_owner(folder, Path(location)):
            make_private_folder(folder)
        create_once(folder / STORE_ID_FILE, StoreIdFile(store.store_id, location, key).encode())
    except OSError as error:
        log.warning("The store id cannot be written to the folder data %s: %s", folder, error.strerror)
        return
    check_data_folder(store, settings)  # another process may have written the id of its store at the same time


@contextmanager
def bind_if_created(store: Backend, settings: Settings) -> Iterator[None]:
    """Compare the folder `data` with the store, and write the store id to it if the block creates the folder.

    Raises SettingsError if the folder belongs to another store.
    """
    check_data_folder(store, settings)
    folder = Path(settings.data)
    existed = folder.exists()
    try:
        with _give_new_folder_to_owner(folder, Path(storage_location(settings.storage))):
            yield
    finally:
        if not existed and folder.exists():
            bind_data_folder(store, settings)


def bind_on_open(stack: ExitStack, settings: Settings) -> Callable[[Backend], None]:
    """Return the function `on_open` of a LazyStore. It enters `bind_if_created` until the stack is closed.

    Raises SettingsError if the store is missing, and the folder `data` belongs to one.
    """
    check_missing_store(settings)
    return lambda store: stack.enter_context(bind_if_created(store, settings))


@contextmanager
def _give_new_folder_to_owner(folder: Path, store: Path) -> Iterator[None]:
    """Give the folder with its files to the owner of the store, if this process is root and the block creates it.

    Files that are created later have the owner of their folder.
    """
    existed = folder.exists()
    try:
        yield
    finally:
        if os.geteuid() == 0 and not existed:
            for parent, _, names in os.walk(folder):
                for path in (Path(parent), *(Path(parent) / name for name in names)):
                    with suppress(OSError):
                        _give_to_owner(path, store)


def _give_to_owner(path: Path, store: Path) -> None:
    descriptor = open_without_links(path)
    try:
        give_to_owner(descriptor, store)
    finally:
        os.close(descriptor)


def _warn_of_other_folder(store: Backend, settings: Settings) -> None:
    """Log a warning if the store has files in its default folder already, and is about to use another one."""
    default = default_data_folder(settings.storage)
    stored = None if default == Path(settings.data) else StoreIdFile.read(default)
    if stored is not None and stored.store_id == store.store_id:
        log.warning(
            "The folder data is %s, but %s also belongs to this store: keys and held packages may be in there.",
            settings.data,
            default,
        )

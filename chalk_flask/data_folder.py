"""Folder `data` of an open store: it is compared with the store, so that no store uses the folder of another one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from backends import Backend
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

__all__ = ["check_data_folder", "claim_data_folder", "claim_if_created", "claim_on_open"]

log = logging.getLogger(__name__)


def check_data_folder(store: Backend, settings: Settings) -> None:
    """Raise SettingsError if the folder `data` belongs to another store. Creates nothing. Raises OSError."""
    stored = StoreIdFile.read(Path(settings.data))
    if stored is None or not (store.durable and store.store_id) or stored.store_id == store.store_id:
        return
    raise SettingsError(
        f"the folder data {settings.data} belongs to another store, which was at {stored.location}, and not to the"
        f" store at {storage_location(settings.storage)}: give the folder of this store with --data (CHALK_DATA). If"
        f" {settings.data} is a copy that was made for this store, delete {Path(settings.data) / STORE_ID_FILE}"
    )


def claim_data_folder(store: Backend, settings: Settings) -> None:
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


@contextmanager
def claim_if_created(store: Backend, settings: Settings) -> Iterator[None]:
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
            claim_data_folder(store, settings)


def claim_on_open(stack: ExitStack, settings: Settings) -> Callable[[Backend], None]:
    """Return the function `on_open` of a LazyStore. It enters `claim_if_created` until the stack is closed."""
    return lambda store: stack.enter_context(claim_if_created(store, settings))


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

"""`chalk-flask import --watch`: import the packages that another program puts into a folder."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chalk_flask.cli.errors import CommandError
from chalk_flask.cli.options import check_durable, check_tenant
from chalk_flask.cli.package_import import current_user

if TYPE_CHECKING:
    from chalk_flask.drop_folder import DropFolderWatcher
    from chalk_flask.roster.tenant_imports import ImportChoices
    from chalk_flask.settings import Settings

__all__ = ["watch_folder"]


def watch_folder(
    path: Path, settings: Settings, tenant: str, choices: ImportChoices, *, settle_seconds: int, once: bool
) -> None:
    """Import the packages in a folder until SIGTERM or Ctrl-C.

    With `once`, end when none is left, and exit with the code of the worst outcome. Raises BadParameter for a missing
    folder, CommandError and OSError.
    """
    from chalk_flask.data_folder_binding import check_data_folder, check_missing_store
    from chalk_flask.drop_folder import DropFolder, DropFolderError, DropFolderWatcher
    from chalk_flask.logs import configure_logging
    from chalk_flask.settings.storage_location import storage_location
    from chalk_flask.storage import LazyStore

    if not path.is_dir():
        message = f"there is no folder {path.absolute()}: create it, and let the service user write to it"
        raise click.BadParameter(message, param_hint="--watch")
    check_durable(settings.storage)
    check_missing_store(settings)
    with LazyStore(settings.storage, lambda opened: check_data_folder(opened, settings)) as store:
        check_tenant(store, tenant)
    configure_logging(settings)
    folder = DropFolder(path, Path(storage_location(settings.storage)))
    watcher = DropFolderWatcher(folder, settings, tenant, choices, settle_seconds, current_user())
    with _stop_on_signals(watcher):
        try:
            watcher.run(once=once)
        except DropFolderError as error:
            raise CommandError(str(error)) from error
    if once:
        _exit_with(watcher)


@contextmanager
def _stop_on_signals(watcher: DropFolderWatcher) -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT)
    former = {number: signal.signal(number, lambda *_: watcher.stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _exit_with(watcher: DropFolderWatcher) -> None:
    if watcher.has_failed or watcher.has_unmovable or "rejected" in watcher.outcomes:
        raise click.exceptions.Exit(1)
    if "held" in watcher.outcomes:
        raise click.exceptions.Exit(3)

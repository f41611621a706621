"""`chalk-flask backup`: write a store and its folder `data` to an archive while the service runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from chalk_flask.cli.credentials import read_passphrase_file
from chalk_flask.cli.errors import CommandError, echo_result
from chalk_flask.cli.options import (
    as_json_option,
    check_durable,
    open_configured_store,
    settings_from_options,
    settings_options,
)
from chalk_flask.cli.package_import import current_user
from chalk_flask.settings.setting_type import absolute_path

if TYPE_CHECKING:
    from backends import Backend
    from chalk_flask.backup import BackupResult

__all__ = ["backup_command"]

STDOUT = Path("-")


@click.command(
    "backup",
    short_help="Write the store and the folder data to an archive.",
    epilog="Example: chalk-flask backup /var/backups/chalk-flask --keep 14",
)
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="FILE is a folder: delete all but this number of its newest backups of this store afterwards.",
)
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Encrypt the archive with the first line of this file, at least 12 characters. Without it the archive cannot"
    " be read again.",
)
@as_json_option
@settings_options("data")
def backup_command(target: Path, keep: int | None, passphrase_file: Path | None, as_json: bool, **options: Any) -> None:
    """Write the store and the folder `data` to one archive, while the service runs.

    FILE is a new file, an existing folder, or - for stdout. In a folder the name has the id of the store and the time:
    chalk-flask-1a2b3c4d-20260131T013000Z.tar.gz. The archive has the state of one point in time, with all tenants,
    credentials, keys and held packages. Only its owner can read it. It is complete or it does not exist.

    The store is verified first: a damaged store yields an error and no archive, and no backup is deleted. Restore the
    archive with `chalk-flask restore`.
    """
    from chalk_flask.backup import BackupError

    _check_target(target, keep, as_json)
    settings = settings_from_options(options)
    check_durable(settings.storage, "there is nothing to back up")
    try:
        passphrase = None if passphrase_file is None else read_passphrase_file(passphrase_file)
        with open_configured_store(settings) as store:
            _run(store, settings, target, keep, passphrase, as_json)
    except BackupError as error:
        raise CommandError(str(error)) from error


def _check_target(target: Path, keep: int | None, as_json: bool) -> None:
    if keep is not None and not target.is_dir():
        raise click.UsageError(
            f"--keep requires a folder, but {absolute_path(str(target))!r} is none: create it, or give another one"
        )
    if target == STDOUT:
        if as_json:
            raise click.UsageError("--json cannot be used with -, because the archive is written to stdout")
        if sys.stdout.isatty():
            raise click.UsageError("the archive cannot be written to a terminal: give a file, or add a pipe")
    elif not target.is_dir() and not target.suffix:
        raise click.UsageError(
            f"{absolute_path(str(target))!r} is no folder: create it, or give the name of a new file that ends with"
            " .tar.gz"
        )
    elif not target.is_dir() and target.exists():
        raise CommandError(f"{absolute_path(str(target))} exists already: give the name of a new file, or of a folder")


def _run(store: Backend, settings: Any, target: Path, keep: int | None, passphrase: str | None, as_json: bool) -> None:
    from chalk_flask.backup import create_backup, delete_old_backups, new_backup_path
    from chalk_flask.times import utc_now

    path = target
    if target.is_dir():
        path = new_backup_path(target, store.store_id, utc_now(), is_encrypted=passphrase is not None)
    owners: set[int] = set()
    result = create_backup(
        store,
        settings,
        lambda: _open_output(path, store.store_id, owners),
        passphrase=passphrase,
        requested_by=current_user(),
        owners=owners,
    )
    if path == STDOUT:
        click.echo(_summary_text(result, "stdout", []), err=True)
        return
    deleted = [] if keep is None else list(delete_old_backups(target, store.store_id, keep))
    data = {"path": absolute_path(str(path)), **result.to_dict(), "deleted": deleted}
    echo_result(as_json, data, _summary_text(result, data["path"], deleted))


@contextmanager
def _open_output(path: Path, store_id: str, owners: set[int]) -> Iterator[IO[bytes]]:
    """Yield the stream of the archive. A file is complete and synced to disk when the block ends.

    An archive that root writes is given to the owner of its folder, if all archived files belong to that user. Others
    stay root's, because a user may have linked to a file that only root can read. The block fills `owners`.
    """
    from chalk_flask.backup import delete_leftovers
    from chalk_flask.files import atomic_write, give_to_owner

    if path == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.parent.is_dir():  # atomic_write reports a missing one
        delete_leftovers(path, store_id)
    with atomic_write(path, path.with_name(f".{path.name}.part")) as file:
        yield file
        if owners == {path.parent.stat().st_uid}:
            give_to_owner(file.fileno(), path.parent)


def _summary_text(result: BackupResult, place: str, deleted: list[str]) -> str:
    encrypted = ", encrypted" if result.is_encrypted else ""
    lines = [f"Backed up {len(result.manifest.files)} files to {place} ({result.size:,} bytes{encrypted})."]
    return "\n".join([*lines, *(f"Deleted {name}." for name in deleted)])

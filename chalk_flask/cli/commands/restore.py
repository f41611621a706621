"""`chalk-flask restore`: restore an archive of `chalk-flask backup`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from chalk_flask.cli.credentials import read_passphrase_file
from chalk_flask.cli.errors import CommandError, echo_result
from chalk_flask.cli.options import as_json_option, check_durable, settings_from_options, settings_options
from chalk_flask.cli.package_import import current_user

if TYPE_CHECKING:
    from chalk_flask.backup import Manifest, RestoreResult

__all__ = ["restore_command"]

STDIN = Path("-")


@click.command(
    "restore",
    short_help="Restore an archive that `backup` wrote.",
    epilog="Example: chalk-flask restore chalk-flask-1a2b3c4d-20260131T013000Z.tar.gz --replace",
)
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--replace",
    is_flag=True,
    help="Move an existing store and folder data aside first. Their new names end with .before- and the time.",
)
@click.option("--dry-run", is_flag=True, help="Only read the archive and compare its checksums.")
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="File whose first line is the passphrase of an encrypted archive. Without it, a terminal asks for it.",
)
@as_json_option
@settings_options("data")
def restore_command(
    source: Path, replace: bool, dry_run: bool, passphrase_file: Path | None, as_json: bool, **options: Any
) -> None:
    """Restore the store and the folder `data` from an archive. Stop the service first.

    FILE is an archive, or - for stdin. All checksums are compared before anything changes. The restore happens in full
    or not at all: if it is interrupted, the next command that opens the store completes it.

    Afterwards the service is as it was at the time of the backup. Later imports are undone. Tokens that were revoked
    later are valid again. Administrators sign in again. Followers of the change feed get 410 and read
    everything once. Webhooks may receive events of the time after the backup again.
    """
    from chalk_flask.backup import ArchiveReader, BackupError, restore_backup, verify_backup

    settings = settings_from_options(options)
    if not dry_run:
        check_durable(settings.storage, "use another store")
    try:
        with _open_source(source) as stream:
            open_archive = partial(
                ArchiveReader,
                stream,
                _passphrase_reader(passphrase_file, source),
                requires_encryption=passphrase_file is not None,
            )
            if dry_run:
                _echo_verified(verify_backup(open_archive()), source, as_json)
                return
            result = restore_backup(open_archive, settings, replace=replace, requested_by=current_user())
    except BackupError as error:
        raise CommandError(f"nothing was changed: {error}") from error
    echo_result(as_json, result.to_dict(), _summary_text(result))


@contextmanager
def _open_source(source: Path) -> Iterator[BinaryIO]:
    if source == STDIN:
        yield sys.stdin.buffer
    else:
        with source.open("rb") as stream:
            yield stream


def _passphrase_reader(path: Path | None, source: Path) -> Callable[[], str] | None:
    """Return the function that reads the passphrase from the file, or from a terminal; None if there is neither."""
    if path is not None:
        return lambda: read_passphrase_file(path)
    if source != STDIN and sys.stdin.isatty():
        return lambda: str(click.prompt("Passphrase of the backup", hide_input=True, err=True))
    return None


def _echo_verified(manifest: Manifest, source: Path, as_json: bool) -> None:
    name = "stdin" if source == STDIN else source
    text = f"{name} is complete: {len(manifest.files)} files of a {manifest.backend} store, {manifest.created}."
    echo_result(as_json, {**manifest.to_dict(), "files": len(manifest.files), "bytes": manifest.size}, text)


def _summary_text(result: RestoreResult) -> str:
    lines = [f"Restored the state of {result.manifest.created} to {result.store} and {result.data}."]
    return "\n".join([*lines, *(f"The former one is now {path}." for path in result.moved_aside)])

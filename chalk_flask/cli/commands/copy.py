"""`chalk-flask copy`: copy a whole store into an empty one."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from chalk_flask.cli.errors import CommandError, echo_result
from chalk_flask.cli.options import as_json_option, check_durable
from chalk_flask.cli.progress import progress_line
from chalk_flask.settings.setting_type import without_passwords

if TYPE_CHECKING:
    from backends import Backend
    from backends.copy import Counts

__all__ = ["copy_command"]


@click.command(
    "copy",
    short_help="Copy a whole store into an empty one.",
    epilog="Example: chalk-flask copy sqlite:///chalk.db json:///chalk-copy",
)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--restart", is_flag=True, help="Delete an interrupted copy in TO and start over.")
@as_json_option
def copy_command(source: str, target: str, restart: bool, as_json: bool) -> None:
    """Copy the store FROM into the store TO, which must be empty. Both are paths of SQLite files or storage URLs.

    Every tenant is copied byte for byte: rosters, gradebooks, tombstones, sequence numbers, audit logs, tokens,
    clients, issuers and administrators. Sessions are not copied, so administrators sign in again. FROM is not changed;
    writers wait until the copy is complete. TO cannot be used before that. If the copy is interrupted, every command
    rejects TO, and --restart starts over.

    The folder `data` is not copied: it contains the keys of access tokens and encrypted secrets, held packages and the
    access log. To move a service, stop it, and copy the store and the folder. Delete store-id.json in the copied
    folder, because it names the former store. Start the service with --storage TO and --data. Import held packages
    again, because their approval is bound to the former store. Jobs that are queued or running are not copied.
    """
    from backends import IncompleteCopyError, StorageError, StoreNotEmptyError
    from chalk_flask.settings.storage_location import storage_location, storage_url

    source, target = storage_url(source), storage_url(target)
    _check_urls(source, target)
    with _open(source) as source_store, _open(target, allow_incomplete=True) as target_store:
        try:
            counts = _copy(source_store, target_store, restart)
        except StoreNotEmptyError as error:
            raise CommandError(f"{without_passwords(target)} is unchanged: {error}") from error
        except IncompleteCopyError as error:
            raise CommandError(f"{without_passwords(target)}: {error}") from error
        except StorageError as error:
            message = f"the copy to {without_passwords(target)} failed: {error}. Start over with --restart"
            raise CommandError(message) from error
    data = {"tenants": counts, "total": _total(counts), "target": storage_location(target)}
    echo_result(as_json, data, _summary_text(counts, storage_location(target)))


def _check_urls(source: str, target: str) -> None:
    """Raise CommandError for stores that cannot be copied, before either is opened."""
    from backends import store_exists
    from chalk_flask.settings.storage_location import slashes_hint, storage_location

    for url in (source, target):
        check_durable(url, "give another store")
    if not store_exists(source):
        raise CommandError(f"there is no store to copy at {storage_location(source)}{slashes_hint(source)}")
    if _identity(source) == _identity(target):
        names = " and ".join(map(without_passwords, (source, target)))
        raise CommandError(f"{names} are the same store: give another target")


def _identity(url: str) -> tuple[type[Backend], str]:
    """Return the backend and location of a store, equal for all spellings of its URL."""
    from backends import InvalidStorageURLError, backend_class
    from backends.base import file_path

    try:
        return backend_class(url), str(file_path(url).resolve())
    except InvalidStorageURLError:  # the backend does not use files
        return backend_class(url), url


def _open(url: str, *, allow_incomplete: bool = False) -> Backend:
    from backends import IncompleteCopyError, open_store
    from chalk_flask.storage import COLLECTIONS

    try:
        return open_store(url, COLLECTIONS, allow_incomplete=allow_incomplete)
    except IncompleteCopyError as error:
        raise CommandError(f"{without_passwords(url)}: {error}") from error


def _copy(source: Backend, target: Backend, restart: bool) -> Counts:
    from backends import copy_store

    with progress_line() as on_progress:
        return copy_store(source, target, restart=restart, on_progress=on_progress)


def _total(counts: Counts) -> int:
    return sum(sum(tenant_counts.values()) for tenant_counts in counts.values())


def _summary_text(counts: Counts, target: str) -> str:
    by_collection: Counter[str] = Counter()
    for tenant_counts in counts.values():
        by_collection.update(tenant_counts)
    lines = [f"{name:<18}{records:>12,}" for name, records in by_collection.items()]
    tenants = f"{len(counts)} {'tenant' if len(counts) == 1 else 'tenants'}"
    return "\n".join([*lines, f"Copied {_total(counts):,} records of {tenants} to {target}."])

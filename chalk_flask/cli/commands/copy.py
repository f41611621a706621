"""`chalk-flask copy`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from chalk_flask.cli.errors import CommandError, echo_result
from chalk_flask.cli.options import as_json_option
from chalk_flask.cli.progress import progress_line

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
@click.option("--restart", is_flag=True, help="Delete what a copy into TO has left that was stopped, and begin anew.")
@as_json_option
def copy_command(source: str, target: str, restart: bool, as_json: bool) -> None:
    """Copy all that the store FROM holds into the store TO, which must hold nothing. Both are storage URLs.

    Every tenant is copied, byte for byte: rosters and gradebooks, tombstones, sequences and audits, tokens, clients and
    issuers. FROM is not changed, and who wants to write to it waits meanwhile. TO is not usable until all of it is
    there; when the command is stopped before, every other one refuses TO, and --restart begins anew.

    Not in a store, and so not copied, is the folder `data`: the keys of access tokens and of sealed secrets, packages
    that are held, and the record of reads. To move a service, stop it, copy the store, take that folder along as it is,
    and start with --storage TO. A package that is held is to be imported again: its roster counts as moved.
    """
    from backends import IncompleteCopyError, StorageError, StoreNotEmptyError

    _check(source, target)
    with _opened(source) as here, _opened(target, unfinished=True) as there:
        try:
            counts = _copied(here, there, restart)
        except StoreNotEmptyError as error:
            raise CommandError(f"{target} is left as it is: {error}") from error
        except IncompleteCopyError as error:
            raise CommandError(f"{target}: {error}") from error
        except StorageError as error:
            raise CommandError(f"the copy to {target} was stopped: {error}. Begin it anew with --restart") from error
    echo_result(as_json, {"tenants": counts, "total": _total(counts)}, _told(counts, target))


def _check(source: str, target: str) -> None:
    """Raises Refused for stores that cannot be copied, before one of them is opened."""
    from backends import backend_class, store_exists

    for url in (source, target):
        if not backend_class(url).durable:
            raise CommandError(f"{url} keeps nothing once this command ends: name another store")
    if not store_exists(source):
        raise CommandError(f"there is nothing to copy: {source} does not exist")
    if _place(source) == _place(target):
        raise CommandError(f"{source} and {target} are the same store: name another one to copy into")


def _place(url: str) -> tuple[type[Backend], str]:
    """What a URL names, however it is written."""
    from backends import InvalidStorageURLError, backend_class
    from backends.base import file_path

    try:
        return backend_class(url), str(file_path(url).resolve())
    except InvalidStorageURLError:  # not every backend keeps files
        return backend_class(url), url


def _opened(url: str, *, unfinished: bool = False) -> Backend:
    from backends import IncompleteCopyError, open_store
    from chalk_flask.storage import COLLECTIONS

    try:
        return open_store(url, COLLECTIONS, allow_incomplete=unfinished)
    except IncompleteCopyError as error:
        raise CommandError(f"{url}: {error}") from error


def _copied(source: Backend, target: Backend, restart: bool) -> Counts:
    from backends import copy_store

    with progress_line() as progress:
        return copy_store(source, target, restart=restart, progress=progress)


def _total(counts: Counts) -> int:
    return sum(sum(each.values()) for each in counts.values())


def _told(counts: Counts, target: str) -> str:
    of_all: Counter[str] = Counter()
    for each in counts.values():
        of_all.update(each)
    lines = [f"{name:<18}{records:>12,}" for name, records in of_all.items()]
    tenants = f"{len(counts)} {'tenant' if len(counts) == 1 else 'tenants'}"
    return "\n".join([*lines, f"Copied {_total(counts):,} records of {tenants} to {target}."])

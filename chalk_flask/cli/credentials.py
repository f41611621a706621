"""Parts that the commands for tokens, clients, issuers, webhooks and sources share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chalk_flask.cli.durations import DURATION_OR_ZERO
from chalk_flask.cli.errors import CommandError
from chalk_flask.cli.options import (
    CREATION_HINT,
    check_configured_tenant,
    open_configured_store,
    settings_from_options,
)

if TYPE_CHECKING:
    from backends import Backend
    from chalk_flask.settings import Settings

__all__ = [
    "has_worker",
    "open_credentials",
    "overlap_option",
    "read_passphrase_file",
    "scope_option",
    "settings_for_new",
    "shown_once_warning",
    "summary_text",
]

Function = TypeVar("Function", bound=Callable[..., Any])
Credentials = TypeVar("Credentials")


def scope_option(permission: str) -> Callable[[Function], Function]:
    """Return a decorator that adds --scope as the argument `scopes`, a set of scopes.

    `permission` starts its help text, for example "The token can read".
    """
    return click.option(
        "--scope",
        "scopes",
        multiple=True,
        callback=_parse_scopes,
        metavar="SCOPE",
        help=f"{permission}: the URI of a scope, its last part (roster.readonly), or all. Can be repeated."
        "  [default: read everything except demographics]",
    )


def _parse_scopes(ctx: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> frozenset[str]:
    from chalk_flask.permissions.scopes import UnknownScopeError, parse_scopes

    try:
        return parse_scopes(texts)
    except UnknownScopeError as error:
        raise click.BadParameter(str(error), param_hint="--scope") from error


def overlap_option(help_text: str) -> Callable[[Function], Function]:
    """Return a decorator that adds --overlap: the time in which a former secret stays valid, 24 hours by default."""
    return click.option(
        "--overlap",
        default="24h",
        type=DURATION_OR_ZERO,
        metavar="DURATION",
        help=f"{help_text}  [default: 24h]",
    )


def read_passphrase_file(path: Path) -> str:
    """Return the passphrase in the file of the option --passphrase-file.

    Raises BadParameter if it is invalid, and OSError.
    """
    from chalk_flask.backup import BackupError
    from chalk_flask.backup.encryption import read_passphrase

    try:
        return read_passphrase(path.absolute())
    except BackupError as error:
        raise click.BadParameter(str(error), param_hint="--passphrase-file") from error


@contextmanager
def open_credentials(
    settings: Settings, create: Callable[[Backend], Credentials], error_class: type[Exception]
) -> Iterator[Credentials]:
    """Open the configured store and yield `create(store)`. Turns `error_class` into CommandError."""
    with open_configured_store(settings) as store:
        try:
            yield create(store)
        except error_class as error:
            raise CommandError(str(error)) from error


def has_worker(settings: Settings, task: str) -> bool | None:
    """Return True if a process does this background task for the store; None if this user cannot read the lock.

    Raises StorageError if the store has leases and cannot be opened.
    """
    from backends import backend_class
    from chalk_flask.background.leader_lock import leader_lock_for

    if backend_class(settings.storage).has_leases:
        with open_configured_store(settings) as store:
            return store.lease(task).has_holder()
    try:
        return leader_lock_for(task, settings.storage, Path(settings.data), shared=True).has_holder()
    except OSError:
        return None


def settings_for_new(options: Mapping[str, Any], tenant: str, creation_hint: str = CREATION_HINT) -> Settings:
    """Return the settings of a command that creates a credential or a webhook of a tenant.

    Raises SettingsError, and CommandError for a store that does not exist or is not durable, and for an unknown tenant.
    `creation_hint` is the part of the message about a missing store that says how to create it.
    """
    settings = settings_from_options(options)
    check_configured_tenant(settings, tenant, creation_hint)
    return settings


def summary_text(rows: Iterable[tuple[str, object]], width: int) -> list[str]:
    """Return a line for each name and value, with the values in one column."""
    return [f"{name:<{width}}{value}" for name, value in rows]


def shown_once_warning(name: str) -> str:
    """Return the sentence which says that a new secret, such as a token, is not shown again."""
    return f"The {name} is shown only this once: store it safely."

"""Parts that the commands for tokens, clients, issuers and webhooks share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chalk_flask.cli.errors import CommandError
from chalk_flask.cli.options import open_configured_store, settings_from_options

if TYPE_CHECKING:
    from backends import Backend
    from chalk_flask.settings import Settings

__all__ = ["list_if_store_exists", "open_credentials", "scope_option", "settings_of_existing_store", "summary_text"]

Function = TypeVar("Function", bound=Callable[..., Any])
Credentials = TypeVar("Credentials")


def scope_option(permission: str) -> Callable[[Function], Function]:
    """Return a decorator that adds --scope. `permission` starts its help text, for example "The token can read"."""
    return click.option(
        "--scope",
        "scopes",
        multiple=True,
        metavar="SCOPE",
        help=f"{permission}: the URI of a scope, its last part (roster.readonly), or all. Can be repeated."
        "  [default: read everything except demographics]",
    )


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


def settings_of_existing_store(options: Mapping[str, Any], kind: str, identifier: str) -> Settings:
    """Return the settings of a store that exists. Raises CommandError, saying that there is no `kind` with this id."""
    from backends import store_exists

    settings = settings_from_options(options)
    if not store_exists(settings.storage):
        raise CommandError(f"there is no {kind} with the id {identifier!r}: the store does not exist yet")
    return settings


def list_if_store_exists(settings: Settings, list_records: Callable[[], Iterable[Any]]) -> list[Any]:
    """Return the records of `list_records`, or an empty list if the store does not exist. Does not create the store."""
    from backends import store_exists

    return list(list_records()) if store_exists(settings.storage) else []


def summary_text(rows: Iterable[tuple[str, object]], width: int) -> list[str]:
    """Return a line for each name and value, with the values in one column."""
    return [f"{name:<{width}}{value}" for name, value in rows]

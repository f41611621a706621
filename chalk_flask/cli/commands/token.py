"""`chalk-flask token`: bearer tokens are created, listed and revoked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.errors import CommandError, echo_result
from chalk_flask.cli.formatting import format_table
from chalk_flask.cli.options import (
    as_json_option,
    check_configured_tenant,
    open_configured_store,
    parse_scope_options,
    require_durable,
    settings_from_options,
    settings_options,
    tenant_option,
)
from chalk_flask.cli.param_types import duration
from chalk_flask.cli.restriction_options import describe_restrictions, restriction_options

if TYPE_CHECKING:
    from chalk_flask.auth.tokens.record import ApiToken
    from chalk_flask.auth.tokens.store import TokenStore
    from chalk_flask.permissions.restrictions import AccessRestrictions
    from chalk_flask.settings import Settings

__all__ = ["token_group"]

SCOPE_HELP = (
    "What the token may read: a scope's URI, its last part (roster.readonly), or all; may be repeated."
    "  [default: everything but demographics]"
)


@click.group("token", short_help="Create, list and revoke bearer tokens.")
def token_group() -> None:
    """Create, list and revoke the bearer tokens by which applications get in."""


@token_group.command("create", epilog="Example: chalk-flask token create --label 'Reading app' --expires 90d")
@click.option("--label", required=True, help="Who uses the token; shown in the list.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help=SCOPE_HELP)
@tenant_option
@click.option(
    "--expires", callback=duration, metavar="SPAN", help="How long it is valid: 30m, 12h, 90d, 8w.  [default: ever]"
)
@click.option(
    "--sha256",
    metavar="HEX",
    help="Let in a token that was issued elsewhere, given by its SHA-256. It has to begin with chk_.",
)
@restriction_options
@click.option("--test", is_flag=True, help="Begin with chk_test_ instead of chk_live_, to tell it apart.")
@as_json_option
@settings_options()
def create(
    label: str,
    scopes: tuple[str, ...],
    tenant: str,
    expires: timedelta | None,
    sha256: str | None,
    test: bool,
    limits: AccessRestrictions,
    as_json: bool,
    **given: Any,
) -> None:
    """Create a token and show it, once: the store keeps its SHA-256 only."""
    if sha256 is not None and test:
        raise click.UsageError("--test is about the beginning of a new token: leave it out with --sha256")
    granted = parse_scope_options(scopes)
    until = None if expires is None else datetime.now(UTC) + expires
    settings = require_durable(given)
    check_configured_tenant(settings, tenant)
    with _tokens(settings) as tokens:
        token, record = tokens.create(label, granted, tenant, until, sha256, test, limits)
    data = record.to_dict()
    chosen = {name: data[name] for name in ("id", "prefix", "tenant", "scopes", "limits", "expires")}
    echo_result(as_json, {"token": token, **chosen}, _created(token, data, limits))


@token_group.command("list", epilog="Example: chalk-flask token list --json")
@as_json_option
@settings_options()
def list_tokens(as_json: bool, **given: Any) -> None:
    """List the tokens, the oldest first: never the token itself, only how it begins."""
    from backends import store_exists

    settings, records = settings_from_options(given), list[Any]()
    if store_exists(settings.storage):
        with _tokens(settings) as tokens:
            records = list(tokens.list())
    echo_result(as_json, {"tokens": [_listed(record) for record in records]}, _table(records))


@token_group.command("revoke", epilog="Example: chalk-flask token revoke 5f0c6a91d2b3e478")
@click.argument("token_id", metavar="ID")
@as_json_option
@settings_options()
def revoke(token_id: str, as_json: bool, **given: Any) -> None:
    """End a token: from its next request on it is refused, by every process that uses the store."""
    from backends import store_exists

    settings = settings_from_options(given)
    if not store_exists(settings.storage):
        raise CommandError(f"there is no token with the id {token_id!r}: nothing is stored yet")
    with _tokens(settings) as tokens:
        record = tokens.revoke(token_id)
    echo_result(as_json, _listed(record), f"Revoked {record.id} ({record.label}).")


@contextmanager
def _tokens(settings: Settings) -> Iterator[TokenStore]:
    from chalk_flask.auth.tokens.store import TokenError, TokenStore

    with open_configured_store(settings) as store:
        try:
            yield TokenStore(store)
        except TokenError as error:
            raise CommandError(str(error)) from error


def _created(token: str | None, data: dict[str, Any], limits: AccessRestrictions) -> str:
    shown = [
        token or f"The token with this SHA-256 is let in as {data['id']}.",
        *(["", "This is the only time it is shown: keep it safe."] if token else []),
        f"id      {data['id']}",
        f"tenant  {data['tenant']}",
        f"expires {data['expires'] or 'never'}",
        *(f"scope   {scope}" for scope in data["scopes"]),
        *([f"limits  {limits}"] if data["limits"] else []),
    ]
    return "\n".join(shown)


def _listed(record: ApiToken) -> dict[str, Any]:
    return {**record.to_dict(), "state": record.state_at(datetime.now(UTC))}


def _table(records: Iterable[ApiToken]) -> str:
    rows = [
        (
            each["id"],
            each["tenant"],
            each["state"],
            each["prefix"] or "(brought along)",
            each["expires"] or "never",
            each["lastUsed"] or "never",
            describe_restrictions(record.restrictions),
            each["label"],
        )
        for record in records
        for each in [_listed(record)]
    ]
    if not rows:
        return "There are no tokens. Create one: chalk-flask token create --label NAME"
    return format_table(("ID", "TENANT", "STATE", "BEGINS", "EXPIRES", "LAST USED", "LIMITS", "LABEL"), rows)

"""`chalk-flask token`: bearer tokens are created, listed and revoked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.errors import Refused, emit
from chalk_flask.cli.formatting import table
from chalk_flask.cli.options import (
    as_json_option,
    check_tenant_of,
    durable,
    named_scopes,
    opened,
    settings_of,
    settings_options,
    tenant_option,
)
from chalk_flask.cli.param_types import span
from chalk_flask.cli.restriction_options import limit_options, limits_shown

if TYPE_CHECKING:
    from chalk_flask.auth.tokens.record import TokenRecord
    from chalk_flask.auth.tokens.store import Tokens
    from chalk_flask.permissions.restrictions import Limits
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
    "--expires", callback=span, metavar="SPAN", help="How long it is valid: 30m, 12h, 90d, 8w.  [default: ever]"
)
@click.option(
    "--sha256",
    metavar="HEX",
    help="Let in a token that was issued elsewhere, given by its SHA-256. It has to begin with chk_.",
)
@limit_options
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
    limits: Limits,
    as_json: bool,
    **given: Any,
) -> None:
    """Create a token and show it, once: the store keeps its SHA-256 only."""
    if sha256 is not None and test:
        raise click.UsageError("--test is about the beginning of a new token: leave it out with --sha256")
    granted = named_scopes(scopes)
    until = None if expires is None else datetime.now(UTC) + expires
    settings = durable(given)
    check_tenant_of(settings, tenant)
    with _tokens(settings) as tokens:
        token, record = tokens.create(label, granted, tenant, until, sha256, test, limits)
    data = record.as_dict()
    chosen = {name: data[name] for name in ("id", "prefix", "tenant", "scopes", "limits", "expires")}
    emit(as_json, {"token": token, **chosen}, _created(token, data, limits))


@token_group.command("list", epilog="Example: chalk-flask token list --json")
@as_json_option
@settings_options()
def list_tokens(as_json: bool, **given: Any) -> None:
    """List the tokens, the oldest first: never the token itself, only how it begins."""
    from backends import store_exists

    settings, records = settings_of(given), list[Any]()
    if store_exists(settings.storage):
        with _tokens(settings) as tokens:
            records = list(tokens.list())
    emit(as_json, {"tokens": [_listed(record) for record in records]}, _table(records))


@token_group.command("revoke", epilog="Example: chalk-flask token revoke 5f0c6a91d2b3e478")
@click.argument("token_id", metavar="ID")
@as_json_option
@settings_options()
def revoke(token_id: str, as_json: bool, **given: Any) -> None:
    """End a token: from its next request on it is refused, by every process that uses the store."""
    from backends import store_exists

    settings = settings_of(given)
    if not store_exists(settings.storage):
        raise Refused(f"there is no token with the id {token_id!r}: nothing is stored yet")
    with _tokens(settings) as tokens:
        record = tokens.revoke(token_id)
    emit(as_json, _listed(record), f"Revoked {record.id} ({record.label}).")


@contextmanager
def _tokens(settings: Settings) -> Iterator[Tokens]:
    from chalk_flask.auth.tokens.store import TokenRefused, Tokens

    with opened(settings) as store:
        try:
            yield Tokens(store)
        except TokenRefused as error:
            raise Refused(str(error)) from error


def _created(token: str | None, data: dict[str, Any], limits: Limits) -> str:
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


def _listed(record: TokenRecord) -> dict[str, Any]:
    return {**record.as_dict(), "state": record.state_at(datetime.now(UTC))}


def _table(records: Iterable[TokenRecord]) -> str:
    rows = [
        (
            each["id"],
            each["tenant"],
            each["state"],
            each["prefix"] or "(brought along)",
            each["expires"] or "never",
            each["lastUsed"] or "never",
            limits_shown(record.limits),
            each["label"],
        )
        for record in records
        for each in [_listed(record)]
    ]
    if not rows:
        return "There are no tokens. Create one: chalk-flask token create --label NAME"
    return table(("ID", "TENANT", "STATE", "BEGINS", "EXPIRES", "LAST USED", "LIMITS", "LABEL"), rows)

"""`chalk-flask token`: create, list, rotate and revoke bearer tokens."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.credentials import (
    open_credentials,
    overlap_option,
    scope_option,
    settings_for_new,
    shown_once_warning,
    summary_text,
)
from chalk_flask.cli.durations import DURATION
from chalk_flask.cli.errors import echo_result
from chalk_flask.cli.hints import complete_hints
from chalk_flask.cli.options import as_json_option, settings_from_options, settings_options, tenant_option
from chalk_flask.cli.restriction_options import describe_restrictions, restriction_options, warn_about_unknown
from chalk_flask.cli.table import format_table
from chalk_flask.times import utc_now

if TYPE_CHECKING:
    from chalk_flask.auth.tokens.record import ApiToken
    from chalk_flask.auth.tokens.store import TokenStore
    from chalk_flask.permissions.restrictions import AccessRestrictions
    from chalk_flask.settings import Settings

__all__ = ["token_group"]


@click.group("token", short_help="Create, list, rotate and revoke bearer tokens.")
def token_group() -> None:
    """Create, list, rotate and revoke the bearer tokens with which applications authenticate."""


@token_group.command("create", epilog="Example: chalk-flask token create --label 'Reading app' --expires 90d")
@click.option("--label", required=True, help="Name of the application, shown in the list.")
@scope_option("The token can read")
@tenant_option
@click.option(
    "--expires",
    type=DURATION,
    metavar="DURATION",
    help="Validity: 30m, 12h, 90d, 8w.  [default: never expires]",
)
@click.option(
    "--sha256", metavar="HEX", help="Accept a token that was issued elsewhere, by its SHA-256. It must start with chk_."
)
@restriction_options
@click.option("--test", is_flag=True, help="Start the token with chk_test_ instead of chk_live_.")
@as_json_option
@settings_options()
def create(
    label: str,
    scopes: frozenset[str],
    tenant: str,
    expires: timedelta | None,
    sha256: str | None,
    test: bool,
    restrictions: AccessRestrictions,
    as_json: bool,
    **options: Any,
) -> None:
    """Create a token and show it once. The store keeps only its SHA-256."""
    if sha256 is not None and test:
        raise click.UsageError("--test sets the prefix of a new token: omit it with --sha256")
    expiry = None if expires is None else utc_now() + expires
    settings = settings_for_new(options, tenant)
    with _token_store(settings) as tokens:
        token, record = tokens.create(label, scopes, tenant, expiry, sha256, test, restrictions)
    warn_about_unknown(settings, tenant, restrictions)
    _echo_created(as_json, token, record)


@token_group.command("list", epilog="Example: chalk-flask token list --json")
@as_json_option
@settings_options()
def list_tokens(as_json: bool, **options: Any) -> None:
    """List the tokens, oldest first. Shows the prefix of each token, never the token."""
    with _token_store(settings_from_options(options)) as tokens:
        records = list(tokens.list())
    echo_result(as_json, {"tokens": [_with_state(record) for record in records]}, _table(records))


@token_group.command(
    "rotate",
    short_help="Replace a token by a new one with the same access.",
    epilog="Example: chalk-flask token rotate 5f0c6a91d2b3e478 --overlap 48h",
)
@click.argument("token_id", metavar="ID")
@overlap_option("Validity of the former token: 30m, 24h, 7d; 0s revokes it now.")
@as_json_option
@settings_options()
def rotate(token_id: str, overlap: timedelta, as_json: bool, **options: Any) -> None:
    """Replace a token by a new one with the same label and access, and show it once."""
    with _token_store(settings_from_options(options)) as tokens:
        token, record, former = tokens.rotate(token_id, overlap)
    _echo_created(as_json, token, record, former)


@token_group.command("revoke", epilog="Example: chalk-flask token revoke 5f0c6a91d2b3e478")
@click.argument("token_id", metavar="ID")
@as_json_option
@settings_options()
def revoke(token_id: str, as_json: bool, **options: Any) -> None:
    """Revoke a token. Every process that uses the store rejects it from its next request on."""
    with _token_store(settings_from_options(options)) as tokens:
        record = tokens.revoke(token_id)
    echo_result(as_json, _with_state(record), f"Revoked {record.id} ({record.label}).")


def _token_store(settings: Settings) -> AbstractContextManager[TokenStore]:
    from chalk_flask.auth.tokens.store import TokenError, TokenStore

    return open_credentials(settings, TokenStore, TokenError)


def _echo_created(as_json: bool, token: str | None, record: ApiToken, former: ApiToken | None = None) -> None:
    data = record.to_dict()
    summary = {name: data[name] for name in ("id", "prefix", "tenant", "scopes", "limits", "expires")}
    if former:
        summary["former_valid_until"] = None if former.revoked else former.to_dict()["expires"]
    echo_result(as_json, {"token": token, **summary}, _created_text(token, data, record.restrictions, former))


def _created_text(
    token: str | None, data: dict[str, Any], restrictions: AccessRestrictions, former: ApiToken | None
) -> str:
    rows = [
        ("id", data["id"]),
        ("tenant", data["tenant"]),
        ("expires", data["expires"] or "never"),
        *(("scope", scope) for scope in data["scopes"]),
        *([("limits", restrictions)] if data["limits"] else []),
    ]
    headline = token or f"The token with this SHA-256 is accepted as {data['id']}."
    warning = ["", shown_once_warning("token")] if token else []
    former_line = [_former_text(former)] if former else []
    return "\n".join([headline, *warning, *summary_text(rows, 8), *former_line])


def _former_text(former: ApiToken) -> str:
    if former.revoked:
        return f"The former token {former.id} is revoked."
    return f"The former token {former.id} stays valid until {former.to_dict()['expires']}."


def _with_state(record: ApiToken) -> dict[str, Any]:
    return {**record.to_dict(), "state": record.state_at(utc_now())}


def _row(record: ApiToken, now: datetime) -> tuple[str, ...]:
    data = record.to_dict()
    return (
        record.id,
        record.tenant,
        record.state_at(now),
        record.prefix or "(issued elsewhere)",
        data["expires"] or "never",
        data["lastUsed"] or "never",
        describe_restrictions(record.restrictions),
        record.label,
    )


def _table(records: Iterable[ApiToken]) -> str:
    now = utc_now()
    rows = [_row(record, now) for record in records]
    if not rows:
        return complete_hints("There are no tokens. Create one: chalk-flask token create --label NAME")
    return format_table(("ID", "TENANT", "STATE", "PREFIX", "EXPIRES", "LAST USED", "RESTRICTIONS", "LABEL"), rows)

"""`chalk-flask issuer`: issuers whose JWTs are taken for bearer tokens are added, listed and removed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
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
from chalk_flask.cli.restriction_options import describe_restrictions, restriction_options

if TYPE_CHECKING:
    from chalk_flask.auth.jwt.issuers import IssuerStore, TrustedIssuer
    from chalk_flask.permissions.restrictions import AccessRestrictions
    from chalk_flask.settings import Settings

__all__ = ["issuer_group"]

SCOPE_HELP = (
    "What its tokens may do at most: a scope's URI, its last part (roster.readonly), or all; may be repeated."
    "  [default: read everything but demographics]"
)


@click.group("issuer", short_help="Add, list and remove trusted issuers of JWTs.")
def issuer_group() -> None:
    """Trust issuers whose JWTs open the API as bearer tokens: LTI Advantage tools, DataSync.

    A token is signed with RS256 or ES256 and has the claims iss, aud, exp and iat. Its claim scope says what it asks
    for; without one it gets all that its issuer may have.
    """


@issuer_group.command(
    "add",
    epilog="Example: chalk-flask issuer add --iss https://tool.example.org --aud https://roster.example.org"
    " --jwks-url https://tool.example.org/jwks.json",
)
@click.option("--iss", "issuer", required=True, metavar="URL", help="The claim iss of its tokens, exactly.")
@click.option("--aud", "audience", required=True, metavar="AUD", help="The claim aud of its tokens, or one of them.")
@click.option("--jwks-url", metavar="URL", help="Where it publishes its public keys: https, or http on this machine.")
@click.option("--jwks-file", metavar="FILE", help="A JWK Set with its public keys, which is read once and stored.")
@tenant_option
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help=SCOPE_HELP)
@click.option("--replay", is_flag=True, help="Let each token in once, by its claim jti, which it then must have.")
@click.option("--label", default="", help="Who the issuer is; shown in the list.")
@restriction_options
@as_json_option
@settings_options()
def add(
    issuer: str,
    audience: str,
    jwks_url: str | None,
    jwks_file: str | None,
    tenant: str,
    scopes: tuple[str, ...],
    replay: bool,
    label: str,
    limits: AccessRestrictions,
    as_json: bool,
    **given: Any,
) -> None:
    """Trust an issuer. Its tokens for that audience open one tenant, the one that is named here."""
    if (jwks_url is None) == (jwks_file is None):
        raise click.UsageError("give the issuer's keys by --jwks-url or by --jwks-file, one of the two")
    granted = parse_scope_options(scopes)
    jwks = None if jwks_file is None else _read(Path(jwks_file))
    settings = require_durable(given)
    check_configured_tenant(settings, tenant)
    with _issuers(settings) as issuers:
        record = issuers.add(
            issuer, audience, granted, tenant, jwks_url=jwks_url, jwks=jwks, replay=replay, label=label, limits=limits
        )
    echo_result(as_json, record.to_dict(), _added(record))


@issuer_group.command("list", epilog="Example: chalk-flask issuer list --json")
@as_json_option
@settings_options()
def list_issuers(as_json: bool, **given: Any) -> None:
    """List the trusted issuers, the oldest first."""
    from backends import store_exists

    settings, records = settings_from_options(given), list[Any]()
    if store_exists(settings.storage):
        with _issuers(settings) as issuers:
            records = list(issuers.list())
    echo_result(as_json, {"issuers": [record.to_dict() for record in records]}, _table(records))


@issuer_group.command("remove", epilog="Example: chalk-flask issuer remove 5f0c6a91d2b3e478")
@click.argument("issuer_id", metavar="ID")
@as_json_option
@settings_options()
def remove(issuer_id: str, as_json: bool, **given: Any) -> None:
    """Trust an issuer no longer: every process that uses the store refuses its tokens within a second."""
    from backends import store_exists

    settings = settings_from_options(given)
    if not store_exists(settings.storage):
        raise CommandError(f"there is no issuer with the id {issuer_id!r}: nothing is stored yet")
    with _issuers(settings) as issuers:
        record = issuers.remove(issuer_id)
    echo_result(as_json, record.to_dict(), f"Removed {record.id} ({record.issuer}).")


@contextmanager
def _issuers(settings: Settings) -> Iterator[IssuerStore]:
    from chalk_flask.auth.jwt.issuers import IssuerError, IssuerStore

    with open_configured_store(settings) as store:
        try:
            yield IssuerStore(store)
        except IssuerError as error:
            raise CommandError(str(error)) from error


def _read(path: Path) -> bytes:
    from chalk_flask.auth.jwt.jwks import MAX_JWKS_BYTES

    with path.open("rb") as file:
        return file.read(MAX_JWKS_BYTES + 1)


def _added(record: TrustedIssuer) -> str:
    data = record.to_dict()
    keys = record.jwks_url or f"{len(data['jwks']['keys'])} stored"
    shown = [
        f"Tokens of {record.issuer} for {record.audience} are let in.",
        "",
        f"id      {record.id}",
        f"tenant  {record.tenant}",
        f"keys    {keys}",
        *(["replay  each token is good for one request"] if record.replay else []),
        *(f"scope   {scope}" for scope in data["scopes"]),
        *([f"limits  {record.restrictions}"] if data["limits"] else []),
    ]
    return "\n".join(shown)


def _table(records: Iterable[TrustedIssuer]) -> str:
    rows = [
        (
            each.id,
            each.tenant,
            each.issuer,
            each.audience,
            each.jwks_url or "(stored)",
            describe_restrictions(each.restrictions),
            each.label,
        )
        for each in records
    ]
    if not rows:
        return "No issuer is trusted. Add one: chalk-flask issuer add --help"
    return format_table(("ID", "TENANT", "ISS", "AUD", "KEYS", "LIMITS", "LABEL"), rows)

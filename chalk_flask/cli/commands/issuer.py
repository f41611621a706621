"""`chalk-flask issuer`: add, list and remove trusted issuers of JWTs."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chalk_flask.cli.credentials import (
    open_credentials,
    scope_option,
    settings_for_new,
    summary_text,
)
from chalk_flask.cli.errors import echo_result
from chalk_flask.cli.hints import complete_hints
from chalk_flask.cli.options import as_json_option, settings_from_options, settings_options, tenant_option
from chalk_flask.cli.restriction_options import describe_restrictions, restriction_options, warn_about_unknown
from chalk_flask.cli.table import format_table

if TYPE_CHECKING:
    from chalk_flask.auth.jwt.issuers import IssuerStore, TrustedIssuer
    from chalk_flask.permissions.restrictions import AccessRestrictions
    from chalk_flask.settings import Settings

__all__ = ["issuer_group"]


@click.group("issuer", short_help="Add, list and remove trusted issuers of JWTs.")
def issuer_group() -> None:
    """Trust issuers whose JWTs the API accepts as bearer tokens: LTI Advantage tools, DataSync.

    A token must be signed with RS256 or ES256 and have the claims iss, aud, exp and iat. Its claim scope requests
    scopes; without it the token has all scopes of its issuer.
    """


@issuer_group.command(
    "add",
    epilog="Example: chalk-flask issuer add --iss https://tool.example.org --aud https://roster.example.org"
    " --jwks-url https://tool.example.org/jwks.json",
)
@click.option("--iss", "issuer", required=True, metavar="URL", help="The claim iss of its tokens, exactly.")
@click.option("--aud", "audience", required=True, metavar="AUD", help="The claim aud of its tokens, or one of them.")
@click.option("--jwks-url", metavar="URL", help="URL of its public keys: https, or http on this machine.")
@click.option("--jwks-file", metavar="FILE", help="A JWK Set with its public keys, read once and stored.")
@tenant_option
@scope_option("Its tokens can at most")
@click.option("--single-use", is_flag=True, help="Accept each token only once. Tokens must have the claim jti.")
@click.option("--replay", "single_use_alias", is_flag=True, hidden=True)
@click.option("--label", default="", help="Name of the issuer, shown in the list.")
@restriction_options
@as_json_option
@settings_options()
def add(
    issuer: str,
    audience: str,
    jwks_url: str | None,
    jwks_file: str | None,
    tenant: str,
    scopes: frozenset[str],
    single_use: bool,
    single_use_alias: bool,
    label: str,
    restrictions: AccessRestrictions,
    as_json: bool,
    **options: Any,
) -> None:
    """Trust an issuer. Its tokens for this audience give access to one tenant, the one of --tenant."""
    if (jwks_url is None) == (jwks_file is None):
        raise click.UsageError("the keys of the issuer are required: give --jwks-url or --jwks-file, one of them")
    jwks = None if jwks_file is None else _read_jwks(Path(jwks_file))
    settings = settings_for_new(options, tenant)
    with _issuer_store(settings) as issuers:
        record = issuers.add(
            issuer,
            audience,
            scopes,
            tenant,
            jwks_url=jwks_url,
            jwks=jwks,
            single_use=single_use or single_use_alias,
            label=label,
            restrictions=restrictions,
        )
    warn_about_unknown(settings, tenant, restrictions)
    echo_result(as_json, record.to_dict(), _added_text(record))


@issuer_group.command("list", epilog="Example: chalk-flask issuer list --json")
@as_json_option
@settings_options()
def list_issuers(as_json: bool, **options: Any) -> None:
    """List the trusted issuers, oldest first."""
    with _issuer_store(settings_from_options(options)) as issuers:
        records = list(issuers.list())
    echo_result(as_json, {"issuers": [record.to_dict() for record in records]}, _table(records))


@issuer_group.command("remove", epilog="Example: chalk-flask issuer remove 5f0c6a91d2b3e478")
@click.argument("issuer_id", metavar="ID")
@as_json_option
@settings_options()
def remove(issuer_id: str, as_json: bool, **options: Any) -> None:
    """Remove a trusted issuer. Every process that uses the store rejects its tokens within a second."""
    with _issuer_store(settings_from_options(options)) as issuers:
        record = issuers.remove(issuer_id)
    echo_result(as_json, record.to_dict(), f"Removed {record.id} ({record.issuer}).")


def _issuer_store(settings: Settings) -> AbstractContextManager[IssuerStore]:
    from chalk_flask.auth.jwt.issuers import IssuerError, IssuerStore

    return open_credentials(settings, IssuerStore, IssuerError)


def _read_jwks(path: Path) -> bytes:
    from chalk_flask.auth.jwt.jwks import MAX_JWKS_BYTES

    with path.open("rb") as file:
        return file.read(MAX_JWKS_BYTES + 1)


def _added_text(record: TrustedIssuer) -> str:
    data = record.to_dict()
    rows = [
        ("id", record.id),
        ("tenant", record.tenant),
        ("keys", record.jwks_url or f"{len(data['jwks']['keys'])} stored"),
        *([("use", "each token is accepted once")] if record.single_use else []),
        *(("scope", scope) for scope in data["scopes"]),
        *([("limits", record.restrictions)] if data["limits"] else []),
    ]
    headline = f"Tokens of {record.issuer} for {record.audience} are accepted."
    return "\n".join([headline, "", *summary_text(rows, 8)])


def _row(record: TrustedIssuer) -> tuple[str, ...]:
    return (
        record.id,
        record.tenant,
        record.issuer,
        record.audience,
        record.jwks_url or "(stored)",
        describe_restrictions(record.restrictions),
        record.label,
    )


def _table(records: Iterable[TrustedIssuer]) -> str:
    rows = [_row(record) for record in records]
    if not rows:
        return complete_hints("There are no trusted issuers. Add one: chalk-flask issuer add --help")
    return format_table(("ID", "TENANT", "ISS", "AUD", "KEYS", "RESTRICTIONS", "LABEL"), rows)

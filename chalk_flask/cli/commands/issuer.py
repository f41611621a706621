"""`chalk-flask issuer`: issuers whose JWTs are taken for bearer tokens are added, listed and removed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
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
from chalk_flask.cli.restriction_options import limit_options, limits_shown

if TYPE_CHECKING:
    from chalk_flask.auth.jwt.issuers import IssuerRecord, Issuers
    from chalk_flask.permissions.restrictions import Limits
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
@limit_options
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
    limits: Limits,
    as_json: bool,
    **given: Any,
) -> None:
    """Trust an issuer. Its tokens for that audience open one tenant, the one that is named here."""
    if (jwks_url is None) == (jwks_file is None):
        raise click.UsageError("give the issuer's keys by --jwks-url or by --jwks-file, one of the two")
    granted = named_scopes(scopes)
    jwks = None if jwks_file is None else _read(Path(jwks_file))
    settings = durable(given)
    check_tenant_of(settings, tenant)
    with _issuers(settings) as issuers:
        record = issuers.add(
            issuer, audience, granted, tenant, jwks_url=jwks_url, jwks=jwks, replay=replay, label=label, limits=limits
        )
    emit(as_json, record.as_dict(), _added(record))


@issuer_group.command("list", epilog="Example: chalk-flask issuer list --json")
@as_json_option
@settings_options()
def list_issuers(as_json: bool, **given: Any) -> None:
    """List the trusted issuers, the oldest first."""
    from backends import store_exists

    settings, records = settings_of(given), list[Any]()
    if store_exists(settings.storage):
        with _issuers(settings) as issuers:
            records = list(issuers.list())
    emit(as_json, {"issuers": [record.as_dict() for record in records]}, _table(records))


@issuer_group.command("remove", epilog="Example: chalk-flask issuer remove 5f0c6a91d2b3e478")
@click.argument("issuer_id", metavar="ID")
@as_json_option
@settings_options()
def remove(issuer_id: str, as_json: bool, **given: Any) -> None:
    """Trust an issuer no longer: every process that uses the store refuses its tokens within a second."""
    from backends import store_exists

    settings = settings_of(given)
    if not store_exists(settings.storage):
        raise Refused(f"there is no issuer with the id {issuer_id!r}: nothing is stored yet")
    with _issuers(settings) as issuers:
        record = issuers.remove(issuer_id)
    emit(as_json, record.as_dict(), f"Removed {record.id} ({record.issuer}).")


@contextmanager
def _issuers(settings: Settings) -> Iterator[Issuers]:
    from chalk_flask.auth.jwt.issuers import IssuerRefused, Issuers

    with opened(settings) as store:
        try:
            yield Issuers(store)
        except IssuerRefused as error:
            raise Refused(str(error)) from error


def _read(path: Path) -> bytes:
    from chalk_flask.auth.jwt.jwks import LARGEST

    with path.open("rb") as file:
        return file.read(LARGEST + 1)


def _added(record: IssuerRecord) -> str:
    data = record.as_dict()
    keys = record.jwks_url or f"{len(data['jwks']['keys'])} stored"
    shown = [
        f"Tokens of {record.issuer} for {record.audience} are let in.",
        "",
        f"id      {record.id}",
        f"tenant  {record.tenant}",
        f"keys    {keys}",
        *(["replay  each token is good for one request"] if record.replay else []),
        *(f"scope   {scope}" for scope in data["scopes"]),
        *([f"limits  {record.limits}"] if data["limits"] else []),
    ]
    return "\n".join(shown)


def _table(records: Iterable[IssuerRecord]) -> str:
    rows = [
        (
            each.id,
            each.tenant,
            each.issuer,
            each.audience,
            each.jwks_url or "(stored)",
            limits_shown(each.limits),
            each.label,
        )
        for each in records
    ]
    if not rows:
        return "No issuer is trusted. Add one: chalk-flask issuer add --help"
    return table(("ID", "TENANT", "ISS", "AUD", "KEYS", "LIMITS", "LABEL"), rows)
